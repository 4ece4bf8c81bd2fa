"""CanaryActor: starts a check every interval, and keeps the record of what they find.

It holds nothing that peers need. When it dies, its successor goes on with the record, at the time when the next run is
due; when it hangs, the supervisor sees that its heart does not beat, as for any other process.
"""

from __future__ import annotations

import subprocess
import time
from typing import Final

import msgspec

from actors import log
from actors.loop_actor import LoopActor
from supervisor.canary import record
from supervisor.canary.record import Found, Record
from supervisor.canary.run import CheckRun, command, no_result
from transports.identity import HostKey, peer_id_text

FIRST_RUN_S: Final = 5.0
"""After the start: the other processes have to serve."""
_logger = log.get_logger("canary")


class CanaryActor(LoopActor):
    """One run after the other."""

    async def start(self) -> None:
        """Go on where a predecessor ended, or begin."""
        self._peer = peer_id_text(HostKey.from_seed(self.boot.host_seed).peer_id)
        self._record = self._going_on_from(record.read(self.boot.runtime_dir))
        self._keep()
        self._run: CheckRun | None = None
        wait_s = first_wait_s(self._record, time.time())
        self._next = self.loop.call_later(wait_s, self._begin_run)
        _logger.info("canary ready", address=self._record.address, interval_s=self._record.interval_s)

    async def stop(self) -> None:
        """End the check that runs, without a word about it."""
        self._next.cancel()
        if self._run is not None:
            self._run.kill()

    def updated(self) -> None:
        """The next run looks at what is named, or announced, now."""
        self._record = self._going_on_from(self._record)
        self._keep()

    def _going_on_from(self, known: Record | None) -> Record:
        fresh = record.fresh(self.boot.settings.canary, self.boot.announced, self._peer)
        if known is None:
            return fresh
        return msgspec.structs.replace(known, address=fresh.address, interval_s=fresh.interval_s)

    def _keep(self) -> None:
        """A record that cannot be written is said in the log, and the next run tries again: the looking goes on."""
        try:
            record.write(self.boot.runtime_dir, self._record)
        except OSError as error:
            _logger.warning("canary's record cannot be written", error=error.strerror, ok=self._record.ok)

    def _begin_run(self) -> None:
        self._next = self.loop.call_later(self._record.interval_s, self._begin_run)
        if self._run is None:
            settings = self.boot.settings.canary
            arguments = command(settings.address or self._record.address, settings.ca_file)
            try:
                self._run = CheckRun(self.loop, arguments, self._take)
            except (OSError, subprocess.SubprocessError) as error:  # no memory, no process left
                self._take(no_result(f"the check could not be started: {error}"))

    def _take(self, found: Found) -> None:
        self._run = None
        before, self._record = self._record, self._record.after(found, time.time())
        self._keep()
        say(before, self._record)


def first_wait_s(known: Record, now_unix_s: float) -> float:
    """When the first run of this process begins: an interval after the last one of its predecessor."""
    if known.last_run_unix_s is None:
        return min(FIRST_RUN_S, known.interval_s)
    return min(max(0.0, known.last_run_unix_s + known.interval_s - now_unix_s), known.interval_s)


def say(before: Record, after: Record) -> None:
    """One line when it begins to fail, when it fails in another way, and when it is well again."""
    if after.ok:
        if before.failing_since_unix_s is not None and after.last_run_unix_s is not None:
            failed_for_s = round(after.last_run_unix_s - before.failing_since_unix_s)
            _logger.info("canary is well again", failed_for_s=failed_for_s, address=after.address)
    elif before.failed_step != after.failed_step:
        told = {"step": after.failed_step, "cause": after.cause, "remedy": after.remedy, "address": after.address}
        _logger.warning("canary fails", **told)
