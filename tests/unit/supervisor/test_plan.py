from __future__ import annotations

import os
import pickle
import ssl
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from config.errors import ConfigError
from config.settings import Access, Admin, Announce, Canary, Identity, Listener, Settings
from supervisor import plan
from supervisor.listening import workers


def settings(tmp_path: Path, *listeners: Listener, admin: str = "") -> Settings:
    return Settings(
        identity=Identity(key_file=str(tmp_path / "key")),
        listeners=listeners,
        admin=Admin(listen=admin, control_socket=str(tmp_path / "control.sock")),
    )


def test_every_process_has_a_row_and_every_worker_a_socket(tmp_path: Path) -> None:
    wanted = settings(
        tmp_path,
        Listener(address="/ip4/127.0.0.1/tcp/0/ws", workers=2),
        Listener(address="/ip4/127.0.0.1/tcp/0", workers=1),
        admin="127.0.0.1:0",
    )
    made = plan.prepare(wanted, {})
    assert [slot.index for slot in made.slots] == list(range(8))
    assert [slot.role for slot in made.slots] == [
        "main", "system", "supervisor", "registry", "listener", "listener", "listener", "admin",
    ]  # fmt: skip
    ws, again, tcp = made.slots[4:7]
    port = made.sockets[0].getsockname()[1]
    assert (ws.name, again.name) == (f"ws-{port}/0", f"ws-{port}/1")
    assert ws.listener == again.listener == f"/ip4/127.0.0.1/tcp/{port}/ws"
    assert tcp.name.startswith("tcp-")
    assert [slot.listener_index for slot in (ws, again, tcp)] == [0, 0, 1]
    assert [slot.socket_fd for slot in made.slots[4:]] == [each.fileno() for each in made.sockets]
    assert made.announced == (ws.listener, tcp.listener)
    made.close()


def test_no_workers_means_one_a_core_that_we_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5})
    assert workers(Listener(address="x")) == 3
    assert workers(Listener(address="x", workers=2)) == 2


def test_an_admin_without_http_still_serves_the_control_socket(tmp_path: Path) -> None:
    made = plan.prepare(settings(tmp_path, Listener(address="/ip4/127.0.0.1/tcp/0", workers=1)), {})
    (admin,) = (slot for slot in made.slots if slot.role == "admin")
    assert (admin.socket_fd, admin.control_fd) == (-1, made.control.fileno())
    made.close()
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_a_token_is_read_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "token").chmod(0o600)
    wanted = settings(tmp_path, Listener(address="/ip4/127.0.0.1/tcp/0", workers=1))
    wanted = msgspec.structs.replace(
        wanted, admin=msgspec.structs.replace(wanted.admin, token_file=f"{tmp_path}/token")
    )
    made = plan.prepare(wanted, {})
    assert made.admin_token == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(made)
    made.close()
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match=r"admin\.token_file"):
        plan.check(wanted, {})


def test_listeners_with_the_same_port_on_two_hosts_have_names_of_their_own(tmp_path: Path) -> None:
    first = plan.prepare(settings(tmp_path, Listener(address="/ip4/127.0.0.1/tcp/0", workers=2)), {})
    port = first.sockets[0].getsockname()[1]
    first.close()
    made = plan.prepare(
        settings(
            tmp_path,
            Listener(address=f"/ip4/127.0.0.1/tcp/{port}", workers=2),
            Listener(address=f"/ip4/127.0.0.2/tcp/{port}", workers=2),
        ),
        {},
    )
    names = [slot.name for slot in made.slots if slot.role == "listener"]
    assert names == [f"tcp-{port}/0", f"tcp-{port}/1", f"tcp-{port}/2", f"tcp-{port}/3"]
    made.close()


def test_check_leaves_nothing_behind_and_reads_a_key_that_is_there(tmp_path: Path) -> None:
    wanted = settings(tmp_path, Listener(address="/ip4/127.0.0.1/tcp/0", workers=1))
    before = set(os.listdir("/proc/self/fd"))
    plan.check(wanted, {})
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "key").write_bytes(b"garbage")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ConfigError, match=r"identity\.key_file"):
        plan.check(wanted, {})


def test_a_plan_that_fails_late_closes_its_sockets_and_makes_no_key(tmp_path: Path) -> None:
    wanted = settings(tmp_path, Listener(address="/ip4/127.0.0.1/tcp/0", workers=3), admin="192.0.2.1:1")
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match=r"admin\.listen"):
        plan.prepare(wanted, {})
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        (Settings(access=Access(deny_peers=("nobody",))), "access.deny_peers[0]"),
        (Settings(access=Access(trusted_proxies=("127.0.0.1/33",))), "access.trusted_proxies[0]"),
        (Settings(announce=Announce(addresses=("/ip4/1.2.3.4/udp/1",))), "announce.addresses[0]"),
        (Settings(listeners=(Listener(address="/ip4/127.0.0.1/tcp/99999"),)), "listeners[0].address"),
    ],
)
def test_each_table_is_checked_by_those_who_will_use_it(tmp_path: Path, changed: Settings, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        plan.check(changed, {"STATE_DIRECTORY": str(tmp_path)})
    assert raised.value.key == key


def test_a_certificate_is_opened_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    (tmp_path / "key.pem").write_text("no key")
    listener = Listener(
        address="/ip4/127.0.0.1/tcp/0/tls/ws", cert_file=f"{tmp_path}/cert.pem", key_file=f"{tmp_path}/key.pem"
    )
    with pytest.raises(ConfigError, match=r"listeners\[0\]\.cert_file") as raised:
        plan.check(settings(tmp_path, listener), {})
    assert isinstance(raised.value.__cause__, ssl.SSLError)


def test_lists_that_no_message_could_carry_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(address="/ip4/127.0.0.1/tcp/0", workers=1)
    plain = settings(tmp_path, listener)
    monkeypatch.setattr(plan, "MAX_SETTINGS_BYTES", len(pickle.dumps(plain)))
    plan.check(plain, {})
    wanted = msgspec.structs.replace(plain, access=Access(deny_subnets=("10.0.0.0/8",)))
    with pytest.raises(ConfigError, match="access"):
        plan.check(wanted, {})


def test_there_is_a_canary_only_when_it_has_an_interval(tmp_path: Path) -> None:
    off = settings(tmp_path, Listener(address="/ip4/127.0.0.1/tcp/0", workers=1))
    with closing(plan.prepare(off, {})) as made:
        assert "canary" not in {slot.role for slot in made.slots}
    with closing(plan.prepare(msgspec.structs.replace(off, canary=Canary(interval_s=300)), {})) as made:
        assert [slot.name for slot in made.slots if slot.role == "canary"] == ["canary"]


@pytest.mark.parametrize(
    ("canary", "key"),
    [
        (Canary(address="nowhere:1"), "canary.address"),
        (Canary(address="/ip4/127.0.0.1/udp/1"), "canary.address"),
        (Canary(ca_file="/no/such/file"), "canary.ca_file"),
        (Canary(ca_file=__file__), "canary.ca_file"),
    ],
)
def test_what_a_canary_cannot_use_is_refused_at_the_start(tmp_path: Path, canary: Canary, key: str) -> None:
    wanted = settings(tmp_path, Listener(address="/ip4/127.0.0.1/tcp/0", workers=1))
    with pytest.raises(ConfigError) as caught:
        plan.check(msgspec.structs.replace(wanted, canary=canary), {})
    assert caught.value.key == key
