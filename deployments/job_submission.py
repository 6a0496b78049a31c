"""Submits bulk jobs to Ray through its dashboard. Ray's own client keeps the first token it reads for good."""

import asyncio
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

from storage.errors import Unavailable

_LIMIT_S = 30.0


def ask_dashboard(
    dashboard: str, token_file: Path | None, method: str, path: str, content: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One call of the REST API of Ray's dashboard. Blocking.

    Args:
        dashboard: ``http://host:port``.
        token_file: the cluster's token; None, or a file that does not exist, for a cluster without.
    Raises:
        OSError: it does not answer, or answers an error (urllib.error.HTTPError).
    """
    headers = {"Content-Type": "application/json"}
    if token_file is not None and token_file.exists():
        headers["Authorization"] = f"Bearer {token_file.read_text().strip()}"
    body = json.dumps(content).encode() if content is not None else None
    request = urllib.request.Request(f"{dashboard}{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:
        text = answer.read()
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


async def submit(dashboard: str, job_id: int, token_file: Path | None = None) -> str:
    """Starts a runner of a job on the cluster; a second one of the same job ends by itself. The rest as ``submit_module``."""
    return await submit_module(
        dashboard, f"graphs.backfill {int(job_id)}", f"safeguard job {int(job_id)}", token_file=token_file
    )


async def submit_module(dashboard: str, module: str, name: str, *, token_file: Path | None = None) -> str:
    """Runs ``python -m module`` as a Ray job.

    Args:
        module: with its arguments, which must need no quoting.
        name: for the dashboard.
        token_file: None takes that of the cluster this process belongs to, RAY_AUTH_TOKEN_PATH.
    Returns:
        Ray's id of the submission.
    Raises:
        Unavailable: the dashboard does not answer.
    """
    if token_file is None and (ours := os.environ.get("RAY_AUTH_TOKEN_PATH")):
        token_file = Path(ours)
    content = {"entrypoint": f'"${{SAFEGUARD_PYTHON:-python}}" -m {module}', "metadata": {"name": name}}
    try:
        answer = await asyncio.to_thread(ask_dashboard, dashboard, token_file, "POST", "/api/jobs/", content)
    except (OSError, ValueError) as error:
        raise Unavailable(f"the Ray dashboard at {dashboard} does not take jobs now") from error
    return str(answer["submission_id"])
