"""Writes the Grafana dashboards of configs/monitoring/grafana: ``python -m tools.dashboards``."""

import json
import re
from pathlib import Path
from typing import Any

from tools.panels import BOARDS, Panel

FOLDER = Path(__file__).parent.parent / "configs" / "monitoring" / "grafana"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS, _HIGH, _LOW = 24, 8, 4
_NAME = re.compile(r"\bray_[a-zA-Z0-9_]+")


def names_in(expression: str) -> set[str]:
    """The metrics that a query asks for."""
    return set(_NAME.findall(expression))


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + n), "expr": expression, "legendFormat": legend or "__auto", "datasource": _SOURCE}
        for n, (expression, legend) in enumerate(panel.queries)
    ]
    stat = panel.kind == "stat"
    text_mode = "value_and_name" if stat and panel.queries[0][1] else "auto"
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": text_mode} if stat else {}
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.help, "gridPos": place,
        "datasource": _SOURCE, "targets": targets, "options": options,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "decimals": 2 if panel.unit == "percentunit" else None},
                        "overrides": []},
    }  # fmt: skip


def board(uid: str) -> dict[str, Any]:
    """One dashboard as Grafana reads it."""
    title, panels = BOARDS[uid]
    made, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        height = _LOW if panel.kind == "stat" else _HIGH
        if x + panel.width > _COLUMNS:
            x, y, row = 0, y + row, 0
        made.append(_panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": height}))
        x, row = x + panel.width, max(row, height)
    choice = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus", "hide": 0}
    return {
        "uid": f"safeguard-{uid}", "title": title, "tags": ["safeguard"], "schemaVersion": 39, "editable": False,
        "refresh": "10s", "time": {"from": "now-3h", "to": "now"}, "templating": {"list": [choice]}, "panels": made,
    }  # fmt: skip


def text(uid: str) -> str:
    """The file of a dashboard."""
    return json.dumps(board(uid), indent=1) + "\n"


def main() -> None:
    """Writes both."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for uid in BOARDS:
        (FOLDER / f"{uid}.json").write_text(text(uid))


if __name__ == "__main__":
    main()
