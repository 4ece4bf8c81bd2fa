"""Who of those that connect to a worker may come in, one check a line, from accept to the registry.

What may be decided here needs no other worker but for two tables that all of them share: how many shake hands (the
board) and how often an address connects (rate_table.py). Must spend nothing on a peer before it is admitted, and never
decide what the registry decides: how many connections there may be.
"""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from collections.abc import Sequence
from math import inf
from typing import Final, cast

import psutil

from actors import log
from actors.access import AccessRules, counted_as, normal_ip
from actors.arrivals import Arrivals, Unannounced, announced_hosts
from actors.blame import of_address
from actors.board import Board, BoardRow
from actors.descriptors import room
from actors.limits import Reason
from actors.messages import Boot
from actors.peer import LimitError, Peer
from actors.rate_table import RateTable
from actors.tokens import Token, Tokens
from transports.wire import Wire

LEFT_AT_ONCE: Final = 16
"""In a tick of the worker, a quarter of a second."""

_logger = log.get_logger("admission")


class Admission:
    """The door of one worker. `rows` of the board are those of all listeners, `watchers` of who watches the memory."""

    def __init__(self, boot: Boot, board: Board, rows: Sequence[BoardRow], watchers: Sequence[BoardRow] = ()) -> None:
        self._row = board.row(boot.slot.index)
        self.rows = rows
        self._watchers = watchers
        self._needs_token = True
        self._token_ends_unix_s = inf  # the first end of all by which somebody is here
        self._left_unsaid = 0
        self._half_open: OrderedDict[int, Peer] = OrderedDict()  # still shaking hands, the oldest first
        self._rates = RateTable(boot.rates_fd)
        self._blame = board.blame
        self.arrivals = Arrivals(boot.runtime_dir, _say_where)
        self.live_by(boot)

    def live_by(self, boot: Boot) -> None:
        """Other settings, tokens or announced addresses."""
        self._limits = boot.settings.limits
        self._room = room(len(boot.slots))
        self.access = AccessRules.from_settings(boot.settings.access)
        if not boot.slot.leaving:  # else its listener is in the settings no more, and what it wanted stays
            self._needs_token = boot.settings.listeners[boot.slot.listener_index].require_token
        self._tokens = Tokens(boot.tokens) if self._needs_token and boot.tokens is not None else None
        self.arrivals.known = announced_hosts(boot.announced) | _own_addresses()

    # Coming in

    def shortage(self) -> Reason | None:
        """Why nobody more may come in, before anything is spent on them: those who are here need what there is."""
        if any(row.sheds for row in self._watchers):
            return Reason.MEMORY_SHORT
        return Reason.DESCRIPTORS_SHORT if self._row.connections > self._room else None

    def wait_for(self, wire: Wire) -> None:
        """A socket that was not refused at once begins to shake hands; the oldest of too many gives it its place.

        A flood pushes out its own first, and a peer that shakes hands at its pace is done before its turn comes.
        """
        if wire.closing:
            return
        pending = sum(row.pending_handshakes for row in self.rows)
        if pending >= self._limits.max_pending_handshakes and self._half_open:
            oldest = next(iter(self._half_open.values()))
            self._no_longer_half_open(oldest)
            oldest.wire.abort(LimitError(Reason.PENDING_HANDSHAKES_FULL))
        peer = cast("Peer", wire.owner)
        self._half_open[peer.id] = peer
        self._row.pending_handshakes = len(self._half_open)

    def locate(self, wire: Wire, ip: str, port: int, now_s: float) -> Reason | None:
        """It is known from where a connection comes. A reason: too many came from there, or what workers died of."""
        peer = cast("Peer", wire.owner)
        peer.ip, peer.port = normal_ip(ip), port
        peer.counted_as = counted_as(peer.ip, self._limits.ipv6_prefix)
        wire.label = of_address(peer.counted_as)
        if self._blame.denies(wire.label, now_s):
            return Reason.CRASHED_WORKERS
        allowed = self._rates.take(peer.counted_as, self._limits.connection_rate_per_ip, now_s)
        return None if allowed else Reason.CONNECTION_RATE_PER_IP

    def admit(self, wire: Wire, ip: str, port: int, secret: str, now_s: float) -> Reason | None:
        """Why a connection may not come in; behind a web proxy it is known only now whose it is."""
        peer = cast("Peer", wire.owner)
        if not peer.counted_as and (reason := self.locate(wire, ip, port, now_s)):
            return reason
        if not self.access.address_allowed(peer.ip):
            return Reason.SUBNET_DENIED
        return self._take_token(peer, secret)

    def _take_token(self, peer: Peer, secret: str) -> Reason | None:
        if self._tokens is None:
            return None
        if not secret:
            return Reason.TOKEN_MISSING
        token = self._tokens.by_secret(secret)
        if token is None:
            return Reason.TOKEN_UNKNOWN
        peer.token = token.name
        return self._ended(token)

    # Being in

    def upgraded(self, peer: Peer) -> None:
        """It has shaken hands."""
        self._no_longer_half_open(peer)
        self.arrivals.upgraded(peer.id)

    def left_early(self, peer: Peer, *, unsaid: bool) -> None:
        """It is gone before it had. `unsaid`: no line tells of it, because it left by itself."""
        self._no_longer_half_open(peer)
        self.arrivals.lost(peer.id)
        self._left_unsaid += unsaid

    def report(self) -> None:
        """Now and then somebody leaves, who only looked whether the port is open; this many at once are a flood."""
        count, self._left_unsaid = self._left_unsaid, 0
        if count >= LEFT_AT_ONCE:
            _logger.info("left in the handshake", reason="closed", count=count)

    def _no_longer_half_open(self, peer: Peer) -> None:
        self._half_open.pop(peer.id, None)
        self._row.pending_handshakes = len(self._half_open)

    def token_lapsed(self, peer: Peer) -> Reason | None:
        """Why a peer may ask for nothing any more, if so: its token has expired or was revoked."""
        if self._tokens is None:
            return None
        if not peer.token:
            return Reason.TOKEN_MISSING
        token = self._tokens.by_name(peer.token)
        return Reason.TOKEN_REVOKED if token is None else self._ended(token)

    def _ended(self, token: Token) -> Reason | None:
        """Whether it is taken no more; as long as it is, its end is minded."""
        end_unix_s = token.end_unix_s
        if time.time() >= end_unix_s:
            return Reason.TOKEN_EXPIRED
        self._token_ends_unix_s = min(self._token_ends_unix_s, end_unix_s)
        return None

    def a_token_has_ended(self) -> bool:
        """Whether one has by which somebody came in; then ask of each peer whether it is `expelled`. Said once."""
        if time.time() < self._token_ends_unix_s:
            return False
        self._token_ends_unix_s = inf
        return True

    def expelled(self, peer: Peer) -> Reason | None:
        """Why a peer must go that was here before the settings changed, or a token ended. An Origin is asked once."""
        if peer.counted_as and not self.access.address_allowed(peer.ip):
            return Reason.SUBNET_DENIED
        if peer.key and not self.access.peer_allowed(peer.key):
            return Reason.PEER_DENIED
        return self.token_lapsed(peer) if peer.key or peer.token else None


def _say_where(found: Unannounced) -> None:
    _logger.warning(
        "peers come by a host that no announced address has, and will not find back; add to announce.addresses",
        host=found.host,
        announce=found.address,
    )


def _own_addresses() -> frozenset[str]:
    """The addresses of this machine: who came by one of them knows where it is."""
    rows = (row for rows in psutil.net_if_addrs().values() for row in rows)
    return frozenset(row.address for row in rows if row.family in {socket.AF_INET, socket.AF_INET6})
