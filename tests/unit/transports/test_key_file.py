"""The relay's own key and its file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.peer.id import ID

from config.errors import ConfigError
from transports.identity import HostKey
from transports.key_file import load_or_create_host_key
from transports.proto import crypto_pb2


def test_a_key_file_is_created_for_its_owner_only_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "relay" / "identity.key"
    created = load_or_create_host_key(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.read_bytes() == created.private_protobuf()
    assert [entry.name for entry in path.parent.iterdir()] == ["identity.key"]
    before = path.stat()
    assert load_or_create_host_key(str(path)).seed == created.seed
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_key_file_in_the_current_directory_needs_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_or_create_host_key("identity.key").seed == load_or_create_host_key("identity.key").seed


def test_the_created_file_is_what_the_specification_describes(tmp_path: Path) -> None:
    host = load_or_create_host_key(str(tmp_path / "key"))
    parsed = crypto_pb2.PrivateKey.FromString((tmp_path / "key").read_bytes())
    assert parsed.Type == crypto_pb2.Ed25519
    assert parsed.Data == host.seed + host.public_protobuf[4:]
    # py-libp2p keeps the seed alone; the half of ours that it calls the key makes the same peer.
    theirs = Ed25519PrivateKey.from_bytes(parsed.Data[:32]).get_public_key()
    assert ID.from_pubkey(theirs).to_bytes() == host.peer_id


def test_a_key_file_that_another_start_created_first_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    first = HostKey.generate()
    link = os.link

    def beaten_to_it(source: str, target: str) -> None:
        _write(path, first.private_protobuf())
        link(source, target)

    monkeypatch.setattr(os, "link", beaten_to_it)
    assert load_or_create_host_key(str(path)).seed == first.seed
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("copies_of_public", [1, 2])
def test_both_published_forms_of_a_key_file_are_read(tmp_path: Path, copies_of_public: int) -> None:
    host = HostKey.generate()
    data = host.seed + host.public_protobuf[4:] * copies_of_public
    _write(tmp_path / "key", crypto_pb2.PrivateKey(Type=crypto_pb2.Ed25519, Data=data).SerializeToString())
    assert load_or_create_host_key(str(tmp_path / "key")).peer_id == host.peer_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_key_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    load_or_create_host_key(str(path))
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"identity\.key_file = .*{mode:04o}"):
        load_or_create_host_key(str(path))
    path.chmod(0o400)
    load_or_create_host_key(str(path))


def test_a_symbolic_link_to_a_good_key_file_is_followed(tmp_path: Path) -> None:
    host = load_or_create_host_key(str(tmp_path / "key"))
    (tmp_path / "link").symlink_to(tmp_path / "key")
    assert load_or_create_host_key(str(tmp_path / "link")).seed == host.seed


HOST = HostKey.from_seed(bytes(range(32)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"-----BEGIN PRIVATE KEY-----\n",
        HOST.seed,
        HOST.private_protobuf()[:-1],
        HOST.private_protobuf() + b"\n",
        HOST.private_protobuf()[:-1] + b"\0",
        crypto_pb2.PrivateKey(Type=crypto_pb2.Ed25519, Data=HOST.seed).SerializeToString(),
        crypto_pb2.PrivateKey(Type=crypto_pb2.Ed25519, Data=bytes(64)).SerializeToString(),
        crypto_pb2.PrivateKey(Type=crypto_pb2.Secp256k1, Data=HOST.private_protobuf()[4:]).SerializeToString(),
        crypto_pb2.PrivateKey(Data=HOST.private_protobuf()[4:]).SerializeToString(),
        HOST.private_protobuf() + b"\x7a\xff\x07" + bytes(1023),
        os.urandom(5000),
    ],
)
def test_a_key_file_with_anything_else_in_it_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    _write(path, content)
    with pytest.raises(ConfigError) as caught:
        load_or_create_host_key(str(path))
    message = str(caught.value)
    assert "identity.key_file" in message
    assert str(path) in message
    assert "\n" not in message
    assert HOST.seed.hex() not in message
    assert path.read_bytes() == content


def test_paths_that_cannot_hold_a_key_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path, tmp_path / "file" / "key", tmp_path / "dangling", tmp_path / "fifo"):
        with pytest.raises(ConfigError, match=r"identity\.key_file"):
            load_or_create_host_key(str(path))
    for text in ("", "a\0b", str(tmp_path / ("n" * 300))):
        with pytest.raises(ConfigError, match=r"identity\.key_file"):
            load_or_create_host_key(text)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dangling", "fifo", "file"]


def test_the_whole_key_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    synced: list[tuple[bool, int]] = []

    def record(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((path.exists(), status.st_size if stat.S_ISREG(status.st_mode) else -1))

    monkeypatch.setattr(os, "fsync", record)
    load_or_create_host_key(str(path))
    assert synced == [(False, 68), (True, -1)]  # the file, then its directory


def test_a_disk_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        load_or_create_host_key(str(tmp_path / "key"))
    assert list(tmp_path.iterdir()) == []


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
