"""Why someone is refused, what a peer is told then, and how often someone may ask.

Holds the one list of reasons, the one table from reason to relay status, and the rate limiter. It must never
read a clock (`now` is passed in), never look at all its keys at once for a peer's sake, and never decide anything else.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum, StrEnum
from typing import Final, Generic, TypeVar

from config.rates import Rate
from config.settings import Limits

Key = TypeVar("Key", bytes, str)

MAX_KEYS: Final = 65_536
"""Keys one limiter remembers: some 15 MiB of peer IDs at the worst."""

_EVICTIONS_PER_CHARGE: Final = 2
"""More than one, so that a table which has grown in a rush shrinks again."""

_TOLERANCE_S: Final = 1e-6
"""Forgives the rounding of floats, so that '30/1h' is 30 and not 29."""


class Status(IntEnum):
    """The statuses of relay/circuit-v2.md, 'Status codes'."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


class Reason(StrEnum):
    """Every reason for which someone is refused; the values are counter labels and travel on the registry link."""

    RESERVATIONS_FULL = "reservations_full"
    RESERVATIONS_PER_IP = "reservations_per_ip"
    RESERVATIONS_PER_TOKEN = "reservations_per_token"
    RESERVATION_RATE_PER_PEER = "reservation_rate_per_peer"
    RESERVATION_RATE_PER_IP = "reservation_rate_per_ip"

    NO_RESERVATION = "no_reservation"
    CIRCUITS_FULL = "circuits_full"
    CIRCUITS_PER_SOURCE = "circuits_per_source"
    CIRCUITS_PER_TARGET = "circuits_per_target"
    CIRCUIT_RATE_PER_PEER = "circuit_rate_per_peer"
    CIRCUIT_RATE_PER_IP = "circuit_rate_per_ip"

    TARGET_GONE = "target_gone"
    TARGET_WITHOUT_STOP = "target_without_stop"
    TARGET_REFUSED = "target_refused"
    TARGET_SILENT = "target_silent"

    REGISTRY_UNAVAILABLE = "registry_unavailable"
    DRAINING = "draining"
    PEER_DENIED = "peer_denied"
    SUBNET_DENIED = "subnet_denied"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REVOKED = "token_revoked"
    MALFORMED_MESSAGE = "malformed_message"
    UNEXPECTED_MESSAGE = "unexpected_message"

    ORIGIN_DENIED = "origin_denied"
    CONNECTIONS_FULL = "connections_full"
    CONNECTIONS_PER_IP = "connections_per_ip"
    CONNECTIONS_PER_TOKEN = "connections_per_token"
    TOKEN_MISSING = "token_missing"
    TOKEN_UNKNOWN = "token_unknown"
    CONNECTION_RATE_PER_IP = "connection_rate_per_ip"
    NOT_A_PROXY = "not_a_proxy"
    PENDING_HANDSHAKES_FULL = "pending_handshakes_full"
    MEMORY_SHORT = "memory_short"
    DESCRIPTORS_SHORT = "descriptors_short"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    KICKED = "kicked"
    CRASHED_WORKERS = "crashed_workers"


# Reason -> (status that answers a RESERVE, status that answers a CONNECT); None: it cannot be the answer to one.
# A reason that is not here closes a connection before anything is asked on it.
_STATUSES: Final[dict[Reason, tuple[Status | None, Status | None]]] = {
    Reason.RESERVATIONS_FULL: (Status.RESERVATION_REFUSED, None),
    Reason.RESERVATIONS_PER_IP: (Status.RESERVATION_REFUSED, None),
    Reason.RESERVATIONS_PER_TOKEN: (Status.RESERVATION_REFUSED, None),
    Reason.RESERVATION_RATE_PER_PEER: (Status.RESERVATION_REFUSED, None),
    Reason.RESERVATION_RATE_PER_IP: (Status.RESERVATION_REFUSED, None),
    Reason.NO_RESERVATION: (None, Status.NO_RESERVATION),
    Reason.CIRCUITS_FULL: (None, Status.RESOURCE_LIMIT_EXCEEDED),
    Reason.CIRCUITS_PER_SOURCE: (None, Status.RESOURCE_LIMIT_EXCEEDED),
    Reason.CIRCUITS_PER_TARGET: (None, Status.RESOURCE_LIMIT_EXCEEDED),
    Reason.CIRCUIT_RATE_PER_PEER: (None, Status.RESOURCE_LIMIT_EXCEEDED),
    Reason.CIRCUIT_RATE_PER_IP: (None, Status.RESOURCE_LIMIT_EXCEEDED),
    Reason.TARGET_GONE: (None, Status.CONNECTION_FAILED),
    Reason.TARGET_WITHOUT_STOP: (None, Status.CONNECTION_FAILED),
    Reason.TARGET_REFUSED: (None, Status.CONNECTION_FAILED),
    Reason.TARGET_SILENT: (None, Status.CONNECTION_FAILED),
    Reason.REGISTRY_UNAVAILABLE: (Status.RESERVATION_REFUSED, Status.CONNECTION_FAILED),
    Reason.DRAINING: (Status.RESERVATION_REFUSED, Status.RESOURCE_LIMIT_EXCEEDED),
    Reason.PEER_DENIED: (Status.PERMISSION_DENIED, Status.PERMISSION_DENIED),
    Reason.SUBNET_DENIED: (Status.PERMISSION_DENIED, Status.PERMISSION_DENIED),
    Reason.TOKEN_EXPIRED: (Status.PERMISSION_DENIED, Status.PERMISSION_DENIED),
    Reason.TOKEN_REVOKED: (Status.PERMISSION_DENIED, Status.PERMISSION_DENIED),
    Reason.MALFORMED_MESSAGE: (Status.MALFORMED_MESSAGE, Status.MALFORMED_MESSAGE),
    Reason.UNEXPECTED_MESSAGE: (Status.UNEXPECTED_MESSAGE, Status.UNEXPECTED_MESSAGE),
}


