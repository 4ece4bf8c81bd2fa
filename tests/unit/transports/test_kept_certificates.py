"""The certificates that successors begin with: in shared memory, one whole after the other."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificate import loopback_certificate
from transports import kept_certificates
from transports.kept_certificates import KeptCertificate
from transports.tls import server_context

LISTENER = "/ip4/0.0.0.0/tcp/443/tls/ws"


@pytest.fixture
def memory() -> Iterator[int]:
    fd = kept_certificates.create()
    yield fd
    os.close(fd)


@pytest.fixture
def kept(memory: int) -> KeptCertificate:
    return KeptCertificate(memory, LISTENER)


def pair(folder: Path, name: str) -> tuple[str, str]:
    made = folder / name
    made.mkdir()
    loopback_certificate(made)
    return str(made / "fullchain.pem"), str(made / "privkey.pem")


def test_nothing_is_kept_at_first(kept: KeptCertificate, tmp_path: Path) -> None:
    assert not kept.holds(pair(tmp_path, "first"))
    with kept.files() as good:
        assert good is None


def test_what_is_kept_can_be_served(kept: KeptCertificate, memory: int, tmp_path: Path) -> None:
    files = pair(tmp_path, "first")
    kept.keep(files)
    with KeptCertificate(memory, LISTENER).files() as good:
        assert good is not None
        assert isinstance(server_context(*good, "listeners[0]"), ssl.SSLContext)
        assert [Path(each).read_bytes() for each in good] == [Path(each).read_bytes() for each in files]


def test_the_latest_takes_the_place_of_the_one_before_also_if_it_is_shorter(
    kept: KeptCertificate, tmp_path: Path
) -> None:
    first, second = pair(tmp_path, "first"), (str(tmp_path / "cert"), str(tmp_path / "key"))
    for each in second:
        Path(each).write_bytes(b"short")
    kept.keep(first)
    assert kept.holds(first)
    assert not kept.holds(second)
    kept.keep(second)
    assert kept.holds(second)
    assert not kept.holds(first)


def test_each_listener_has_its_own(kept: KeptCertificate, memory: int, tmp_path: Path) -> None:
    other = KeptCertificate(memory, "/ip4/0.0.0.0/tcp/8443/tls/ws")
    first, second = pair(tmp_path, "first"), pair(tmp_path, "second")
    kept.keep(first)
    other.keep(second)
    assert kept.holds(first)
    assert other.holds(second)


def test_files_that_are_gone_change_nothing(kept: KeptCertificate, tmp_path: Path) -> None:
    files = pair(tmp_path, "first")
    kept.keep(files)
    gone = (files[0], str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        kept.keep(gone)
    assert not kept.holds(gone)
    assert kept.holds(files)


def test_nothing_of_it_is_on_a_disk_or_goes_to_a_program_that_is_started(memory: int) -> None:
    assert os.readlink(f"/proc/self/fd/{memory}").startswith("/memfd:")
    assert not os.get_inheritable(memory)
