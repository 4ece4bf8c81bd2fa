"""certbot-deploy-hook.sh and frost-relay-tls.conf under a real systemd: a user without rights gets a certificate."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

from tests.deploy.test_units import DEPLOY, UNIT, config, start, units
from tests.support.certificate import loopback_certificate
from tests.support.client import Client
from tests.support.ports import free_port
from tests.support.real_systemd import PROJECT, RealSystemd

HOOK = f"{PROJECT}/config/deploy/certbot-deploy-hook.sh"
LIVE = "/run/live"
TLS = "/etc/frost-relay/tls"


def renew(systemd: RealSystemd, folder: Path) -> ssl.SSLContext:
    """What certbot does: a new certificate in its own folder, and the hook. Returns a client's trust in it."""
    certificate, key = loopback_certificate(folder)
    systemd.run("install", "-d", "-m", "0700", LIVE)
    for each in (certificate, key):
        shutil.copy(each, systemd.path(f"{LIVE}/{each.name}"))
    systemd.run("env", f"RENEWED_LINEAGE={LIVE}", HOOK)
    return ssl.create_default_context(cafile=str(certificate))


def test_a_relay_with_a_certificate_of_its_own_gets_copies_that_only_it_can_read(tmp_path: Path) -> None:
    address = f"/ip4/127.0.0.1/tcp/{free_port()}/tls/ws"
    files = f'cert_file = "{TLS}/fullchain.pem"\nkey_file = "{TLS}/privkey.pem"\n'
    tls = {f"{UNIT}.d/tls.conf": (DEPLOY / "frost-relay-tls.conf").read_text()}
    with RealSystemd(tmp_path, {**units(), **tls}, {"relay.toml": config(address) + files}) as systemd:
        systemd.run("groupadd", "--system", "frost-relay-tls")
        systemd.run("install", "-d", "-m", "2750", "-g", "frost-relay-tls", TLS)
        trust = renew(systemd, tmp_path)
        said = systemd.run("stat", "-c", "%n %a %U:%G", f"{TLS}/fullchain.pem", f"{TLS}/privkey.pem").splitlines()
        assert said == [f"{TLS}/{name} 640 root:frost-relay-tls" for name in ("fullchain.pem", "privkey.pem")]
        start(systemd)
        asyncio.run(reserve(address, trust))

        main = systemd.main_process(UNIT)
        renewed = renew(systemd, tmp_path)
        asyncio.run(reserve(address, renewed))
        assert systemd.read(f"{TLS}/fullchain.pem") == systemd.read(f"{LIVE}/fullchain.pem")
        assert systemd.main_process(UNIT) == main
        assert systemd.run("ls", "-A", TLS).split() == ["fullchain.pem", "privkey.pem"]


async def reserve(address: str, trust: ssl.SSLContext) -> None:
    client = await Client.dial(address, tls=trust)
    await client.reserve()
    await client.abort()


def test_without_a_lineage_the_hook_says_who_calls_it(tmp_path: Path) -> None:
    with RealSystemd(tmp_path, {}, {}) as systemd:
        assert "certbot calls this" in systemd.run(HOOK, status=2)
