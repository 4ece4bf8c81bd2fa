"""Two yamux sessions against a model: whatever they do, all bytes arrive once, in order, within the windows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pipe import Recorder, SessionPair, acknowledge

PATTERN = bytes(range(251)) * 1300
Step = tuple[str, int, int]
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(
            ["open", "write", "write", "write", "close", "reset", "move", "move", "take", "pause", "unpause"]
        ),
        st.integers(0, 7),
        st.integers(1, 300_000),
    ),
    max_size=60,
)


class Model:
    """Two sessions and what must be true of them. Streams are opened by the left one."""

    def __init__(self) -> None:
        self.pair = SessionPair(credit=False)
        self.ends = (self.pair.left, self.pair.right)
        self.streams: list[tuple[Recorder, Recorder | None]] = []
        self.written: dict[Recorder, bytearray] = {}
        self.taken: dict[Recorder, int] = {}
        self.closed: set[Recorder] = set()
        self.reset: set[int] = set()

    def run(self, step: Step) -> None:
        name, which, amount = step
        if name == "open":
            self._open()
        elif name == "pause":
            self.ends[which % 2].session.pause()
        elif name == "unpause":
            self.ends[which % 2].session.unpause()
        elif name == "move":
            self._move(which % 2)
        elif self.streams:
            number = which % len(self.streams)
            self._on_stream(name, number, which // 4 % 2, amount)
        self.check()

    def _open(self) -> None:
        ours = self.pair.left.open()
        acknowledge(ours.stream)
        self.streams.append((ours, None))
        self.written[ours], self.taken[ours] = bytearray(), 0

    def _move(self, sender: int) -> bool:
        output = self.ends[sender].output()
        self.ends[1 - sender].session.receive(output, 0.0)
        for number, theirs in enumerate(self.pair.right.opened):
            if theirs not in self.written:
                self.streams[number] = (self.streams[number][0], theirs)
                self.written[theirs], self.taken[theirs] = bytearray(), 0
        return bool(output)

    def _on_stream(self, name: str, number: int, side: int, amount: int) -> None:
        end = self.streams[number][side]
        if end is None:
            return
        if name == "write" and end not in self.closed and end.stream.writable:
            start = len(self.written[end]) % 251
            body = PATTERN[start : start + amount]
            end.stream.write(body)
            self.written[end] += body
        elif name == "close":
            end.stream.close()
            self.closed.add(end)
        elif name == "reset":
            if end.stream.alive:
                self.reset.add(number)
            end.stream.reset()
        elif name == "take":
            self._take(end)

    def _take(self, end: Recorder) -> None:
        owed = len(end.data) - self.taken[end]
        end.stream.consumed(owed)
        self.taken[end] += owed

    def check(self) -> None:
        for pair in self.streams:
            for here, there in (pair, pair[::-1]):
                if here is None or there is None:
                    continue
                assert self.written[there].startswith(here.data)
                held = len(here.data) - self.taken[here]
                assert held <= 256 * 1024
                assert 0 <= here.stream.receive_window <= 256 * 1024
                assert here.stream.send_window >= 0
                assert here.eofs <= (there in self.closed)
                assert here.resets <= 1

    def settle(self) -> None:
        """Everything is taken, everything moves, everybody closes."""
        for end in self.ends:
            end.session.unpause()
        self._quiet()
        for recorder in self.written:
            recorder.stream.close()
            self.closed.add(recorder)
        self._quiet()
        self.check()

    def _quiet(self) -> None:
        while any([self._move(0), self._move(1)]):
            for end in self.written:
                self._take(end)


@settings(max_examples=60)
@given(steps)
def test_whatever_two_sessions_do_all_bytes_arrive_once_in_order_and_nothing_stays(plan: list[Step]) -> None:
    model = Model()
    for step in plan:
        model.run(step)
    model.settle()
    for number, (ours, theirs) in enumerate(model.streams):
        assert theirs is not None
        for here, there in ((ours, theirs), (theirs, ours)):
            if number in model.reset:
                assert not here.stream.alive
            else:
                assert here.data == model.written[there]
                assert (here.eofs, here.resets) == (1, 0)
    for end in model.ends:
        assert not end.session.streams
        assert not end.session._waiting
        assert end.session._inbound == 0
