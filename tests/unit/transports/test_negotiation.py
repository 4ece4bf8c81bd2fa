"""multistream-select on streams: who becomes the handler, what is credited, what happens when it fails."""

from __future__ import annotations

from tests.support.pipe import Recorder, SessionPair
from transports.errors import PeerError
from transports.negotiation import InboundNegotiation, OutboundNegotiation
from transports.yamux import Stream

HEADER = b"\x13/multistream/1.0.0\n"
ECHO = b"\x06/echo\n"
NA = b"\x03na\n"


class Listener:
    """A session pair whose right end speaks /echo."""

    def __init__(self) -> None:
        self.pair = SessionPair()
        self.accepted: list[Recorder] = []
        self.errors: list[PeerError] = []
        self.reset_at_accept = False
        self.pair.right.make = lambda stream: InboundNegotiation(stream, (b"/echo",), self.accept, self.errors.append)

    def accept(self, protocol: bytes, stream: Stream) -> Recorder:
        assert protocol == b"/echo"
        self.accepted.append(Recorder(stream))
        if self.reset_at_accept:
            stream.reset()
        return self.accepted[-1]

    def dial(self, written: bytes) -> Recorder:
        recorder = self.pair.left.open()
        recorder.stream.write(written)
        self.pair.pump()
        return recorder


def test_data_behind_a_lazy_negotiation_reaches_the_handler_and_the_answer_the_dialer() -> None:
    listener = Listener()
    dialer = listener.dial(HEADER + ECHO + b"first")
    assert dialer.data == HEADER + ECHO
    assert listener.accepted[0].data == b"first"
    dialer.stream.write(b" second")
    listener.pair.pump()
    assert listener.accepted[0].data == b"first second"


def test_byte_by_byte_is_the_same() -> None:
    listener = Listener()
    dialer = listener.dial(b"")
    for byte in HEADER + ECHO + b"first":
        dialer.stream.write(bytes((byte,)))
        listener.pair.pump()
    assert dialer.data == HEADER + ECHO
    assert listener.accepted[0].data == b"first"


def test_name_data_and_fin_in_one_turn_all_reach_the_handler() -> None:
    listener = Listener()
    dialer = listener.pair.left.open()
    dialer.stream.write(HEADER + ECHO + b"all")
    dialer.stream.close()
    listener.pair.pump()
    assert (listener.accepted[0].data, listener.accepted[0].eofs) == (b"all", 1)


def test_every_byte_of_the_negotiation_is_credited_and_those_of_the_handler_are_its_own() -> None:
    listener = Listener()
    dialer = listener.dial(HEADER + NA + ECHO + b"kept")
    right = listener.accepted[0].stream
    assert right._consumed_bytes == len(HEADER + NA + ECHO + b"kept")
    assert dialer.data == HEADER + NA + ECHO


def test_the_eleventh_unknown_protocol_resets_the_stream_and_nothing_else() -> None:
    listener = Listener()
    good = listener.dial(HEADER + ECHO)
    bad = listener.dial(HEADER + NA * 10)
    assert bad.resets == 0
    bad.stream.write(NA)
    listener.pair.pump()
    assert bad.resets == 1
    assert [error.reason for error in listener.errors] == ["multistream"]
    good.stream.write(b"still here")
    listener.pair.pump()
    assert listener.accepted[0].data == b"still here"


def test_fin_before_a_name_resets_the_stream() -> None:
    listener = Listener()
    dialer = listener.pair.left.open()
    dialer.stream.write(HEADER)
    dialer.stream.close()
    listener.pair.pump()
    assert dialer.resets == 1
    assert not listener.pair.right.session.streams


def test_a_handler_that_resets_its_stream_at_once_gets_no_data() -> None:
    listener = Listener()
    listener.reset_at_accept = True
    dialer = listener.dial(HEADER + ECHO + b"data")
    assert dialer.resets == 1
    assert not listener.accepted[0].pieces


class Dialer:
    """A session pair whose left end asks for /echo; the right end says what the test says."""

    def __init__(self, first: bytes = b"") -> None:
        self.pair = SessionPair()
        self.recorder = Recorder()
        stream = self.pair.left.session.open_stream()
        self.recorder.stream = stream
        self.negotiation = OutboundNegotiation(stream, b"/echo", self.recorder, first)
        self.pair.pump()
        self.right = self.pair.right.opened[0]

    def answer(self, data: bytes) -> None:
        self.right.stream.write(data)
        self.pair.pump()


def test_name_and_first_data_leave_in_one_write() -> None:
    dialer = Dialer(b"first")
    assert dialer.right.pieces == [HEADER + ECHO + b"first"]


def test_what_follows_the_agreement_is_the_handlers() -> None:
    dialer = Dialer()
    dialer.answer(HEADER)
    dialer.answer(ECHO + b"hello")
    assert dialer.recorder.data == b"hello"
    assert dialer.recorder.stream.handler is dialer.recorder
    assert dialer.recorder.stream._consumed_bytes == len(HEADER + ECHO + b"hello")


def test_a_listener_that_declines_is_reset_and_the_handler_is_told_once() -> None:
    dialer = Dialer()
    dialer.answer(HEADER + NA)
    assert (dialer.recorder.resets, dialer.negotiation.declined, dialer.right.resets) == (1, True, 1)
    dialer.pair.left.session.connection_lost()
    assert dialer.recorder.resets == 1


def test_a_listener_that_errs_is_reset_but_has_not_declined() -> None:
    dialer = Dialer()
    dialer.answer(b"\x05what\n"[:1] + b"hat!\n")
    assert (dialer.recorder.resets, dialer.negotiation.declined) == (1, False)


def test_a_listener_that_closes_instead_is_reset_and_the_handler_is_told_once() -> None:
    dialer = Dialer()
    dialer.right.stream.close()
    dialer.pair.pump()
    assert (dialer.recorder.resets, dialer.recorder.eofs, dialer.right.resets) == (1, 0, 1)


def test_a_reset_and_a_lost_connection_are_told_once() -> None:
    for end in ("reset", "lost"):
        dialer = Dialer()
        if end == "reset":
            dialer.right.stream.reset()
            dialer.pair.pump()
        dialer.pair.left.session.connection_lost()
        assert dialer.recorder.resets == 1
