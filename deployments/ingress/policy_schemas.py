"""What clients send of policies and are shown of them, of trials and of replays."""

from typing import Annotated, Any

from fastapi import Path
from pydantic import AwareDatetime, Field

from configs.policies import Verdict
from configs.policy_yaml import MAX_BYTES
from deployments.ingress.schemas import MAX_ID, Moment, Sent, Shown
from storage.policy_changes import MAX_NOTE

PolicyId = Annotated[int, Path(ge=1, le=MAX_ID, description="version of a policy", examples=[2])]
DecisionId = Annotated[int, Path(ge=1, le=MAX_ID, description="id of a decision", examples=[17])]
_Source = Annotated[
    str, Field(min_length=1, max_length=MAX_BYTES, description="the policy as YAML, see docs/policies.md")
]
_Note = Annotated[str, Field(max_length=MAX_NOTE, pattern=r"^[^\x00-\x08\x0b-\x1f]*$", description="why, for people")]
_Rejudge = Annotated[
    bool, Field(description="judge past images by it too; false: each when it is next decided on, new ones at once")
]


class CheckedPolicy(Sent):
    """``POST /policies/check``."""

    source: _Source


class NewPolicy(Sent):
    """``POST /policies``."""

    source: _Source
    note: _Note = ""
    rejudge: _Rejudge = True


class Rollback(Sent):
    """``POST /policies/{policy_id}/rollback``."""

    note: _Note = ""
    rejudge: _Rejudge = True


class TriedPolicy(Sent):
    """``POST /policies/test``."""

    source: _Source
    last: int = Field(1000, ge=1, le=10_000, description="images that were processed, newest first")
    since: AwareDatetime | None = Field(None, description="only images uploaded then or later")


class PolicyHeadShown(Shown):
    """A version of the policy without its text."""

    id: int
    digest: str = Field(description="SHA-256 of the text, hexadecimal")
    note: str
    active: bool
    created_at: Moment
    created_by: str


class PolicyShown(PolicyHeadShown):
    """A version of the policy."""

    source: str


class PolicyChecked(Shown):
    """A policy that could be applied as things are now."""

    rules: int
    conditions: int
    banks: list[str] = Field(description="that it names")


class PolicyChanged(Shown):
    """What a change has done."""

    id: int = Field(description="version that is active now")
    changed: bool = Field(description="false: it was active before, with this very text")
    look_back: int | None = Field(None, description="that judges past images; see /lookbacks")


class VerdictsChanged(Shown):
    """How many images would go from one verdict to another, or keep it."""

    before: Verdict | None = Field(description="that holds; null: none yet")
    after: Verdict
    images: int


class RuleTried(Shown):
    """What one rule would do."""

    rule: str
    decides: int = Field(description="images whose verdict would rest on it")
    true_of: int = Field(description="images of which it is true")


class ChangeShown(Shown):
    """An image whose verdict would be another one."""

    image_id: int
    before: Verdict | None
    before_rule: str | None
    after: Verdict
    rule: str | None = Field(description="null: no rule is true, the default holds")
    reason: str


class TrialShown(Shown):
    """What a policy would have decided on past images."""

    images: int = Field(description="that were judged")
    human: int = Field(description="further ones that a person has decided on: no policy changes them")
    changed: int = Field(description="images whose verdict would be another one")
    by_default: int = Field(description="images of which no rule is true")
    verdicts: list[VerdictsChanged]
    rules: list[RuleTried] = Field(description="all of the policy, in its order")
    examples: list[ChangeShown] = Field(description="newest first; some of each kind of change")


class DifferenceShown(Shown):
    """Something that is not as it was recorded."""

    what: str = Field(description="facts, engine, policy, verdict, rule, reason, severity or fired")
    recorded: Any
    replayed: Any


class ReplayShown(Shown):
    """A decision that was made again from what is kept with it."""

    decision_id: int
    image_id: int
    actor: str = Field(description="policy, or the name of the person's key")
    policy_id: int | None = Field(description="null: a person has decided; only the digest of the facts is compared")
    engine: int
    verdict: Verdict
    rule: str | None
    reason: str
    same: bool
    differences: list[DifferenceShown]
