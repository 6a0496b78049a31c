"""`safeguard policies` and `safeguard replay`, and every example of docs/policies.md."""

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from configs.models import load_models
from configs.policy_source import parse_policy
from configs.settings import Settings
from deployments.policy_names import names_of
from graphs.opening import opened
from storage.errors import Conflict, InvalidInput, NotFound
from storage.policy_changes import SHIPPED
from tests.graphs.commands.conftest import run
from tests.storage.policy_rows import add_bank, add_images

DOCS = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL) for line in block.splitlines()]
STRICT = "rules:\n  - {name: '[/red]', action: block, reason: '[b]why', when: {unsafe: {min_score: 0.3}}}\n"


def on(folder: Path, work: Any) -> Any:
    """What ``work(engine)`` gives."""

    async def go() -> Any:
        async with opened(folder) as (_, engine):
            return await work(engine)

    return asyncio.run(go())


def change(folder: Path, statement: str) -> None:
    async def go(engine: Any) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    on(folder, go)


@pytest.fixture
def fresh(folder: Path) -> Path:
    """The installation with the shipped policy only, and no image."""
    change(folder, "TRUNCATE image, bank, decision, look_back CASCADE")
    change(folder, "DELETE FROM policy_version WHERE note <> 'the policy that SafeGuard ships'")
    change(folder, "UPDATE policy_version SET active = true")
    return folder


@pytest.fixture
def strict(tmp_path: Path) -> str:
    (tmp_path / "strict.yaml").write_text(STRICT)
    return str(tmp_path / "strict.yaml")


def test_check(fresh: Path, tmp_path: Path, strict: str) -> None:
    assert run(fresh, "policies", "check", strict) == (0, f"{strict}: 1 rule, no mistake found\n")
    broken = tmp_path / "broken.yaml"
    broken.write_text("rules:\n  - {nam: a, action: block, reason: b, when: {match: {banks: ['Ко\"т']}}}\n")
    code, said = run(fresh, "policies", "check", str(broken))
    assert code == 1 and said.splitlines() == [
        f"{broken}:2:5: rules.0.name: is missing",
        f"{broken}:2:6: rules.0.nam: unknown key 'nam'; did you mean 'name'?",
        f"{broken}:2:63: rules.0.when.match.banks.0: there is no bank 'Ко\"т'; there are none",
    ]
    assert run(fresh, "policies", "apply", str(broken)) == (1, said)
    assert run(fresh, "policies", "test", str(broken)) == (1, said)


def test_check_without_a_database_checks_all_but_banks_and_says_so(tmp_path: Path, strict: str) -> None:
    code, said = run(tmp_path / "nothing", "policies", "check", strict)
    assert code == 0 and "not checked (the database does not answer): names of banks, models" in said
    (tmp_path / "settings.env").write_text("SAFEGUARD_DATABASE_URL='postgresql://nobody@127.0.0.1:1/nothing'\n")
    assert run(tmp_path, "policies", "check", strict) == (code, said)
    (tmp_path / "labels.yaml").write_text(STRICT.replace("unsafe: {min_score: 0.3}", "object: {label: persn}"))
    code, said = run(tmp_path, "policies", "check", str(tmp_path / "labels.yaml"))
    assert code == 1 and "no detector finds 'persn'; did you mean 'person'?" in said


