"""Policies: named rules over the facts of an image, and the verdict they give. Pure; reads no file and no clock."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from configs.facts import BankKind, BankMatch, Facts
from configs.policy_mistakes import dotted
from configs.policy_references import examine

ENGINE = 1
"""Version of how rules are read. A decision names it: replaying one made by another engine says so."""


def _plain(text: str) -> str:
    if any((one < " " and one not in "\n\t") or one == "\x7f" for one in text):
        raise ValueError("has a control character")
    return text


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Bound = Annotated[int, Field(ge=0, le=2**62)]
Name = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_plain)]


class Verdict(StrEnum):
    """May stay, a person should look, must not stay."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


RANK = {Verdict.ALLOW: 0, Verdict.REVIEW: 1, Verdict.BLOCK: 2}
"""Block beats review beats allow."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Range(_Strict):
    """Something that lies between a least and a most."""

    @model_validator(mode="after")
    def _ordered(self) -> "_Range":
        for name, least in self:
            if name.startswith("min_"):
                most = getattr(self, f"max_{name[4:]}", None)
                if least is not None and most is not None and least > most:
                    raise ValueError(f"{name} {least} is above max_{name[4:]} {most}: nothing could ever fit")
        return self


class MatchCondition(_Strict):
    """The image is, or is a copy of, a member of a bank."""

    kind: BankKind = Field(BankKind.UNACCEPTABLE, description="of the bank")
    banks: list[Name] | None = Field(None, min_length=1, description="their names; all of that kind without")
    relations: list[Literal["exact", "copy", "semantic", "external"]] = Field(
        ["exact", "copy"], min_length=1, description="that count"
    )
    min_score: Share = Field(0.0, description="beside the threshold of the bank")

    def holds(self, facts: Facts, matches: tuple[BankMatch, ...]) -> bool:
        """Whether one of the matches fits."""
        return any(
            one.kind == self.kind
            and (self.banks is None or one.bank in self.banks)
            and one.relation in self.relations
            and one.score >= self.min_score
            for one in matches
        )


class UnsafeCondition(_Strict):
    """A content filter holds the image to be unsafe."""

    min_score: Share
    below: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(None, description="scores under this one only")
    filter: Name | None = Field(None, description="name@version; any filter without")

    @model_validator(mode="after")
    def _ordered(self) -> "UnsafeCondition":
        if self.below is not None and self.below <= self.min_score:
            raise ValueError(f"below {self.below} is not above min_score {self.min_score}: nothing could ever fit")
        return self

    def holds(self, facts: Facts) -> bool:
        """Whether the highest score of the filters asked for lies in the range."""
        scores = [score for name, score in facts.content_scores.items() if self.filter in (None, name)]
        return bool(scores) and self.min_score <= max(scores) and (self.below is None or max(scores) < self.below)


class ObjectCondition(_Range):
    """People or objects in the picture, counted."""

    label: Name
    min_score: Share = 0.0
    min_share: Share = Field(0.0, description="of the picture's area, for one box")
    max_share: Share | None = None
    min_count: int = Field(1, ge=0, le=10_000)
    max_count: int | None = Field(None, ge=0, le=10_000)

    @model_validator(mode="after")
    def _not_always(self) -> "ObjectCondition":
        if self.min_count == 0 and self.max_count is None:
            raise ValueError("min_count 0 without max_count is true of every picture")
        return self

    def holds(self, facts: Facts) -> bool:
        """Whether so many are there."""
        count = sum(
            one.label == self.label
            and one.score >= self.min_score
            and one.share >= self.min_share
            and (self.max_share is None or one.share <= self.max_share)
            for one in facts.objects
        )
        return count >= self.min_count and (self.max_count is None or count <= self.max_count)


class FileCondition(_Range):
    """Size and format of the file; each bound that is given must hold."""

    min_bytes: Bound | None = None
    max_bytes: Bound | None = None
    min_width: Bound | None = Field(None, description="pixels")
    max_width: Bound | None = None
    min_height: Bound | None = None
    max_height: Bound | None = None
    media_types: list[Name] | None = Field(None, min_length=1)
    models: list[Name] | None = Field(None, min_length=1, description="model_name of the upload")

    @model_validator(mode="after")
    def _something(self) -> "FileCondition":
        if not self.model_fields_set:
            raise ValueError("needs at least one bound")
        return self

    def holds(self, facts: Facts) -> bool:
        """Whether all of it fits."""
        sizes = (
            (facts.size_bytes, self.min_bytes, self.max_bytes),
            (facts.width, self.min_width, self.max_width),
            (facts.height, self.min_height, self.max_height),
        )
        return (
            all((least is None or size >= least) and (most is None or size <= most) for size, least, most in sizes)
            and (self.media_types is None or facts.media_type in self.media_types)
            and (self.models is None or facts.model_name in self.models)
        )


class Condition(_Strict):
    """Exactly one of: all, any, not, use, match, unsafe, object, file, unfiltered."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    all_of: list["Condition"] | None = Field(None, alias="all", min_length=1)
    any_of: list["Condition"] | None = Field(None, alias="any", min_length=1)
    negated: "Condition | None" = Field(None, alias="not")
    use: Name | None = Field(None, description="a named condition of the same policy")
    match: MatchCondition | None = None
    unsafe: UnsafeCondition | None = None
    object: ObjectCondition | None = None
    file: FileCondition | None = None
    unfiltered: Literal[True] | None = Field(None, description="no content filter has seen the image")

    @model_validator(mode="after")
    def _one(self) -> "Condition":
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            names = [self.__class__.model_fields[name].alias or name for name in given]
            raise ValueError(
                "must be exactly one of all, any, not, use, match, unsafe, object, file, unfiltered;"
                f" it has {' and '.join(names) or 'none'}"
            )
        return self

    def holds(self, facts: Facts, matches: tuple[BankMatch, ...], named: Callable[[str], bool]) -> bool:
        """Whether it is true of an image.

        Args:
            matches: those that count.
            named: says of a named condition of the policy whether it is true.
        """
        if self.all_of is not None:
            return all(one.holds(facts, matches, named) for one in self.all_of)
        if self.any_of is not None:
            return any(one.holds(facts, matches, named) for one in self.any_of)
        if self.negated is not None:
            return not self.negated.holds(facts, matches, named)
        if self.use is not None:
            return named(self.use)
        if self.match is not None:
            return self.match.holds(facts, matches)
        simple = self.unsafe or self.object or self.file
        return simple.holds(facts) if simple is not None else not facts.content_scores


