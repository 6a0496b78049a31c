"""`safeguard audit`, and the program of docs/audit.md that verifies without SafeGuard."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from configs.settings import Settings
from graphs.opening import opened
from safeguard import app
from storage.audit import record_many
from storage.errors import InvalidInput
from storage.keys import create_key, revoke_key
from tests.installation import apart, tampering

ROOT = Path(__file__).parents[3]
DETAILS = [
    {}, {"n": 1e-7, "z": -0.0, "a": 1.0, "b": 2**80, "c": 1e22, "d": 5e-324, "e": -100, "f": 0.30000000000000004},
    {"text": "кот \"\\\n\x01😀\u2028", "list": [None, True, {"б": [], "a": 10}]},
]  # fmt: skip


async def fill(folder: Path) -> str:
    """Makes and revokes a key, and writes entries of all kinds; returns the key."""
    async with opened(folder) as (_, engine):
        async with engine.begin() as connection, tampering(connection):
            await connection.execute(text("TRUNCATE audit"))  # the first policy
        soon = datetime.now(UTC) + timedelta(days=1)
        key = await create_key(engine, "a key", ["image:read"], expires_at=soon, rate_limit=9, actor="command line")
        await revoke_key(engine, "a key", actor="command line")
        await revoke_key(engine, "a key", actor="command line")
        async with engine.begin() as connection:
            await record_many(connection, "\x1b[31mred", [("thing.do", "thing/1", detail) for detail in DETAILS])
    return key


@pytest.fixture(scope="module")
def folder(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that leads to a database of its own with five entries in its audit."""
    with apart(servers) as settings:
        made = tmp_path_factory.mktemp("home")
        assert settings.database_url is not None
        (made / "settings.env").write_text(f"SAFEGUARD_DATABASE_URL='{settings.database_url.get_secret_value()}'\n")
        (made / "key").write_text(asyncio.run(fill(made)))
        yield made


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["audit", *arguments, "--home", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def listed(folder: Path, *filters: str) -> list[dict[str, object]]:
    code, said = run(folder, "list", "--json", *filters)
    assert code == 0
    return [json.loads(line) for line in said.removesuffix("\n").split("\n")]


def test_what_is_done_to_keys_is_listed_without_the_key(folder: Path) -> None:
    found = listed(folder, "--subject", "key/a key")
    assert [(one["sequence"], one["action"], one["actor"]) for one in found] == [
        (1, "key.create", "command line"), (2, "key.revoke", "command line"),
    ]  # fmt: skip
    detail = found[0]["detail"]
    assert isinstance(detail, dict) and (detail["scopes"], detail["rate_limit"]) == (["image:read"], 9)
    key = (folder / "key").read_text()
    assert key not in json.dumps(listed(folder)) and key.removeprefix("sg_") not in json.dumps(listed(folder))


def test_entries_are_listed_a_line_each(folder: Path) -> None:
    code, said = run(folder, "list", "--limit", "4", "--after", "1")
    assert code == 0 and [line.split("  ")[0] for line in said.strip().split("\n")] == ["2", "3", "4", "5"]
    assert "\x1b" not in said and "�[31mred" in said
    assert [one["sequence"] for one in listed(folder, "--actor", "\x1b[31mred")] == [3, 4, 5]
    assert [one["sequence"] for one in listed(folder, "--action", "key.revoke")] == [2]
    with pytest.raises(InvalidInput, match="U\\+0000"):
        run(folder, "list", "--actor", "a\0")


def test_the_program_of_the_documentation_verifies_what_is_listed(folder: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "audit.md").read_text(), re.DOTALL)
    lines = run(folder, "list", "--json")[1]

    def verified(given: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", program], input=given.encode(), capture_output=True, timeout=60, check=False
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    assert verified(lines) == (0, run(folder, "head")[1])
    assert verified("") == (0, f"0:{'0' * 64}\n")
    assert verified(lines.replace("1e-07", "1.1e-07")) == (1, "broken at 4\n")
    assert verified(lines.replace("кот", "кит")) == (1, "broken at 5\n")
    assert verified(lines.partition("\n")[2]) == (1, "broken at 1\n")


def test_verify_tells_where_the_chain_is_broken(folder: Path) -> None:
    code, said = run(folder, "head")
    head = said.strip()
    assert code == 0 and head.startswith("5:")
    assert run(folder, "verify") == run(folder, "verify", "--head", head) == (0, f"unbroken: 5 entries; head {head}\n")
    other = "4:" + "0" * 64
    code, said = run(folder, "verify", "--head", other)
    assert code == 1 and "rewritten at 4" in said
    with pytest.raises(InvalidInput, match="SEQUENCE:HASH"):
        run(folder, "verify", "--head", "five")

    async def alter(change: str) -> None:
        async with opened(folder) as (_, engine), engine.begin() as connection, tampering(connection):
            await connection.execute(text(change))

    asyncio.run(alter("UPDATE audit SET actor = 'nobody' WHERE sequence = 2"))
    code, said = run(folder, "verify")
    assert code == 1 and said.startswith("broken: altered at 2: entry 2 was altered") and "whole up to 1:" in said
    asyncio.run(alter("UPDATE audit SET actor = 'command line' WHERE sequence = 2"))
    assert run(folder, "verify")[0] == 0
    asyncio.run(alter("DELETE FROM audit WHERE sequence = 5"))
    assert run(folder, "verify")[0] == 0
    code, said = run(folder, "verify", "--head", head)
    assert code == 1 and "cut off at 5" in said