@pytest.mark.parametrize(("content", "said"), [(b"rules: \xff", ":1: this is not UTF-8"), (b" " * 1_000_001, "bytes")])
def test_files_that_are_no_text(fresh: Path, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        run(fresh, "policies", "check", str(tmp_path / "file"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        run(fresh, "policies", "check", str(tmp_path))


def test_a_byte_order_mark_is_no_mistake(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbf" + STRICT.encode())
    assert run(fresh, "policies", "check", str(tmp_path / "file"))[0] == 0


def test_try_apply_list_show_and_go_back(fresh: Path, strict: str) -> None:
    (image, _) = on(fresh, lambda engine: add_images(engine, [0.4, 0.95]))
    code, said = run(fresh, "policies", "test", strict)
    assert code == 0 and "2 images judged, 1 would change; 0 more stay" in said
    assert f"image {image}: allow by no rule -> block by [/red]: [b]why" in said
    assert "0 images judged" in run(fresh, "policies", "test", strict, "--since", "2100-01-01")[1]
    (first,) = re.findall(r"│ (\d+) +│ active", run(fresh, "policies", "list")[1])
    code, said = run(fresh, "policies", "apply", strict, "--note", "[bold]note")
    (second,) = re.findall(r"policy (\d+) is active; look-back \d+ judges past images", said)
    assert run(fresh, "policies", "apply", strict)[1] == f"policy {second} was active already; nothing has changed\n"
    assert "[bold]note" in run(fresh, "policies", "list")[1]
    assert run(fresh, "policies", "show") == (0, STRICT)
    assert run(fresh, "policies", "show", first) == (0, SHIPPED.read_text())
    code, said = run(fresh, "policies", "rollback", first, "--new-only")
    assert code == 0 and said.startswith(f"policy {first} is active for new images")
    with pytest.raises(NotFound):
        run(fresh, "policies", "rollback", str(10**18))


def test_a_version_whose_bank_is_gone(fresh: Path, tmp_path: Path, strict: str) -> None:
    on(fresh, lambda engine: add_bank(engine, "scams"))
    (tmp_path / "named.yaml").write_text(STRICT.replace("unsafe: {min_score: 0.3}", "match: {banks: [scams]}"))
    said = run(fresh, "policies", "apply", str(tmp_path / "named.yaml"))[1]
    run(fresh, "policies", "apply", strict)
    change(fresh, "UPDATE bank SET removed_at = now()")
    with pytest.raises(Conflict, match="there is no bank 'scams'"):
        run(fresh, "policies", "rollback", said.split()[1])


def test_replay(fresh: Path) -> None:
    image, _ = on(fresh, lambda engine: add_images(engine, [0.95, 0.1]))
    code, said = run(fresh, "replay", f"image/{image}")
    assert code == 0 and said.endswith("the same comes out\n")
    (decision,) = re.findall(rf"decision (\d+) on image {image}: block by policy \d+, unsafe-content", said)
    assert run(fresh, "replay", decision) == (code, said)
    assert run(fresh, "replay", "--all") == (0, "2 decisions, 0 differ\n")
    change(fresh, f"UPDATE decision SET verdict = 'allow' WHERE image_id = {image}")
    code, said = run(fresh, "replay", decision)
    assert code == 1 and said.endswith("verdict: recorded 'allow', replayed 'block'\n")
    assert run(fresh, "replay", "--all") == (
        1, f"decision {decision} on image {image}: verdict: recorded 'allow', replayed 'block'\n2 decisions, 1 differ\n",
    )  # fmt: skip
    for wrong in ("0", "images/1", "x", "image/", str(2**63)):
        with pytest.raises(InvalidInput, match="neither"):
            run(fresh, "replay", wrong)
    with pytest.raises(NotFound):
        run(fresh, "replay", str(2**63 - 1))
    assert run(fresh, "replay")[0] == 2 and run(fresh, "replay", decision, "--all")[0] == 2


@pytest.mark.parametrize("source", EXAMPLES)
def test_examples_of_the_documentation_are_policies(servers: Settings, source: str) -> None:
    assert parse_policy(source, names_of(load_models(servers.models_file), strict=True)).rules


def test_commands_of_the_documentation(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(EXAMPLES[0])
    (image,) = on(fresh, lambda engine: add_images(engine, [0.95]))
    (first,) = re.findall(r"│ (\d+) +│ active", run(fresh, "policies", "list")[1])
    commands = [shlex.split(line) for line in COMMANDS if line.startswith("safeguard ")]
    assert len(commands) == 8
    for _, *words in commands:
        words = [{"image/1": f"image/{image}", "1": first}.get(word, word) for word in words]
        code, said = run(fresh, *words)
        assert code == 0, (words, said)
    (mistake,) = re.findall(r"^    policy\.yaml:11:5: (.*)", DOCS, re.MULTILINE)
    Path("policy.yaml").write_text(EXAMPLES[0].replace("severity: 9", "sevrity: 9"))
    assert run(fresh, "policies", "check", "policy.yaml") == (1, f"policy.yaml:11:5: {mistake}\n")
