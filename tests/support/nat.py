"""Two homes behind NATs and the Internet between them, in network namespaces that end with the test. Needs root.

The Internet is a thread of the test: it hands packets from one namespace to the other, each after the same delay. So
the kernel needs no delaying queue, and no packet has a way out: a namespace reaches what stands here, and nothing else.
"""

import ctypes
import fcntl
import os
import secrets
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.toolchain import missing, required_program

Made = TypeVar("Made")

# Peers try public addresses only. These are nobody's here: the namespaces have no link to any network.
INTERNET = "11.0.0.0/8"
RELAY = "11.0.0.1"
PUBLIC = ("11.0.1.1", "11.0.2.1")
PRIVATE = ("192.168.1", "192.168.2")

DELAY_S = 0.030  # one way, between any two public addresses
CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 20.0

TUN = Path("/dev/net/tun")
LONGEST_PACKET = 65_535
IP_VERSION = 4
# <linux/sched.h>, <linux/if_tun.h>
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000

# Ports are kept where they are free. What nobody asked for is dropped without a word: an RST would end a hole punch.
ROUTER = """
table ip home {
    chain leaving { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
    chain passing {
        type filter hook forward priority filter; policy drop;
        iifname "lan" accept
        ct state established,related accept
    }
    chain arriving { type filter hook input priority filter; policy drop; }
}
"""


@dataclass(frozen=True)
class Namespace:
    """A network namespace, by its name; `address` is what the programs in it listen on."""

    name: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What to put in front of a command that is to run in here."""
        return ["ip", "netns", "exec", self.name]

    def run(self, *command: str, given: str = "") -> None:
        run(*self.prefix, *command, given=given)

    def inside(self, make: Callable[[], Made]) -> Made:
        """Call in a thread that is in here, and ends; what it opens stays in here."""

        def entered() -> Made:
            enter(self.name)
            return make()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(entered).result()

    def connect(self, where: tuple[str, int], timeout_s: float = CONNECT_TIMEOUT_S) -> socket.socket:
        """A TCP connection from in here."""
        return self.inside(lambda: socket.create_connection(where, timeout_s))


@dataclass(frozen=True)
class Home:
    """A host behind a NAT, and the address that everybody else sees instead of it."""

    host: Namespace
    public: str


@dataclass(frozen=True)
class Homes:
    """Where the relay runs, and the two homes that it can reach only when they have called it."""

    relay: Namespace
    left: Home
    right: Home


class Internet:
    """Hands packets on by destination, in their order. Context manager; attach everything before it is entered."""

    def __init__(self) -> None:
        self._routes: dict[bytes, int] = {}
        self._selector = selectors.DefaultSelector()
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run, name="internet")

    def attach(self, namespace: Namespace, address: str, route: str) -> None:
        """Give the namespace the interface "wan" with a public address, and a route over it."""
        wan = namespace.inside(open_wan)
        self._routes[socket.inet_aton(address)] = wan
        self._selector.register(wan, selectors.EVENT_READ)
        namespace.run("ip", "address", "add", f"{address}/32", "dev", "wan")
        namespace.run("ip", "link", "set", "wan", "up")
        namespace.run("ip", "route", "add", route, "dev", "wan")

    def __enter__(self) -> None:
        self._selector.register(self._stop, selectors.EVENT_READ)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        os.write(self._stopper, b".")
        self._thread.join()

    def close(self) -> None:
        """End the interfaces, entered or not. To be called when the thread is not running."""
        self._selector.close()
        for opened in (self._stop, self._stopper, *self._routes.values()):
            os.close(opened)

    def _run(self) -> None:
        under_way: deque[tuple[float, int, bytes]] = deque()
        while True:
            wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            for key, _ in self._selector.select(wait_s):
                if key.fd == self._stop:
                    return
                packet = os.read(key.fd, LONGEST_PACKET)
                to = self._routes.get(packet[16:20])
                if packet[0] >> 4 == IP_VERSION and to is not None:
                    under_way.append((time.monotonic() + DELAY_S, to, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, to, packet = under_way.popleft()
                os.write(to, packet)


@contextmanager
def two_homes() -> Iterator[Homes]:
    """Build it all; skip the test (fail it with CI) on a machine where that is not possible."""
    if os.geteuid() != 0:
        missing("root, for network namespaces")
    required_program("ip")
    required_program("nft")
    if not TUN.exists():
        missing(str(TUN))
    mark = f"frost-{secrets.token_hex(4)}"
    with ExitStack() as built:
        internet = Internet()
        built.callback(internet.close)
        relay = built.enter_context(namespace(f"{mark}-relay", RELAY))
        internet.attach(relay, RELAY, INTERNET)
        homes = []
        for number, (public, private) in enumerate(zip(PUBLIC, PRIVATE, strict=True)):
            router = built.enter_context(namespace(f"{mark}-router-{number}", f"{private}.1"))
            host = built.enter_context(namespace(f"{mark}-host-{number}", f"{private}.2"))
            connect_home(router, host)
            internet.attach(router, public, "default")
            homes.append(Home(host, public))
        built.enter_context(internet)
        yield Homes(relay, *homes)


@contextmanager
def namespace(name: str, address: str) -> Iterator[Namespace]:
    try:
        run("ip", "netns", "add", name)
    except CommandError as error:
        missing(f"leave to make network namespaces ({error})")
    try:
        made = Namespace(name, address)
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        run("ip", "netns", "delete", name)


def connect_home(router: Namespace, host: Namespace) -> None:
    """Put both on a network of their own, and let the router do its work between that and its "wan"."""
    run(
        *("ip", "link", "add", "name", "lan", "netns", router.name, "type", "veth"),
        *("peer", "name", "lan", "netns", host.name),
    )
    for each in (router, host):
        each.run("ip", "address", "add", f"{each.address}/24", "dev", "lan")
        each.run("ip", "link", "set", "lan", "up")
    host.run("ip", "route", "add", "default", "via", router.address)
    router.run("nft", "--file", "-", given=ROUTER)
    router.inside(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))


def open_wan() -> int:
    """A new interface "wan" in the namespace of this thread: what is sent over it is read here, as packets."""
    device = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"wan", IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(device)
        raise
    return device


def enter(name: str) -> None:
    """Move this thread to a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(handle, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")
    finally:
        os.close(handle)


class CommandError(Exception):
    """A command failed; the text has what it complained of."""


def run(*command: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(command)}: {done.stderr.strip()}")
