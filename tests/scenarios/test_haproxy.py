"""Behind a real HAProxy that speaks the PROXY protocol: clients keep their addresses, on WebSocket and TCP."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.scenarios.relays import GENEROUS, Certificate
from tests.scenarios.scene import Place, Scene, joined, port_of, until
from tests.support.client import Client
from tests.support.relay import RelayProcess
from tests.support.sockets import listening
from tests.support.toolchain import required_program
from transports.address import multiaddr_bytes

WAIT_S = 10.0


@pytest.fixture(scope="module")
def relay(certificate: Certificate) -> Iterator[RelayProcess]:
    files = f'cert_file="{certificate.cert_file}", key_file="{certificate.key_file}"'
    listeners = ", ".join(
        f'{{address="/ip4/127.0.0.1/tcp/0{tail}", workers=1, proxy_protocol=true{more}}}'
        for tail, more in (("/ws", ""), ("", ""), ("/tls/ws", f", {files}"))
    )
    denied = 'access.deny_subnets=["127.0.0.66/32"]'
    with RelayProcess(*GENEROUS, f"listeners=[{listeners}]", denied, "limits.handshake_timeout_s=2") as relay:
        yield relay


@pytest.fixture(params=["ws", "tcp", "wss"])
def scene(request: pytest.FixtureRequest, relay: RelayProcess, certificate: Certificate) -> Scene:
    return Scene(relay, Place(request.param, together=True), certificate.trust)


@pytest.fixture
def trust(scene: Scene, certificate: Certificate) -> ssl.SSLContext | None:
    """What a client needs to know of the relay's certificate."""
    return certificate.trust if scene.place.transport == "wss" else None


@contextmanager
def haproxy(folder: Path, target: int, option: str) -> Iterator[int]:
    """HAProxy in front of a port; yields its own."""
    program = required_program("haproxy")
    with listening() as free:
        port = free.getsockname()[1]
    config = folder / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"listen relay\n  bind 127.0.0.1:{port}\n  server relay 127.0.0.1:{target} {option}\n"
    )
    process = subprocess.Popen([program, "-db", "-q", "-f", str(config)])
    try:
        _await_listening(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(WAIT_S)


def _await_listening(process: subprocess.Popen[bytes], port: int) -> None:
    # A connection in which nothing is said would reach the relay, so the kernel is asked instead.
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    while wanted not in Path("/proc/net/tcp").read_text("ascii"):
        assert process.poll() is None, "haproxy has ended"


def _through(scene: Scene, port: int) -> str:
    """The relay's address with the proxy's port in it."""
    parts = scene.address.split("/")
    return "/".join([*parts[:4], str(port), *parts[5:]])


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
async def test_the_client_keeps_its_address_and_is_served(
    scene: Scene, trust: ssl.SSLContext | None, tmp_path: Path, option: str
) -> None:
    with haproxy(tmp_path, int(scene.address.split("/")[4]), option) as port:
        target = await Client.dial(_through(scene, port), tls=trust)
        tail = {"ws": "/ws", "wss": "/tls/ws", "tcp": ""}[scene.place.transport]
        observed = multiaddr_bytes(f"/ip4/127.0.0.1/tcp/{port_of(target)}{tail}")
        assert (await target.identify()).observedAddr == observed
        await target.reserve()
        source = await Client.dial(_through(scene, port), tls=trust)
        circuit = await joined(source, target)
        circuit.left.write(b"through two proxies")
        assert await circuit.right.read(19) == b"through two proxies"
        await source.abort()
        await target.abort()
        await scene.settled(connections=0)


async def test_access_rules_hold_for_the_client_behind_the_proxy(
    scene: Scene, trust: ssl.SSLContext | None, tmp_path: Path
) -> None:
    with haproxy(tmp_path, int(scene.address.split("/")[4]), "send-proxy-v2") as port:
        async with scene.counting("frost_relay_refusals_total", reason="subnet_denied"):
            with socket.create_connection(("127.0.0.1", port), WAIT_S, source_address=("127.0.0.66", 0)) as denied:
                await asyncio.to_thread(_ask, denied, trust)
        where = denied_at(await scene.logged("refused", "reason=subnet_denied"))
        assert where == "127.0.0.66"


def _ask(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Ask for an upgrade, and wait for the end."""
    if tls is not None:
        connection = tls.wrap_socket(connection, server_hostname="127.0.0.1", suppress_ragged_eofs=True)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    connection.sendall(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    _read_to_end(connection)
    connection.close()


def denied_at(line: str) -> str:
    """The IP of a refusal's line."""
    return line.partition("address=")[2].partition(":")[0]


def _read_to_end(connection: socket.socket) -> None:
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return


async def test_a_health_check_of_the_proxy_is_no_error(scene: Scene, tmp_path: Path) -> None:
    errors = await scene.counted("frost_relay_peer_errors_total", reason="proxy_header")
    before = await scene.counted("frost_relay_connections_accepted_total", transport=scene.place.transport)
    with haproxy(tmp_path, int(scene.address.split("/")[4]), "send-proxy-v2 check check-send-proxy inter 100ms"):

        async def checked_three_times() -> bool:
            name = "frost_relay_connections_accepted_total"
            return await scene.counted(name, transport=scene.place.transport) >= before + 3

        await until(checked_three_times, "three health checks")
    await scene.settled(connections=0)
    assert await scene.counted("frost_relay_peer_errors_total", reason="proxy_header") == errors


async def test_a_trusted_address_without_a_header_is_ended(scene: Scene) -> None:
    port = int(scene.address.split("/")[4])
    async with scene.counting("frost_relay_peer_errors_total", reason="proxy_header"):
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as bare:
            bare.sendall(b"\x13/multistream/1.0.0\n")
            await asyncio.to_thread(_read_to_end, bare)


async def test_anybody_else_is_refused_header_or_not(scene: Scene) -> None:
    port = int(scene.address.split("/")[4])
    async with scene.counting("frost_relay_refusals_total", reason="not_a_proxy"):
        with socket.create_connection(("127.0.0.1", port), WAIT_S, source_address=("127.0.0.67", 0)) as liar:
            await asyncio.to_thread(_read_to_end, liar)
    await scene.logged("refused", "reason=not_a_proxy")


async def test_a_proxy_that_never_says_for_whom_it_speaks_meets_the_handshake_deadline(scene: Scene) -> None:
    port = int(scene.address.split("/")[4])
    async with scene.counting("frost_relay_refusals_total", reason="handshake_timeout"):
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as silent:
            silent.sendall(b"PROXY TCP4 192.0.2.7 ")
            await asyncio.to_thread(_read_to_end, silent)
