"""The worker link: yamux straight on a socket that both ends trust."""

from __future__ import annotations

from tests.support.pipe import Recorder, SessionEnd
from transports.link import LinkConnection, LinkStream
from transports.yamux import GoAway, Session

OPEN_AND_RESET = bytes.fromhex("00 01 0001 00000001 00000000 00 01 0008 00000001 00000000")


def link(*, initiator: bool) -> tuple[LinkConnection, SessionEnd]:
    end = SessionEnd(initiator=initiator)
    connection = LinkConnection(initiator, end, end._wake)
    assert connection.session is not None
    end.session = connection.session
    return connection, end


def carry(sender: LinkConnection, receiver: LinkConnection) -> None:
    """As a socket does it: through a buffer that is used again."""
    buffer = bytearray(sender.take_output())
    receiver.receive(memoryview(buffer), 0.0)
    buffer[:] = b"X" * len(buffer)
    assert sender.session is not None
    sender.session.output_taken()


def test_bytes_that_a_stream_queues_are_not_those_of_the_shared_read_buffer() -> None:
    (dialer, ours), (listener, theirs) = link(initiator=True), link(initiator=False)
    stream = ours.open()
    stream.stream.write(b"hello")
    carry(dialer, listener)
    recorder = theirs.opened[0]
    assert recorder.data == b"hello"
    recorder.stream.send_window = 0

    def echo() -> None:
        recorder.stream.write(recorder.pieces[-1])

    recorder.on_data = echo
    stream.stream.write(b"queued")
    carry(dialer, listener)
    recorder.stream.on_window(100)
    carry(listener, dialer)
    assert stream.data == b"queued"


def test_a_worker_may_open_thousands_of_streams_and_reset_them_all_at_once() -> None:
    connection, end = link(initiator=False)
    connection.receive(OPEN_AND_RESET * 5000, 0.0)
    assert len(end.opened) == 5000
    streams = b"".join(
        bytes.fromhex("00 01 0001") + bytes((0, 0)) + number.to_bytes(2, "big") + bytes(4)
        for number in range(1, 4001, 2)
    )
    connection.receive(streams, 0.0)
    assert end.session._inbound == 2000


def test_a_link_that_is_lost_resets_every_circuit_across_it() -> None:
    connection, end = link(initiator=True)
    streams: list[Recorder] = [end.open() for _ in range(3)]
    connection.closed()
    assert [stream.resets for stream in streams] == [1, 1, 1]


def test_workers_say_no_goodbye() -> None:
    connection, end = link(initiator=True)
    connection.go_away(GoAway.NORMAL)
    assert connection.take_output() == b""
    assert isinstance(end.session, Session)


def test_bytes_count_as_sent_when_the_other_worker_has_handed_them_on() -> None:
    (dialer, ours), (listener, theirs) = link(initiator=True), link(initiator=False)
    stream = ours.open()
    assert stream.stream.write(bytes(LinkStream.CREDIT_BYTES)) == 0
    carry(dialer, listener)
    assert (len(theirs.opened[0].data), stream.sent) == (LinkStream.CREDIT_BYTES, 0)
    carry(listener, dialer)
    assert stream.sent == LinkStream.CREDIT_BYTES


def test_bytes_that_the_other_worker_holds_are_not_credited() -> None:
    (dialer, ours), (listener, theirs) = link(initiator=True), link(initiator=False)
    stream = ours.open()
    stream.stream.write(b"x")
    carry(dialer, listener)
    far = theirs.opened[0]
    far.credit = False
    for _ in range(8):
        stream.stream.write(bytes(64 * 1024))
        carry(dialer, listener)
        carry(listener, dialer)
    assert stream.sent == 0
    assert len(far.data) == 256 * 1024, "one window, and what is over it waits with us"
    far.stream.consumed(len(far.data) - 1)  # the first was given back when it came
    carry(listener, dialer)
    assert stream.sent == 256 * 1024


def test_what_is_written_after_the_end_counts_as_gone() -> None:
    dialer, ours = link(initiator=True)
    stream = ours.open()
    stream.stream.close()
    assert stream.stream.write(b"too late") == len(b"too late")
    assert dialer.take_output()


def test_a_fin_that_waited_behind_bytes_is_told_to_the_handler() -> None:
    (dialer, ours), (listener, theirs) = link(initiator=True), link(initiator=False)
    stream = ours.open()
    stream.stream.write(b"x")
    carry(dialer, listener)
    stream.stream.send_window = 0
    stream.stream.write(b"queued")
    stream.stream.close()
    told: list[int] = []
    stream.data_sent = told.append  # type: ignore[assignment, method-assign]
    stream.stream.on_window(100)
    carry(dialer, listener)
    assert theirs.opened[0].data == b"xqueued"
    assert theirs.opened[0].eofs == 1
    assert told == [0, 100]
