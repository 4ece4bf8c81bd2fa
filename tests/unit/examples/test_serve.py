"""What may be typed after `make example`, and what becomes of it. That it serves: tests/interop/test_example.py."""

import http.client
import json
import ssl
import tomllib
from pathlib import Path

import pytest

from config.load import load
from examples.browser.serve import FOLDER, Options, StartError, page_server, parse, tls_context, toml, urls
from tests.support.certificate import loopback_certificate

LAN = ["/ip4/192.0.2.7/tcp/8091/ws/p2p/x", "/ip4/198.51.100.7/tcp/8091/ws/p2p/x"]


def options(**given: object) -> Options:
    chosen = {"host": "127.0.0.1", "port": 8090, "cert": "", "key": "", "stun": "", **given}
    return parse([text for name, value in chosen.items() for text in (f"--{name}", str(value))])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "laptop"}, r'HOST="laptop": expected an IP address'),
        ({"port": "http"}, r'PORT="http": expected a port from 1 to 65534'),
        ({"port": 65535}, r'PORT="65535": expected a port from 1 to 65534'),
        ({"port": -1}, r'PORT="-1": expected a port from 1 to 65534'),
        ({"cert": "cert.pem"}, "CERT and KEY come together"),
        ({"key": "key.pem"}, "CERT and KEY come together"),
        ({"stun": "example.org"}, r'STUN="example.org": expected stun:HOST:PORT'),
    ],
)
def test_what_cannot_be_is_named_with_what_would_be_right(given: dict[str, object], said: str) -> None:
    with pytest.raises(StartError, match=said):
        options(**given)


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=rf"CERT={tmp_path}/none.pem and KEY={tmp_path}/none.pem cannot be used"):
        tls_context(options(cert=tmp_path / "none.pem", key=tmp_path / "none.pem"))


@pytest.mark.parametrize(
    ("given", "listener"),
    [
        ({}, "/ip4/127.0.0.1/tcp/8091/ws"),
        ({"port": 0}, "/ip4/127.0.0.1/tcp/0/ws"),
        ({"host": "0.0.0.0", "port": 80}, "/ip4/0.0.0.0/tcp/81/ws"),
        ({"host": "::1"}, "/ip6/::1/tcp/8091/ws"),
        ({"cert": "c.pem", "key": "k.pem"}, "/ip4/127.0.0.1/tcp/8091/tls/ws"),
    ],
)
def test_the_relay_listens_beside_the_page(given: dict[str, object], listener: str) -> None:
    assert options(**given).relay_listener["address"] == listener


def test_the_relay_takes_its_configuration(tmp_path: Path) -> None:
    cert, key = loopback_certificate(tmp_path)
    listener = options(cert=cert, key=key).relay_listener
    settings = load(str(FOLDER / "relay.toml"), [f"listeners={toml([listener])}"], {})
    assert [each.cert_file for each in settings.listeners] == [str(cert)]


@pytest.mark.parametrize("value", ["text", 'with "quotes" and \\', 7, True, ["a", {"b": 1}], {"c": "d", "e": []}])
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    assert tomllib.loads(f"key = {toml(value)}")["key"] == value


def test_a_page_is_named_at_every_host_of_its_relay_and_here() -> None:
    assert urls(options(host="0.0.0.0"), LAN, 8090) == [
        "http://127.0.0.1:8090/",
        "http://192.0.2.7:8090/",
        "http://198.51.100.7:8090/",
    ]
    assert urls(options(host="0.0.0.0", cert="c", key="k"), LAN[:1], 8090) == ["https://192.0.2.7:8090/"]
    assert urls(options(host="::1"), ["/ip6/::1/tcp/8091/ws/p2p/x"], 8090) == ["http://[::1]:8090/"]


def test_a_stun_server_is_told_to_the_page_only_when_there_is_one() -> None:
    assert options().settings == {"iceServers": []}
    assert options(stun="stun:stun.example.org:3478").settings == {
        "iceServers": [{"urls": "stun:stun.example.org:3478"}]
    }


def test_files_and_settings_are_served_over_tls_and_a_taken_port_is_named(tmp_path: Path) -> None:
    cert, key = loopback_certificate(tmp_path)
    (tmp_path / "index.html").write_text("the page")
    tls = tls_context(options(cert=cert, key=key))
    with page_server(tmp_path, {"relays": ["one"]}, tls=tls) as port:
        answers = []
        for path in ("/", "/relay.json", "/nothing"):
            client = http.client.HTTPSConnection("127.0.0.1", port, context=_trusting(cert))
            client.request("GET", path)
            answer = client.getresponse()
            answers.append((answer.status, answer.getheader("Cache-Control"), answer.read()))
            client.close()
        assert [status for status, _, _ in answers] == [200, 200, 404]
        assert {cached for _, cached, _ in answers} == {"no-store"}
        assert answers[0][2] == b"the page"
        assert json.loads(answers[1][2]) == {"relays": ["one"]}
        with pytest.raises(StartError, match=f"port {port}: .*PORT="), page_server(tmp_path, {}, port=port):
            pass


def _trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))
