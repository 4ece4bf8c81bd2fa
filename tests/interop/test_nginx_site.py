"""Browsers behind the nginx of config/deploy: they meet, and they come back to the address that is announced."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.browser import js_peer
from tests.support.certificate import loopback_certificate
from tests.support.nginx import nginx_site
from tests.support.pages import SEARCH, circuit_to
from tests.support.placement import workers_with_connections
from tests.support.ports import free_port
from tests.support.relay import RelayProcess

pytestmark = [pytest.mark.browser, pytest.mark.interop]


def test_two_pages_meet_behind_nginx_and_one_is_back_after_its_worker_died(
    browser: Browser, page_url: str, tmp_path: Path
) -> None:
    certificate, key = loopback_certificate(tmp_path)
    upstream = free_port()
    listeners = (f"/ip4/127.0.0.1/tcp/{upstream}/ws",)
    with nginx_site(tmp_path, upstream, certificate, key) as port:
        door = f"/ip4/127.0.0.1/tcp/{port}/tls/ws"
        with (
            RelayProcess(f'announce.addresses=["{door}"]', listeners=listeners) as relay,
            js_peer(browser, page_url, any_certificate=True) as called,
            js_peer(browser, page_url, any_certificate=True) as caller,
        ):
            address = f"{door}/p2p/{relay.peer_id}"
            assert relay.addresses == [address]
            called.start(SEARCH, "/webrtc")
            called.dial(address)
            before = relay.wait_status(lambda now: now["reservations"] == 1)
            caller.start()
            direct = caller.dial(f"{circuit_to(address, called).rpartition('/p2p/')[0]}/webrtc/p2p/{called.peer_id}")
            assert "/webrtc" in direct.address
            assert not direct.limited

            caller.hang_up(relay.peer_id)
            (name,) = [name for name, connections in workers_with_connections(before).items() if connections]
            killed = relay.kill(name)
            relay.wait_status(lambda now: now["reservations"] == 1 and relay.worker(name)["pid"] not in {0, killed})
