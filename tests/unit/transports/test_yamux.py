"""yamux sessions against frames written down by hand from the specification, at every bound, and cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pipe import Recorder, SessionEnd, acknowledge
from transports.yamux import ErrorCode, FrameFloodError, GoAway, Session, Stream, StreamFloodError, YamuxError
from transports.yamux_frames import INITIAL_WINDOW_BYTES

# version type flags stream length, as in github.com/hashicorp/yamux/blob/master/spec.md, "Framing".
# Types: 00 data, 01 window update, 02 ping, 03 go away. Flags: 0001 SYN, 0002 ACK, 0004 FIN, 0008 RST.
OPEN_1 = bytes.fromhex("00 01 0001 00000001 00000000")  # window update, SYN
HELLO_1 = bytes.fromhex("00 00 0000 00000001 00000005") + b"hello"
SYN_HELLO_1 = bytes.fromhex("00 00 0001 00000001 00000005") + b"hello"
FIN_1 = bytes.fromhex("00 00 0004 00000001 00000000")
HELLO_FIN_1 = bytes.fromhex("00 00 0004 00000001 00000005") + b"hello"
RST_1 = bytes.fromhex("00 01 0008 00000001 00000000")
RST_1_WITH_CODE = bytes.fromhex("00 01 0008 00000001 ffffffff")  # go-yamux v5: an error code where credit would stand
PING = bytes.fromhex("00 02 0001 00000000 cafebabe")
PONG = bytes.fromhex("00 02 0002 00000000 cafebabe")


def frame(kind: int, flags: int, stream: int, length: int, body: bytes = b"") -> bytes:
    """A frame of the test's own making."""
    return bytes((0, kind)) + flags.to_bytes(2, "big") + stream.to_bytes(4, "big") + length.to_bytes(4, "big") + body


def data(stream: int, body: bytes, flags: int = 0) -> bytes:
    return frame(0, flags, stream, len(body), body)


def server(max_inbound: int = 64, *, credit: bool = True) -> SessionEnd:
    return SessionEnd(initiator=False, max_inbound=max_inbound, credit=credit)


# One stream, frame by frame


def test_a_stream_from_syn_to_fin_byte_by_byte_as_in_the_specification() -> None:
    end = server()
    end.feed(OPEN_1)
    (recorder,) = end.opened
    assert end.output() == b""
    end.feed(HELLO_1)
    assert recorder.data == b"hello"
    recorder.stream.write(b"hi")
    assert end.output() == bytes.fromhex("00 00 0002 00000001 00000002") + b"hi"  # the ACK travels with the first frame
    recorder.stream.write(b"hi")
    assert end.output() == bytes.fromhex("00 00 0000 00000001 00000002") + b"hi"
    end.feed(FIN_1)
    assert (recorder.eofs, recorder.stream.readable, recorder.stream.writable) == (1, False, True)
    recorder.stream.write(b"still")
    recorder.stream.close()
    assert end.output() == bytes.fromhex("00 00 0000 00000001 00000005") + b"still" + FIN_1
    assert not end.session.streams
    assert recorder.resets == 0


def test_the_client_opens_odd_ids_and_the_server_even_ones() -> None:
    """Spec, "StreamID Field": "The client side should use odd ID's, and the server even"."""
    client = SessionEnd(initiator=True)
    client.open().stream.write(b"a")
    client.open().stream.write(b"b")
    assert client.output() == bytes.fromhex("00 00 0001 00000001 00000001 61 00 00 0001 00000003 00000001 62")
    end = server()
    acknowledge(end.open().stream)
    assert end.output() == bytes.fromhex("00 01 0001 00000002 00000000")


def test_syn_may_come_with_data_and_data_with_fin() -> None:
    end = server()
    end.feed(SYN_HELLO_1, HELLO_FIN_1)
    assert (end.opened[0].data, end.opened[0].eofs) == (b"hellohello", 1)


def test_everything_in_one_frame_opens_fills_and_ends_a_stream() -> None:
    end = server()
    end.feed(data(1, b"hello", flags=0x0005))  # SYN and FIN
    assert (end.opened[0].data, end.opened[0].eofs) == (b"hello", 1)


def test_fin_is_told_behind_the_last_byte_however_the_frame_is_cut() -> None:
    end = server()
    end.feed(OPEN_1, HELLO_FIN_1[:-1])
    assert (end.opened[0].data, end.opened[0].eofs) == (b"hell", 0)
    end.feed(HELLO_FIN_1[-1:])
    assert (end.opened[0].data, end.opened[0].eofs) == (b"hello", 1)


