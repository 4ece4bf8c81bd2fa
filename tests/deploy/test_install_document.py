"""docs/install.md, walked through as a new user would, under a real systemd on a network of its own.

The commands are taken from the document, in its order, and run as they stand there. In place of what comes from the
internet, a package or a certificate, stands what it would have brought. Then wallets come: pages on https in a real
Chromium, which reach the relay by its name, through nginx, and nothing else.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.authority import Authority
from tests.support.browser import chromium, js_peer
from tests.support.pages import SEARCH, calls_through, circuit_to, wait_until
from tests.support.real_systemd import PACKAGES, PROJECT, RealSystemd
from tests.support.relay import ROOT
from tests.support.toolchain import browser_path, page_folder, required_program

DOCUMENT = (ROOT / "docs" / "install.md").read_text("utf-8")
NAME = "relay.example.org"
DOOR = f"/dns4/{NAME}/tcp/443/tls/ws"
WALLET = "https://wallet.example/"
VENV = "/opt/frost-relay"
LIVE = f"/etc/letsencrypt/live/{NAME}"
PATHS = "/opt/python/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NGINX_UNIT = Path("/lib/systemd/system/nginx.service")


class Newcomer:
    """Types what the document says."""

    def __init__(self, systemd: RealSystemd, folder: Path) -> None:
        self._systemd = systemd
        self._folder = folder
        self._authority = Authority(folder)
        self._instead: dict[str, Callable[[], None]] = {
            "apt-get": lambda: None,
            "ufw": lambda: None,
            f"{VENV}/bin/pip": self._install_project,
            "certbot": self._get_certificate,
        }
        self.said: dict[str, str] = {}

    def type(self, line: str) -> None:
        """One line of a block."""
        words = shlex.split(line)
        if words[0] in self._instead:
            self._instead[words[0]]()
            return
        if words[0] == "curl":
            words += ["--silent", "--show-error", "--fail", "--cacert", str(self._authority.ca_file)]
        if words[:2] == ["frost-relay", "check"]:
            words += ["--ca", str(self._authority.ca_file)]
        self.said[line] = self._run(*words)

    def write(self, path: str, text: str) -> None:
        """What an editor would do."""
        source = self._folder / "text"
        source.write_text(text)
        self._run("install", "-D", "-m", "644", str(source), path)

    def status(self) -> dict[str, Any]:
        """What `frost-relay status` says of the relay that runs."""
        said: dict[str, Any] = json.loads(self._run("frost-relay", "status", "--json"))
        return said

    def _run(self, *words: str) -> str:
        return self._systemd.run("env", f"PATH={PATHS}", "PYTHONDONTWRITEBYTECODE=1", *words)

    def _install_project(self) -> None:
        """As pip would: the package and what it needs, and its program."""
        inside = self._run(f"{VENV}/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        self.write(f"{inside}/project.pth", f"{PROJECT}\n{PACKAGES}\n")
        self.write(f"{VENV}/bin/frost-relay", f"#!{VENV}/bin/python\nfrom supervisor.cli import main\nmain()\n")
        self._run("chmod", "755", f"{VENV}/bin/frost-relay")

    def _get_certificate(self) -> None:
        for file, name in zip(self._authority.issue(NAME), ("fullchain.pem", "privkey.pem"), strict=True):
            self._run("install", "-D", "-m", "600", str(file), f"{LIVE}/{name}")


def steps() -> list[tuple[str, str]]:
    """The blocks of the numbered sections: their language and their text."""
    numbered = DOCUMENT[DOCUMENT.index("## 1.") : DOCUMENT.index("## Also")]
    return re.findall(r"^```(\w*)\n(.*?)^```", numbered, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page_files() -> Path:
    browser_path()  # asked first: without a browser nothing needs to be installed
    return page_folder()


@pytest.mark.browser
@pytest.mark.interop
@pytest.mark.timeout(func_only=True)  # it may be the first to need the pages, which are built then
def test_the_document_leads_from_nothing_to_a_green_check_and_to_browsers_that_call_each_other(
    tmp_path: Path, page_files: Path
) -> None:
    for program in ("nginx", "curl", "ip"):
        required_program(program)
    units = {"nginx.service": NGINX_UNIT.read_text()}
    with RealSystemd(tmp_path, units, {}, alone=True) as systemd:
        newcomer = Newcomer(systemd, tmp_path)
        systemd.run("mkdir", "-p", "/var/log/nginx", "/var/lib/nginx")
        assert systemd.control("start", "nginx.service") == ""  # as its package does
        systemd.run("sh", "-c", f"echo 127.0.0.1 {NAME} >> /etc/hosts")  # the A record
        for language, text in steps():
            if language == "toml":
                newcomer.write("/etc/frost-relay/relay.toml", text)
            else:
                for line in text.splitlines():
                    newcomer.type(line)
        assert newcomer.said["frost-relay --version"].startswith("frost-relay ")
        assert "libp2p" in newcomer.said[f"curl https://{NAME}/"]
        checked = newcomer.said[f"frost-relay check {DOOR}"]
        assert "✓ echo" in checked
        assert "✗" not in checked
        assert "active (running)" in newcomer.said["systemctl status frost-relay.service"]
        wallets_call(newcomer, browser_on_its_network(systemd, tmp_path), page_files)


def browser_on_its_network(systemd: RealSystemd, folder: Path) -> str:
    """A program that starts Chromium where the relay's name is known, and its address as one of the internet."""
    program = folder / "chromium"
    flags = (f"--host-resolver-rules=MAP {NAME} 127.0.0.1", "--ip-address-space-overrides=127.0.0.1:443=public")
    words = shlex.join(systemd.on_its_network(browser_path(), *flags))
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    return str(program)


def wallets_call(newcomer: Newcomer, program: str, page_files: Path) -> None:
    """One reserves by the address that the document announces, and another one calls it there."""
    status = newcomer.status()
    address = f"{DOOR}/p2p/{status['peer_id']}"
    assert address in status["addresses"]
    with (
        chromium(program) as browser,
        js_peer(browser, WALLET, any_certificate=True, files=page_files) as called,
        js_peer(browser, WALLET, any_certificate=True, files=page_files) as caller,
    ):
        called.start(SEARCH)
        assert called.dial(address).address == address
        wait_until(lambda: newcomer.status()["reservations"] == 1)
        caller.start()
        assert calls_through(caller, circuit_to(address, called))
    wait_until(lambda: newcomer.status()["connections"] == 0)
