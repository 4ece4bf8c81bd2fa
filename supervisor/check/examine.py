"""The check itself: sixteen steps in order, each with a deadline; the first that fails ends it.

Two hosts with fresh keys connect to the relay; one reserves, the other calls it through a circuit. It takes one
reservation and one circuit for a moment and gives both back.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import trio
from libp2p.exceptions import BaseLibp2pError

from supervisor.check import causes, circuit, dialer
from supervisor.check.address import Address
from supervisor.check.announced import dialable, look
from supervisor.check.dialer import ByteStream, Trust
from supervisor.check.peer import ECHO, HOP, STOP, Connection, Handler, Peer, read_exactly
from supervisor.check.probe import shown_certificate, what_speaks
from supervisor.check.report import Extent, Finding, Outcome, Report, Step, Trouble

ECHO_BYTES: Final = 1024
MAX_SAID: Final = 160
"""Characters of what the other side says."""
MAX_TEXT: Final = 1200
"""Characters of a step's text."""
RELEASE_LIMIT_S: Final = 2.0
RELEASE_PAUSE_S: Final = 0.25
CLOCK_SLACK_S: Final = 60
SHORT_S: Final = 120
LONG_S: Final = 7_500
"""go and rust relays grant an hour, js relays two."""

T = TypeVar("T")


class _Failed(Exception):  # noqa: N818 - unwinds to `run`; the report has the step
    """A step has failed."""