def test_fin_may_come_on_a_window_update() -> None:
    end = server()
    end.feed(OPEN_1, frame(1, 0x4, 1, 100))
    assert end.opened[0].eofs == 1
    assert end.opened[0].stream.send_window == 256 * 1024 + 100


def test_rst_is_told_once_and_the_stream_is_gone() -> None:
    end = server()
    end.feed(OPEN_1, RST_1)
    (recorder,) = end.opened
    assert (recorder.resets, recorder.eofs, recorder.stream.alive) == (1, 0, False)
    recorder.stream.write(b"into the void")
    recorder.stream.close()
    recorder.stream.reset()
    end.feed(RST_1)
    end.session.connection_lost()
    assert end.output() == b""
    assert (recorder.resets, recorder.eofs) == (1, 0)


def test_an_error_code_in_the_length_of_rst_is_never_credit() -> None:
    end = server()
    end.feed(OPEN_1)
    stream = end.opened[0].stream
    before = stream.send_window
    end.feed(RST_1_WITH_CODE)
    assert stream.send_window == before
    assert end.opened[0].resets == 1
    end.feed(OPEN_1[:3] + b"\x09" + OPEN_1[4:8] + b"\xff\xff\xff\xff")  # SYN and RST with a code
    assert [recorder.resets for recorder in end.opened] == [1, 1]


def test_rst_on_a_data_frame_ends_the_stream_and_its_body_is_read_past() -> None:
    end = server()
    end.feed(OPEN_1, data(1, b"hello", flags=0x8), frame(1, 1, 3, 0), data(3, b"next"))
    assert (end.opened[0].data, end.opened[0].resets) == (b"", 1)
    assert end.opened[1].data == b"next"


def test_reset_says_rst_and_does_not_call_the_handler() -> None:
    end = server()
    end.feed(OPEN_1)
    acknowledge(end.opened[0].stream)
    end.output()
    end.opened[0].stream.reset()
    assert end.output() == RST_1
    assert end.opened[0].resets == 0
    assert not end.session.streams


def test_data_in_flight_for_a_stream_that_ended_is_read_past() -> None:
    end = server()
    end.feed(OPEN_1)
    end.opened[0].stream.reset()
    end.feed(HELLO_1, frame(1, 0, 1, 1000), FIN_1, HELLO_FIN_1, data(1, bytes(256 * 1024)))
    end.feed(frame(1, 1, 3, 0), data(3, b"alive"))
    assert end.opened[0].data == b""
    assert end.opened[1].data == b"alive"


def test_data_for_a_stream_that_ended_longer_than_any_window_is_an_error() -> None:
    end = server()
    end.feed(OPEN_1, RST_1)
    with pytest.raises(YamuxError):
        end.feed(frame(0, 0, 1, 256 * 1024 + 1))


# Windows


def test_a_window_may_be_used_exactly() -> None:
    end = server(credit=False)
    end.feed(OPEN_1, data(1, bytes(256 * 1024)))
    assert len(end.opened[0].data) == 256 * 1024


@pytest.mark.parametrize("first", [b"", bytes(1), bytes(256 * 1024)])
def test_one_byte_beyond_the_window_is_an_error_by_its_header(first: bytes) -> None:
    end = server(credit=False)
    end.feed(OPEN_1, data(1, first))
    with pytest.raises(YamuxError):
        end.feed(frame(0, 0, 1, 256 * 1024 - len(first) + 1))


def test_window_is_given_back_when_half_of_it_is_owed_and_not_before() -> None:
    end = server(credit=False)
    end.feed(OPEN_1, data(1, bytes(256 * 1024)))
    stream = end.opened[0].stream
    acknowledge(stream)
    end.output()
    stream.consumed(128 * 1024 - 1)
    assert end.output() == b""
    stream.consumed(1)
    assert end.output() == bytes.fromhex("00 01 0000 00000001 00020000")
    end.feed(data(1, bytes(128 * 1024)))
    with pytest.raises(YamuxError):
        end.feed(data(1, b"x"))


def test_no_window_is_given_back_for_a_stream_that_the_peer_has_ended() -> None:
    end = server(credit=False)
    end.feed(OPEN_1, data(1, bytes(200_000), flags=0x4))
    acknowledge(end.opened[0].stream)
    end.output()
    end.opened[0].stream.consumed(200_000)
    assert end.output() == b""


