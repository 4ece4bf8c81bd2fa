"""Hop against a model: a worker with its registry and peers of every kind, time turned by hand.

Whatever peers do, every stream is answered once and as predicted, no limit is passed, and every slot comes back.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors import hop
from actors.proto.circuit_pb2 import HopMessage, Peer, Status, StopMessage
from config.settings import Access, Limits
from tests.support.hand_relay import HandClient, HandRelay
from tests.support.hop_model import Asked, At, HopModel, Line
from tests.support.pipe import Recorder
from transports.identity import HostKey, peer_id_text
from transports.varint import DelimitedReader, delimited

# A failure is made small before it is told, and that may take minutes.
pytestmark = pytest.mark.timeout(900)

LIMITS = Limits(
    max_reservations=3,
    max_circuits=3,
    max_circuits_per_peer=2,
    reservation_ttl_s=60,
    circuit_duration_s=45,
    circuit_bytes=600,
    circuit_idle_timeout_s=0,
    reservation_rate_per_peer=None,
    reservation_rate_per_ip=None,
    circuit_rate_per_peer=None,
    circuit_rate_per_ip=None,
)
HOSTS = [HostKey.from_seed(bytes([number]) * 32) for number in range(7)]
WITHOUT_STOP, DENIED = 5, 6
PEERS = st.sampled_from([0, 0, 1, 1, 2, 2, 3, 4, WITHOUT_STOP, DENIED])
WHICH = st.integers(0, 60)
BODIES = st.one_of(st.just(b""), st.binary(max_size=30), st.binary(min_size=598, max_size=602))
HOW = st.sampled_from(["whole", "whole", "fin", "half"])


def framed(message: HopMessage | StopMessage) -> bytes:
    return delimited(message.SerializeToString())


RESERVE = framed(HopMessage(type=HopMessage.RESERVE))
RESERVE_FOR_ANOTHER = framed(HopMessage(type=HopMessage.RESERVE, peer=Peer(id=HOSTS[0].peer_id)))
NONSENSE = {
    delimited(b"\xff" * 9): 400,
    delimited(HopMessage(type=HopMessage.RESERVE).SerializePartialToString() + b"\x0a"): 400,
    delimited(b""): 400,
    delimited(b"x" * (hop.MAX_MESSAGE_BYTES + 1))[:9]: 400,
    framed(HopMessage(type=HopMessage.STATUS, status=Status.OK)): 401,
    framed(HopMessage(type=HopMessage.CONNECT)): 400,
    framed(HopMessage(type=HopMessage.CONNECT, peer=Peer(id=b"\x12\x20short"))): 400,
}


class HopMachine(RuleBasedStateMachine):
    """One worker. Peers 0 to 4 are like any other; one does not speak stop, one is denied."""

    def __init__(self) -> None:
        super().__init__()
        access = Access(deny_peers=(peer_id_text(HOSTS[DENIED].peer_id),))
        self.relay = HandRelay(LIMITS, access)
        self.model = HopModel(LIMITS, DENIED, self.relay.now_s)
        self.clients: dict[Line, HandClient] = {}
        self.streams: dict[Asked, Recorder] = {}
        self.halves: dict[Asked, bytes] = {}
        for peer in range(4):
            self.connect(peer)
        for line in self.model.lines[:2]:
            self.ask(line, RESERVE)

    def both_settle(self) -> None:
        self.relay.settle()
        self.model.turn_registry()

    # Peers

    @rule(peer=PEERS)
    def connect(self, peer: int) -> None:
        speaks_stop = peer != WITHOUT_STOP
        line = self.model.connect(peer, speaks_stop=speaks_stop)
        self.clients[line] = self.relay.connect(HOSTS[peer], speaks_stop=speaks_stop)

    @precondition(lambda self: self.up())
    @rule(which=WHICH)
    def hang_up(self, which: int) -> None:
        line = self.one_up(which)
        self.clients[line].hang_up()
        self.model.hang_up(line)
        self.both_settle()

    def up(self) -> list[Line]:
        return [line for line in self.model.lines if line.up]

    def one_up(self, which: int) -> Line:
        return self.up()[which % len(self.up())]

    # Hop streams

    @precondition(lambda self: self.up())
    @rule(which=WHICH, message=st.sampled_from([RESERVE, RESERVE_FOR_ANOTHER]), how=HOW)
    def reserve(self, which: int, message: bytes, how: str) -> None:
        self.ask(self.one_up(which), message, how)

    @precondition(lambda self: self.up())
    @rule(which=WHICH, called=PEERS, how=HOW, early=BODIES)
    def call(self, which: int, called: int, how: str, early: bytes) -> None:
        message = framed(HopMessage(type=HopMessage.CONNECT, peer=Peer(id=HOSTS[called].peer_id, addrs=[b"odd"])))
        self.ask(self.one_up(which), message, how, early, called)

    @precondition(lambda self: self.up() and self.model.live())
    @rule(which=WHICH, called=WHICH, how=HOW, early=BODIES)
    def call_one_that_is_there(self, which: int, called: int, how: str, early: bytes) -> None:
        live = list(self.model.live())
        self.call(which=which, called=live[called % len(live)], how=how, early=early)

    @precondition(lambda self: self.up())
    @rule(which=WHICH, message=st.sampled_from(list(NONSENSE)), fin=st.booleans())
    def ask_nonsense(self, which: int, message: bytes, fin: bool) -> None:
        self.ask(self.one_up(which), message, "fin" if fin else "whole")

    def ask(self, line: Line, message: bytes, how: str = "whole", early: bytes = b"", called: int = -1) -> None:
        """A hop stream: the whole message with what follows it, and maybe FIN; or half of the message."""
        asked = self.model.open(line)
        asked.target = called
        first = message[: len(message) // 2] if how == "half" else message + early
        self.streams[asked] = stream = self.clients[line].end.open(hop.PROTOCOL, first)
        if how == "half":
            self.halves[asked] = message
        else:
            self.predict(asked, message, early, fin=how == "fin")
        if how == "fin":
            stream.stream.close()
        self.both_settle()

    def predict(self, asked: Asked, message: bytes, early: bytes, *, fin: bool) -> None:
        asked.client_closed = fin
        if message in NONSENSE:
            self.model.answer(asked, NONSENSE[message])
        elif asked.target < 0:
            self.model.reserve(asked)
        else:
            self.model.call(asked, asked.target, early)

    @precondition(lambda self: self.pick(0, At.READING))
    @rule(which=WHICH)
    def say_the_other_half(self, which: int) -> None:
        asked = self.pick(which, At.READING)
        assert asked is not None
        message = self.halves[asked]
        self.streams[asked].stream.write(message[len(message) // 2 :])
        self.predict(asked, message, b"", fin=False)
        self.both_settle()

    @rule(which=WHICH, at=st.sampled_from(At))
    def say_fin(self, which: int, at: At) -> None:
        asked = self.pick(which, at)
        if asked is not None and not asked.client_closed and at is not At.OVER:
            self.streams[asked].stream.close()
            self.model.close(asked)
            self.both_settle()

    @rule(which=WHICH, at=st.sampled_from(At))
    def reset(self, which: int, at: At) -> None:
        asked = self.pick(which, at)
        if asked is not None and at is not At.OVER:
            self.streams[asked].stream.reset()
            self.model.reset(asked)
            self.both_settle()

    def pick(self, which: int, at: At) -> Asked | None:
        found = [asked for asked in self.model.asked if asked.at is at]
        return found[which % len(found)] if found else None

    # Targets

    def stop_stream(self, asked: Asked) -> Recorder:
        assert asked.callee is not None
        return self.clients[asked.callee].stops[asked.callee.rung.index(asked)]

    @precondition(lambda self: self.pick(0, At.RINGING))
    @rule(which=WHICH, first=BODIES)
    def accept(self, which: int, first: bytes) -> None:
        asked = self.pick(which, At.RINGING)
        assert asked is not None
        stream = self.stop_stream(asked).stream
        stream.write(framed(StopMessage(type=StopMessage.STATUS, status=Status.OK)) + first)
        self.model.accept(asked, first)
        self.both_settle()

    @precondition(lambda self: self.pick(0, At.RINGING))
    @rule(which=WHICH, how=st.sampled_from(["status", "connect", "nonsense", "fin", "reset"]))
    def decline(self, which: int, how: str) -> None:
        asked = self.pick(which, At.RINGING)
        assert asked is not None
        stream = self.stop_stream(asked).stream
        if how == "status":
            stream.write(framed(StopMessage(type=StopMessage.STATUS, status=Status.PERMISSION_DENIED)))
        elif how == "connect":
            stream.write(framed(StopMessage(type=StopMessage.CONNECT)))
        elif how == "nonsense":
            stream.write(b"\xff" * 9)
        elif how == "fin":
            stream.close()
        else:
            stream.reset()
        asked.target_rst = how != "reset"
        self.model.decline(asked)
        self.both_settle()

    # Circuits

    @precondition(lambda self: self.up() and self.model.live() and not self.pick(0, At.RINGING))
    @rule(which=WHICH, called=WHICH, how=HOW, early=BODIES, first=BODIES)
    def call_and_accept(self, which: int, called: int, how: str, early: bytes, first: bytes) -> None:
        self.call_one_that_is_there(which=which, called=called, how=how, early=early)
        if self.pick(0, At.RINGING) is not None:
            self.accept(which=0, first=first)

    @precondition(lambda self: self.pick(0, At.CIRCUIT))
    @rule(which=WHICH, to_target=st.booleans(), data=BODIES)
    def say(self, which: int, to_target: bool, data: bytes) -> None:
        asked = self.pick(which, At.CIRCUIT)
        assert asked is not None
        if to_target and not asked.client_closed:
            self.streams[asked].stream.write(data)
            self.model.pass_to_target(asked, data)
        elif not to_target and not asked.fin:
            self.stop_stream(asked).stream.write(data)
            self.model.pass_to_source(asked, data)
        self.both_settle()

    @precondition(lambda self: self.pick(0, At.CIRCUIT))
    @rule(which=WHICH, reset=st.booleans())
    def target_ends(self, which: int, reset: bool) -> None:
        asked = self.pick(which, At.CIRCUIT)
        assert asked is not None
        if reset:
            self.stop_stream(asked).stream.reset()
            self.model.reset_by_target(asked)
        elif not asked.fin:
            self.stop_stream(asked).stream.close()
            self.model.close_by_target(asked)
        self.both_settle()

    # Registry and time

    @rule()
    def registry_is_held_or_goes_on(self) -> None:
        held = not self.model.held
        self.relay.registry.held = self.model.held = held
        self.both_settle()

    @precondition(lambda self: not self.model.held)
    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 5.0, 9.75, 10.0, 24.75, 25.0, 45.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.relay.turn(seconds)
        self.model.turn(seconds)

    # What must be true

    @invariant()
    def every_stream_is_told_what_the_model_says(self) -> None:
        for asked, recorder in self.streams.items():
            answers, behind = self.answers(recorder.data, len(asked.status))
            assert [answer.status for answer in answers] == asked.status
            assert all(answer.type == HopMessage.STATUS for answer in answers)
            if not asked.line.up:
                continue
            assert asked.to_source.startswith(behind) if asked.client_reset else behind == asked.to_source
            if not asked.client_reset:
                assert (recorder.eofs, recorder.resets) == (asked.fin, asked.rst)

    @staticmethod
    def answers(data: bytes, count: int) -> tuple[list[HopMessage], bytes]:
        """So many messages, and what is behind them."""
        found = []
        for _ in range(count):
            reader = DelimitedReader(hop.MAX_MESSAGE_BYTES)
            body = reader.feed(data)
            assert body is not None
            found.append(HopMessage.FromString(body))
            data = reader.rest()
        return found, data

    @invariant()
    def every_call_reached_its_target_once(self) -> None:
        for line, client in self.clients.items():
            assert len(client.stops) == len(line.rung)
            for asked, recorder in zip(line.rung, client.stops, strict=True):
                reader = DelimitedReader(hop.MAX_MESSAGE_BYTES)
                message = StopMessage.FromString(reader.feed(recorder.data) or b"")
                assert message.type == StopMessage.CONNECT
                assert message.peer.id == HOSTS[asked.line.peer].peer_id
                assert (message.limit.duration, message.limit.data) == (45, 600)
                if 100 in asked.status and line.up:
                    assert reader.rest() == asked.to_target
                    assert recorder.eofs == asked.target_fin
                if line.up:
                    assert recorder.resets == asked.target_rst

    @invariant()
    def what_is_held_is_what_the_model_counts(self) -> None:
        worker, table, model = self.relay.worker, self.relay.table, self.model
        assert worker.row.connections == sum(line.up for line in model.lines)
        assert worker.row.reservations == sum(line.reserved_until_s > 0 for line in model.lines)
        assert worker.row.circuits == sum(asked.at is At.CIRCUIT for asked in model.asked)
        live = {key for key, held in table._reservations.items() if held.expires_s > self.relay.now_s}
        assert live == {HOSTS[peer].peer_id for peer in model.live()}
        assert table.circuit_count == len(model.circuits)

    @invariant()
    def no_limit_is_passed(self) -> None:
        table = self.relay.table
        assert table.reservation_count <= LIMITS.max_reservations
        assert table.circuit_count <= LIMITS.max_circuits
        for counts in (table._circuits_of_source, table._circuits_of_target):
            assert all(0 < count <= LIMITS.max_circuits_per_peer for count in counts.values())

    def teardown(self) -> None:
        """Everybody leaves, and nothing stays."""
        try:
            self.check_that_nothing_stays()
        finally:
            self.relay.close()

    def check_that_nothing_stays(self) -> None:
        self.relay.registry.held = False
        for client in self.clients.values():
            client.hang_up()
        self.relay.settle()
        worker, table = self.relay.worker, self.relay.table
        assert (table.reservation_count, table.circuit_count, table.connection_count) == (0, 0, 0)
        assert (worker.row.reservations, worker.row.circuits, worker.row.connections) == (0, 0, 0)
        assert not worker.peers
        assert not worker.circuits.granted
        assert not any(worker.deadlines._slots.values())


HopMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=50, derandomize=True, deadline=None)
TestHopAgainstTheModel = HopMachine.TestCase
