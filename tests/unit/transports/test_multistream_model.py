"""multistream against a model that keeps whole messages: whatever is said, and wherever it is cut, both agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from transports.errors import PeerError
from transports.multistream import HEADER, LS, MAX_TRIES, NA, Initiator, NotSupportedError, Responder, frame

SPOKEN = (b"/a", b"/b/1.0.0")
LONGEST = b"/" + b"x" * 1022  # with its newline 1,024 bytes


class Said(NamedTuple):
    """One message as it is sent. `fault_at`: so many of its bytes show that it is none."""

    data: bytes
    name: bytes = b""
    fault_at: int = 0


def message(name: bytes) -> Said:
    return Said(frame(name), name)


GOOD = [
    message(name) for name in (b"/multistream/1.0.0", *SPOKEN, b"/x", b"na", LS, b"", LONGEST, b"/multistream/2.0.0")
]
BROKEN = [
    Said(b"\x00", fault_at=1),
    Said(frame(LONGEST + b"x"), fault_at=2),
    Said(b"\x80\x80\x01" + b"x" * 200, fault_at=2),
    Said(b"\x83\x00na\n", fault_at=2),
    Said(b"\x03na!", fault_at=4),
    Said(b"G" * (1 + ord("G")), fault_at=1 + ord("G")),
]
SAYINGS = st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD), st.sampled_from(BROKEN))


@dataclass(frozen=True)
class Outcome:
    """What one end has made of the bytes that came so far."""

    answer: bytes = b""
    selected: bytes | None = None
    rest: bytes = b""
    error: type[PeerError] | None = None


class Listening:
    """The model of a Responder: takes messages one by one."""

    def __init__(self) -> None:
        self.answer = b""
        self.greeted = False
        self.tries = 0

    def take(self, name: bytes) -> bool | None:
        """True: chosen. False: the negotiation is over without a choice. None: it goes on."""
        if not self.greeted:
            self.greeted = name == b"/multistream/1.0.0"
            self.answer += HEADER if self.greeted else b""
            return None if self.greeted else False
        if name in SPOKEN:
            self.answer += frame(name)
            return True
        self.tries += 1
        if self.tries > MAX_TRIES:
            return False
        self.answer += frame(b"".join(map(frame, SPOKEN))) if name == LS else NA
        return None


class Dialing:
    """The model of an Initiator that asks for the first name."""

    def __init__(self) -> None:
        self.answer = b""
        self.greeted = False

    def take(self, name: bytes) -> bool | None:
        if not self.greeted:
            self.greeted = name == b"/multistream/1.0.0"
            return None if self.greeted else False
        return name == SPOKEN[0]


def expect(model: Listening | Dialing, said: list[Said], carried: int) -> Outcome:
    """What must have become of the first `carried` bytes, told anew from the first."""
    start = 0
    for each in said:
        if each.fault_at:
            failed = carried >= start + each.fault_at
            return Outcome(model.answer, error=PeerError if failed else None)
        start += len(each.data)
        if carried < start:
            break
        chosen = model.take(each.name)
        if chosen:
            behind = b"".join(other.data for other in said)[start:carried]
            return Outcome(model.answer, each.name, behind)
        if chosen is False:
            declined = isinstance(model, Dialing) and model.greeted and each.name == b"na"
            return Outcome(model.answer, error=NotSupportedError if declined else PeerError)
    return Outcome(model.answer)


class ListenerMachine(RuleBasedStateMachine):
    """A Responder that is told anything."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        self.end: Responder | Initiator = Responder(SPOKEN)
        self.model: type[Listening | Dialing] = Listening
        self.said: list[Said] = []
        self.carried = 0
        self.answer = b""

    @rule(what=SAYINGS)
    def say(self, what: Said) -> None:
        self.said.append(what)

    @rule(name=st.sampled_from([*SPOKEN, b"/x"]))
    def greet_and_ask(self, name: bytes) -> None:
        self.said += [message(b"/multistream/1.0.0"), message(name)]

    @rule(count=st.integers(1, MAX_TRIES + 1), name=st.sampled_from([b"/x", LS, b"na"]))
    def ask_in_vain(self, count: int, name: bytes) -> None:
        self.said += [message(name)] * count

    @rule(size=st.one_of(st.integers(1, 30), st.integers(1, 2000)))
    def carry(self, size: int) -> None:
        piece = b"".join(each.data for each in self.said)[self.carried : self.carried + size]
        self.carried += len(piece)
        expected = expect(self.model(), self.said, self.carried)
        error = None
        try:
            self.answer += self.end.receive(piece)
        except PeerError as raised:
            error = raised
            self.answer += getattr(raised, "answer", b"")
        assert self.answer == expected.answer
        assert (error is None) == (expected.error is None)
        assert isinstance(error, NotSupportedError) == (expected.error is NotSupportedError)
        assert self.end.selected == expected.selected
        if self.end.selected is not None:
            assert self.end.rest() == expected.rest
        if error is not None or self.end.selected is not None:
            self.begin()

    @invariant()
    def no_more_than_one_message_is_held(self) -> None:
        assert len(self.end._reader.buffer) < 2 + 1024


class DialerMachine(ListenerMachine):
    """An Initiator that is answered anything."""

    def begin(self) -> None:
        super().begin()
        self.end = Initiator(SPOKEN[0])
        self.model = Dialing


PLAYED = settings(max_examples=100, stateful_step_count=40, derandomize=True, deadline=None)
ListenerMachine.TestCase.settings = DialerMachine.TestCase.settings = PLAYED
TestResponderAgainstTheModel = ListenerMachine.TestCase
TestInitiatorAgainstTheModel = DialerMachine.TestCase