def test_nothing_is_sent_beyond_the_peers_window_and_the_rest_follows_its_credit() -> None:
    end = server()
    end.feed(OPEN_1)
    recorder = end.opened[0]
    assert recorder.stream.write(bytes(256 * 1024 + 10)) < 256 * 1024 + 10
    recorder.stream.close()
    sent = sum(len(body) for body in bodies(end.all_output()))
    assert sent == 256 * 1024
    assert recorder.stream.queued_bytes == 10
    end.feed(frame(1, 0, 1, 4))
    assert bodies(end.all_output()) == [bytes(4)]
    end.feed(frame(1, 0, 1, 7))
    assert end.all_output() == data(1, bytes(6)) + FIN_1
    assert recorder.stream.queued_bytes == 0


def bodies(wire: bytes) -> list[bytes]:
    """The bodies of the data frames in `wire`."""
    found, position = [], 0
    while position < len(wire):
        kind, length = wire[position + 1], int.from_bytes(wire[position + 8 : position + 12], "big")
        position += 12
        if kind == 0:
            found.append(wire[position : position + length])
            position += length
    return [body for body in found if body]


def test_a_window_over_32_bits_is_an_error() -> None:
    end = server()
    end.feed(OPEN_1, frame(1, 0, 1, 0xFFFFFFFF - 256 * 1024))
    with pytest.raises(YamuxError):
        end.feed(frame(1, 0, 1, 1))


def test_a_syn_may_carry_credit() -> None:
    end = server()
    end.feed(frame(1, 1, 1, 1000))
    assert end.opened[0].stream.send_window == 256 * 1024 + 1000


# What breaks the protocol


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"\x01" + HELLO_1[1:], id="version 1"),
        pytest.param(frame(4, 0, 0, 0), id="type 4"),
        pytest.param(frame(255, 0, 0, 0), id="type 255"),
        pytest.param(frame(1, 1, 0, 0), id="stream 0 opened"),
        pytest.param(frame(0, 0, 0, 0), id="data for stream 0"),
        pytest.param(frame(1, 0, 0, 5), id="window of stream 0"),
        pytest.param(frame(1, 1, 2, 0), id="an id of ours opened"),
        pytest.param(OPEN_1 + OPEN_1, id="a live stream opened again"),
        pytest.param(frame(0, 0, 2, 0), id="data for a stream that we never opened"),
        pytest.param(frame(1, 8, 4, 0), id="reset of a stream that we never opened"),
        pytest.param(frame(2, 1, 1, 0), id="ping with a stream"),
        pytest.param(frame(3, 0, 1, 0), id="go away with a stream"),
        pytest.param(OPEN_1 + FIN_1 + HELLO_1, id="data behind fin"),
        pytest.param(OPEN_1 + FIN_1 + FIN_1, id="fin behind fin"),
    ],
)
def test_what_breaks_the_protocol_is_the_peers_error(broken: bytes) -> None:
    with pytest.raises(YamuxError):
        server().feed(broken)


def test_an_id_may_be_used_again_once_its_stream_has_ended() -> None:
    """As go-yamux and rust-yamux have it; a stream that lives is another thing."""
    end = server()
    end.feed(SYN_HELLO_1, RST_1, SYN_HELLO_1, HELLO_1)
    assert [bytes(recorder.data) for recorder in end.opened] == [b"hello", b"hellohello"]


# Session frames


def test_a_ping_is_answered_with_its_value_and_some_hundreds_too() -> None:
    end = server()
    end.feed(PING)
    assert end.output() == PONG
    end.feed(PING * 700)
    assert end.output() == PONG * 700


def test_pongs_and_go_aways_are_told() -> None:
    end = server()
    end.session.ping(0xCAFEBABE)
    assert end.output() == PING
    end.feed(PONG, frame(3, 0, 0, 0), frame(3, 0, 0, 2))
    assert (end.pongs, end.go_aways) == (1, [0, 2])


@pytest.mark.parametrize("code", list(GoAway))
def test_go_away_is_said_with_its_code(code: GoAway) -> None:
    end = server()
    end.session.go_away(code)
    assert end.output() == bytes.fromhex("00 03 0000 00000000 000000") + bytes((code,))


# How many


