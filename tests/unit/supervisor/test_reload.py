from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.errors import ConfigError
from config.settings import Admin, Announce, Identity, Limits, Listener, Settings
from supervisor import plan
from supervisor.reload import Reader
from tests.support.certificate import loopback_certificate

WS = Listener(address="/ip4/127.0.0.1/tcp/0/ws", workers=1)
TCP = Listener(address="/ip4/127.0.0.1/tcp/0", workers=1)


class World:
    """A relay that was started with `running`, and what its configuration says now."""

    def __init__(self, running: Settings) -> None:
        self.running = running
        self.plan = plan.prepare(running, {})
        self.wanted = running
        self.reader = Reader(self.read, {}, self.plan)

    def read(self) -> Settings:
        return self.wanted


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    key = Identity(key_file=str(tmp_path / "key"))
    world = World(Settings(identity=key, listeners=(WS, TCP), admin=admin(tmp_path)))
    yield world
    world.plan.close()


def admin(folder: Path, listen: str = "127.0.0.1:0") -> Admin:
    return Admin(listen=listen, control_socket=str(folder / "control.sock"))


def changed(world: World, **tables: object) -> Settings:
    return Settings(**{key: getattr(world.running, key) for key in ("identity", "listeners", "admin")} | tables)


def test_what_did_not_change_needs_nothing(world: World) -> None:
    change = world.reader.read_again(world.running)
    assert change.settings == world.running
    assert change.needs_restart == ()
    assert change.announced == world.plan.announced


def test_limits_and_addresses_change_at_once(world: World) -> None:
    wanted = changed(world, limits=Limits(max_circuits=7), announce=Announce(addresses=("/dns4/a.example/tcp/1/ws",)))
    world.wanted = wanted
    change = world.reader.read_again(world.running)
    assert change.settings == wanted
    assert change.needs_restart == ()
    assert change.announced == ("/dns4/a.example/tcp/1/ws",)


def test_what_is_wrong_is_the_same_error_as_at_the_start(world: World) -> None:
    world.wanted = changed(world, announce=Announce(addresses=("/ip4/0.0.0.0/tcp/1",)))
    with pytest.raises(ConfigError, match=r"announce.addresses\[0\]"):
        world.reader.read_again(world.running)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"admin": Admin(listen="127.0.0.1:1", control_socket="/x")}, ("admin.listen", "admin.control_socket")),
        ({"listeners": (WS,)}, ("listeners",)),
        ({"listeners": (WS, Listener(address="/ip4/127.0.0.1/tcp/0", workers=2))}, ("listeners[1].workers",)),
        ({"listeners": (Listener(address="/ip4/127.0.0.2/tcp/0/ws", workers=3), TCP)},
         ("listeners[0].address", "listeners[0].workers")),
    ],
)  # fmt: skip
def test_what_needs_a_restart_is_named_and_stays_while_the_rest_changes(
    world: World, wanted: dict[str, object], named: tuple[str, ...]
) -> None:
    world.wanted = changed(world, limits=Limits(max_circuits=7), **wanted)
    change = world.reader.read_again(world.running)
    assert change.needs_restart == named
    assert change.settings == changed(world, limits=Limits(max_circuits=7))


def test_another_key_needs_a_restart_and_is_not_created(world: World, tmp_path: Path) -> None:
    world.wanted = changed(world, identity=Identity(key_file=str(tmp_path / "other")))
    change = world.reader.read_again(world.running)
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
    world = World(Settings(identity=key, listeners=(listener("one"),), admin=admin(tmp_path)))
    wanted = Settings(identity=key, listeners=(listener("two"),), admin=admin(tmp_path))
    world.wanted = wanted
    change = world.reader.read_again(world.running)
    assert change.needs_restart == ()
    assert change.settings == wanted
    world.plan.close()