class Examination:
    """One check of one address. `say` hears of each step when it is done."""

    def __init__(
        self,
        address: Address,
        trust: Trust,
        extent: Extent,
        say: Callable[[Step], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._address = address
        self._trust = trust
        self._extent = extent
        self._say = say
        self._now = now
        self._raw: list[trio.SocketStream] = []
        self._clock_off_s: float | None = None
        self._report = Report(str(address), at_unix_s=now())

    async def run(self) -> Report:
        """All steps, until one fails."""
        async with trio.open_nursery() as nursery:
            try:
                await self._all(nursery)
            except _Failed:
                pass  # the last step of the report says it
            finally:
                nursery.cancel_scope.cancel()
                for raw in self._raw:
                    raw.socket.close()
        return self._report

    async def _all(self, nursery: trio.Nursery) -> None:
        first, second = Peer(), Peer()
        target = circuit.Target(first, nursery)
        self._places = await self._step("resolve", self._resolve)
        connection = await self._upgrade(first, nursery, {STOP: target.answer_stop})
        announced = await self._step("identify", lambda: self._identify(connection))
        await self._step("announced", lambda: self._announced(announced))
        granted = await self._step("reserve", lambda: self._reserve(connection))
        await self._step("voucher", lambda: self._voucher(granted, first))
        await self._step("expiry", lambda: self._expiry(granted))
        caller = await self._step("second host", lambda: self._dial(second, nursery))
        through = await self._step("circuit", lambda: self._circuit(caller, first, second, target, nursery))
        await self._step("echo", lambda: self._echo(through, nursery))
        if self._extent.idle_s:
            await self._step("idle", lambda: self._idle(connection), self._extent.idle_s + self._extent.timeout_s)
        await self._step("release", lambda: self._release(connection, caller, first, second, nursery))

    async def _step(self, name: str, work: Callable[[], Awaitable[tuple[T, Finding]]], limit_s: float = 0.0) -> T:
        started = trio.current_time()
        limit_s = limit_s or self._extent.timeout_s
        try:
            with trio.fail_after(limit_s):
                value, finding = await work()
        except Trouble as error:  # outside the step's time, and only where it can be of use
            trouble = await self._explained(name, error) if name == "websocket" else error
        except trio.TooSlowError:
            trouble = await self._explained(name, causes.hangs(name, limit_s))
        except Exception as error:  # noqa: BLE001 - the other side's doing, in py-libp2p's many words
            trouble = await self._explained(name, causes.ended(name, _said(error)))
        else:
            outcome = Outcome.NOTE if finding.remedy else Outcome.OK
            self._add(name, outcome, started, finding.detail, finding.remedy)
            return value
        self._add(name, Outcome.FAILED, started, trouble.cause, trouble.remedy)
        raise _Failed

    def _add(self, name: str, outcome: Outcome, started: float, detail: str, remedy: str) -> None:
        """Whatever the other side had a hand in is made fit for a terminal here."""
        step = Step(name, outcome, _ms_since(started), _printable(detail), _printable(remedy))
        self._report.steps.append(step)
        self._say(step)

    async def _explained(self, name: str, trouble: Trouble) -> Trouble:
        """Perhaps the port speaks something else than the address says."""
        asked = self._asked(name)
        return (asked and causes.wrong_way(asked, await what_speaks(self._address))) or trouble

    def _asked(self, name: str) -> str:
        """What this step takes the port to speak."""
        if name == "tls" or (name == "websocket" and self._address.tls):
            return "tls"
        if name == "websocket":
            return "http"
        return "libp2p" if name == "secure" and not self._address.websocket else ""

    # --- the connection, layer by layer ---

    async def _resolve(self) -> tuple[list[Any], Finding]:
        places = await dialer.resolve(self._address)
        if not self._address.is_name:
            return places, Finding("it is an IP address")
        return places, Finding(", ".join(str(where[0]) for _, where in places))

    async def _upgrade(self, peer: Peer, nursery: trio.Nursery, handlers: dict[str, Handler]) -> Connection:
        stream: Any = await self._step("connect", self._connect)
        if self._address.tls:
            raw = stream
            stream = await self._step("tls", lambda: self._tls(raw))
        if self._address.websocket:
            plain = stream
            stream = await self._step("websocket", lambda: self._websocket(plain))
        else:
            stream = dialer.plain(stream)
        below = stream
        secured = await self._step("secure", lambda: self._secure(peer, below))
        return await self._step("multiplex", lambda: self._multiplex(peer, secured, nursery, handlers))

    async def _connect(self) -> tuple[trio.SocketStream, Finding]:
        raw = await dialer.connect(self._places, self._extent.timeout_s)
        self._raw.append(raw)
        host, port = raw.socket.getpeername()[:2]
        return raw, Finding(f"{host} port {port}")

    async def _tls(self, raw: trio.SocketStream) -> tuple[ByteStream, Finding]:
        try:
            return await dialer.secure(raw, self._address, self._trust)
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                with trio.CancelScope(shield=True):  # it has a limit of its own
                    await trio.aclose_forcefully(raw)  # a server may serve one at a time
                    seen = await shown_certificate(self._address)
                name = self._address.tls_name
                raise causes.certificate(cause.verify_code, cause.verify_message, name, seen or "") from error
            raise

    async def _websocket(self, stream: ByteStream) -> tuple[dialer.WebSocketStream, Finding]:
        upgraded = await dialer.upgrade(stream, self._address, self._now)
        self._clock_off_s = upgraded.clock_off_s
        return upgraded.stream, Finding(f"through {upgraded.server}" if upgraded.server else "upgraded")

    async def _secure(self, peer: Peer, stream: Any) -> tuple[Any, Finding]:
        secured = await peer.secure(stream, initiator=True)
        found = str(secured.get_remote_peer())
        if found != (self._address.peer or found):
            raise causes.wrong_peer(self._address.peer, found)
        if found != (self._report.peer or found):
            raise causes.several_relays(self._report.peer, found)
        self._report.peer = found
        return secured, Finding(f"Noise; the relay is {found}")

    async def _multiplex(
        self, peer: Peer, secured: Any, nursery: trio.Nursery, handlers: dict[str, Handler]
    ) -> tuple[Connection, Finding]:
        return await peer.multiplex(secured, nursery, handlers), Finding("yamux")

    async def _dial(self, peer: Peer, nursery: trio.Nursery) -> tuple[Connection, Finding]:
        """All layers at once, for the host that calls."""
        stream: Any
        stream, _ = await self._connect()
        if self._address.tls:
            stream, _ = await self._tls(stream)
        stream = (await self._websocket(stream))[0] if self._address.websocket else dialer.plain(stream)
        secured, _ = await self._secure(peer, stream)
        connection, _ = await self._multiplex(peer, secured, nursery, {})
        return connection, Finding("connected")

    # --- what the relay says of itself ---

    async def _identify(self, connection: Connection) -> tuple[list[Address], Finding]:
        message = await circuit.ask_identify(connection)
        self._report.agent = _printable(message.agent_version)[:MAX_SAID]
        if HOP not in message.protocols:
            raise causes.no_hop(self._report.agent)
        return dialable(message.listen_addrs), Finding(f"{self._report.agent or 'no name'}; a relay")

    async def _announced(self, announced: list[Address]) -> tuple[None, Finding]:
        return None, await look(self._address, announced)

    # --- what the relay is for ---

    async def _reserve(self, connection: Connection) -> tuple[Any, Finding]:
        answer = await circuit.reserve(connection)
        limit = answer.limit
        allowed = f"{limit.duration or 'unlimited'} s and {limit.data or 'unlimited'} bytes"
        detail = f"granted; a circuit may take {allowed}" if answer.HasField("limit") else "granted, without limits"
        return answer.reservation, Finding(detail)

    async def _voucher(self, granted: Any, first: Peer) -> tuple[None, Finding]:
        return None, circuit.check_voucher(granted.voucher, self._report.peer, first.id, granted.expire)

    async def _expiry(self, granted: Any) -> tuple[None, Finding]:
        left_s = granted.expire - self._now()
        if left_s <= 0:
            raise causes.bad_clock(-left_s)
        detail = f"in {left_s:.0f} s"
        off_s = self._clock_off_s
        if off_s is not None and abs(off_s) > CLOCK_SLACK_S:
            side = "ahead of" if off_s > 0 else "behind"
            told = f"{detail}; the server's clock is {abs(off_s):.0f} s {side} this one's"
            return None, Finding(told, "set both by NTP (timedatectl set-ntp true)")
        if left_s < SHORT_S:
            return None, Finding(detail, "too short to be renewed in time: is a clock wrong, or the relay set so?")
        if left_s > LONG_S:
            return None, Finding(detail, "longer than relays grant by default: is a clock wrong, or the relay set so?")
        return None, Finding(detail)

    async def _circuit(
        self, caller: Connection, first: Peer, second: Peer, target: circuit.Target, nursery: trio.Nursery
    ) -> tuple[Connection, Finding]:
        called = await circuit.call(caller, first.id)
        if called.status != causes.OK:
            raise causes.status(called.status, "the call was")
        secured = await second.secure(called.stream, initiator=True)
        if str(secured.get_remote_peer()) != str(first.id):
            raise Trouble("the relay connects to another peer than was asked for", "do not use this relay")
        through = await second.multiplex(secured, nursery, {})
        if target.callers[:1] != [str(second.id)]:
            raise Trouble("the relay names another caller to the called peer than called", "do not use this relay")
        return through, Finding("called back through the relay; Noise and yamux end to end")

    async def _echo(self, through: Connection, nursery: trio.Nursery) -> tuple[None, Finding]:
        stream = await through.open(ECHO)
        sent = os.urandom(ECHO_BYTES)
        started = trio.current_time()
        await stream.write(sent)
        if await read_exactly(stream, len(sent)) != sent:
            raise Trouble("the echo is not what was sent", "do not use this relay")
        took_ms = _ms_since(started)
        nursery.start_soon(through.close)
        return None, Finding(f"{ECHO_BYTES} bytes there and back in {took_ms:.1f} ms")

    async def _idle(self, connection: Connection) -> tuple[None, Finding]:
        started = trio.current_time()
        with trio.move_on_after(self._extent.idle_s):
            await connection.closed.wait()
        if connection.closed.is_set():
            raise causes.cut_while_idle(trio.current_time() - started)
        await circuit.reserve(connection)
        return None, Finding(f"after {self._extent.idle_s:g} s of silence the reservation can be renewed")

    async def _release(
        self, connection: Connection, caller: Connection, first: Peer, second: Peer, nursery: trio.Nursery
    ) -> tuple[None, Finding]:
        """The slot of a peer that leaves must be free: a call to it meets NO_RESERVATION."""
        nursery.start_soon(connection.close)
        if not self._extent.refusal:
            await connection.closed.wait()
            return None, Finding("closed")
        if caller.closed.is_set():  # idle hosts without a reservation may be sent away
            caller, _ = await self._dial(second, nursery)
        started = trio.current_time()
        while (status := await _status_of_call(caller, first)) != causes.NO_RESERVATION:
            if trio.current_time() - started > min(RELEASE_LIMIT_S, self._extent.timeout_s / 2):
                detail = f"the relay keeps the reservation of a peer that left (it answers {status or 'with a reset'})"
                return None, Finding(detail, "the slot is free only when it expires: have room for those who left")
            await trio.sleep(RELEASE_PAUSE_S)
        return None, Finding("the reservation is gone with its connection")


async def _status_of_call(caller: Connection, target: Peer) -> int:
    """What the relay answers; 0 when it ends the stream without an answer, as one may that has just lost the target."""
    try:
        return int((await circuit.call(caller, target.id)).status)
    except BaseLibp2pError:
        if caller.closed.is_set():
            raise
        return 0


def _ms_since(started: float) -> float:
    return round((trio.current_time() - started) * 1000, 2)


def _said(error: BaseException) -> str:
    """The innermost text of an exception, one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__)[:MAX_SAID]


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:MAX_TEXT]
