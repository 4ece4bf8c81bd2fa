"""The secure channel against a model that compares bytes: what was sealed comes out once, in order, or nothing does.

Between two ends stands somebody who may cut, join, change, repeat, leave out, exchange and make up records.
"""

from __future__ import annotations

from contextlib import suppress

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from transports.noise import MAX_MESSAGE_BYTES, MAX_PLAINTEXT_BYTES, TAG_BYTES, NoiseError, SecureChannel

PATTERN = bytes(range(251)) * 900
SIZES = st.one_of(
    st.integers(0, 300),
    st.sampled_from([MAX_PLAINTEXT_BYTES - 1, MAX_PLAINTEXT_BYTES, MAX_PLAINTEXT_BYTES + 1, 200_000]),
)
WAYS = st.sampled_from([0, 1])


def records(wire: bytes) -> list[bytes]:
    """The whole records in it, by their lengths alone."""
    found, start = [], 0
    while start + 2 <= len(wire):
        end = start + 2 + int.from_bytes(wire[start : start + 2], "big")
        if end > len(wire):
            break
        found.append(wire[start:end])
        start = end
    return found


class Way:
    """One direction: who seals, who opens, what is between them."""

    def __init__(self, sealer: SecureChannel, opener: SecureChannel) -> None:
        self.sealer, self.opener = sealer, opener
        self.sealed: list[tuple[bytes, bytes]] = []  # each record with its plaintext
        self.waiting: list[bytes] = []
        self.carried = b""
        self.opened = b""
        self.failed = False

    def seal(self, size: int) -> None:
        start = sum(len(plain) for _, plain in self.sealed) % 251
        plain = PATTERN[start : start + size]
        cut = records(bytes(self.sealer.seal(plain)))
        assert len(cut) == max(1, -(-size // MAX_PLAINTEXT_BYTES)), "as few records as fit"
        for number, record in enumerate(cut):
            part = plain[number * MAX_PLAINTEXT_BYTES : (number + 1) * MAX_PLAINTEXT_BYTES]
            assert len(record) == 2 + len(part) + TAG_BYTES <= 2 + MAX_MESSAGE_BYTES
            self.sealed.append((record, part))
            self.waiting.append(record)

    def carry(self, size: int) -> None:
        wire = b"".join(self.waiting)
        piece, rest = wire[:size], wire[size:]
        self.waiting = [*records(rest), rest[sum(map(len, records(rest))) :]] if rest else []
        self.carried += piece
        plain, fails = self.expected()
        try:
            self.opened += self.opener.open(piece)
        except NoiseError:
            assert fails
            self.failed = True
            assert plain.startswith(self.opened)
        else:
            assert not fails
            assert self.opened == plain

    def expected(self) -> tuple[bytes, bool]:
        """The plaintext of the records that came as they were sealed, and whether another one came behind them."""
        plain = b""
        for number, record in enumerate(records(self.carried)):
            if number >= len(self.sealed) or record != self.sealed[number][0]:
                return plain, True
            plain += self.sealed[number][1]
        return plain, False


class ChannelMachine(RuleBasedStateMachine):
    """Two ends, both ways."""

    def __init__(self) -> None:
        super().__init__()
        left, right = SecureChannel(b"k" * 32, b"q" * 32), SecureChannel(b"q" * 32, b"k" * 32)
        self.ways = (Way(left, right), Way(right, left))

    def sound(self) -> bool:
        return not any(way.failed for way in self.ways)

    @precondition(sound)
    @rule(way=WAYS, size=SIZES)
    def seal(self, way: int, size: int) -> None:
        self.ways[way].seal(size)

    @precondition(sound)
    @rule(way=WAYS, size=st.one_of(st.integers(0, 40), st.integers(0, 300_000)))
    def carry(self, way: int, size: int) -> None:
        self.ways[way].carry(size)

    @precondition(sound)
    @rule(way=WAYS, data=st.data())
    def carry_up_to_a_record_and_a_little(self, way: int, data: st.DataObject) -> None:
        waiting = self.ways[way].waiting
        whole = sum(map(len, waiting[: data.draw(st.integers(0, len(waiting)))]))
        self.ways[way].carry(max(0, whole + data.draw(st.integers(-2, 2))))

    @rule(way=WAYS, at=st.integers(0, 70_000), bit=st.integers(0, 7))
    def change(self, way: int, at: int, bit: int) -> None:
        waiting = self.ways[way].waiting
        if waiting and waiting[-1]:
            changed = bytearray(waiting[-1])
            changed[at % len(changed)] ^= 1 << bit
            waiting[-1] = bytes(changed)

    @rule(way=WAYS, data=st.data())
    def repeat(self, way: int, data: st.DataObject) -> None:
        """A record that was on this way before, or on the other one, or in neither session."""
        known = [record for each in self.ways for record, _ in each.sealed]
        known += records(bytes(SecureChannel(b"z" * 32, b"z" * 32).seal(b"strange")))
        self.ways[way].waiting.append(data.draw(st.sampled_from(known)))

    @rule(way=WAYS)
    def leave_out(self, way: int) -> None:
        del self.ways[way].waiting[-1:]

    @rule(way=WAYS)
    def exchange(self, way: int) -> None:
        waiting = self.ways[way].waiting
        waiting[-2:] = waiting[:-3:-1]

    @rule(
        way=WAYS,
        what=st.one_of(st.binary(max_size=40), st.sampled_from([b"\0\0", b"\0\x0f" + b"x" * 15, b"\xff" * 70_000])),
    )
    def make_up(self, way: int, what: bytes) -> None:
        self.ways[way].waiting.append(what)

    @rule(way=WAYS, what=st.binary(max_size=100))
    def go_on_behind_the_end(self, way: int, what: bytes) -> None:
        """Who fails is closed and asked no more; if it were asked, still nothing would come out that was not sealed."""
        each = self.ways[way]
        if each.failed:
            wire, each.waiting = b"".join(each.waiting) + what, []
            with suppress(NoiseError):
                each.opened += each.opener.open(wire)

    @invariant()
    def what_came_out_was_sealed_once_and_in_this_order(self) -> None:
        for way in self.ways:
            assert b"".join(plain for _, plain in way.sealed).startswith(way.opened)

    @invariant()
    def no_more_than_one_record_is_held(self) -> None:
        for way in self.ways:
            assert way.failed or len(way.opener._partial or b"") < 2 + MAX_MESSAGE_BYTES


ChannelMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, derandomize=True, deadline=None)
TestSecureChannelAgainstTheModel = ChannelMachine.TestCase