# Reason -> the setting in [limits] that would have to be another for it not to be one. What limits.max_memory_mb comes
# to is known to the admin process only, which says it.
_SETTINGS: Final[dict[Reason, str]] = {
    Reason.RESERVATIONS_FULL: "max_reservations",
    Reason.RESERVATIONS_PER_IP: "max_reservations_per_ip",
    Reason.RESERVATION_RATE_PER_PEER: "reservation_rate_per_peer",
    Reason.RESERVATION_RATE_PER_IP: "reservation_rate_per_ip",
    Reason.CIRCUITS_FULL: "max_circuits",
    Reason.CIRCUITS_PER_SOURCE: "max_circuits_per_peer",
    Reason.CIRCUITS_PER_TARGET: "max_circuits_per_peer",
    Reason.CIRCUIT_RATE_PER_PEER: "circuit_rate_per_peer",
    Reason.CIRCUIT_RATE_PER_IP: "circuit_rate_per_ip",
    Reason.CONNECTIONS_FULL: "max_connections",
    Reason.CONNECTIONS_PER_IP: "max_connections_per_ip",
    Reason.CONNECTION_RATE_PER_IP: "connection_rate_per_ip",
    Reason.PENDING_HANDSHAKES_FULL: "max_pending_handshakes",
    Reason.HANDSHAKE_TIMEOUT: "handshake_timeout_s",
}


def limit_of(reason: Reason, limits: Limits) -> dict[str, object]:
    """The setting that a refusal comes from and what it stands at, for the log; nothing for reasons that have none."""
    setting = _SETTINGS.get(reason)
    return {"limit": f"limits.{setting}", "value": getattr(limits, setting)} if setting else {}


def reserve_status(reason: Reason) -> Status:
    """The status of a refused RESERVE; ValueError for a reason that no RESERVE can be refused for."""
    status = _STATUSES.get(reason, (None, None))[0]
    if status is None:
        raise ValueError(f"{reason} does not answer a RESERVE")
    return status


def connect_status(reason: Reason) -> Status:
    """The status of a refused CONNECT; ValueError for a reason that no CONNECT can be refused for."""
    status = _STATUSES.get(reason, (None, None))[1]
    if status is None:
        raise ValueError(f"{reason} does not answer a CONNECT")
    return status


class RateLimiter(Generic[Key]):
    """Token buckets, one a key: each holds `rate.count` tokens and is full again `rate.period_s` after it was empty.

    Kept as the time at which the bucket will be full (GCRA), one float a key. Asking and charging are separate, so
    that a request which one limiter refuses costs nothing in another. `rate` None: everything is allowed, nothing kept.
    """

    __slots__ = ("_full_at_s", "_interval_s", "_max_keys", "_period_s")

    def __init__(self, rate: Rate | None, max_keys: int = MAX_KEYS) -> None:
        self._period_s = rate.period_s if rate else 0.0
        self._interval_s = rate.period_s / rate.count if rate else 0.0
        self._max_keys = max_keys
        self._full_at_s: OrderedDict[Key, float] = OrderedDict()  # by last charge, the oldest first

    def __len__(self) -> int:
        """Keys remembered now."""
        return len(self._full_at_s)

    def change(self, rate: Rate | None, now: float) -> None:
        """Another rate from now on. What a bucket lacks, it still lacks, up to all that it can hold.

        The one place that looks at all keys: an operator's reload, not a peer, brings it about (65,536 keys: 70 ms).
        """
        period_s = rate.period_s if rate else 0.0
        interval_s = rate.period_s / rate.count if rate else 0.0
        if (period_s, interval_s) == (self._period_s, self._interval_s):
            return
        if interval_s and self._interval_s:
            scale = interval_s / self._interval_s
            for key, full_at_s in self._full_at_s.items():
                self._full_at_s[key] = now + min((full_at_s - now) * scale, period_s)
        else:
            self._full_at_s.clear()
        self._period_s, self._interval_s = period_s, interval_s

    def allows(self, key: Key, now: float) -> bool:
        """Whether the bucket of `key` holds a token at `now` (seconds of any clock that never goes back)."""
        full_at_s = self._full_at_s.get(key)
        return full_at_s is None or full_at_s + self._interval_s <= now + self._period_s + _TOLERANCE_S

    def charge(self, key: Key, now: float) -> None:
        """Takes one token from the bucket of `key`."""
        if not self._interval_s:
            return
        full_at_s = self._full_at_s.pop(key, now)
        self._full_at_s[key] = max(full_at_s, now) + self._interval_s
        self.forget_full(now, _EVICTIONS_PER_CHARGE)
        if len(self._full_at_s) > self._max_keys:
            # Forgetting the one who asked longest ago favours nobody: a flood of new keys never meets its own buckets.
            self._full_at_s.popitem(last=False)

    def forget_full(self, now: float, at_most: int) -> int:
        """Drops buckets that are full again, `at_most` of them, those charged longest ago first; returns how many."""
        table = self._full_at_s
        for dropped in range(at_most):
            oldest = next(iter(table), None)
            if oldest is None or table[oldest] > now:
                return dropped
            del table[oldest]
        return at_most
