"""One yamux stream over a session that only writes down what it is given."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.support.pipe import Recorder
from transports.yamux_frames import ACK, DATA, FIN, RST, SYN, WINDOW_UPDATE, Buffer, YamuxError
from transports.yamux_stream import Stream


class Sender:
    """The session's part."""

    def __init__(self) -> None:
        self.congested = False
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.waiting: list[Stream] = []
        self.forgotten: list[Stream] = []
        self.resets = 0

    def send_frame(self, kind: int, flags: int, stream_id: int, length: int, body: Buffer) -> None:
        assert stream_id == 7
        assert length == len(body) or kind == WINDOW_UPDATE
        self.frames.append((kind, flags, length, bytes(body)))

    def wait(self, stream: Stream) -> None:
        self.waiting.append(stream)

    def reset_sent(self, stream: Stream) -> None:
        self.resets += 1

    def forget(self, stream: Stream) -> None:
        self.forgotten.append(stream)

    @property
    def sent(self) -> bytes:
        return b"".join(body for _, _, _, body in self.frames)


def stream(flag: int = 0, send_window: int = 256 * 1024) -> tuple[Sender, Stream, Recorder]:
    sender = Sender()
    made = Stream(sender, 7, flag)
    made.send_window = send_window
    return sender, made, Recorder(made)


@pytest.mark.parametrize("flag", [SYN, ACK])
def test_syn_and_ack_travel_with_the_first_frame_whatever_it_is(flag: int) -> None:
    acts: list[tuple[Callable[[Stream], object], int, int]] = [
        (lambda each: each.write(b"x"), DATA, 0),
        (lambda each: each.close(), DATA, FIN),
        (lambda each: each.reset(), WINDOW_UPDATE, RST),
        (lambda each: each.consumed(128 * 1024), WINDOW_UPDATE, 0),
    ]
    for act, kind, extra in acts:
        sender, made, _ = stream(flag)
        act(made)
        assert sender.frames[0][:2] == (kind, flag | extra)
        made.write(b"y")
        assert [flags for _, flags, _, _ in sender.frames[1:] if flags] == []


def test_a_write_of_64_kib_is_one_frame_and_one_byte_more_is_two() -> None:
    sender, made, _ = stream()
    assert made.write(bytes(65536)) == 65536
    assert made.write(bytes(65537)) == 65537
    assert [length for _, _, length, _ in sender.frames] == [65536, 65536, 1]


def test_the_window_is_used_to_the_last_byte_and_not_beyond() -> None:
    sender, made, recorder = stream(send_window=10)
    assert made.write(b"0123456789") == 10
    assert made.write(b"ab") == 0
    assert not sender.waiting, "a stream without window waits for the peer, not for the transport"
    made.on_window(1)
    assert (sender.sent, recorder.sent, made.queued_bytes) == (b"0123456789a", 1, 1)
    made.on_window(5)
    assert (sender.sent, recorder.sent, made.queued_bytes, made.send_window) == (b"0123456789ab", 2, 0, 4)


def test_a_write_that_fits_in_part_says_how_much_went_out() -> None:
    sender, made, recorder = stream(send_window=3)
    assert made.write(b"abcde") == 3
    assert made.write(b"fg") == 0
    assert (sender.sent, made.queued_bytes, recorder.sent) == (b"abc", 4, 0)


def test_what_was_written_first_goes_out_first() -> None:
    sender, made, _ = stream()
    sender.congested = True
    assert made.write(b"a") == 0
    sender.congested = False
    assert made.write(b"b") == 2
    assert sender.sent == b"ab"


def test_an_empty_write_is_nothing() -> None:
    sender, made, recorder = stream()
    sender.congested = True
    assert made.write(b"") == 0
    sender.congested = False
    assert made.write(b"x") == 1
    assert (len(sender.frames), recorder.sent) == (1, 0)


def test_fin_waits_behind_what_waits() -> None:
    sender, made, recorder = stream(send_window=0)
    made.write(b"last")
    made.close()
    made.close()
    assert not sender.frames
    assert made.write(b"too late") == len(b"too late")
    made.on_window(4)
    assert [(kind, flags, body) for kind, flags, _, body in sender.frames] == [(DATA, 0, b"last"), (DATA, FIN, b"")]
    assert (recorder.sent, made.writable, made.readable) == (4, False, True)


def test_a_stream_is_forgotten_when_both_directions_have_ended_whoever_was_first() -> None:
    sender, made, _ = stream()
    made.close()
    assert not sender.forgotten
    made.on_fin()
    assert sender.forgotten == [made]
    sender, made, _ = stream(send_window=0)
    made.write(b"x")
    made.close()
    made.on_fin()
    assert not sender.forgotten
    made.on_window(1)
    assert sender.forgotten == [made]


def test_reset_drops_what_waits_and_is_said_once() -> None:
    sender, made, recorder = stream(send_window=0)
    made.write(b"dropped")
    made.close()
    made.reset()
    made.reset()
    made.resume()
    made.close()
    assert [flags for _, flags, _, _ in sender.frames] == [RST]
    assert (sender.resets, recorder.resets, made.queued_bytes, made.alive) == (1, 0, 0, False)
    assert made.write(b"gone") == 4


def test_a_handler_may_reset_while_it_is_told_what_was_sent() -> None:
    sender, made, recorder = stream(send_window=0)
    made.write(b"abc")
    recorder.data_sent = lambda count_bytes: made.reset()  # type: ignore[method-assign]
    made.on_window(1)
    assert sender.sent == b"a"
    assert not made.alive


def test_a_second_fin_is_the_peers_error() -> None:
    _, made, recorder = stream()
    made.on_fin()
    with pytest.raises(YamuxError):
        made.on_fin()
    assert recorder.eofs == 1


def test_a_window_of_single_bytes_costs_no_more_than_its_bytes_and_leaves_in_large_frames() -> None:
    sender, made, _ = stream(send_window=0)
    for number in range(256 * 1024):
        made.write(bytes((number & 0xFF,)))
    assert made.queued_bytes == 256 * 1024
    assert sys.getsizeof(made._queue) < 2 * 256 * 1024
    made.on_window(256 * 1024)
    assert [length for _, _, length, _ in sender.frames] == [65536] * 4
    assert sender.sent == bytes(range(256)) * 1024


def test_what_waits_is_a_copy() -> None:
    sender, made, _ = stream(send_window=0)
    buffer = bytearray(b"first")
    made.write(memoryview(buffer))
    buffer[:] = b"XXXXX"
    made.on_window(5)
    assert sender.sent == b"first"


def test_data_for_a_stream_without_a_handler_is_a_fault_of_ours() -> None:
    made = Stream(Sender(), 7, SYN)
    with pytest.raises(AssertionError):
        made.handler.data_received(b"x")
    made.handler.eof_received()
    made.handler.reset_received()
    made.handler.data_sent(1)
    assert made.alive
