"""What a receiver gets: body and headers by the Standard Webhooks specification. Imports storage only."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from storage.deliveries import Outgoing


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature: ``v1,`` and base64 of HMAC-SHA256 over ``{id}.{timestamp}.{body}``.

    Args:
        secret: ``whsec_`` and base64 of the key.
        timestamp: of the try, seconds since 1970.
    Source: https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def body_of(event: Outgoing) -> bytes:
    """``{"type", "timestamp", "data"}``; ``data`` has the image's id where the event is about one."""
    about = {} if event.image_id is None else {"image_id": event.image_id}
    content = {
        "type": event.type,
        "timestamp": event.created_at.astimezone(UTC).isoformat(),
        "data": {**about, **event.data},
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def headers_of(message_id: str, secrets: Sequence[str], body: bytes, now: datetime) -> list[tuple[bytes, bytes]]:
    """The headers of one try, signed with each secret that holds."""
    timestamp = int(now.timestamp())
    signatures = " ".join(signature(secret, message_id, timestamp, body) for secret in secrets)
    return [
        (b"Content-Type", b"application/json"),
        (b"User-Agent", b"SafeGuard"),
        (b"webhook-id", message_id.encode()),
        (b"webhook-timestamp", str(timestamp).encode()),
        (b"webhook-signature", signatures.encode()),
    ]
