"""Run by test_remote.py in a process of its own: calls a deployment on a real, private Ray and prints what came of it."""

import asyncio
import json
import os
from typing import Any

import ray
from ray import serve

from deployments.ingress.remote import call
from storage.errors import InvalidInput, UnsupportedImage


class Failing:
    """Fails in the ways that a deployment can."""

    def __init__(self) -> None:
        self.stopped = 0

    async def act(self, what: str) -> str:
        if what == "ours":
            raise UnsupportedImage("damaged there")
        if what == "field":
            raise InvalidInput("bad", "k")
        if what == "outage":
            raise ConnectionRefusedError("10.0.0.1")
        if what == "mistake":
            raise ValueError("SELECT 1")
        if what == "slow":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.stopped += 1
                raise
        if what == "stopped":
            return str(self.stopped)
        if what == "death":
            os._exit(1)
        return "fine"


async def outcome(handle: Any, what: str) -> list[Any]:
    """[kind of error, text, field] or ["", answer, None]; only what never answers is given up soon."""
    try:
        return ["", await call(handle.act, 2.0 if what == "slow" else 30.0, what), None]
    except Exception as error:
        return [type(error).__mro__[0].__name__, str(error), getattr(error, "field", None)]


async def main(handle: Any) -> dict[str, Any]:
    """Every way in turn; the queue is filled before the replica dies."""
    found = {what: await outcome(handle, what) for what in ("fine", "ours", "field", "outage", "mistake", "slow")}
    for _ in range(50):
        found["stopped"] = await outcome(handle, "stopped")
        if found["stopped"][1] != "0":
            break
        await asyncio.sleep(0.2)
    crowd = await asyncio.gather(*(outcome(handle, "slow") for _ in range(8)))
    found["crowd"] = sorted({kind for kind, _, _ in crowd})
    found["death"] = await outcome(handle, "death")
    return found


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
    options = {"max_ongoing_requests": 2, "max_queued_requests": 1, "ray_actor_options": {"num_cpus": 0.1}}
    deployed = serve.run(serve.deployment(Failing, **options).bind(), name="failing", route_prefix=None)
    print("RESULT " + json.dumps(asyncio.run(main(deployed))))
    serve.shutdown()
    ray.shutdown()
