"""A real nginx on a free port of loopback, with one server block of the test's."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.pages import free_port
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
    server {{
        listen 127.0.0.1:{port}{ssl};
        {server}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, server: str, *, ssl: bool = False) -> Iterator[int]:
    """Run it with these directives in its server block; gives the port once it accepts connections."""
    program = required_program("nginx", "/usr/sbin/nginx")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_MAIN.format(folder=folder, port=port, server=server, ssl=" ssl" if ssl else ""))
    command = [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _await_port(process, folder / "nginx.pid")
            yield port
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
