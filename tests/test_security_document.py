"""What docs/security.md names exists: settings, commands and programs."""

import re
from pathlib import Path

from typer.main import get_command

from configs.settings import Settings
from safeguard import app

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "security.md").read_text()


def test_settings_and_files_exist() -> None:
    named = set(re.findall(r"SAFEGUARD_([A-Z0-9_]+)", TEXT))
    assert len(named) > 5
    assert {name.lower() for name in named} <= set(Settings.model_fields)
    for link in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / link).exists(), link


def test_commands_exist() -> None:
    commands = get_command(app)
    for line in re.findall(r"^    safeguard ([^#\n]+)", TEXT, re.MULTILINE):
        group, *rest = line.split()
        found = commands.commands[group]  # type: ignore[attr-defined]
        if hasattr(found, "commands"):
            found = found.commands[rest[0]]
        known = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known
    for module in re.findall(r"python -m ([\w.]+)", TEXT):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()
