"""The server context for WSS listeners: good files serve, bad ones are named."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from config.errors import ConfigError
from tests.support.tls import handshake, write_certificate
from transports.tls import server_context

KEY = "listeners[2]"


def test_a_good_pair_serves_http_1_1_over_tls_1_2_or_newer(tmp_path: Path) -> None:
    cert_file, key_file = write_certificate(tmp_path)
    client = ssl.create_default_context(cafile=cert_file)
    client.set_alpn_protocols(["h2", "http/1.1"])
    connected = handshake(server_context(cert_file, key_file, KEY), client)
    assert connected.version() == "TLSv1.3"
    assert connected.selected_alpn_protocol() == "http/1.1"
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(server_context(cert_file, key_file, KEY), client).version() == "TLSv1.2"


def test_a_client_that_is_too_old_is_refused(tmp_path: Path) -> None:
    cert_file, key_file = write_certificate(tmp_path)
    assert server_context(cert_file, key_file, KEY).minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("missing", ["cert_file", "key_file"])
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, missing: str) -> None:
    files = dict(zip(("cert_file", "key_file"), write_certificate(tmp_path), strict=True))
    files[missing] = str(tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match="readable file") as refused:
        server_context(files["cert_file"], files["key_file"], KEY)
    assert str(refused.value).startswith(f"listeners[2].{missing} = ")
    assert "absent.pem" in str(refused.value)
    files[missing] = str(tmp_path)
    with pytest.raises(ConfigError, match="readable file"):
        server_context(files["cert_file"], files["key_file"], KEY)


def test_files_that_hold_something_else_are_refused_in_one_line(tmp_path: Path) -> None:
    cert_file, key_file = write_certificate(tmp_path / "one")
    _, other_key = write_certificate(tmp_path / "two")
    _, locked_key = write_certificate(tmp_path / "three", password=b"secret")
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    for pair in (
        (str(rubbish), key_file),
        (cert_file, str(rubbish)),
        (cert_file, other_key),
        (cert_file, locked_key),
        (key_file, cert_file),
    ):
        with pytest.raises(ConfigError) as refused:
            server_context(*pair, KEY)
        assert str(refused.value).startswith("listeners[2].cert_file = ")
        assert "\n" not in str(refused.value)
