"""The audit, with time that the test turns: what differs is looked at again and mended, and nothing else is."""

from __future__ import annotations

from functools import partial

import pytest

from actors.audit import SETTLE_S, Auditor, Mended, tally
from actors.peer import Peer
from actors.registry import Registry
from actors.registry_protocol import Granted, Held, HeldCircuit, Hello, Inventory, Refused, Superseded, in_parts
from config.settings import Limits
from tests.support.hand_relay import HandRelay
from transports.identity import HostKey

IP = "192.0.2.1"
LOOK_S = 10.0
TTL_S = 3600.0


def granted_to(peer: Peer, answer: Granted | Refused) -> None:
    assert isinstance(answer, Granted)
    peer.hold_reservation(answer)


class Audited:
    """A registry, one worker of it, and their clock. What the worker holds are plain lists, for a test to change."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.registry = Registry(Limits(max_circuits=2), epoch=1)
        self.auditor = Auditor(self.registry)
        self.reservations: dict[int, Held] = {}
        self.circuits: dict[int, HeldCircuit] = {}
        self.connections: dict[int, str] = {}
        self.join("w")
        self.join("other")
        for connection in (1, 2, 3):
            self.registry.connected("w", connection, IP)
            self.connections[connection] = IP
            self.reserve(connection)
        granted = self.registry.open_circuit("w", b"peer 1", b"peer 2", IP, self.now_s)
        assert not isinstance(granted, str)
        self.circuits[granted.circuit] = HeldCircuit(granted.circuit, b"peer 1", b"peer 2", IP)

    def join(self, worker: str) -> None:
        self.registry.join(worker)
        self.auditor.joined(worker, self.now_s)

    def reserve(self, connection: int) -> None:
        peer = b"peer %d" % connection
        granted = self.registry.reserve("w", peer, connection, IP, self.now_s)
        assert not isinstance(granted, str)
        self.reservations[connection] = Held(peer, connection, IP, granted.expires_s)

    def look(self) -> Mended | None:
        """Time passes, the worker is asked and answers; what was mended."""
        self.now_s += LOOK_S
        if not self.auditor.question("w").whole:
            said = tally(self.reservations, self.circuits, self.connections)
            self.auditor.take_tally("w", said, self.now_s)
            return None
        whole = Hello("w", 1, [*self.reservations.values()], [*self.circuits.values()], [*self.connections.items()])
        (part,) = in_parts(whole)
        return self.auditor.take_inventory("w", Inventory(*part), self.now_s)

    def looks(self) -> list[Mended | None]:
        """As many as it takes to find and mend."""
        return [self.look() for _ in range(4)]

    def assert_clean(self) -> None:
        self.look()
        assert self.auditor.differences == 0
        assert not self.auditor.question("w").whole
        held = self.registry.workers["w"]
        assert set(held.reservations) == set(self.reservations)
        assert set(held.circuits) == set(self.circuits)
        assert set(held.connections) == set(self.connections)


@pytest.fixture
def audited() -> Audited:
    return Audited()


def test_those_who_agree_are_only_ever_asked_for_counts(audited: Audited) -> None:
    for _ in range(5):
        assert not audited.auditor.question("w").whole
        assert audited.look() is None
    assert (audited.auditor.differences, audited.auditor.mended) == (0, 0)


def test_all_is_asked_for_when_the_counts_have_differed_twice_in_a_row(audited: Audited) -> None:
    del audited.connections[3]
    asked = []
    for _ in range(3):
        asked.append(audited.auditor.question("w").whole)
        audited.look()
    assert asked == [False, False, True]


def test_what_differs_once_and_then_not_is_forgotten(audited: Audited) -> None:
    lost = audited.connections.pop(3)
    audited.look()
    assert audited.auditor.differences == 1
    audited.connections[3] = lost
    audited.look()
    del audited.connections[3]
    audited.look()
    assert not audited.auditor.question("w").whole


@pytest.mark.parametrize("kind", ["reservation", "circuit", "connection"])
def test_what_nobody_holds_is_freed(audited: Audited, kind: str) -> None:
    if kind == "reservation":
        del audited.reservations[3]
    elif kind == "circuit":
        audited.circuits.clear()
    else:
        del audited.connections[3], audited.reservations[3]  # a reservation goes with its connection
    mended = audited.looks()
    freed = {kind: 1} if kind != "connection" else {"connection": 1, "reservation": 1}
    assert mended == [None, None, None, Mended(freed, {})]
    assert audited.auditor.mended == len(freed)
    audited.assert_clean()
    assert audited.registry.circuit_count == len(audited.circuits)
    assert audited.registry.reservation_count == len(audited.reservations)
    assert audited.registry.connection_count == len(audited.connections)


@pytest.mark.parametrize("kind", ["reservation", "circuit", "connection"])
def test_what_a_worker_holds_and_the_registry_has_lost_is_counted_again(audited: Audited, kind: str) -> None:
    if kind == "reservation":
        audited.registry.release("w", b"peer 3", 3)
    elif kind == "circuit":
        audited.registry.close_circuit("w", *audited.circuits)
    else:
        audited.registry.disconnected("w", 3)
    counted = {kind: 1} if kind != "connection" else {"connection": 1, "reservation": 1}
    assert audited.looks() == [None, None, None, Mended({}, counted)]
    audited.assert_clean()


def test_a_freed_slot_is_granted_again(audited: Audited) -> None:
    registry = audited.registry
    circuit = registry.open_circuit("w", b"peer 2", b"peer 3", IP, audited.now_s)  # the worker has never heard of it
    assert not isinstance(circuit, str)
    assert registry.open_circuit("w", b"peer 3", b"peer 1", IP, audited.now_s) == "circuits_full"
    audited.looks()
    assert not isinstance(registry.open_circuit("w", b"peer 3", b"peer 1", IP, audited.now_s), str)


def test_a_grant_that_is_on_its_way_at_each_look_is_not_taken_away(audited: Audited) -> None:
    for number in range(10, 20):
        granted = audited.registry.reserve("w", b"peer %d" % number, number, IP, audited.now_s)
        assert not isinstance(granted, str)
        assert audited.look() is None
        assert audited.auditor.differences == 1
        audited.reservations[number] = Held(b"peer %d" % number, number, IP, granted.expires_s)  # now it has arrived
    audited.connections.update(dict.fromkeys(range(10, 20), IP))


def test_equal_counts_of_other_things_do_not_pass(audited: Audited) -> None:
    audited.connections[4] = audited.connections.pop(3)
    audited.look()
    assert audited.auditor.differences == 1


def test_an_expired_reservation_that_one_has_not_noticed_is_no_difference(audited: Audited) -> None:
    del audited.connections[1]  # so that all is asked for
    audited.now_s += TTL_S
    for connection in (1, 2):
        del audited.reservations[connection]
    freed = [mended for mended in audited.looks() if mended is not None]
    assert freed == [Mended({"connection": 1}, {})]


def test_a_reservation_that_the_peer_has_elsewhere_by_now_stays_there(audited: Audited) -> None:
    registry = audited.registry
    registry.reserve("other", b"peer 3", 7, IP, audited.now_s + 1)
    registry.notices.clear()  # lost, in a way that cannot be
    audited.looks()
    assert registry.workers["other"].reservations[7].peer == b"peer 3"
    assert registry.notices == [("w", Superseded(b"peer 3", 3))]


def test_the_audit_is_as_old_as_the_look_at_the_worker_that_was_asked_longest_ago(audited: Audited) -> None:
    began_s = audited.now_s
    audited.look()
    assert audited.auditor.audited_s == began_s, "the other worker does not answer"
    audited.auditor.gone("other")
    assert audited.auditor.audited_s == began_s + LOOK_S
    audited.auditor.gone("w")
    assert audited.auditor.audited_s == 0.0


def test_a_worker_that_comes_back_begins_anew(audited: Audited) -> None:
    del audited.connections[3], audited.reservations[3]
    for _ in range(3):
        audited.look()
    audited.auditor.gone("w")
    assert audited.auditor.differences == 0
    audited.join("w")
    assert not audited.auditor.question("w").whole


def test_what_is_said_in_parts_is_compared_as_a_whole() -> None:
    registry, now_s = Registry(Limits()), 1000.0
    auditor = Auditor(registry)
    registry.join("w")
    auditor.joined("w", now_s)
    held = [(number, IP) for number in range(10_000)]
    registry.declare("w", [], [], held, now_s)
    for look in range(2):
        said = [Inventory(*part) for part in in_parts(Hello("w", 1, [], [], held))]
        assert [part.more for part in said] == [True, True, False]
        for part in said:
            assert auditor.take_inventory("w", part, now_s + look * SETTLE_S) is None
        assert auditor.differences == 0


def test_a_worker_at_work_and_its_registry_agree() -> None:
    relay = HandRelay(Limits())
    try:
        auditor = Auditor(relay.table)
        name = relay.worker.name
        auditor.joined(name, relay.now_s)
        clients = [relay.connect(HostKey.generate()) for _ in range(3)]
        for peer in relay.worker.peers.values():
            relay.registry.reserve(peer.key, peer.id, peer.counted_as, partial(granted_to, peer))
        relay.settle()
        assert relay.table.reservation_count == 3
        auditor.take_tally(name, relay.worker._tally(), relay.now_s)
        assert auditor.differences == 0
        clients[0].hang_up()
        auditor.take_tally(name, relay.worker._tally(), relay.now_s)
        assert auditor.differences == 2, "the registry has not heard of it"
        relay.settle()
        auditor.take_tally(name, relay.worker._tally(), relay.now_s)
        assert auditor.differences == 0
    finally:
        relay.close()
