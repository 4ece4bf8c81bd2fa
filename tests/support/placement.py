"""What the status page tells: which worker of the relay holds whose connection, and that nothing is left of it.

The kernel picks the worker by the client's source port, so a connection is moved by closing it and opening another.
"""

from collections.abc import Callable
from typing import Any

from tests.support.relay import RelayProcess

TRIES = 32  # each lands in the wanted one of two workers every second time


def workers_with_connections(status: dict[str, Any]) -> dict[str, int]:
    """The listening workers' connections by the workers' names."""
    return {one["name"]: one["connections"] for one in status["workers"] if one["role"] == "listener"}


def wait_connections(relay: RelayProcess, count: int) -> dict[str, int]:
    """The workers' connections, once there are `count` in all."""
    status = relay.wait_status(lambda now: sum(workers_with_connections(now).values()) == count)
    return workers_with_connections(status)


def wait_until_empty(relay: RelayProcess) -> None:
    """Nothing is held any more, neither by the registry nor by any worker."""
    counts = ("reservations", "circuits", "connections")
    relay.wait_status(lambda now: not any(row[count] for row in [now, *now["workers"]] for count in counts))


def home_of_only_connection(relay: RelayProcess) -> str:
    """The worker that holds the only connection there is."""
    (home,) = [name for name, connections in wait_connections(relay, 1).items() if connections]
    return home


def land_beside(
    relay: RelayProcess, connect: Callable[[], object], disconnect: Callable[[], object], *, same_worker: bool
) -> str:
    """Connect a second peer until it sits in the first one's worker, or until it does not; returns its worker."""
    home = home_of_only_connection(relay)
    for _ in range(TRIES):
        connect()
        connections = wait_connections(relay, 2)
        connections[home] -= 1
        (landed,) = [name for name, more in connections.items() if more]
        if (landed == home) == same_worker:
            return landed
        disconnect()
        wait_connections(relay, 1)
    raise AssertionError(f"{TRIES} connections in a row did not land in the wanted worker (first peer: {home})")
