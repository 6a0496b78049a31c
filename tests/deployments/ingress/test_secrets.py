"""No key, password or secret of a webhook is in an answer that need not show it, in a log, or where ``ps`` looks."""

import io
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import create_engine
from storage.embedded.stack import EmbeddedServers
from storage.keys import create_key
from storage.objects import ObjectStore
from tests.deployments.ingress.conftest import MakeApp, is_problem, picture
from tests.deployments.ingress.test_access import ROUTES
from tests.events import LOOPBACK, forget_events

WRONG_PASSWORD = "not-the-password-but-secret-too"


@pytest.fixture
async def logged() -> AsyncIterator[io.StringIO]:
    """Every line that any library logs, at any level, as a replica's log file would hold it.

    Of SQLAlchemy every statement; one level lower it logs whole rows, which nobody who asks for them can be spared.
    """
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root, statements = logging.getLogger(), logging.getLogger("sqlalchemy")
    before = root.level, statements.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    statements.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before[0])
    statements.setLevel(before[1])


def known(settings: Settings) -> list[str]:
    """The secrets of the installation."""
    assert settings.database_url and settings.s3_secret_key
    password = urlsplit(settings.database_url.get_secret_value()).password
    assert password
    return [password, settings.s3_secret_key.get_secret_value()]


async def test_answers_and_logs_hold_no_secret(
    servers: Settings, engine: AsyncEngine, make_app: MakeApp, logged: io.StringIO, home: Path, queue: str
) -> None:
    verbose, objects = create_engine(servers, pool_size=1), ObjectStore(servers)  # made while everything is logged
    assert servers.database_url
    url = urlsplit(servers.database_url.get_secret_value())
    refused = servers.model_copy(
        update={
            "database_url": SecretStr(url._replace(netloc=f"safeguard:{WRONG_PASSWORD}@127.0.0.1:{url.port}").geturl())
        }
    )
    without = create_engine(refused, pool_size=1)
    apps = [
        await make_app({"engine": verbose, "objects": objects}, webhook_allow_private=LOOPBACK),
        await make_app({"engine": without, "objects": objects}),
        await make_app({"engine": None}),
    ]
    key = await create_key(verbose, str(uuid4()), ["admin"], actor="test")
    guess = f"sg_{uuid4().hex}"
    secrets = [*known(servers), WRONG_PASSWORD, key, guess]
    answers: list[httpx.Response] = []
    for app in apps:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {guess}"}, {"Authorization": f"Basic {key}"}):
            async with httpx.AsyncClient(transport=transport, base_url="http://r/api/v1", headers=headers) as client:
                made = await client.post("/webhooks", json={"url": "https://127.0.0.1/hook"})
                if made.status_code == 201:
                    secrets.append(made.json()["secret"])
                    rotated = await client.post(f"/webhooks/{made.json()['id']}/rotate")
                    secrets.append(rotated.json()["secret"])
                form = {"name": "n", "model_name": queue}
                answers.append(await client.post("/image", data=form, files={"file": picture()}))
                for method, path, _ in ROUTES:
                    answers.append(await client.request(method, path))
                answers.append(await client.get("http://r/health/ready"))
    assert {200, 201, 401, 500, 503} <= {answer.status_code for answer in answers}
    assert len(secrets) == 7
    lines = logged.getvalue()
    assert "api_key" in lines, "statements are among what was logged"
    for secret in secrets:
        assert not [answer.url for answer in answers if secret in answer.text + str(answer.headers)]
        assert secret not in lines
        for log in (home / "logs").iterdir():
            assert secret not in log.read_text(errors="replace")
    await without.dispose()
    await verbose.dispose()
    objects.close()
    await forget_events(engine)


async def test_a_violated_constraint_tells_neither_us_nor_the_servers_log_the_values(
    engine: AsyncEngine, home: Path
) -> None:
    secret = f"whsec_{uuid4().hex}"
    statement = text(
        "INSERT INTO webhook (url, secret, types, description, created_by) VALUES (:url, :secret, NULL, '', 'test')"
    )
    with pytest.raises(IntegrityError) as error:
        async with engine.begin() as connection:
            await connection.execute(statement, {"url": "https://x", "secret": secret})
    assert secret not in str(error.value).partition("DETAIL")[0]
    log = (home / "logs" / "postgresql.log").read_text()
    assert "violates" in log and secret not in log


def test_processes_show_no_secret(servers: Settings, home: Path) -> None:
    roots = [psutil.Process(one.pid) for one in EmbeddedServers(home).status().values() if one.pid]
    family = [member for root in roots for member in (root, *root.children(recursive=True))]
    assert len(family) > 2
    for process in family:
        for secret in known(servers):
            assert secret not in " ".join(process.cmdline())
            assert secret not in str(process.environ())


def test_settings_are_shown_without_their_secrets(servers: Settings) -> None:
    for secret in known(servers):
        assert secret not in repr(servers) + str(servers) + servers.model_dump_json()


async def test_a_key_in_the_address_is_no_key(make_app: MakeApp, engine: AsyncEngine) -> None:
    key = await create_key(engine, str(uuid4()), ["admin"], actor="test")
    transport = httpx.ASGITransport(await make_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://r/api/v1") as client:
        is_problem(await client.get("/models", params={"key": key, "api_key": key, "access_token": key}), 401)
