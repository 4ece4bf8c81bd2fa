"""The browsers that locust runs, against a real relay; without locust, which would patch this process."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

import gevent
import pytest

from loadtests.browsers.browser import Browser, BrowserStream, GoodbyeError, LostError, RefusedError
from loadtests.browsers.pipes import Target
from tests.loadtests.slicer import Slicer
from tests.support.relay import RelayProcess


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayProcess]:
    with RelayProcess() as running:
        yield running


@pytest.fixture(autouse=True)
def hub() -> Iterator[None]:
    """Nothing of gevent stays behind in this process."""
    yield
    gevent.get_hub().destroy(destroy_loop=True)


def arrive(target: Target) -> Browser:
    browser = Browser(target, on_call=echo)
    browser.connect()
    browser.upgrade()
    return browser


def echo(caller: bytes, stream: BrowserStream) -> None:
    stream.write(stream.read_to_end())
    stream.close()


@pytest.mark.parametrize("transport", ["ws", "tcp"])
def test_frames_that_are_cut_anywhere_arrive_whole(relay: RelayProcess, transport: str) -> None:
    address = relay.address(transport)
    port = address.split("/")[4]
    message = random.randbytes(20_000)
    with Slicer(int(port)) as slicer:
        target = Target.parse(address.replace(f"/tcp/{port}", f"/tcp/{slicer.port}"))
        called, caller = arrive(target), arrive(target)
        assert called.identify().publicKey
        called.reserve()
        stream = caller.call(called.peer_id)
        stream.write(message)
        stream.close()
        assert stream.read_to_end() == message
        caller.leave()
        called.leave()
    relay.wait_status(lambda status: status["connections"] == 0)


def test_a_refusal_is_named_by_its_status(relay: RelayProcess) -> None:
    browser = arrive(Target.parse(relay.address("ws")))
    with pytest.raises(RefusedError, match="NO_RESERVATION"):
        browser.call(arrive(Target.parse(relay.address("ws"))).peer_id)
    browser.leave()


def test_another_relay_than_was_dialled_is_noticed(relay: RelayProcess) -> None:
    other = "12D3KooWHqDqb8Bh9CzFFBMVdbDYH6pZxcyX2nAVqT2ycpxyRLdC"
    browser = Browser(Target.parse(relay.address("ws").replace(relay.peer_id, other)))
    browser.connect()
    with pytest.raises(Exception, match="another relay than was dialled"):
        browser.upgrade()
    browser.vanish()


def test_a_goodbye_is_told_apart_from_a_loss() -> None:
    with RelayProcess() as relay:
        browser = arrive(Target.parse(relay.address("ws")))
        relay.process.send_signal(signal.SIGTERM)
        assert browser.gone.wait(10)
        assert isinstance(browser.loss(), GoodbyeError)
    with RelayProcess() as relay:
        browser = arrive(Target.parse(relay.address("ws")))
        relay.kill(next(row["name"] for row in relay.workers("listener") if row["name"].startswith("ws")))
        assert browser.gone.wait(10)
        with pytest.raises(LostError) as lost:
            browser.reserve()
        assert not isinstance(lost.value, GoodbyeError)
