"""Policies: the versions, the active one, and how it is checked, tried on past images, applied and taken back."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.status import HTTP_200_OK, HTTP_201_CREATED

from deployments.ingress.access import Scope
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine, UsesRegistry, UsesSettings
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.policy_schemas import (
    ChangeShown,
    CheckedPolicy,
    NewPolicy,
    PolicyChanged,
    PolicyChecked,
    PolicyHeadShown,
    PolicyId,
    PolicyShown,
    Rollback,
    RuleTried,
    TrialShown,
    TriedPolicy,
    VerdictsChanged,
)
from deployments.ingress.schemas import MAX_ID
from deployments.policy_names import names_in
from storage import policies, policy_changes
from storage.keys import Principal
from storage.policies import banks_named
from storage.policy_changes import Applied
from storage.policy_trials import trial

router = APIRouter(tags=["policies"])
_Moderator = Annotated[Principal, Scope("moderate")]
_Admin = Annotated[Principal, Scope("admin")]
_SOURCE = """rules:
  - name: known-unacceptable
    action: block
    severity: 9
    reason: A copy of a picture in a bank of unacceptable ones
    when:
      match: {kind: unacceptable}
"""
_HEAD = {
    "id": 2,
    "digest": "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4",
    "note": "no review of what merely resembles",
    "active": True,
    "created_at": "2024-11-01T10:00:00+00:00",
    "created_by": "first-key",
}
_CHANGED = {"id": 2, "changed": True, "look_back": 5}
_TRIAL = {
    "images": 1000,
    "human": 3,
    "changed": 12,
    "by_default": 970,
    "verdicts": [
        {"before": "allow", "after": "allow", "images": 970},
        {"before": "allow", "after": "block", "images": 12},
        {"before": "block", "after": "block", "images": 18},
    ],
    "rules": [{"rule": "known-unacceptable", "decides": 30, "true_of": 30}],
    "examples": [
        {
            "image_id": 981,
            "before": "allow",
            "before_rule": "no-copy-of-ours",
            "after": "block",
            "rule": "known-unacceptable",
            "reason": "A copy of a picture in a bank of unacceptable ones",
        }
    ],
}
_CHANGE_NOTE = "Past images are judged by a look-back, unless `rejudge` is false."


@router.get(
    "/policies",
    summary="Versions of the policy",
    response_model=list[PolicyHeadShown],
    responses={200: shown([_HEAD], "Newest first, without their texts"), **problems()},
)
async def list_policies(
    _: _Moderator,
    engine: UsesEngine,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=1, le=MAX_ID, description="id of the last one of the page before")] = None,
) -> list[PolicyHeadShown]:
    """Every version that was ever applied."""
    return [PolicyHeadShown(**vars(one)) for one in await policies.listing(engine, after=after, limit=limit)]


@router.post(
    "/policies",
    summary="Apply a policy",
    status_code=HTTP_201_CREATED,
    response_model=PolicyChanged,
    responses={
        200: shown({"id": 2, "changed": False}, "It was active before, with this very text", model=PolicyChanged),
        201: shown(_CHANGED, f"It is active. {_CHANGE_NOTE}"),
        **problems(),
    },
    openapi_extra=sent(NewPolicy, {"source": _SOURCE, "note": _HEAD["note"]}),
)
async def apply_policy(
    request: Request, response: Response, caller: _Admin, engine: UsesEngine, settings: UsesSettings,
    registry: UsesRegistry,
) -> PolicyChanged:  # fmt: skip
    """Makes the text the active policy, as a new version. Where anything is wrong with it the answer is 422 with every
    mistake, its line and column, and the policy before stays active."""
    wanted = await read_json(request, NewPolicy)
    known = await names_in(engine, registry, strict=settings.strict_models)
    done = await policy_changes.apply(
        engine, wanted.source, known, actor=caller.name, note=wanted.note, rejudge=wanted.rejudge
    )
    response.status_code = HTTP_201_CREATED if done.changed else HTTP_200_OK
    return _changed(done)


@router.post(
    "/policies/check",
    summary="Check a policy",
    response_model=PolicyChecked,
    responses={200: shown({"rules": 1, "conditions": 0, "banks": ["scams"]}, "It could be applied"), **problems()},
    openapi_extra=sent(CheckedPolicy, {"source": _SOURCE}),
)
async def check_policy(
    request: Request, _: _Moderator, engine: UsesEngine, settings: UsesSettings, registry: UsesRegistry
) -> PolicyChecked:
    """Changes nothing. Mistakes are a 422 with all of them, each with its line and column."""
    wanted = await read_json(request, CheckedPolicy)
    known = await names_in(engine, registry, strict=settings.strict_models)
    policy, _banks = await policy_changes.check(engine, wanted.source, known)
    return PolicyChecked(rules=len(policy.rules), conditions=len(policy.conditions), banks=sorted(banks_named(policy)))


@router.post(
    "/policies/test",
    summary="Try a policy on past images",
    response_model=TrialShown,
    responses={200: shown(_TRIAL, "What it would have decided"), **problems()},
    openapi_extra=sent(TriedPolicy, {"source": _SOURCE, "last": 1000}),
)
async def try_policy(
    request: Request, _: _Moderator, engine: UsesEngine, settings: UsesSettings, registry: UsesRegistry
) -> TrialShown:
    """Judges what is stored of the newest images and compares with the verdicts that hold. Changes nothing."""
    wanted = await read_json(request, TriedPolicy)
    known = await names_in(engine, registry, strict=settings.strict_models)
    policy, _banks = await policy_changes.check(engine, wanted.source, known)
    found = await trial(engine, policy, last=wanted.last, since=wanted.since)
    verdicts: list[dict[str, Any]] = [
        {"before": before, "after": after, "images": images}
        for (before, after), images in sorted(found.verdicts.items(), key=lambda one: (one[0][0] or "", one[0][1]))
    ]
    return TrialShown(
        images=found.images,
        human=found.human,
        changed=found.changed,
        by_default=found.decided[None],
        verdicts=[VerdictsChanged(**one) for one in verdicts],
        rules=[
            RuleTried(rule=one.name, decides=found.decided[one.name], true_of=found.fired[one.name])
            for one in policy.rules
        ],
        examples=[ChangeShown.model_validate(vars(one) | {"after": one.verdict}) for one in found.examples],
    )


@router.get(
    "/policies/active",
    summary="The active policy",
    response_model=PolicyShown,
    responses={200: shown({**_HEAD, "source": _SOURCE}, "With its text"), **problems(404)},
)
async def get_active_policy(_: _Moderator, engine: UsesEngine) -> PolicyShown:
    """What decides now."""
    return PolicyShown(**(await policies.get(engine, None)).model_dump())


@router.get(
    "/policies/{policy_id}",
    summary="One version of the policy",
    response_model=PolicyShown,
    responses={200: shown({**_HEAD, "source": _SOURCE}, "With its text"), **problems(404)},
)
async def get_policy(policy_id: PolicyId, _: _Moderator, engine: UsesEngine) -> PolicyShown:
    """Versions are kept: what a decision names can always be read."""
    return PolicyShown(**(await policies.get(engine, policy_id)).model_dump())


@router.post(
    "/policies/{policy_id}/rollback",
    summary="Go back to an earlier version",
    response_model=PolicyChanged,
    responses={200: shown({**_CHANGED, "id": 1}, f"It is active. {_CHANGE_NOTE}"), **problems(404, 409)},
    openapi_extra=sent(Rollback, {"note": "blocked too much"}),
)
async def roll_back(
    policy_id: PolicyId, request: Request, caller: _Admin, engine: UsesEngine, settings: UsesSettings,
    registry: UsesRegistry,
) -> PolicyChanged:  # fmt: skip
    """Makes it active again under its own number. 409 where it names what is not there any more, such as a bank."""
    wanted = await read_json(request, Rollback)
    known = await names_in(engine, registry, strict=settings.strict_models)
    done = await policy_changes.rollback(
        engine, policy_id, known, actor=caller.name, note=wanted.note, rejudge=wanted.rejudge
    )
    return _changed(done)


def _changed(done: Applied) -> PolicyChanged:
    return PolicyChanged(id=done.version, changed=done.changed, look_back=done.look_back)
