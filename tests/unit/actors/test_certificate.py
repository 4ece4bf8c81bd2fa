from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from actors import log
from actors.board import Board, BoardRow
from actors.certificate import CertificateKeeper
from tests.support.certificate import loopback_certificate
from transports import kept_certificates
from transports.certificate import Certificate
from transports.kept_certificates import KeptCertificate

DAY_S = 86_400


class World:
    """A keeper over files that are symbolic links, as certbot makes them, with the clock turned by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = time.time()
        self.live = folder / "live"
        self.live.mkdir()
        self.kept = KeptCertificate(kept_certificates.create(), "/ip4/127.0.0.1/tcp/443/tls/ws")
        self.files = str(self.live / "fullchain.pem"), str(self.live / "privkey.pem")

    def certificate(self, name: str, days: float) -> Path:
        made = self.folder / name
        made.mkdir()
        loopback_certificate(made, days)
        return made

    def point_at(self, archive: Path) -> None:
        for link in self.files:
            new = Path(f"{link}.new")
            new.symlink_to(archive / Path(link).name)
            new.rename(link)

    def keep(self, *, speaks: bool = True) -> tuple[CertificateKeeper, Certificate, BoardRow]:
        with self.kept.files() as good:
            certificate = Certificate(*(good or self.files), "listeners[0]")
        if good is None:
            self.kept.keep(self.files)
        row = Board.create(1).row(0)
        keeper = CertificateKeeper(certificate, self.files, self.kept, row, lambda: self.now, speaks=speaks)
        return keeper, certificate, row

    def days_left(self, certificate: Certificate) -> int:
        return round((certificate.expires_unix_s - self.now) / DAY_S)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.point_at(world.certificate("first", 30))
    return world


@pytest.fixture(autouse=True)
def _warnings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log.OUTPUT, "threshold", log.WARNING)


def test_a_renewed_certificate_is_taken_once_its_files_rest_for_a_look(world: World) -> None:
    keeper, certificate, row = world.keep()
    keeper.look()
    assert world.days_left(certificate) == 30
    world.point_at(world.certificate("second", 90))
    keeper.look()
    assert world.days_left(certificate) == 30
    keeper.look()
    assert world.days_left(certificate) == 90
    assert row.certificate_expires_unix_s == certificate.expires_unix_s


def test_files_that_are_written_over_in_place_are_noticed_too(world: World) -> None:
    keeper, certificate, _ = world.keep()
    second = world.certificate("second", 90)
    shutil.copyfile(second / "fullchain.pem", world.folder / "first" / "fullchain.pem")
    keeper.look()
    shutil.copyfile(second / "privkey.pem", world.folder / "first" / "privkey.pem")
    keeper.look()
    keeper.look()
    assert world.days_left(certificate) == 90


def test_a_bad_one_is_refused_once_and_a_better_one_taken(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    keeper, certificate, _ = world.keep()
    good = world.certificate("second", 90)
    bad = world.folder / "bad"
    shutil.copytree(good, bad)
    (bad / "fullchain.pem").write_bytes((good / "fullchain.pem").read_bytes()[:100])
    world.point_at(bad)
    for _ in range(5):
        keeper.look()
    assert capsys.readouterr().err.count("certificate refused") == 1
    assert world.days_left(certificate) == 30
    shutil.copyfile(good / "fullchain.pem", bad / "fullchain.pem")
    keeper.look()
    keeper.look()
    assert world.days_left(certificate) == 90


def test_files_that_are_gone_for_a_while_change_nothing(world: World) -> None:
    keeper, certificate, _ = world.keep()
    os.unlink(world.files[0])
    for _ in range(3):
        keeper.look()
    assert world.days_left(certificate) == 30
    world.point_at(world.folder / "first")
    keeper.look()
    keeper.look()
    assert world.days_left(certificate) == 30


def test_other_files_are_taken_at_once(world: World) -> None:
    keeper, certificate, _ = world.keep()
    other = world.certificate("other", 60)
    keeper.use((str(other / "fullchain.pem"), str(other / "privkey.pem")))
    assert world.days_left(certificate) == 60


def test_its_end_is_warned_of_from_14_days_ahead_once_a_day(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    keeper, _, _ = world.keep()

    def said(days: float, looks: int = 3) -> str:
        world.now += days * DAY_S
        for _ in range(looks):
            keeper.look()
        return capsys.readouterr().err

    assert said(15.9) == ""
    assert said(0.2).count("certificate ends soon") == 1
    assert said(0.9) == ""
    assert said(0.2).count("certificate ends soon") == 1
    assert said(13.0).count("certificate has ended") == 1


def test_a_renewal_ends_the_warnings(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    keeper, _, _ = world.keep()
    world.now += 20 * DAY_S
    keeper.look()
    assert "certificate ends soon" in capsys.readouterr().err
    world.point_at(world.certificate("second", 90))
    for _ in range(2):
        keeper.look()
    world.now += 2 * DAY_S
    keeper.look()
    assert capsys.readouterr().err == ""


def test_of_several_workers_one_speaks_and_all_take_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    keeper, certificate, row = world.keep(speaks=False)
    world.now += 20 * DAY_S
    keeper.look()
    world.point_at(world.certificate("second", 90))
    for _ in range(2):
        keeper.look()
    assert row.certificate_expires_unix_s == certificate.expires_unix_s
    assert world.days_left(certificate) == 70
    assert capsys.readouterr().err == ""


def test_a_successor_begins_with_what_was_served_when_the_files_are_bad(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, _ = world.keep()
    first.look()
    world.point_at(world.certificate("second", 90))
    first.look()
    first.look()
    Path(world.files[1]).write_bytes(b"no key")
    keeper, certificate, row = world.keep()
    assert world.days_left(certificate) == 90
    assert row.certificate_expires_unix_s == certificate.expires_unix_s
    for _ in range(4):
        keeper.look()
    assert world.days_left(certificate) == 90
    assert capsys.readouterr().err.count("certificate refused") == 1
    world.point_at(world.certificate("third", 60))
    keeper.look()
    keeper.look()
    assert world.days_left(certificate) == 60


def test_a_successor_takes_files_that_are_better_than_what_was_kept(world: World) -> None:
    world.keep()
    world.point_at(world.certificate("second", 90))
    keeper, certificate, _ = world.keep()
    assert world.days_left(certificate) == 30
    keeper.look()
    keeper.look()
    assert world.days_left(certificate) == 90
