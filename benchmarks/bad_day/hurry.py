"""The configuration that `safeguard up` has written for Prometheus, with alert rules that look at less time: for a drill."""

import re
from pathlib import Path
from typing import Any

import yaml

SCRAPE_S = 5
FOR = "15s"
WINDOW = "1m"
_WINDOW = re.compile(r"\[(\d+)(m|h)\]")


def hurried(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules with ``for: 15s`` and windows of a minute; those over hours and days stay. What is compared is the same."""

    def expression(text: str) -> str:
        return _WINDOW.sub(lambda found: f"[{WINDOW}]" if found[2] == "m" else found[0], text)

    groups = []
    for group in rules["groups"]:
        changed = [
            {**rule, "expr": expression(rule["expr"])} | ({"for": FOR} if "for" in rule else {})
            for rule in group["rules"]
        ]
        groups.append({**group, "rules": changed})
    return {**rules, "groups": groups}


def write(home: Path) -> Path:
    """Writes the copies below the home.

    Returns:
        The configuration of Prometheus.
    """
    folder = home / "monitoring"
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    copies = []
    for number, name in enumerate(config["rule_files"]):
        copy = folder / f"hurried-{number}.yml"
        copy.write_text(yaml.safe_dump(hurried(yaml.safe_load(Path(name).read_text())), sort_keys=False))
        copies.append(str(copy))
    config["rule_files"] = copies
    config["global"] |= {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    file = folder / "hurried.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file
