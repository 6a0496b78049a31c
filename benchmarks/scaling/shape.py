"""A locustfile: the load test's users in a number that follows a profile, and each request as a line of a file.

Run by ``python -m benchmarks.scaling`` in Locust's own environment, with the folders of its two modules in PYTHONPATH.
"""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, TextIO

import stages
import users
from locust import LoadTestShape, constant_throughput, events
from locust.env import Environment

_lines: list[TextIO] = []


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--stages", required=True, help="the stages, as benchmarks/scaling/stages.py writes them")
    parser.add_argument("--requests", type=Path, required=True, help="gets a line for each answer")


@events.init.add_listener
def _prepare(environment: Environment, **_: object) -> None:
    assert environment.parsed_options is not None
    Paced.tasks = users.MixedUser.tasks  # set by users.py when it has read its options
    _lines.append(environment.parsed_options.requests.open("w", buffering=1))


@events.request.add_listener
def _note(request_type: str, name: str, response_time: float, exception: object, **_: Any) -> None:
    _lines[0].write(f"{time.time():.3f},{request_type} {name},{response_time:.1f},{exception or ''}\n")


class Paced(users.MixedUser):
    """Begins one thing a second as long as the answers come in time, so the load is that of the profile."""

    wait_time = constant_throughput(1.0)


class Profile(LoadTestShape):
    """Users over time."""

    def tick(self) -> tuple[int, float] | None:
        """Asked by Locust every second."""
        assert self.runner is not None and self.runner.environment.parsed_options is not None
        wanted = stages.users_at(stages.parse(self.runner.environment.parsed_options.stages), self.get_run_time())
        return None if wanted is None else (wanted, 100.0)
