"""Holds a bulk job while another thread works it off, says how far it is, and hears that it should stop."""

import asyncio
import logging
import threading
import time
from uuid import UUID

from configs.settings import Settings
from graphs.progress import progress_line
from storage import jobs
from storage.database import create_engine
from storage.errors import StaleClaim
from storage.job_tables import JobStatus

LEASE_S = 20.0
_SAY_EVERY_S = 10.0
_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The job was paused or cancelled, or another runner has it."""


class Keeper(threading.Thread):
    """Holds the job while the main thread works, tells the main thread to stop, and says how far it is."""

    def __init__(self, settings: Settings, job_id: int, token: UUID) -> None:
        super().__init__(daemon=True, name="keeper")
        self._settings, self._job_id, self._token = settings, job_id, token
        self._end = threading.Event()
        self.status: JobStatus | None = JobStatus.RUNNING

    def run(self) -> None:
        asyncio.run(self._keep())

    async def _keep(self) -> None:
        engine = create_engine(self._settings, pool_size=1)
        kept_at = said_at = time.monotonic()
        while not self._end.is_set():
            now = time.monotonic()
            try:
                self.status = await jobs.keep(
                    engine, self._job_id, self._token, lease_s=LEASE_S, worked_s=now - kept_at
                )
                kept_at = now
                job = await jobs.get(engine, self._job_id)
                if now - said_at >= _SAY_EVERY_S:
                    said_at = now
                    print(progress_line(job), flush=True)
            except StaleClaim:
                self.status = None
                return
            except Exception as error:
                _log.warning("the job could not be kept: %s", type(error).__name__)
            await asyncio.to_thread(self._end.wait, 1.0)
        await engine.dispose()

    def check(self) -> None:
        """Raises Stopped unless the job still runs."""
        if self.status != JobStatus.RUNNING:
            raise Stopped

    def close(self) -> None:
        """Ends the thread."""
        self._end.set()
        self.join(timeout=10)
