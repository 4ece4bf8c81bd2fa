"""How often connections come from one address, over all workers: token buckets in memory that they share.

Asked once a connection, before anything dear is done for it, so it must cost next to nothing (3 µs) and never ask
anybody. A bucket has two places, found by a keyed hash of the address: an address is refused only when both are empty,
so two that share one place do not meet, and nobody can look for addresses that meet a victim's. The table never grows
and forgets by itself. It must never be taken for exact: two workers that write at once may lose one token.
"""

from __future__ import annotations

import mmap
import os
import secrets
from hashlib import blake2b
from typing import Final

from config.rates import Rate

_PLACES: Final = 32_768  # in each of two rows of doubles: 512 KiB, of which only what is touched is memory
_SECRET_BYTES: Final = 64
_TOLERANCE_S: Final = 1e-6  # forgives the rounding of floats, so that '30/1h' is 30 and not 29


class RateTable:
    """Buckets kept as the time at which each will be full (GCRA). Made once in main, attached in every child."""

    __slots__ = ("_full_at_s", "_secret", "fd")

    def __init__(self, fd: int) -> None:
        memory = mmap.mmap(fd, _SECRET_BYTES + 2 * _PLACES * 8)
        self.fd = fd
        self._secret = memory[:_SECRET_BYTES]
        self._full_at_s = memoryview(memory)[_SECRET_BYTES:].cast("d")

    @classmethod
    def create(cls) -> RateTable:
        """A new table; its descriptor is meant to be inherited by fork."""
        fd = os.memfd_create("frost-relay-rates")
        os.ftruncate(fd, _SECRET_BYTES + 2 * _PLACES * 8)
        os.pwrite(fd, secrets.token_bytes(_SECRET_BYTES), 0)
        return cls(fd)

    def take(self, key: str, rate: Rate | None, now_s: float) -> bool:
        """Takes a token from the bucket of `key`; False when there is none. `now_s` is CLOCK_MONOTONIC in seconds."""
        if rate is None:
            return True
        table = self._full_at_s
        number = int.from_bytes(blake2b(key.encode(), key=self._secret, digest_size=4).digest())
        first, second = number % _PLACES, _PLACES + (number >> 16) % _PLACES
        full_at_s = max(min(table[first], table[second]), now_s) + rate.period_s / rate.count
        if full_at_s > now_s + rate.period_s + _TOLERANCE_S:
            return False
        table[first] = max(table[first], full_at_s)
        table[second] = max(table[second], full_at_s)
        return True
