from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.board import Board, State
from config.errors import ConfigError
from config.settings import Admin, Announce, Canary, Identity, Limits, Listener, Settings
from supervisor import counter_files, plan
from supervisor.reload import Change, Reader
from tests.support.certificate import loopback_certificate
from tests.support.sockets import listening

WS = Listener(address="/ip4/127.0.0.1/tcp/0/ws", workers=1)
TCP = Listener(address="/ip4/127.0.0.1/tcp/0", workers=1)

SPARE = 3
"""Rows of the board that nobody has."""


class World:
    """A relay that was started with `running`, and what its configuration says now."""

    def __init__(self, running: Settings, folder: Path) -> None:
        self.running = running
        self.plan = plan.prepare(running, {})
        self.wanted = running
        self.board = Board.create(len(self.plan.slots) + SPARE)
        counter_files.make(str(folder), [slot.index for slot in self.plan.slots])
        self.reader = Reader(self.read, {}, self.board, str(folder))

    def read_again(self) -> Change:
        """What would be changed now, and is not."""
        change = self.reader.read_again(self.running, self.plan)
        change.plan.close_all_but(self.plan.sockets)
        return change

    def reload(self) -> Change:
        """As main does it."""
        change = self.reader.read_again(self.running, self.plan)
        before, self.plan, self.running = self.plan, change.plan, change.settings
        before.close_all_but(self.plan.sockets)
        return change

    def read(self) -> Settings:
        return self.wanted


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    key = Identity(key_file=str(tmp_path / "key"))
    world = World(Settings(identity=key, listeners=(WS, TCP), admin=admin(tmp_path)), tmp_path)
    yield world
    world.plan.close()


def admin(folder: Path, listen: str = "127.0.0.1:0") -> Admin:
    return Admin(listen=listen, control_socket=str(folder / "control.sock"))


def changed(world: World, **tables: object) -> Settings:
    return Settings(**{key: getattr(world.running, key) for key in ("identity", "listeners", "admin")} | tables)


def test_what_did_not_change_needs_nothing(world: World) -> None:
    change = world.read_again()
    assert change.settings == world.running
    assert change.needs_restart == ()
    assert change.plan.announced == world.plan.announced


def test_limits_and_addresses_change_at_once(world: World) -> None:
    wanted = changed(world, limits=Limits(max_circuits=7), announce=Announce(addresses=("/dns4/a.example/tcp/1/ws",)))
    world.wanted = wanted
    change = world.read_again()
    assert change.settings == wanted
    assert change.needs_restart == ()
    assert change.plan.announced == ("/dns4/a.example/tcp/1/ws",)


def test_what_is_wrong_is_the_same_error_as_at_the_start(world: World) -> None:
    world.wanted = changed(world, announce=Announce(addresses=("/ip4/0.0.0.0/tcp/1",)))
    with pytest.raises(ConfigError, match=r"announce.addresses\[0\]"):
        world.read_again()


def test_what_needs_a_restart_is_named_and_stays_while_the_rest_changes(world: World) -> None:
    elsewhere = Admin(listen="127.0.0.1:0", control_socket="/x")
    world.wanted = changed(world, limits=Limits(max_circuits=7), admin=elsewhere, canary=Canary(interval_s=300))
    change = world.read_again()
    assert change.needs_restart == ("admin.control_socket", "canary.interval_s")
    assert change.settings == changed(world, limits=Limits(max_circuits=7))


# --- listeners ---


def names(world: World) -> list[str]:
    return [slot.name for slot in world.plan.slots if slot.role == "listener" and not slot.leaving]