def test_as_many_streams_as_allowed_are_accepted_and_one_more_is_reset() -> None:
    end = server(max_inbound=3)
    for stream in (1, 3, 5):
        end.feed(frame(1, 1, stream, 0))
    assert end.output() == b""
    end.feed(data(7, b"refused with its data", flags=1), data(5, b"alive"))
    assert end.output() == frame(1, 8, 7, ErrorCode.RESOURCE_LIMIT_EXCEEDED)
    assert len(end.opened) == 3
    assert end.opened[2].data == b"alive"
    end.feed(frame(1, 8, 1, 0), frame(1, 1, 9, 0))
    assert len(end.opened) == 4


@pytest.mark.parametrize("code", [0, 1, 0x1004, 0xFFFFFFFF])
def test_the_code_of_a_reset_is_kept_and_is_no_credit(code: int) -> None:
    end = server()
    end.feed(frame(1, 1, 1, 0), frame(1, 8, 1, code))
    (opened,) = end.opened
    assert opened.resets == 1
    assert opened.stream.reset_code == code
    assert opened.stream.send_window == INITIAL_WINDOW_BYTES


def test_a_reset_by_a_data_frame_has_no_code() -> None:
    end = server()
    end.feed(frame(1, 1, 1, 0), frame(0, 8, 1, 4), b"code")
    assert end.opened[0].stream.reset_code == 0


@pytest.mark.parametrize("code", [0, 0x1002, 0xFFFFFFFF])
def test_a_reset_of_ours_carries_its_code(code: int) -> None:
    end = server()
    end.feed(frame(1, 1, 1, 0))
    end.opened[0].stream.reset(code)
    assert end.output() == frame(1, 8 | 2, 1, code)


def test_a_place_is_free_again_however_a_stream_ends() -> None:
    end = server(max_inbound=1)
    end.feed(frame(1, 1, 1, 0))
    end.opened[0].stream.reset()
    end.feed(frame(1, 1, 3, 0))
    end.opened[1].stream.close()
    end.feed(frame(0, 4, 3, 0), frame(1, 1, 5, 0), frame(1, 8, 5, 0), frame(1, 1, 7, 0))
    assert len(end.opened) == 4
    assert end.session._inbound == 1


def test_streams_of_ours_do_not_take_the_peers_places() -> None:
    end = server(max_inbound=1)
    ours = [end.open() for _ in range(5)]
    end.feed(frame(1, 1, 1, 0))
    assert len(end.opened) == 1
    for recorder in ours:
        recorder.stream.reset()
    assert end.session._inbound == 1


def test_a_stream_that_the_owner_does_not_want_is_reset() -> None:
    end = server()
    end.make = lambda _stream: None
    end.feed(SYN_HELLO_1)
    assert end.output() == frame(1, 0x8 | 0x2, 1, 0)
    assert not end.session.streams


def test_200_streams_may_be_opened_and_reset_at_once_and_20_more_a_second_later() -> None:
    end = server()
    for _ in range(200):
        end.feed(OPEN_1, RST_1, now_s=50.0)
    for _ in range(20):
        end.feed(OPEN_1, RST_1, now_s=51.0)
    with pytest.raises(StreamFloodError):
        end.feed(OPEN_1, RST_1, now_s=51.0)


def test_the_201st_reset_at_once_is_a_flood() -> None:
    end = server()
    end.feed((OPEN_1 + RST_1) * 200, now_s=50.0)
    with pytest.raises(StreamFloodError) as flood:
        end.feed(OPEN_1, RST_1, now_s=50.0)
    assert flood.value.reason == "stream_flood"


def test_streams_over_the_maximum_are_a_flood_too() -> None:
    end = server(max_inbound=0)
    end.feed(*(frame(1, 1, 2 * number + 1, 0) for number in range(200)))
    with pytest.raises(StreamFloodError):
        end.feed(frame(1, 1, 1001, 0))


def test_streams_that_the_peer_makes_us_reset_are_a_flood_too() -> None:
    end = server()

    def reset_at_once(stream: Stream) -> Recorder:
        recorder = Recorder(stream)
        recorder.on_data = stream.reset
        return recorder

    end.make = reset_at_once
    end.feed(SYN_HELLO_1 * 201)
    with pytest.raises(StreamFloodError):
        end.feed(SYN_HELLO_1)


