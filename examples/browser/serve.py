"""`make example`: serves the built page together with a relay of its own, until Ctrl-C ends both.

It is for trying things out, on loopback or in one's own network. Must never leave a relay behind.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FOLDER: Final = Path(__file__).resolve().parent
STOP_TIMEOUT_S: Final = 15.0
LAST_PORT: Final = 65_534  # the relay takes the one behind it
OVER_HTTP: Final = (
    "over plain http, browsers run this page on this machine only. For telephones name a certificate for its address,"
    " CERT=FILE KEY=FILE: see examples/browser/README.md"
)


class StartError(Exception):
    """The example cannot start; the text says why, and what to do."""


@dataclass(frozen=True)
class Options:
    """What the user may choose. `cert` and `key` come together, and make it https and wss."""

    host: str
    port: int
    cert: str
    key: str
    stun: str

    @property
    def relay_listener(self) -> Mapping[str, object]:
        """The relay listens beside the page: one port further, or on a free one when the page does."""
        ip = ipaddress.ip_address(self.host)
        port = self.port and self.port + 1
        place = f"/ip{ip.version}/{ip}/tcp/{port}"
        files = {"cert_file": self.cert, "key_file": self.key}
        return (
            {"address": f"{place}/tls/ws", "workers": 1, **files}
            if self.cert
            else {"address": f"{place}/ws", "workers": 1}
        )

    @property
    def settings(self) -> Mapping[str, object]:
        """What the page is told beside its relay."""
        return {"iceServers": [{"urls": self.stun}] if self.stun else []}


class Handler(SimpleHTTPRequestHandler):
    """The files of the built page, and `relay.json`, which says which relay it is to use."""

    timeout = 10  # seconds without a byte; many browsers open connections that they never use
    settings: Mapping[str, object]

    def __init__(self, *args: Any, settings: Mapping[str, object], **kwargs: Any) -> None:
        self.settings = settings
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Answer with a file, or with the settings."""
        if self.path != "/relay.json":
            super().do_GET()
            return
        body = json.dumps(self.settings).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        """Nothing is kept: the page may be built again, and the relay is another one each time."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Requests are not worth a line."""


class Server(ThreadingHTTPServer):
    """Over IPv4 or IPv6, as its host is. A browser that keeps its connection does not hold up the end."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: Callable[..., Handler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away, or does not trust the certificate, is not worth a stack trace."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@contextmanager
def page_server(
    folder: Path,
    settings: Mapping[str, object],
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """Serve a built page and its settings; gives the port."""
    try:
        server = Server((host, port), partial(Handler, directory=str(folder), settings=settings))
    except OSError as error:
        raise StartError(f"cannot listen on {host} port {port}: {error.strerror}; PORT=… chooses another one") from None
    if tls is not None:
        # The handshake is left to the thread of its connection.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, name="page-server", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running_relay(options: Options) -> Iterator[tuple[subprocess.Popen[bytes], Sequence[str]]]:
    """A relay with a key of its own; gives its process and its addresses, once it serves."""
    with tempfile.TemporaryDirectory(prefix="frost-relay-example-") as folder:
        chosen = {
            "identity.key_file": f"{folder}/relay.key",
            "admin.control_socket": f"{folder}/control.sock",
            "listeners": [options.relay_listener],
        }
        command = [sys.executable, "-m", "supervisor.cli", "run", "--config", str(FOLDER / "relay.toml")]
        for key, value in chosen.items():
            command += ["--set", f"{key}={toml(value)}"]
        with subprocess.Popen(command, cwd=FOLDER.parents[1], stdout=subprocess.PIPE) as relay:  # noqa: S603
            try:
                yield relay, addresses_of(relay)
            finally:
                relay.terminate()
                relay.wait(STOP_TIMEOUT_S)


def addresses_of(relay: subprocess.Popen[bytes]) -> Sequence[str]:
    """What the relay prints, all in one write, when every listener serves."""
    assert relay.stdout is not None  # noqa: S101 (a pipe, as asked for)
    printed = os.read(relay.stdout.fileno(), 65536).decode().split()
    if not printed:
        raise StartError(f"the relay ended with exit code {relay.wait()}; what it said stands above")
    return printed


def toml(value: object) -> str:
    """A text, number, list or table as TOML writes it, in one line."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            return json.dumps(value)


def run(options: Options) -> int:
    """Serve until a signal comes or the relay ends; gives the exit code."""
    tls = tls_context(options)
    with running_relay(options) as (relay, addresses):
        settings = {"relays": addresses, **options.settings}
        with page_server(FOLDER / "dist", settings, options.host, options.port, tls) as port:
            for url in urls(options, addresses, port):
                print(url, flush=True)  # noqa: T201 (what the user waits for)
            if not tls and not ipaddress.ip_address(options.host).is_loopback:
                say(OVER_HTTP)
            relay.wait()
    say(f"the relay ended by itself, with exit code {relay.returncode}")
    return 1


def tls_context(options: Options) -> ssl.SSLContext | None:
    """For https, when there is a certificate."""
    if not options.cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.cert, options.key)
    except OSError as error:
        raise StartError(f"CERT={options.cert} and KEY={options.key} cannot be used: {error}") from None
    return context


def urls(options: Options, addresses: Sequence[str], port: int) -> Sequence[str]:
    """Where the page is: at every host at which the relay is, and on this machine where plain http will do."""
    here = ["127.0.0.1"] if options.host == "0.0.0.0" and not options.cert else []
    hosts = dict.fromkeys([*here, *(address.split("/")[2] for address in addresses)])
    scheme = "https" if options.cert else "http"
    return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/" for host in hosts]


def parse(arguments: Sequence[str]) -> Options:
    """What was typed after `make example`. Raises StartError for what cannot be."""
    parser = argparse.ArgumentParser(
        prog="make example", usage="make example [HOST=IP] [PORT=N] [CERT=FILE KEY=FILE] [STUN=URL]"
    )
    for name, default in (("host", "127.0.0.1"), ("port", "8090"), ("cert", ""), ("key", ""), ("stun", "")):
        parser.add_argument(f"--{name}", default=default)
    given = parser.parse_args(arguments)
    try:
        ipaddress.ip_address(given.host)
    except ValueError:
        raise StartError(
            f'HOST="{given.host}": expected an IP address of this machine, or 0.0.0.0 for all of them'
        ) from None
    if not given.port.isdecimal() or int(given.port) > LAST_PORT:
        raise StartError(
            f'PORT="{given.port}": expected a port from 1 to {LAST_PORT}, or 0 for a free one; the relay takes the next'
        )
    if bool(given.cert) != bool(given.key):
        raise StartError("CERT and KEY come together: the certificate with its chain, and its private key")
    if given.stun and not given.stun.startswith(("stun:", "stuns:")):
        raise StartError(f'STUN="{given.stun}": expected stun:HOST:PORT')
    cert, key = (str(Path(each).resolve()) if each else "" for each in (given.cert, given.key))
    return Options(given.host, int(given.port), cert, key, given.stun)


def main() -> int:
    """Exit codes as the relay's: 0 stopped as asked, 1 it died, 2 it cannot start like this."""
    for number in ENDING:
        signal.signal(number, _interrupt)
    try:
        return run(parse(sys.argv[1:]))
    except KeyboardInterrupt:
        return 0
    except StartError as error:
        say(str(error))
        return 2


def say(text: str) -> None:
    """To the user, beside what the relay logs."""
    print(f"make example: {text}", file=sys.stderr)  # noqa: T201


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # once is enough: the relay is being ended
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