class Rule(_Strict):
    """What is done with an image of which ``when`` is true."""

    name: Name
    action: Verdict
    severity: int = Field(5, ge=0, le=10, description="10 is the gravest; reviewers see the gravest first")
    reason: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_plain)]
    when: Condition


class Judgement(_Strict):
    """What a policy says of one image.

    Args:
        rule: that decided; None: none fired, and the policy's default stands.
        fired: names of all rules that were true, in their order.
        waived: matches that did not count, since the image is in an allowed bank too.
    """

    verdict: Verdict
    rule: str | None
    reason: str
    severity: int
    fired: list[str] = []
    waived: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.model_dump(mode="json")


class Policy(_Strict):
    """Rules, the named conditions that they use, and what holds where none of them fires."""

    version: Literal[1] = 1
    default: Verdict = Verdict.ALLOW
    conditions: dict[Name, Condition] = {}
    rules: list[Rule] = Field([], max_length=10_000)

    @model_validator(mode="after")
    def _sound(self) -> "Policy":
        found = examine(self.model_dump(mode="json", by_alias=True, exclude_none=True)).mistakes
        if found:
            raise ValueError("; ".join(f"{dotted(path)}: {message}" for path, message in found[:5]))
        return self

    def judge(self, facts: Facts) -> Judgement:
        """The verdict on an image: block beats review beats allow, then the higher severity, then the earlier rule.

        A match in an allowed bank makes the matches in unacceptable banks not count; other conditions stand.
        """
        matches = facts.matches
        if any(one.kind == BankKind.ALLOWED for one in matches):
            matches = tuple(one for one in matches if one.kind == BankKind.ALLOWED)
        known: dict[str, bool] = {}

        def named(name: str) -> bool:  # each is found once, however often it is used
            if name not in known:
                known[name] = self.conditions[name].holds(facts, matches, named)
            return known[name]

        fired = [rule for rule in self.rules if rule.when.holds(facts, matches, named)]
        waived = len(facts.matches) - len(matches)
        if not fired:
            return Judgement(
                verdict=self.default, rule=None, reason="no rule applies", severity=0, fired=[], waived=waived
            )
        first = max(fired, key=lambda rule: (RANK[rule.action], rule.severity))
        return Judgement(
            verdict=first.action,
            rule=first.name,
            reason=first.reason,
            severity=first.severity,
            fired=[rule.name for rule in fired],
            waived=waived,
        )
