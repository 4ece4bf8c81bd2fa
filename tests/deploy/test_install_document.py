"""docs/install.md, walked through as a new user would, under a real systemd on a network of its own.

The commands are taken from the document, in its order, and run as they stand there. In place of what comes from the
internet, a package or a certificate, stands what it would have brought.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from tests.support.authority import Authority
from tests.support.real_systemd import PACKAGES, PROJECT, RealSystemd
from tests.support.relay import ROOT
from tests.support.toolchain import required_program

DOCUMENT = (ROOT / "docs" / "install.md").read_text("utf-8")
NAME = "relay.example.org"
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


def test_the_document_leads_from_nothing_to_a_green_check(tmp_path: Path) -> None:
    required_program("nginx")
    required_program("curl")
    required_program("ip")
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
        checked = newcomer.said[f"frost-relay check /dns4/{NAME}/tcp/443/tls/ws"]
        assert "✓ echo" in checked
        assert "✗" not in checked
        assert "active (running)" in newcomer.said["systemctl status frost-relay.service"]
