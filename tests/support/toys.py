"""Small actors and a launcher for tests of the process tree, which is indifferent to what its actors do."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
import time
from pathlib import Path

from actors.loop_actor import LoopActor
from actors.messages import Role
from config.load import load
from supervisor import main

TOYS: dict[Role, str] = {
    "registry": "tests.support.toys.ToyRegistry",
    "listener": "tests.support.toys.ToyListener",
    "admin": "supervisor.admin.actor.AdminActor",
}


class ToyRegistry(LoopActor):
    """Serves nobody."""


class ToyListener(LoopActor):
    """Answers each line with its process ID; the lines hang, fault, segv and slow do what they say."""

    async def start(self) -> None:
        _misbehave_at_start(self.boot.slot.name)
        listening = socket.socket(fileno=os.dup(self.boot.slot.socket_fd))
        self._slow = False
        self._server = await asyncio.start_server(self._serve, sock=listening)

    async def stop(self) -> None:
        self._server.close()
        if self._slow:
            await asyncio.sleep(3600)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.row.connections += 1
        while line := await reader.readline():
            if line == b"hang\n":
                time.sleep(3600)  # noqa: ASYNC251 - that is the point
            elif line == b"segv\n":
                ctypes.string_at(0)
            elif line == b"slow\n":
                self._slow = True
            elif line == b"fault\n":
                raise RuntimeError("a fault in a task")
            writer.write(f"{os.getpid()}\n".encode())
        self.row.connections -= 1
        writer.close()


def _misbehave_at_start(name: str) -> None:
    """A file named by FROST_RELAY_TEST_TROUBLE holds, for each slot, what it does at its start."""
    path = os.environ.get("FROST_RELAY_TEST_TROUBLE", "")
    if not path or not Path(path).exists():
        return
    for line in Path(path).read_text().splitlines():
        slot, what = line.split()
        if slot == name and what == "die":
            os._exit(3)
        if slot == name and what == "raise":
            raise RuntimeError("a fault at the start")
        if slot == name and what == "sleep":
            time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main.run(lambda: load(None, sys.argv[2::2], {}), os.environ, TOYS))
