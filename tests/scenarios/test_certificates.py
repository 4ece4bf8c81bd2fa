"""A certificate that is renewed while the relay serves: new connections get it, and nobody is dropped."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.scenarios.scene import counter, until
from tests.support.certificate import loopback_certificate
from tests.support.client import Client
from tests.support.relay import RelayProcess

DIALS = 8  # enough that each of two workers has some


class Renewable:
    """A relay whose certificate is a symbolic link away from another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "live").mkdir()
        self.use("first", days=10)
        self.relay: RelayProcess

    @property
    def listeners(self) -> str:
        live = self.folder / "live"
        files = f'cert_file="{live}/fullchain.pem", key_file="{live}/privkey.pem"'
        return f'listeners=[{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=2, {files}}}]'

    def use(self, name: str, days: float = 90) -> None:
        """As certbot does: new files, then links to them."""
        archive = self.folder / name
        archive.mkdir()
        loopback_certificate(archive, days)
        for file in ("fullchain.pem", "privkey.pem"):
            link = self.folder / "live" / f"{file}.new"
            link.symlink_to(archive / file)
            link.rename(self.folder / "live" / file)

    def trust(self, name: str) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / name / "fullchain.pem"))

    async def everywhere(self, name: str) -> bool:
        """Whether every connection of several is offered this certificate."""
        try:
            for _ in range(DIALS):
                client = await Client.dial(self.relay.address("wss"), tls=self.trust(name))
                await client.abort()
        except ssl.SSLCertVerificationError:
            return False
        return True


@pytest.fixture
def renewable(tmp_path: Path) -> Iterator[Renewable]:
    made = Renewable(tmp_path)
    with RelayProcess(made.listeners) as made.relay:
        yield made
        assert counter(made.relay, "frost_relay_faults_total") == 0
        assert {each["restarts"] for each in made.relay.status()["workers"]} == {0}


@asynccontextmanager
async def a_peer_that_stays(renewable: Renewable) -> AsyncIterator[None]:
    client = await Client.dial(renewable.relay.address("wss"), tls=renewable.trust("first"))
    await client.reserve()
    yield
    assert (await client.identify()).publicKey
    await client.reserve()
    await client.abort()


async def test_a_renewed_certificate_is_taken_up_by_every_worker_without_dropping_anyone(renewable: Renewable) -> None:
    async with a_peer_that_stays(renewable):
        assert await renewable.everywhere("first")
        renewable.use("second")
        await until(lambda: renewable.everywhere("second"), "the second certificate everywhere")
        assert not await renewable.everywhere("first")
    assert counter(renewable.relay, "frost_relay_certificate_loads_total", outcome="ok") == 1
    (shown,) = renewable.relay.status()["certificates"]
    assert 89 < shown["days_left"] <= 90
    _, metrics = renewable.relay.get("/metrics")
    assert f'frost_relay_certificate_expiry_timestamp_seconds{{listener="{shown["listener"]}"}}' in metrics


async def test_a_bad_certificate_is_refused_and_the_old_one_kept_until_a_good_one_comes(renewable: Renewable) -> None:
    async with a_peer_that_stays(renewable):
        key_file = renewable.folder / "live" / "privkey.pem"
        key_file.write_bytes(key_file.read_bytes()[:50])

        async def refused() -> bool:
            return "certificate refused" in renewable.relay.stderr

        await until(refused, "the refusal")
        assert await renewable.everywhere("first")
        renewable.use("second")
        await until(lambda: renewable.everywhere("second"), "the second certificate everywhere")
    assert counter(renewable.relay, "frost_relay_certificate_loads_total", outcome="refused") == 1
    assert renewable.relay.stderr.count("certificate refused") == 1


async def test_the_successor_of_a_worker_serves_what_was_good_while_the_files_are_bad(tmp_path: Path) -> None:
    renewable = Renewable(tmp_path)
    with RelayProcess(renewable.listeners) as renewable.relay:
        relay, live = renewable.relay, tmp_path / "live"
        renewable.use("second")
        await until(lambda: renewable.everywhere("second"), "the second certificate everywhere")
        (live / "privkey.pem").unlink()
        (live / "fullchain.pem").unlink()
        (live / "fullchain.pem").write_text("nonsense")
        killed = {relay.kill(each["name"]) for each in relay.workers("listener")}

        async def replaced() -> bool:
            now = await asyncio.to_thread(relay.workers, "listener")
            return all(each["state"] == "ready" and each["pid"] not in killed for each in now)

        await until(replaced, "successors")
        assert await renewable.everywhere("second")
        await until(lambda: said(relay, "certificate refused"), "what is wrong with the files")
        (live / "privkey.pem").touch()
        renewable.use("third")
        await until(lambda: renewable.everywhere("third"), "the third certificate everywhere")
        assert {each["restarts"] for each in relay.workers("listener")} == {1}
        assert counter(relay, "frost_relay_faults_total") == 0


async def said(relay: RelayProcess, text: str) -> bool:
    return text in relay.stderr


async def test_a_reload_reads_the_certificate_at_once_and_refuses_a_bad_one_with_its_line(renewable: Renewable) -> None:
    relay = renewable.relay
    async with a_peer_that_stays(renewable):
        renewable.use("second")
        outcome = await asyncio.to_thread(relay.reload)
        assert outcome["ok"]
        assert await renewable.everywhere("second")
        (renewable.folder / "live" / "fullchain.pem").unlink()
        (renewable.folder / "live" / "fullchain.pem").write_text("nonsense")
        outcome = await asyncio.to_thread(relay.reload)
        assert not outcome["ok"]
        assert "listeners[0].cert_file" in outcome["error"]
        assert await renewable.everywhere("second")


async def test_a_certificate_that_ends_soon_is_warned_of(renewable: Renewable) -> None:
    assert renewable.relay.stderr.count("certificate ends soon") == 1
    assert "days_left=10.0" in renewable.relay.stderr
