"""A listener's certificate: a renewed one serves the handshakes that follow, a bad one changes nothing."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest

from config.errors import ConfigError
from tests.support.tls import both_ends, handshake, write_certificate
from transports.certificate import Certificate

KEY = "listeners[2]"


def trusting(cert_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cert_file)


@pytest.mark.parametrize("was_rsa", [False, True])
@pytest.mark.parametrize("is_rsa", [False, True])
def test_a_renewed_certificate_serves_the_handshakes_that_follow(tmp_path: Path, was_rsa: bool, is_rsa: bool) -> None:
    old, new = write_certificate(tmp_path / "old", is_rsa=was_rsa), write_certificate(tmp_path / "new", is_rsa=is_rsa)
    server = Certificate(*old, KEY)
    for _ in range(2):
        handshake(server.context, trusting(old[0]))
    server.load(*new)
    handshake(server.context, trusting(new[0]))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server.context, trusting(old[0]))
    server.load(*old)
    handshake(server.context, trusting(old[0]))


def test_a_client_that_names_no_server_gets_the_renewed_one_too(tmp_path: Path) -> None:
    old, new = write_certificate(tmp_path / "old"), write_certificate(tmp_path / "new")
    server = Certificate(*old, KEY)
    server.load(*new)
    client = trusting(new[0])
    client.check_hostname = False
    handshake(server.context, client, name=None)


def test_bad_files_are_refused_and_the_certificate_before_goes_on(tmp_path: Path) -> None:
    old, new = write_certificate(tmp_path / "old"), write_certificate(tmp_path / "new")
    server = Certificate(*old, KEY)
    (tmp_path / "half.pem").write_text(Path(new[0]).read_text()[:200])
    for cert_file, key_file in (
        (new[0], old[1]),
        (str(tmp_path / "half.pem"), new[1]),
        (str(tmp_path / "gone"), new[1]),
        write_certificate(tmp_path / "locked", password=b"x"),
    ):
        with pytest.raises(ConfigError, match=r"listeners\[2\]"):
            server.load(cert_file, key_file)
        handshake(server.context, trusting(old[0]))


def test_a_certificate_that_has_ended_does_not_replace_one_that_has_not(tmp_path: Path) -> None:
    old, ended = write_certificate(tmp_path / "old"), write_certificate(tmp_path / "ended", days=-1)
    server = Certificate(*old, KEY)
    now = datetime.datetime.now(datetime.UTC).timestamp()
    with pytest.raises(ConfigError, match="not ended"):
        server.load(*ended, now)
    handshake(server.context, trusting(old[0]))
    assert server.expires_unix_s == pytest.approx(now + 86_400, abs=60)
    Certificate(*ended, KEY).load(*ended, now)  # where there is no better one, it stays


def test_the_name_that_a_client_asks_for_is_said_once(tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    server, anybody = Certificate(*files, KEY), trusting(files[0])
    anybody.check_hostname = False
    ends = [both_ends(server.context, anybody, name)[1] for name in ("localhost", None)]
    assert [server.name_asked_for(end) for end in (*ends, *ends)] == ["localhost", "", "", ""]
