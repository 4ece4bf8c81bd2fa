import pytest

from loadtests.browsers.pipes import AddressError, Target


@pytest.mark.parametrize(
    ("text", "target", "transport"),
    [
        ("/ip4/127.0.0.1/tcp/9090", Target("127.0.0.1", 9090, websocket=False, tls=False, peer=""), "tcp"),
        (
            "/ip4/127.0.0.1/tcp/9091/ws/p2p/12D3",
            Target("127.0.0.1", 9091, websocket=True, tls=False, peer="12D3"),
            "ws",
        ),
        ("/dns4/relay.example/tcp/443/tls/ws", Target("relay.example", 443, websocket=True, tls=True, peer=""), "wss"),
        ("/dns/relay.example/tcp/443/wss\n", Target("relay.example", 443, websocket=True, tls=True, peer=""), "wss"),
        ("/ip6/::1/tcp/9091/ws", Target("::1", 9091, websocket=True, tls=False, peer=""), "ws"),
    ],
)
def test_an_address_that_can_be_dialled_is_read(text: str, target: Target, transport: str) -> None:
    assert Target.parse(text) == target
    assert target.transport == transport


@pytest.mark.parametrize(
    "text",
    [
        "",
        "relay.example",
        "http://127.0.0.1:9091",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/udp/9090",
        "/ip4/127.0.0.1/tcp/9090/tls",
        "/ip4/127.0.0.1/tcp/0/ws",
        "/ip4/127.0.0.1/tcp/65536/ws",
        "/ip4/127.0.0.1/tcp/many/ws",
    ],
)
def test_an_address_that_cannot_be_dialled_is_named(text: str) -> None:
    with pytest.raises(AddressError, match=r"host = .*expected"):
        Target.parse(text)
