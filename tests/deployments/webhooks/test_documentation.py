"""docs/webhooks.md names every event, and its check of signatures works as it is printed."""

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from configs.settings import Settings
from deployments.webhooks.signing import headers_of
from storage.outbox import EventType

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
SECRETS = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")


def test_the_table_is_that_of_the_code() -> None:
    assert re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.MULTILINE) == list(EventType)


def test_the_settings_exist() -> None:
    named = set(re.findall(r"SAFEGUARD_(WEBHOOK_[A-Z_]+)", PAGE))
    assert named and {name.lower() for name in named} <= set(Settings.model_fields)


def test_the_printed_check_works() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(code.split("def ")[1].splitlines()) <= 10
    scope: dict[str, Any] = {}
    exec(code, scope)
    is_genuine, body = scope["is_genuine"], '{"type":"Ы"}'.encode()
    now = datetime.fromtimestamp(time.time(), UTC)

    def headers(moment: datetime, *secrets: str) -> dict[str, str]:
        return {name.decode().lower(): value.decode() for name, value in headers_of("evt_1_a", secrets, body, moment)}

    assert is_genuine(headers(now, SECRETS[0]), body, SECRETS[0])
    assert is_genuine(headers(now, *SECRETS), body, SECRETS[1])
    assert not is_genuine(headers(now, SECRETS[1]), body, SECRETS[0])
    assert not is_genuine(headers(now, SECRETS[0]), body + b" ", SECRETS[0])
    assert not is_genuine(headers(now - timedelta(hours=1), SECRETS[0]), body, SECRETS[0])
    assert not is_genuine({**headers(now, SECRETS[0]), "webhook-id": "evt_2_a"}, body, SECRETS[0])
