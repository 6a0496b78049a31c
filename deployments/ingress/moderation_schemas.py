"""What clients are shown of verdicts, and how a stored decision becomes that. Imports nothing that acts."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from configs.facts import BankKind
from configs.policies import Verdict
from deployments.ingress.schemas import Moment, Sent, Shown
from storage.clusters import MOST, Cluster
from storage.explanations import Explanation
from storage.human_decisions import LONGEST_REASON
from storage.moderation import Standing
from storage.moderation_tables import Decision
from storage.tables import Relation

_MATCHES = 10


class MatchInBank(Shown):
    """A member of a bank that the image is, or is a copy of."""

    bank: str
    kind: BankKind
    member: int = Field(description="id of the member")
    image_id: int | None = Field(description="the stored image that the member is; null for a hash")
    relation: Relation
    method: str
    score: float = Field(description="0 to 1, 1 is the same")
    threshold: float = Field(description="the score that it had to reach")
    counts: bool = Field(description="false: waived, since the image is in an allowed bank too")


class EvidenceInShort(Shown):
    """What the verdict rests on; `?explain=true` gives all of it."""

    content_scores: dict[str, float] = Field(description="filter name@version -> 0 to 1, 1 is surely unsafe")
    matches: list[MatchInBank] = Field(description=f"in banks, the surest first, at most {_MATCHES}")
    matches_in_all: int


class DecisionShown(Shown):
    """One decision on the image."""

    decision_id: int
    at: Moment
    verdict: Verdict
    previous: Verdict | None = Field(description="the verdict before; null: there was none")
    decided_by: str = Field(description="policy, or the name of a person's key")
    by_person: bool
    cause: str = Field(description="what it was made for: processed, look-back 7, moderator, reversal, …")
    rule: str | None
    reason: str
    severity: int
    fired: list[str] = Field(description="all rules that were true")
    policy_version: int | None
    facts_digest: str = Field(description="SHA-256 of the facts, hexadecimal")


class PolicyShown(Shown):
    """The version of the policy that judged."""

    version: int
    digest: str = Field(description="SHA-256 of its text, hexadecimal")
    note: str
    created_at: Moment
    created_by: str


class PolicySays(Shown):
    """What the policy in force says of the image as it is now; what would hold if a person's decision were reversed."""

    policy_version: int
    verdict: Verdict
    rule: str | None
    reason: str
    severity: int
    fired: list[str]
    waived: int


class LinkShown(Shown):
    """A stored link to a member, with the versions that made it."""

    image_id: int
    descriptor: str = Field(description="name@version; empty: holds whatever the descriptor")
    relation: Relation
    method: str
    score: float
    threshold: float
    evidence: dict[str, Any] = Field(description="of each stage: distances, scores, views, `index_versions`")


class Versions(Shown):
    """What looked at the image, by name@version."""

    content_filters: list[str]
    detectors: list[str]
    descriptors: list[str]


class Replay(Shown):
    """How the verdict is made again from what is stored."""

    command: str
    address: str


class ExplanationShown(Shown):
    """All that the decision rests on."""

    previous: Verdict | None
    cause: str
    at: Moment = Field(description="when it was decided")
    engine: int = Field(description="version of how rules are read")
    facts: dict[str, Any] = Field(description="what was known of the image when it was decided")
    facts_digest: str = Field(description="SHA-256 of the facts, hexadecimal")
    waived: list[MatchInBank] = Field(
        description="matches that did not count, since the image is in an allowed bank too"
    )
    policy: PolicyShown | None = Field(description="that judged; null where a person decided")
    policy_says: PolicySays
    links: list[LinkShown]
    versions: Versions
    history: list[DecisionShown] = Field(description="newest first, at most 100")
    replay: Replay


class Moderation(Shown):
    """``GET /image/{image_id}/moderation``."""

    id: int
    verdict: Verdict
    reason: str
    rule: str | None = Field(None, description="that decided; null: a person did, or no rule applies")
    fired: list[str] = Field(description="all rules that were true")
    severity: int = Field(ge=0, le=10, description="10 is the gravest")
    policy_version: int | None = Field(None, description="that judged; null where a person decided")
    decided_by: str = Field(description="policy, or the name of a person's key")
    by_person: bool = Field(description="a person's decision beats every policy until it is reversed")
    decision_id: int
    since: Moment = Field(description="when the verdict became what it is")
    evidence: EvidenceInShort
    decided: list[int] = Field([], description="after a change: all images that it decided on; otherwise absent")
    explanation: ExplanationShown | None = Field(None, description="with `explain=true`; otherwise absent")


Reason = Annotated[str, Field(min_length=1, max_length=LONGEST_REASON, description="for whoever asks later; not blank")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="of the cluster as GET …/cluster showed it")]