def test_the_budget_is_never_more_than_200_however_long_nothing_happened() -> None:
    end = server()
    end.feed(OPEN_1, RST_1, now_s=0.0)
    end.feed((OPEN_1 + RST_1) * 200, now_s=1e6)
    with pytest.raises(StreamFloodError):
        end.feed(OPEN_1, RST_1, now_s=1e6)


IDLE = [
    pytest.param(frame(2, 1, 0, 7), id="pings"),
    pytest.param(frame(2, 2, 0, 7), id="pongs"),
    pytest.param(frame(3, 0, 0, 0), id="goodbyes"),
    pytest.param(frame(1, 0, 1, 1), id="credit-that-nobody-needs"),
    pytest.param(frame(1, 0, 1, 0), id="no-credit"),
    pytest.param(frame(1, 0, 3, 1), id="credit-for-a-stream-that-is-gone"),
    pytest.param(frame(0, 0, 1, 0), id="no-data"),
]


@pytest.mark.parametrize("idle", IDLE)
def test_800_frames_that_move_nothing_may_come_at_once_and_80_more_a_second_later(idle: bytes) -> None:
    end = server()
    end.feed(OPEN_1, now_s=50.0)
    end.feed(idle * 800, now_s=50.0)
    end.feed(idle * 80, now_s=51.0)
    with pytest.raises(FrameFloodError) as flood:
        end.feed(idle, now_s=51.0)
    assert flood.value.reason == "frame_flood"


def test_3200_frames_of_data_may_come_late_and_one_more_is_a_flood() -> None:
    end = server()
    end.feed(OPEN_1, RST_1, now_s=50.0)
    late = frame(0, 0, 1, 1) + b"x"
    end.feed(late * (3200 - 16), now_s=50.0)  # the reset has cost as much as sixteen
    with pytest.raises(FrameFloodError):
        end.feed(late, now_s=50.0)


def test_credit_for_what_was_sent_costs_nothing() -> None:
    end = server()
    end.feed(OPEN_1, now_s=50.0)
    (opened,) = end.opened
    for _ in range(1000):
        opened.stream.write(b"x")
        end.feed(frame(1, 0, 1, 1), now_s=50.0)


def test_resets_of_streams_that_we_opened_cost_the_peer_nothing() -> None:
    end = server()
    for number in range(300):
        acknowledge(end.open().stream)
        end.feed(frame(1, 8, 2 * number + 2, 0))
    assert not end.session.streams


def test_a_trusted_peer_has_no_budget() -> None:
    end = server()
    end.session = Session(False, end, lambda: None, 64, max_resets=float("inf"))
    end.feed((OPEN_1 + RST_1) * 1000)
    assert len(end.opened) == 1000


# Re-entrance: handlers that act on streams while the session is parsing


def test_a_handler_that_resets_its_own_stream_gets_nothing_more() -> None:
    end = server()
    end.feed(OPEN_1)
    recorder = end.opened[0]
    recorder.on_data = recorder.stream.reset
    end.feed(HELLO_FIN_1[:14])
    end.feed(HELLO_FIN_1[14:], frame(1, 1, 3, 0), data(3, b"alive"))
    assert (recorder.data, recorder.eofs, recorder.resets) == (b"he", 0, 0)
    assert end.opened[1].data == b"alive"


def test_a_handler_that_resets_another_stream_in_the_same_read_is_obeyed() -> None:
    end = server()
    end.feed(OPEN_1, frame(1, 1, 3, 0))
    first, second = end.opened
    first.on_data = second.stream.reset
    end.feed(HELLO_1, data(3, b"too late"), HELLO_1)
    assert (first.data, second.data, second.resets) == (b"hellohello", b"", 0)


def test_a_handler_may_close_open_and_write_while_it_is_called() -> None:
    end = server()
    end.feed(OPEN_1)
    recorder = end.opened[0]

    def answer() -> None:
        recorder.stream.write(b"bye")
        recorder.stream.close()
        end.open().stream.write(b"new")

    recorder.on_data = answer
    end.feed(HELLO_FIN_1)
    wanted = bytes.fromhex("00 00 0002 00000001 00000003") + b"bye" + FIN_1 + data(2, b"new", flags=1)
    assert end.output() == wanted
    assert list(end.session.streams) == [2]