def test_a_listener_is_added_and_the_others_keep_sockets_and_workers(world: World, tmp_path: Path) -> None:
    before = world.plan
    world.wanted = changed(world, listeners=(TCP, Listener(address="/ip4/127.0.0.2/tcp/0", workers=2), WS))
    change = world.reload()
    assert change.needs_restart == ()
    tcp, new, ws = world.plan.listeners
    assert (ws.sockets, tcp.sockets) == tuple(each.sockets for each in before.listeners)
    assert [slot.listener_index for each in (tcp, new, ws) for slot in each.slots] == [0, 1, 1, 2]
    assert [slot.index for slot in new.slots] == [7, 8]
    assert len({each.getsockname() for each in new.sockets}) == 1
    assert f"/ip4/127.0.0.2/tcp/{new.where.port}" in world.plan.announced
    assert all((tmp_path / "counters" / f"counter_{slot.index}.db").stat().st_blocks for slot in new.slots)


def test_a_listener_that_is_taken_away_leaves_its_workers_without_an_address(world: World) -> None:
    gone = world.plan.listeners[1].sockets[0]
    world.wanted = changed(world, listeners=(WS,))
    world.reload()
    assert gone.fileno() == -1
    (leaving,) = world.plan.leaving
    assert (leaving.leaving, leaving.socket_fd, leaving.listener_index) == (True, -1, -1)
    assert leaving in world.plan.slots
    assert [text for text in world.plan.announced if not text.endswith("/ws")] == []


def test_a_row_and_a_name_are_given_out_again_once_their_process_has_ended(world: World) -> None:
    world.wanted = changed(world, listeners=(WS, Listener(address="/ip4/127.0.0.1/tcp/0", workers=3)))
    world.reload()
    before = names(world)
    world.wanted = changed(world, listeners=(WS, TCP))
    world.reload()
    two, three = world.plan.leaving
    assert names(world) == before[:2]
    world.board.row(two.index).state = State.STOPPED
    world.wanted = changed(world, listeners=(WS, Listener(address="/ip4/127.0.0.1/tcp/0", workers=3)))
    world.reload()
    assert world.plan.leaving == (three,)
    prefix = before[1].partition("/")[0]
    assert names(world)[1:] == [f"{prefix}/0", f"{prefix}/1", f"{prefix}/3"]
    assert world.plan.listeners[1].slots[1].index == two.index


