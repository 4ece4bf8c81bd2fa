"""A real nginx on a free port of loopback, with one server block of the test's, or with the site of config/deploy."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.relay import ROOT
from tests.support.toolchain import required_program

START_LIMIT_S = 10.0
STOP_LIMIT_S = 10.0

_MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {servers}
}}
"""
_SERVER = "server {{ listen 127.0.0.1:{port}{ssl}; {server} }}"
_SITE = ROOT / "config" / "deploy" / "nginx.conf"


@contextmanager
def nginx(folder: Path, server: str, *, ssl: bool = False) -> Iterator[int]:
    """Run it with these directives in its server block; gives the port once it accepts connections."""
    port = free_port()
    with _running(folder, _SERVER.format(port=port, server=server, ssl=" ssl" if ssl else "")):
        yield port


@contextmanager
def nginx_site(folder: Path, upstream: int, certificate: Path, key: Path) -> Iterator[int]:
    """Run it with config/deploy/nginx.conf, on loopback and in front of this port; gives its own."""
    port = free_port()
    replaced = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "listen [::]:443 ssl": f"listen [::1]:{port} ssl",
        "/etc/letsencrypt/live/relay.example.org/fullchain.pem": str(certificate),
        "/etc/letsencrypt/live/relay.example.org/privkey.pem": str(key),
        "http://127.0.0.1:9091": f"http://127.0.0.1:{upstream}",
    }
    site = _SITE.read_text("utf-8")
    for old, new in replaced.items():
        assert site.count(f"{old};") == 1, old
        site = site.replace(f"{old};", f"{new};")
    with _running(folder, site):
        yield port


@contextmanager
def _running(folder: Path, servers: str) -> Iterator[None]:
    program = required_program("nginx", "/usr/sbin/nginx")
    config = folder / "nginx.conf"
    config.write_text(_MAIN.format(folder=folder, servers=servers))
    command = [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _await_port(process, folder / "nginx.pid")
            yield
        finally:
            process.terminate()
            process.wait(STOP_LIMIT_S)


def _await_port(process: subprocess.Popen[bytes], pid_file: Path) -> None:
    """It writes its process ID after it has bound its sockets."""
    end = time.monotonic() + START_LIMIT_S
    while not (pid_file.exists() and pid_file.read_text().strip()):
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"nginx ended:\n{process.stderr.read().decode()}")
        if time.monotonic() > end:
            raise TimeoutError(f"nginx is not up after {START_LIMIT_S} s")
        time.sleep(0.01)
