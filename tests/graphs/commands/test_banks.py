"""`safeguard banks`, and every command of docs/banks.md in its order."""

import asyncio
import io
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from graphs.banks import list_file
from graphs.opening import opened
from storage.errors import Conflict, InvalidInput, NotFound
from tests.graphs.commands.conftest import run
from tests.storage.policy_rows import add_images

DOCS = (Path(__file__).parents[3] / "docs" / "banks.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL) for line in block.splitlines()]
(LIST,) = re.findall(r"```csv\n(.*?)```", DOCS, re.DOTALL)
P = "0f" * 32
BANK = "[b]Банк[/b] 'один'"


def on(folder: Path, work: Any) -> Any:
    """What ``work(engine)`` gives."""

    async def go() -> Any:
        async with opened(folder) as (_, engine):
            return await work(engine)

    return asyncio.run(go())


def execute(folder: Path, statement: str) -> None:
    async def go(engine: Any) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    on(folder, go)


def banks(folder: Path, *arguments: str) -> str:
    code, said = run(folder, "banks", *arguments)
    assert code == 0, said
    return said


@pytest.fixture
def fresh(folder: Path) -> Path:
    """The installation without banks and images, but with images 7 and 8."""
    execute(folder, "TRUNCATE image, bank, decision, look_back CASCADE")
    first, second = on(folder, lambda engine: add_images(engine, [0.01, 0.01], decided=False))
    execute(folder, "DELETE FROM content_score")
    execute(folder, f"UPDATE image SET id = CASE id WHEN {first} THEN 7 WHEN {second} THEN 8 END")
    return folder


def test_the_commands_of_the_documentation(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text(LIST)
    said = {}
    for line in COMMANDS:
        program, *arguments = shlex.split(line)
        assert program == "safeguard"
        code, said[line] = run(fresh, *arguments)
        assert code == 0, (line, said[line])
    told = "\n".join(said.values())
    assert "image 7 is added; look-back " in told and "1 added, 1 there already, 0 refused" in told
    assert re.search(r"counts exact, copy, semantic; PDQ within 24 bits\n.*of copies: that of the link", told)
    exported = (tmp_path / "bank.csv").read_text().splitlines()
    assert len(exported) == 3 and exported[1].endswith(",,from the hotline") and exported[2] == LIST.splitlines()[2]
    assert "Logos" not in banks(fresh, "list")


def test_a_bank_s_life(fresh: Path) -> None:
    banks(fresh, "create", BANK, "--copy-score", "0.9", "--relation", "exact")
    assert "[b]Банк[/b] 'один'" in banks(fresh, "show", BANK)
    number = re.search(r"bank (\d+),", banks(fresh, "show", BANK))[1]  # type: ignore[index]
    assert "copies: 0.9000" in banks(fresh, "show", number)
    with pytest.raises(Conflict):
        banks(fresh, "create", BANK)
    assert "look-back" not in banks(fresh, "change", BANK, "--disable"), "there is nothing to look at"
    assert "in force: no" in banks(fresh, "show", BANK)
    banks(fresh, "add", BANK, "7")
    assert "a member already" in banks(fresh, "add", BANK, "7")
    assert "look-back" in banks(fresh, "change", BANK, "--enable")
    code, said = run(fresh, "banks", "remove", BANK)
    assert code == 1 and "Remove bank" in said and "1 members" in said, "nobody has said yes"
    assert "counts no more" in banks(fresh, "remove", number, "--yes")
    with pytest.raises(NotFound, match="no bank named"):
        banks(fresh, "show", BANK)
    with pytest.raises(NotFound, match=f"no bank {10**17}"):
        banks(fresh, "show", str(10**17))


def test_members(fresh: Path) -> None:
    banks(fresh, "create", BANK)
    assert "is added" in banks(fresh, "add", BANK, "--pdq", P.upper(), "--note", "две\nстроки [i]")
    assert "there already" in banks(fresh, "add", BANK, "--pdq", P)
    (line,) = banks(fresh, "members", BANK).splitlines()
    number = line.split()[0]
    assert line == f"{number}  pdq {P}  две строки [i]"
    execute(fresh, f"UPDATE bank_member SET quarantined_at = now(), quarantine_reason = 'much' WHERE id = {number}")
    assert "in quarantine: much" in banks(fresh, "members", BANK, "--quarantined")
    assert "counts again; look-back" in banks(fresh, "release", BANK, number)
    assert banks(fresh, "members", BANK, "--quarantined") == ""
    assert "takes its effects back" in banks(fresh, "forget", BANK, "--member", number)
    assert banks(fresh, "members", BANK) == ""
    banks(fresh, "add", BANK, "7", "8")
    assert f"more with --after {banks(fresh, 'members', BANK).split()[0]}" in banks(
        fresh, "members", BANK, "--limit", "1"
    )
    with pytest.raises(NotFound, match="no image 9"):
        banks(fresh, "add", BANK, "9")
    with pytest.raises(InvalidInput, match="pdq has 3 digits"):
        banks(fresh, "add", BANK, "--pdq", "abc")
    for wrong in (
        ["add", BANK],
        ["add", BANK, "7", "--pdq", P],
        ["forget", BANK],
        ["forget", BANK, "--image", "7", "--member", "1"],
    ):
        assert run(fresh, "banks", *wrong)[0] == 2
    assert run(fresh, "banks", "change", BANK, "--until", "tomorrow")[0] == 2
    with pytest.raises(InvalidInput, match="time zone"):
        banks(fresh, "change", BANK, "--until", "2090-01-01")


def test_lists(fresh: Path, tmp_path: Path) -> None:
    banks(fresh, "create", BANK)
    bad = tmp_path / "список.csv"
    bad.write_text(f"pdq\n{P}\n{P[2:]}\n")
    code = 0
    with pytest.raises(InvalidInput, match="nothing was imported"):
        code, _ = run(fresh, "banks", "import", BANK, str(bad))
    assert code == 0 and banks(fresh, "members", BANK) == ""
    said = banks(fresh, "import", BANK, str(bad), "--keep-good")
    assert "line 3: pdq has 62 digits instead of 64" in said and "1 added, 0 there already, 1 refused" in said
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            banks(fresh, "import", BANK, str(missing))
    with pytest.raises(InvalidInput, match="cannot be written"):
        banks(fresh, "export", BANK, "--output", str(tmp_path / "none" / "x"))
    assert banks(fresh, "export", BANK) == f"pdq,sha256,note\n{P},,\n"


def test_a_pipe_is_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = os.pipe()
    os.write(into, P.encode())
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        with list_file("-") as file:
            assert file.read() == P.encode()
            file.seek(0)
            assert file.read() == P.encode()


def test_a_small_bank_cannot_be_calibrated(fresh: Path) -> None:
    banks(fresh, "create", BANK)
    banks(fresh, "add", BANK, "7")
    with pytest.raises(InvalidInput, match="has 1 members that are images of safeguard-v1: at least 40"):
        banks(fresh, "calibrate", BANK)
