"""docs/traces: how each client reserves and connects, as the relay's layers see it.

`make traces` writes the files. Without that the recordings are made all the same, and each must show the steps that any
client takes.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.builds import ROOT
from tests.support.client import Client
from tests.support.meeting import meet_and_leave
from tests.support.peers import Peer
from tests.support.trace import Recorder
from transports.identity import HostKey, peer_id_text

TRACES = ROOT / "docs" / "traces"
STARTERS = {"go": "start_go_peer", "rust": "start_rust_peer", "js": "open_page", "py": "start_py_peer"}
LIBRARIES = {name: f"{name}-libp2p" for name in STARTERS}

HEAD = """# {library}: a reservation, and a call

One peer reserves, another one of its kind calls it and says hello, and both leave. Recorded by `make traces`: → is
client to relay, ← is relay to client, in the order in which the relay saw them. Noise is taken off, and what differs
from run to run is masked. Lengths are the real ones.

"""

STEPS = [
    "→ Upgrade: websocket",
    "← HTTP/1.1 101 Switching Protocols",
    "→ /noise",
    "identity_key Ed25519",
    "multistream: /libp2p/circuit/relay/0.2.0/hop",
    "type: RESERVE",
    "status: OK",
    "voucher: <",
    "type: CONNECT",
    "multistream: /libp2p/circuit/relay/0.2.0/stop",
    "the circuit's bytes",
    "the connection has ended",
]


def check(text: str) -> None:
    """What a recording of any client shows, and that nothing is in it that another run would have otherwise."""
    found = text.lower()
    missing = [step for step in STEPS if step.lower() not in found]
    assert not missing, text
    assert text.count("## Connection") >= 2
    assert "12D3KooW" not in text
    assert "sec-websocket-key: <masked>" in found


def test_a_recording_of_our_own_client_has_every_step_in_it(tmp_path: Path) -> None:
    hosts = HostKey.from_seed(b"t" * 32), HostKey.from_seed(b"c" * 32)

    async def meet(address: str) -> None:
        target, caller = [await Client.dial(address, host) for host in hosts]
        await target.reserve()
        stream = await caller.connect(target.peer_id)
        _, accepted = await target.called()
        stream.write(b"hello")
        assert await accepted.read(5) == b"hello"
        await caller.close()
        await target.close()

    with Recorder(tmp_path) as recorder:
        asyncio.run(meet(recorder.relay.address("ws")))
        recorder.relay.wait_status(lambda now: now["connections"] == 0)
        text = recorder.text({peer_id_text(host.peer_id): name for host, name in zip(hosts, "tc", strict=True)})
    check(text)


@pytest.mark.interop
@pytest.mark.timeout(func_only=True)
@pytest.mark.parametrize("client", [pytest.param("js", marks=pytest.mark.browser), "go", "rust", "py"])
def test_a_recording_of_each_client_has_every_step_in_it(
    request: pytest.FixtureRequest, tmp_path: Path, client: str
) -> None:
    start = request.getfixturevalue(STARTERS[client])
    target: Peer = start()
    caller: Peer = start()
    with Recorder(tmp_path) as recorder:
        meet_and_leave(recorder.relay, target, "ws", caller, "ws", texts=("hello",))
        text = recorder.text({target.peer_id: "target", caller.peer_id: "caller"})
    check(text)
    if os.environ.get("UPDATE_DOCS") == "1":
        TRACES.mkdir(exist_ok=True)
        (TRACES / f"{client}.md").write_text(HEAD.format(library=LIBRARIES[client]) + text)


def test_there_is_one_file_a_client_and_the_document_names_it() -> None:
    document = (ROOT / "docs" / "interop.md").read_text()
    assert {path.name for path in TRACES.iterdir()} == {f"{client}.md" for client in STARTERS}
    for client in STARTERS:
        assert f"traces/{client}.md" in document
        check((TRACES / f"{client}.md").read_text())
