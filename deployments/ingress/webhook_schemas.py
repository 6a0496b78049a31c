"""What clients send and are shown of webhooks. Knows no route."""

from typing import Annotated, Any, Self

from fastapi import Path
from pydantic import AwareDatetime, Field, StringConstraints, WithJsonSchema, model_validator

from deployments.ingress.schemas import MAX_ID, Moment, Sent, Shown
from storage.event_tables import DeliveryState, Webhook
from storage.outbox import EventType
from storage.webhooks import Backlog

WebhookId = Annotated[int, Path(ge=1, le=MAX_ID, description="id of a webhook", examples=[1])]
_Text = Annotated[str, StringConstraints(max_length=400, pattern=r"^[^\x00]*$")]
_Url = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
_Type = Annotated[EventType, WithJsonSchema({"type": "string", "enum": list(EventType)})]
_Types = Annotated[list[_Type], Field(max_length=100, description="wanted events; empty: all")]


class NewWebhook(Sent):
    """``POST /webhooks``."""

    url: _Url = Field(description="https://…; leads nowhere private unless the settings allow it")
    types: _Types = Field(default_factory=list)
    description: _Text = ""


class WebhookChange(Sent):
    """``PATCH /webhooks/{webhook_id}``: what is given is changed."""

    url: _Url | None = None
    types: _Types | None = None
    description: _Text | None = None
    enabled: bool | None = Field(None, description="true also forgets failures and sends what waits at once")


class Replay(Sent):
    """``POST /webhooks/{webhook_id}/replay``: exactly one of the three."""

    dead: bool = Field(False, description="what was given up")
    since: AwareDatetime | None = Field(None, description="all that it wants since then, what it has got too")
    event_id: int | None = Field(None, ge=1, le=MAX_ID, description="this one, whatever it wants")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum((self.dead, self.since is not None, self.event_id is not None)) != 1:
            raise ValueError("give exactly one of dead, since and event_id")
        return self


class WebhookShown(Shown):
    """One webhook, without its secret."""

    id: int
    url: str
    types: list[str] = Field(description="wanted events; empty: all")
    description: str
    enabled: bool
    disabled_reason: str | None
    created_by: str
    created_at: Moment
    last_success_at: Moment | None
    failing_since: Moment | None = Field(description="the first failed try since the last success")
    failures: int = Field(description="failed tries in a row")
    last_error: str | None
    paused_until: Moment | None = Field(description="it rests after several failures in a row")
    waiting: int = Field(description="events that are not delivered yet")
    oldest_waiting: Moment | None
    dead: int = Field(description="events that were given up; see replay")

    @classmethod
    def of(cls, webhook: Webhook, backlog: Backlog, **more: Any) -> Self:
        """From the row and the counts."""
        own = webhook.model_dump(exclude={"secret", "old_secret", "old_secret_until"})
        return cls(**own, waiting=backlog.waiting, dead=backlog.dead, oldest_waiting=backlog.oldest_waiting, **more)


class WebhookWithSecret(WebhookShown):
    """A webhook that was made or got another secret just now: the one time that it is shown."""

    secret: str = Field(description="whsec_…, to check signatures with")


class DeliveryShown(Shown):
    """One event and what became of its delivery."""

    event_id: int = Field(description="pass the last one as `before` to go on")
    message_id: str = Field(description="the header `webhook-id`: the same for every try")
    type: str
    image_id: int | None
    created_at: Moment
    state: DeliveryState
    attempt: int = Field(description="tries so far")
    next_try_at: Moment | None
    delivered_at: Moment | None
    last_status: int | None
    last_error: str | None


class Replayed(Shown):
    """How many events are sent again."""

    replayed: int


class TestSent(Shown):
    """The event that was made."""

    event_id: int
