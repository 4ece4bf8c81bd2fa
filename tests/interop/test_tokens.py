"""A private relay and real clients: what works from which, as docs/tokens.md says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.browser import JsPeer
from tests.support.builds import ROOT
from tests.support.pages import counted, kill_worker, wait_until
from tests.support.peers import PeerCallError
from tests.support.programs import GoPeer, RustPeer
from tests.support.relay import RelayProcess
from tests.support.toolchain import JAVASCRIPT

pytestmark = [pytest.mark.interop]

OpenPage = Callable[[], JsPeer]
SECRET = "a-wallet-knows-this-secret"
TOKEN_MISSING = 'frost_relay_refusals_total{reason="token_missing"}'
PATH = f"http-path/%2Ft%2F{SECRET}"


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    path = tmp_path / "tokens.toml"
    path.touch(0o600)
    path.write_text(f'[[tokens]]\nname = "wallet"\nsecret = "{SECRET}"\n')
    with RelayProcess(f'access.tokens_file="{path}"') as relay:
        yield relay
        assert SECRET not in relay.stderr


def start_wallet(page: JsPeer, relay: RelayProcess) -> list[str]:
    page.peer_id = page.call("startWallet", relay=relay.address("ws"), token=SECRET)
    addresses: list[str] = page.call("reachableAt")
    return addresses


@pytest.mark.browser
def test_two_pages_with_the_token_meet_and_come_back(open_page: OpenPage, relay: RelayProcess) -> None:
    called, caller = open_page(), open_page()
    addresses = start_wallet(called, relay)
    assert not any(SECRET in address or "http-path" in address for address in addresses)
    (reachable,) = [one for one in addresses if one.startswith(f"{relay.address('ws')}/p2p-circuit/webrtc/")]
    start_wallet(caller, relay)
    direct = caller.dial(reachable)
    caller.open_echo(direct)
    assert caller.say("a private call") == "a private call"

    kill_worker(relay)
    relay.wait_status(lambda now: now["reservations"] == 2)
    assert counted(relay, TOKEN_MISSING) == 0


@pytest.mark.browser
def test_a_page_without_the_token_is_refused(open_page: OpenPage, relay: RelayProcess) -> None:
    page = open_page()
    page.start()
    with pytest.raises(PeerCallError):
        page.dial(relay.address("ws"))
    wait_until(lambda: counted(relay, TOKEN_MISSING) >= 1)


@pytest.mark.browser
def test_js_dials_no_web_socket_address_with_a_path_by_itself(open_page: OpenPage, relay: RelayProcess) -> None:
    page = open_page()
    page.start()
    base, _, peer = relay.address("ws").rpartition("/p2p/")
    for address in (f"{base}/{PATH}/p2p/{peer}", f"{base}/p2p/{peer}/{PATH}"):
        with pytest.raises(PeerCallError):
            page.dial(address)
    assert counted(relay, "frost_relay_connections_accepted_total") == 0


def test_a_rust_peer_sends_the_path_of_its_own_kind_of_address(
    start_rust_peer: Callable[[], RustPeer], relay: RelayProcess
) -> None:
    peer = start_rust_peer()
    peer.start()
    base, _, relay_peer = relay.address("ws").rpartition("/ws/p2p/")
    link = peer.dial(f"{base}/x-parity-ws/%2Ft%2F{SECRET}/p2p/{relay_peer}")
    assert link.peer == relay_peer


def test_a_go_peer_has_no_address_with_a_path(start_go_peer: Callable[..., GoPeer], relay: RelayProcess) -> None:
    peer = start_go_peer()
    peer.start()
    base, _, relay_peer = relay.address("ws").rpartition("/p2p/")
    with pytest.raises(PeerCallError):
        peer.dial(f"{base}/{PATH}/p2p/{relay_peer}")
    assert counted(relay, "frost_relay_connections_accepted_total") == 0


def test_the_document_quotes_the_code_that_the_pages_run() -> None:
    document = (ROOT / "docs" / "tokens.md").read_text("utf-8")
    quoted = re.search(
        r"<!-- begin: tests/interop/js/token.js -->\n```js\n(.*?)^```\n", document, re.MULTILINE | re.DOTALL
    )
    assert quoted is not None
    assert quoted[1] == (JAVASCRIPT / "token.js").read_text("utf-8")
    assert os.path.isfile(JAVASCRIPT / "token.js")