def test_a_reload_for_which_there_are_no_rows_leaves_no_socket(world: World) -> None:
    before = set(os.listdir("/proc/self/fd"))
    world.wanted = changed(world, listeners=(WS, TCP, Listener(address="/ip4/127.0.0.2/tcp/0", workers=SPARE + 1)))
    with pytest.raises(ConfigError, match=f"listeners = .{SPARE + 1} more processes.: expected at most {SPARE} more"):
        world.read_again()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_reload_that_fails_behind_its_sockets_closes_them(world: World) -> None:
    before = set(os.listdir("/proc/self/fd"))
    there = (WS, TCP, Listener(address="/ip4/127.0.0.2/tcp/0", workers=2))
    world.wanted = changed(
        world, listeners=there, admin=admin(Path(world.running.admin.control_socket).parent, "192.0.2.1:1")
    )
    with pytest.raises(ConfigError, match=r"admin\.listen"):
        world.read_again()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_reload_that_cannot_have_its_counters_is_refused_and_leaves_no_socket(world: World, tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    (tmp_path / "counters").rename(tmp_path / "elsewhere")
    (tmp_path / "counters").touch()
    world.wanted = changed(world, listeners=(WS, TCP, Listener(address="/ip4/127.0.0.2/tcp/0", workers=2)))
    with pytest.raises(ConfigError, match=r"RUNTIME_DIRECTORY.*a directory that can be written"):
        world.read_again()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_port_may_go_from_one_of_our_listeners_to_another_but_not_be_had_by_two(world: World) -> None:
    port = world.plan.listeners[1].where.port
    other = Listener(address=f"/ip4/127.0.0.1/tcp/{port}/ws", workers=1)
    world.wanted = changed(world, listeners=(WS, TCP, other))
    with pytest.raises(ConfigError, match=f"port {port} is taken"):
        world.read_again()
    world.wanted = changed(world, listeners=(WS, other))
    world.reload()
    assert names(world)[1] == f"ws-{port}/0"
    assert world.plan.listeners[1].where.port == port


def test_a_listener_whose_sockets_systemd_has_stays_until_a_restart(world: World) -> None:
    ws, tcp = world.plan.listeners
    passed = replace(tcp, is_passed=True)
    world.plan = replace(world.plan, listeners=(ws, passed))
    world.wanted = changed(world, listeners=(WS,))
    change = world.reload()
    assert change.needs_restart == ("listeners /ip4/127.0.0.1/tcp/0",)
    assert change.settings.listeners == (WS, TCP)
    assert world.plan.listeners[1].sockets == tcp.sockets
    assert world.plan.leaving == ()


def test_workers_that_are_added_share_the_sockets_that_systemd_has_opened(world: World) -> None:
    ws, tcp = world.plan.listeners
    world.plan = replace(world.plan, listeners=(ws, replace(tcp, is_passed=True)))
    world.wanted = changed(world, listeners=(WS, Listener(address=TCP.address, workers=2)))
    world.reload()
    after = world.plan.listeners[1]
    assert after.sockets == tcp.sockets
    assert {slot.socket_fd for slot in after.slots} == {tcp.sockets[0].fileno()}
    assert all(slot.is_passed for slot in after.slots)


# --- the admin's socket ---


def test_the_admin_gets_another_socket_and_another_token(world: World, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("0123456789abcdef")
    before = world.plan.admin_socket
    control_socket = world.running.admin.control_socket
    wanted = Admin(listen="localhost:0", token_file=str(token), control_socket=control_socket)
    world.wanted = changed(world, admin=wanted)
    assert world.reload().needs_restart == ()
    assert before is not None
    assert before.fileno() == -1
    assert world.plan.admin_socket is not None
    (slot,) = (slot for slot in world.plan.slots if slot.role == "admin")
    assert slot.socket_fd == world.plan.admin_socket.fileno()
    assert world.plan.admin_token == "0123456789abcdef"
    world.wanted = changed(world, admin=Admin(listen="", control_socket=control_socket))
    world.reload()
    assert world.plan.admin_socket is None


def test_another_host_on_the_admins_own_port_needs_a_restart(tmp_path: Path) -> None:
    with listening() as free:
        port = free.getsockname()[1]
    key = Identity(key_file=str(tmp_path / "key"))
    world = World(Settings(identity=key, listeners=(TCP,), admin=admin(tmp_path, f"127.0.0.1:{port}")), tmp_path)
    world.wanted = changed(world, admin=admin(tmp_path, f"localhost:{port}"))
    assert world.read_again().needs_restart == ("admin.listen",)
    world.plan.close()


def test_another_key_needs_a_restart_and_is_not_created(world: World, tmp_path: Path) -> None:
    world.wanted = changed(world, identity=Identity(key_file=str(tmp_path / "other")))
    change = world.read_again()
    assert change.needs_restart == ("identity.key_file",)
    assert change.settings == world.running
    assert not (tmp_path / "other").exists()


def test_the_files_of_a_certificate_may_be_others(tmp_path: Path) -> None:
    def listener(name: str) -> Listener:
        folder = tmp_path / name
        folder.mkdir()
        cert_file, key_file = map(str, loopback_certificate(folder))
        return Listener(address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=1, cert_file=cert_file, key_file=key_file)

    key = Identity(key_file=str(tmp_path / "key"))
    world = World(Settings(identity=key, listeners=(listener("one"),), admin=admin(tmp_path)), tmp_path)
    wanted = Settings(identity=key, listeners=(listener("two"),), admin=admin(tmp_path))
    world.wanted = wanted
    change = world.read_again()
    assert change.needs_restart == ()
    assert change.settings == wanted
    world.plan.close()
