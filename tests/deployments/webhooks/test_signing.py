"""Messages are signed by the Standard Webhooks specification."""

import json
from datetime import UTC, datetime
from uuid import uuid4

from deployments.webhooks.signing import body_of, headers_of, signature
from storage.deliveries import Outgoing
from tests.events import Received

SECRETS = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")


def test_the_signature_is_that_of_the_specifications_own_library() -> None:
    # Made by PyPI's standardwebhooks 1.1.0: Webhook(SECRETS[0]).sign(id, 2021-02-25T14:22:10Z, body).
    made = signature(SECRETS[0], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def event(image_id: int | None) -> Outgoing:
    happened = datetime(2024, 11, 1, 10, 0, 0, 123456, UTC)
    data = {"bank": 'Ы"\n', "n": 1}
    return Outgoing(17, 3, "image.decided", image_id, data, happened, 1, uuid4(), "https://x.example", SECRETS)


def test_the_body_has_type_time_and_data() -> None:
    assert json.loads(body_of(event(7))) == {
        "type": "image.decided",
        "timestamp": "2024-11-01T10:00:00.123456+00:00",
        "data": {"image_id": 7, "bank": 'Ы"\n', "n": 1},
    }
    assert "image_id" not in json.loads(body_of(event(None)))["data"]


def test_each_secret_signs_the_very_bytes() -> None:
    body = body_of(event(7))
    now = datetime(2024, 11, 1, 10, 0, 9, 999_999, UTC)
    headers = {key.decode().lower(): value.decode() for key, value in headers_of("evt_17_a", SECRETS, body, now)}
    assert headers["webhook-timestamp"] == "1730455209" and headers["webhook-id"] == "evt_17_a"
    received = Received(headers, body, "")
    assert all(received.is_signed_with(secret) for secret in SECRETS)
    assert not received.is_signed_with("whsec_" + "A" * 32)
    assert not Received(headers, body + b" ", "").is_signed_with(SECRETS[0])


def test_the_id_is_the_same_for_every_try_and_differs_between_databases() -> None:
    one = event(7)
    assert one.message_id == event(7).message_id and one.message_id.startswith("evt_17_")
    other = Outgoing(**{**vars(one), "created_at": datetime(2025, 1, 1, tzinfo=UTC)})
    assert other.message_id != one.message_id


def test_secrets_are_not_in_what_a_log_could_show() -> None:
    assert "whsec" not in repr(event(7))
