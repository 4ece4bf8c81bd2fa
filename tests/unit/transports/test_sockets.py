from __future__ import annotations

import os
import socket
from contextlib import closing

import pytest

from config.errors import ConfigError
from tests.support.ports import free_port
from transports import sockets
from transports.address import parse_listen

KEY = "listeners[1].address"


def test_one_socket_a_worker_on_the_port_that_the_first_one_got() -> None:
    address, opened = sockets.open_listeners(parse_listen("/ip4/127.0.0.1/tcp/0/ws", KEY), 3, KEY)
    assert len(opened) == 3
    assert {each.getsockname() for each in opened} == {("127.0.0.1", address.port)}
    assert address.port > 0
    assert address.multiaddr == f"/ip4/127.0.0.1/tcp/{address.port}/ws"
    assert not any(each.getblocking() for each in opened)
    sockets.close_all(opened)


def test_connections_are_spread_over_the_sockets() -> None:
    address, opened = sockets.open_listeners(parse_listen("/ip4/127.0.0.1/tcp/0", KEY), 2, KEY)
    clients = [socket.create_connection(("127.0.0.1", address.port)) for _ in range(64)]
    accepted = [0, 0]
    for index, listener in enumerate(opened):
        while True:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                break
            accepted[index] += 1
    assert sum(accepted) == 64
    assert min(accepted) > 8
    for each in clients:
        each.close()
    sockets.close_all(opened)


def test_a_taken_port_is_named_with_who_has_it() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            sockets.open_listeners(parse_listen(f"/ip4/127.0.0.1/tcp/{port}", KEY), 2, KEY)
    line = str(raised.value)
    assert line.startswith(f'{KEY} = "/ip4/127.0.0.1/tcp/{port}": expected an address that no other program uses')
    assert f"port {port} is taken" in line


def test_who_has_the_port_is_told_when_it_is_another_process() -> None:
    read_end, write_end = os.pipe()
    other = socket.create_server(("127.0.0.1", 0))
    port = other.getsockname()[1]
    child = os.fork()
    if not child:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    other.close()  # only the child has it now
    try:
        with pytest.raises(ConfigError, match=f"taken by pid {child} "):
            sockets.open_listeners(parse_listen(f"/ip4/127.0.0.1/tcp/{port}", KEY), 1, KEY)
    finally:
        os.close(write_end)
        os.close(read_end)
        os.waitpid(child, 0)


def test_a_port_that_another_relay_shares_is_refused_all_the_same() -> None:
    address, opened = sockets.open_listeners(parse_listen("/ip4/127.0.0.1/tcp/0", KEY), 2, KEY)
    with pytest.raises(ConfigError, match="no other program uses"):
        sockets.open_listeners(parse_listen(f"/ip4/127.0.0.1/tcp/{address.port}", KEY), 2, KEY)
    sockets.close_all(opened)


def test_an_address_that_this_machine_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="an address that this machine has"):
        sockets.open_listeners(parse_listen("/ip4/192.0.2.1/tcp/0", KEY), 1, KEY)


def test_an_ipv6_wildcard_leaves_ipv4_alone() -> None:
    port = free_port()
    _, six = sockets.open_listeners(parse_listen(f"/ip6/::/tcp/{port}", KEY), 1, KEY)
    _, four = sockets.open_listeners(parse_listen(f"/ip4/0.0.0.0/tcp/{port}", KEY), 1, KEY)
    assert six[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    sockets.close_all([*six, *four])


def test_the_admins_socket_is_for_one_process_alone() -> None:
    with closing(sockets.open_private("localhost", 0, "admin.listen", "localhost:0")) as admin:
        host, port = admin.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(ConfigError, match=r"admin\.listen"):
            sockets.open_private("127.0.0.1", port, "admin.listen", f"127.0.0.1:{port}")


def test_a_host_that_cannot_be_found_is_a_setting_that_cannot_be_used() -> None:
    with pytest.raises(ConfigError, match=r"admin\.listen"):
        sockets.open_private("no-such-host.invalid", 0, "admin.listen", "no-such-host.invalid:0")


def test_what_the_kernel_holds_of_an_accepted_connection_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sockets.bound_kernel_buffers(listening)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # the kernel doubles what it is asked for
                assert accepted.getsockopt(socket.SOL_SOCKET, option) <= 2 * sockets.KERNEL_BUFFER_BYTES
