"""A private relay: who has no token is refused before anything is spent on it, and each token has limits of its own."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from picows import WSError

from actors.proto.circuit_pb2 import Status
from tests.scenarios.relays import Certificate, Relays
from tests.scenarios.scene import Place, Scene, counter, gone, joined, name_of
from tests.support.client import Client, HopRefusedError, StreamResetError
from tests.support.relay import RelayProcess

ANNA, FEW, LATE = "anna-knows-this-secret", "few-connections-secret", "this-one-is-expired-by-now"
SHORT = "this-one-expires-while-it-is-used"
LIFE_S = 20


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    path.touch(0o600)
    path.write_text(
        f'[[tokens]]\nname = "anna"\nsecret = "{ANNA}"\n'
        f'[[tokens]]\nname = "few"\nsecret = "{FEW}"\nmax_connections = 2\nmax_reservations = 1\n'
        f'[[tokens]]\nname = "late"\nsecret = "{LATE}"\nexpires = 2020-01-01T00:00:00Z\n'
    )
    return path


@pytest.fixture(scope="module")
def relay(relays: Relays, tokens_file: Path) -> Iterator[RelayProcess]:
    with relays.started(f'access.tokens_file="{tokens_file}"') as relay:
        yield relay


@pytest.fixture(params=["ws", "wss"])
def web(request: pytest.FixtureRequest, relay: RelayProcess, certificate: Certificate) -> Scene:
    return Scene(relay, Place(request.param, together=False), certificate.trust)


@pytest.mark.parametrize("path", [f"/t/{ANNA}", f"/?token={ANNA}", f"/behind/nginx/t/{ANNA}"])
async def test_who_knows_a_secret_is_served(web: Scene, path: str) -> None:
    source, target = await web.dial(path=path), await web.reserved(path=path)
    circuit = await joined(source, target)
    circuit.left.write(b"a private call")
    assert await circuit.right.read(14) == b"a private call"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", "token_missing"),
        (f"/{ANNA}", "token_missing"),
        (f"/t/{ANNA}x", "token_unknown"),
        ("/t/somebody-guesses-this", "token_unknown"),
        (f"/t/{LATE}", "token_expired"),
    ],
)
async def test_anybody_else_is_refused_with_401(web: Scene, path: str, reason: str) -> None:
    async with web.counting("frost_relay_refusals_total", reason=reason):
        with pytest.raises(WSError, match="401"):
            await web.dial(path=path)
    await web.logged("refused", f"reason={reason}")


async def test_secrets_are_in_no_log(web: Scene) -> None:
    await web.dial(path=f"/t/{ANNA}")
    for path in (f"/t/{LATE}", "/t/somebody-guesses-this"):
        with pytest.raises(WSError):
            await web.dial(path=path)
    await web.logged("refused", "reason=token_unknown")
    for secret in (ANNA, LATE, "somebody-guesses-this"):
        assert secret not in web.relay.stderr


async def test_connections_by_one_token_are_limited_over_all_workers(web: Scene) -> None:
    inside = [await web.dial(path=f"/t/{FEW}") for _ in range(2)]
    await web.registered(connections=2)
    async with web.counting("frost_relay_refusals_total", reason="connections_per_token"):
        with suppress(WSError, OSError, AssertionError):  # closed before the relay had said who it is
            await gone(await web.dial(path=f"/t/{FEW}"))
    await web.dial(path=f"/t/{ANNA}")
    await inside[0].abort()
    await web.registered(connections=2)
    await web.dial(path=f"/t/{FEW}")


async def test_reservations_by_one_token_are_limited_and_free_when_one_leaves(web: Scene) -> None:
    first, second = await web.reserved(path=f"/t/{FEW}"), await web.dial(path=f"/t/{FEW}")
    async with web.refusing("reservations_per_token", second):
        with pytest.raises(HopRefusedError) as refused:
            await second.reserve()
    assert refused.value.status == Status.RESERVATION_REFUSED
    await first.reserve()  # a renewal is granted
    await web.reserved(path=f"/t/{ANNA}")
    await first.abort()
    await web.settled(reservations=1)
    await second.reserve()


async def test_nobody_can_send_a_token_over_tcp(relay: RelayProcess) -> None:
    scene = Scene(relay, Place("tcp", together=False), None)  # type: ignore[arg-type]  # no TLS here
    port = int(scene.address.split("/")[4])
    async with scene.counting("frost_relay_refusals_total", reason="token_missing"):
        with socket.create_connection(("127.0.0.1", port), 10) as refused:
            assert await asyncio.to_thread(refused.recv, 1) == b""


async def test_a_listener_that_requires_none_lets_everybody_in(tokens_file: Path) -> None:
    open_tcp = 'listeners=[{address="/ip4/127.0.0.1/tcp/0", workers=1, require_token=false}]'
    with RelayProcess(open_tcp, f'access.tokens_file="{tokens_file}"') as relay:
        client = await Client.dial(relay.address("tcp"))
        await client.reserve()
        await client.abort()


async def test_a_token_that_expires_ends_the_connections_that_came_by_it_and_no_other(tmp_path: Path) -> None:
    path, end = tmp_path / "tokens.toml", datetime.now(UTC) + timedelta(seconds=LIFE_S)
    path.touch(0o600)
    path.write_text(
        f'[[tokens]]\nname = "short"\nsecret = "{SHORT}"\nexpires = {end.isoformat()}\n'
        f'[[tokens]]\nname = "anna"\nsecret = "{ANNA}"\n'
    )
    with RelayProcess(f'access.tokens_file="{path}"', workers=2) as relay:
        dialled = [await Client.dial(relay.address("ws"), path=f"/t/{secret}") for secret in (SHORT, ANNA) * 4]
        ending, staying = dialled[::2], dialled[1::2]
        for client in dialled:
            await client.reserve()
        call = await joined(staying[0], ending[0])
        async with asyncio.timeout(LIFE_S + 10):
            for client in ending:
                await client.closed.wait()
        assert datetime.now(UTC) >= end
        with pytest.raises(StreamResetError):
            await call.left.read(1)
        assert counter(relay, "frost_relay_refusals_total", reason="token_expired") == len(ending)
        lines = [line for line in relay.stderr.splitlines() if "reason=token_expired" in line]
        assert {f"peer={name_of(client)}" in "".join(lines) for client in ending} == {True}
        for client in staying:
            await client.reserve()
            await client.abort()


async def test_a_reload_revokes_a_token_and_takes_a_new_one_and_leaves_the_others_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.touch(0o600)

    def write(**tokens: str) -> None:
        path.write_text("".join(f'[[tokens]]\nname = "{name}"\nsecret = "{each}"\n' for name, each in tokens.items()))

    write(anna=ANNA, few=FEW)
    with RelayProcess(f'access.tokens_file="{path}"') as relay:
        address = relay.address("ws")
        anna, few = await Client.dial(address, path=f"/t/{ANNA}"), await Client.dial(address, path=f"/t/{FEW}")
        write(anna=ANNA, new=SHORT)
        relay.process.send_signal(signal.SIGHUP)
        await gone(few)
        with pytest.raises(WSError, match="401"):
            await Client.dial(address, path=f"/t/{FEW}")
        await anna.reserve()
        newcomer = await Client.dial(address, path=f"/t/{SHORT}")
        await newcomer.reserve()
        for client in (anna, newcomer):
            await client.abort()
