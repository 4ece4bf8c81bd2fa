from __future__ import annotations

import os
import socket

import pytest

from actors.messages import Slot
from supervisor.socket_channel import SocketReceiver, SocketSender, channel


def descriptor() -> int:
    """One that may be closed by whoever it is given to."""
    return socket.socket().detach()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def same(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


@pytest.fixture
def sender_and_fd() -> tuple[SocketSender, int]:
    return channel()


def test_a_slot_gets_the_descriptor_that_was_passed_for_it(sender_and_fd: tuple[SocketSender, int]) -> None:
    sender, fd = sender_and_fd
    inherited, mains = descriptor(), descriptor()
    old, new = Slot(1, "a", "listener", socket_fd=inherited), Slot(2, "b", "listener", socket_fd=mains)
    receiver = SocketReceiver(fd, (old,))
    sender.send([mains])
    one, two = receiver.placed((old, new))
    assert one == old
    assert two.socket_fd != mains
    assert same(two.socket_fd, mains)


def test_what_no_slot_has_any_more_is_closed_whoever_opened_it(sender_and_fd: tuple[SocketSender, int]) -> None:
    sender, fd = sender_and_fd
    inherited, mains, control = descriptor(), descriptor(), descriptor()
    old, new = Slot(1, "a", "listener", socket_fd=inherited), Slot(2, "b", "listener", socket_fd=mains)
    admin = Slot(3, "admin", "admin", control_fd=control)
    receiver = SocketReceiver(fd, (old, admin))
    sender.send([mains])
    ours = receiver.placed((new, admin))[0].socket_fd
    assert [is_open(each) for each in (inherited, ours, mains, control)] == [False, True, True, True]
    assert receiver.placed((admin,)) == (admin,)
    assert [is_open(each) for each in (ours, mains)] == [False, True]


def test_a_number_that_main_has_given_to_another_socket_means_the_other(
    sender_and_fd: tuple[SocketSender, int],
) -> None:
    sender, fd = sender_and_fd
    number = descriptor()
    slot = Slot(1, "a", "listener", socket_fd=number)
    receiver = SocketReceiver(fd, ())
    sender.send([number])
    before = receiver.placed((slot,))[0].socket_fd
    another = descriptor()
    os.dup2(another, number)
    sender.send([number])
    after = receiver.placed((slot,))[0].socket_fd
    assert same(after, another)
    assert before == after or not is_open(before)


def test_more_than_one_message_can_carry_are_passed(sender_and_fd: tuple[SocketSender, int]) -> None:
    sender, fd = sender_and_fd
    numbers = [descriptor() for _ in range(300)]
    slots = tuple(Slot(n, str(n), "listener", socket_fd=number) for n, number in enumerate(numbers))
    sender.send(numbers)
    placed = SocketReceiver(fd, ()).placed(slots)
    assert all(same(slot.socket_fd, number) for slot, number in zip(placed, numbers, strict=True))
    for number in (*numbers, *(slot.socket_fd for slot in placed)):
        os.close(number)


def test_nothing_that_was_passed_is_nothing(sender_and_fd: tuple[SocketSender, int]) -> None:
    slot = Slot(1, "registry", "registry")
    assert SocketReceiver(sender_and_fd[1], (slot,)).placed((slot,)) == (slot,)