class OfCluster(Sent):
    """May be meant for the whole cluster of copies."""

    cluster: bool = Field(False, description="for all images of the cluster; needs `digest`")
    digest: Digest | None = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.cluster != (self.digest is not None):
            raise ValueError(
                "cluster: true and the digest that GET /image/{image_id}/cluster showed go together: both or neither"
            )
        return self


class NewDecision(OfCluster):
    """``PUT /image/{image_id}/moderation``."""

    verdict: Literal["allow", "review", "block"]
    reason: Reason
    severity: int | None = Field(None, ge=0, le=10, description="10 is the gravest; default: that before, at least 5")


class Reversal(OfCluster):
    """``POST /image/{image_id}/moderation/reverse``."""

    reason: Reason


class ClusterImageShown(Shown):
    """One image of a cluster; null where it has not been decided on."""

    id: int
    name: str
    steps: int = Field(description="links between it and the image that was asked for; 0 is that image")
    verdict: Verdict | None
    rule: str | None
    severity: int | None
    by_person: bool
    preview: str = Field(description="address of a small blurred rendition")


class ClusterShown(Shown):
    """``GET /image/{image_id}/cluster``: what a decision on the cluster would touch."""

    digest: str = Field(description="to be sent with the decision; changes when an image or a decision does")
    cut: bool = Field(description=f"there are more than {MOST}; the nearest are shown and would be decided on")
    verdicts: dict[str, int] = Field(description="how many images have each")
    by_person: int = Field(description="how many of them a person has decided on; a new decision takes their place")
    images: list[ClusterImageShown] = Field(description="nearest first")


def cluster_of(found: Cluster, preview: Callable[[int], str]) -> ClusterShown:
    """A cluster as it is shown.

    Args:
        preview: address of an image's preview.
    """
    verdicts = [one.verdict or "none" for one in found.images]
    return ClusterShown(
        digest=found.digest,
        cut=found.cut,
        verdicts={one: verdicts.count(one) for one in sorted(set(verdicts))},
        by_person=sum(one.by_person for one in found.images),
        images=[
            ClusterImageShown(
                id=one.image_id, name=one.name, steps=one.steps, verdict=Verdict(one.verdict) if one.verdict else None,
                rule=one.rule, severity=one.severity, by_person=one.by_person, preview=preview(one.image_id),
            )
            for one in found.images
        ],
    )  # fmt: skip


def _matches(facts: Mapping[str, Any]) -> list[MatchInBank]:
    found = facts["matches"]
    allowed = any(one["kind"] == BankKind.ALLOWED for one in found)
    return [MatchInBank(**one, counts=not allowed or one["kind"] == BankKind.ALLOWED) for one in found]


def _decision(one: Decision) -> DecisionShown:
    columns = ("at", "verdict", "previous", "cause", "rule", "reason", "severity", "fired", "facts_digest")
    return DecisionShown(
        decision_id=one.id or 0, decided_by=one.actor, by_person=one.policy_id is None, policy_version=one.policy_id,
        **one.model_dump(include=set(columns)),
    )  # fmt: skip


def moderation_of(held: Standing, **more: Any) -> Moderation:
    """A verdict as it is shown.

    Args:
        more: ``decided``, where it was changed just now.
    """
    decision = held.decision
    matches = _matches(decision.facts)
    return Moderation(
        id=held.image_id,
        verdict=Verdict(decision.verdict),
        reason=decision.reason,
        rule=decision.rule,
        fired=decision.fired,
        severity=decision.severity,
        policy_version=decision.policy_id,
        decided_by=decision.actor,
        by_person=held.by_person,
        decision_id=decision.id or 0,
        since=held.since,
        evidence=EvidenceInShort(
            content_scores=decision.facts["content_scores"], matches=matches[:_MATCHES], matches_in_all=len(matches)
        ),
        **more,
    )


def explained(held: Standing, why: Explanation, replay: str) -> Moderation:
    """A verdict with all that it rests on.

    Args:
        replay: address at which the decision is made again.
    """
    decision, policy = held.decision, why.policy
    links = [LinkShown(**vars(one)) for one in why.links]
    return moderation_of(
        held,
        explanation=ExplanationShown(
            engine=decision.engine,
            facts=decision.facts,
            waived=[one for one in _matches(decision.facts) if not one.counts],
            policy=policy
            and PolicyShown(
                version=policy.id or 0, **policy.model_dump(include={"digest", "note", "created_at", "created_by"})
            ),
            policy_says=PolicySays(policy_version=why.policy_now, **why.policy_says.as_dict()),
            links=links,
            versions=Versions(
                content_filters=sorted(decision.facts["content_scores"]),
                detectors=why.detectors,
                descriptors=sorted({one.descriptor for one in links} - {""}),
            ),
            history=[_decision(one) for one in why.history],
            replay=Replay(command=f"safeguard replay {decision.id}", address=replay),
            **decision.model_dump(include={"previous", "cause", "at", "facts_digest"}),
        ),
    )