def test_a_lost_connection_is_told_to_every_stream_once_and_not_to_those_reset_meanwhile() -> None:
    end = server()
    end.feed(OPEN_1, frame(1, 1, 3, 0), frame(1, 1, 5, 0))
    first, second, third = end.opened
    first.on_reset = second.stream.reset
    end.session.connection_lost()
    end.session.connection_lost()
    assert [recorder.resets for recorder in (first, second, third)] == [1, 0, 1]
    assert not end.session.streams


def test_a_handler_that_raises_as_the_connection_is_lost_does_not_keep_it_from_the_others() -> None:
    end = server()
    end.feed(OPEN_1, frame(1, 1, 3, 0))

    def fault() -> None:
        raise RuntimeError("ours")

    end.opened[0].on_reset = fault
    with pytest.raises(RuntimeError):
        end.session.connection_lost()
    assert end.opened[1].resets == 1


# Output


def test_the_owner_is_woken_once_for_what_one_turn_produces() -> None:
    end = server()
    end.feed(PING * 10, SYN_HELLO_1)
    assert end.wakes == 1
    end.output()
    end.feed(PING)
    assert end.wakes == 2


def test_data_waits_behind_64_kib_of_output_and_control_frames_do_not() -> None:
    end = server()
    end.feed(OPEN_1, frame(1, 1, 3, 0))
    first, second = (recorder.stream for recorder in end.opened)
    assert first.write(bytes(64 * 1024)) == 64 * 1024
    assert second.write(b"waits") == 0
    second.close()
    end.feed(PING)
    assert end.output() == data(1, bytes(64 * 1024), flags=2) + PONG
    assert end.opened[1].sent == 5
    assert end.output() == data(3, b"waits", flags=2) + frame(0, 4, 3, 0)


def test_nothing_but_control_frames_goes_out_while_the_transport_is_paused() -> None:
    end = server()
    end.feed(OPEN_1)
    end.session.pause()
    assert end.opened[0].stream.write(b"waits") == 0
    end.feed(PING)
    assert end.output() == PONG
    assert end.opened[0].stream.queued_bytes == 5
    end.session.unpause()
    assert end.output() == data(1, b"waits", flags=2)
    assert end.opened[0].sent == 5


def test_streams_that_wait_for_the_transport_take_turns() -> None:
    end = server()
    end.feed(OPEN_1, frame(1, 1, 3, 0), frame(1, 1, 5, 0))
    end.session.pause()
    for recorder in end.opened:
        recorder.stream.write(bytes(200_000))
    end.session._transport_paused = False
    order = []
    for _ in range(6):
        end.session.output_taken()
        wire = bytes(end.session.take_output())
        order.append(int.from_bytes(wire[4:8], "big"))
    assert order == [1, 3, 5, 1, 3, 5]


def test_a_stream_that_is_reset_while_it_waits_is_forgotten() -> None:
    end = server()
    end.feed(OPEN_1)
    end.session.pause()
    end.opened[0].stream.write(b"dropped")
    end.opened[0].stream.reset()
    end.session.unpause()
    assert end.output() == frame(1, 0x8 | 0x2, 1, 0)
    assert not end.session._waiting


# Cuts and garbage


@given(st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_gives_the_same_calls(cuts: list[int]) -> None:
    wire = (
        SYN_HELLO_1 + PING + data(3, b"", flags=1) + HELLO_FIN_1 + data(3, b"more") + frame(1, 8, 3, 9) + data(3, b"x")
    )
    end = server()
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    for start, stop in pairwise(edges):
        end.feed(wire[start:stop])
    assert [(bytes(r.data), r.eofs, r.resets) for r in end.opened] == [(b"hellohello", 1, 0), (b"more", 0, 1)]
    assert end.output() == PONG


small = st.builds(
    frame, st.integers(0, 4), st.integers(0, 15), st.integers(0, 6), st.integers(0, 40), st.binary(max_size=40)
)


@given(st.lists(st.one_of(small, st.binary(max_size=30)), max_size=30), st.booleans())
def test_garbage_only_ever_is_a_yamux_error(frames: list[bytes], initiator: bool) -> None:
    end = SessionEnd(initiator=initiator, max_inbound=2)
    end.open().stream.write(b"ours")
    try:
        for each in frames:
            end.feed(each)
    except YamuxError:
        end.session.go_away(GoAway.PROTOCOL_ERROR)
    assert sum(stream.id % 2 == (0 if initiator else 1) for stream in end.session.streams.values()) <= 2
    end.session.connection_lost()
    assert not end.session.streams
    assert end.session._inbound == 0
