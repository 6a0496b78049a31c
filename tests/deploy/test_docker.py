"""The Dockerfile by rules, as far as they hold without an engine: no root, exec forms, files that exist, nothing secret."""

import fnmatch
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.reading import DEPLOY, OPTIONS, ROOT, Step, dockerfile

FILE = DEPLOY / "docker" / "Dockerfile"
IGNORE = DEPLOY / "docker" / "Dockerfile.dockerignore"
KNOWN = {
    "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"
}  # fmt: skip


@pytest.fixture
def stages() -> list[list[Step]]:
    return dockerfile(FILE)


def said(stage: list[Step], name: str) -> list[str]:
    return [step.words for step in stage if step.name == name]


def test_every_stage_begins_with_a_pinned_image(stages: list[list[Step]]) -> None:
    assert len(stages) == 2
    for stage in stages:
        image = stage[0].words.split()[0]
        assert re.fullmatch(r"python:3\.11-slim", image), "a version, and not `latest`"
        assert {step.name for step in stage} <= KNOWN


def test_the_last_stage_is_without_root(stages: list[list[Step]]) -> None:
    last = stages[-1]
    assert said(last, "USER") == ["10001:10001"]
    user = last.index(Step("USER", "10001:10001"))
    assert not any(step.name in ("RUN", "COPY") for step in last[user:]), "nothing is made by or for another user"
    made = " ".join(said(last, "RUN"))
    assert "--uid 10001" in made and "nologin" in made and "sudo" not in made
    assert all(place.startswith("/") for stage in stages for place in said(stage, "WORKDIR") if place != "/build")


def test_layers_keep_no_caches_and_no_secrets(stages: list[list[Step]]) -> None:
    text = FILE.read_text()
    for step in (step for stage in stages for step in stage if step.name == "RUN"):
        if "apt-get install" in step.words:
            assert "--no-install-recommends" in step.words and "rm -rf /var/lib/apt/lists" in step.words
            assert "apt-get update" in step.words and "upgrade" not in step.words
        if "pip install" in step.words:
            assert "--no-cache-dir" in step.words and "requirements.lock" in step.words
    assert not re.search(r"password|secret|token|--index-url|https?://(?!127\.0\.0\.1)", text, re.IGNORECASE)
    assert not any(step.name == "ADD" for stage in stages for step in stage)


def test_every_copied_file_is_there_and_reaches_the_builder(stages: list[list[Step]]) -> None:
    rules = [line for line in IGNORE.read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = set()
    for stage in stages:
        for words in said(stage, "COPY"):
            if not words.startswith("--from"):
                *sources, _ = words.split()
                copied |= set(sources)
    assert copied == allowed, "what is sent to the builder is what is copied"
    assert all((ROOT / name).exists() for name in copied)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    packages = {name.split("/")[0] for name in tracked if name.count("/") == 1 and name.endswith("/__init__.py")}
    assert packages - {"tests", "tools"} <= copied
    assert not any(fnmatch.fnmatch(name, "*.env") for name in tracked)


def test_the_packages_are_those_of_the_lock(stages: list[list[Step]]) -> None:
    (install,) = [words for words in said(stages[0], "RUN") if "tomllib" in words]
    program = re.search(r'python -c "(.*?)" ', install)
    assert program
    code = program[1].replace("\\n", "\n" if "\n" in program[1] else "\\n")
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert made.split() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    locked = {
        re.split(r"[=\[]", line)[0].lower().replace("_", "-") for line in (ROOT / "requirements.lock").open()
    }  # fmt: skip
    assert {re.split(r"[=\[<>]", one)[0].lower() for one in made.split()} <= locked


def test_the_commands_exist(stages: list[list[Step]]) -> None:
    last = stages[-1]
    (entry,), (command,) = said(last, "ENTRYPOINT"), said(last, "CMD")
    words = Step("", entry).as_list
    arguments = Step("", command).as_list
    assert words == ["python", "/app/safeguard.py"] and arguments is not None, "exec forms: signals reach the process"
    assert "safeguard.py" in " ".join(said(last, "COPY")) and said(last, "WORKDIR") == ["/app"]
    shown = subprocess.run(
        [sys.executable, "safeguard.py", arguments[0], "--help"], cwd=ROOT, capture_output=True, text=True,
        env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"}, check=True,
    ).stdout  # fmt: skip
    assert arguments[1] in shown
    (health,) = said(last, "HEALTHCHECK")
    assert "http://127.0.0.1:8000/health/live" in health and "wget" in " ".join(said(last, "RUN"))
    assert said(last, "EXPOSE") == ["8000"]


def test_every_option_is_one_of_ours(stages: list[list[Step]]) -> None:
    for name in re.findall(r"\bSAFEGUARD_[A-Z0-9_]+", FILE.read_text()):
        assert name in OPTIONS


def test_the_rules_see_a_breach(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text('FROM a AS b\nRUN x \\\n  # why\n  && y\nFROM c\nCMD ["z", "1"]\n')
    first, second = dockerfile(path)
    assert first == [Step("FROM", "a AS b"), Step("RUN", "x && y")]
    assert second[1].as_list == ["z", "1"] and first[1].as_list is None
