"""What is fuzzed: for each decoder a function that takes any bytes.

A target returns, or raises what is a fault of ours: an error that the decoder does not promise, or an assertion about
what it may hold, answer and agree with itself on. What a peer may do wrong (PeerError and the documented errors) is
caught here. Must never depend on a clock, the network, or an engine: the seeds run through these without one.
"""

from __future__ import annotations

import ipaddress
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from multiaddr import Multiaddr

from actors.registry_protocol import FrameDecoder, FromRegistry, FromWorker, RegistryLinkError, encode_frames
from config.errors import ConfigError
from tests.fuzz.streams import fuzz_hop, fuzz_identify, fuzz_stop, fuzz_yamux
from transports.address import announced_addresses, multiaddr_bytes, observed_address, parse_listen
from transports.http_request import MAX_HEAD_BYTES, Answer, RequestReader, Upgrade
from transports.identity import (
    MAX_PEER_ID_BYTES,
    HostKey,
    IdentityError,
    PeerKeyError,
    decode_public_key,
    is_peer_id,
    parse_peer_id,
    peer_id_text,
)
from transports.key_file import parse_private_key
from transports.multistream import (
    MAX_MESSAGE_BYTES,
    MAX_TRIES,
    Initiator,
    NegotiationError,
    NotSupportedError,
    Responder,
)
from transports.noise import (
    MAX_HANDSHAKE_BYTES,
    XX,
    EphemeralKey,
    Handshake,
    NoiseError,
    Role,
    SecureChannel,
    StaticKey,
)
from transports.proto.noise_pb2 import NoiseHandshakePayload
from transports.proxy import client_address
from transports.proxy_header import MAX_V2_BYTES, ProxyHeaderError, ProxyHeaderReader
from transports.upgrade import MUXERS
from transports.varint import DelimitedReader, FrameError, delimited

Target = Callable[[bytes], None]

_HOST: Final = HostKey.from_seed(b"f" * 32)
_STATIC: Final = StaticKey(_HOST, MUXERS)
_PEER_HOST: Final = HostKey.from_seed(b"p" * 32)
_PEER_STATIC: Final = StaticKey(_PEER_HOST, MUXERS)


def _head(data: bytes) -> tuple[int, bytes]:
    """The first byte, which steers the target, and the input proper."""
    return (data[0], data[1:]) if data else (0, b"")


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    """The input as the network may cut it; size 0 is one piece."""
    size = size or len(data) or 1
    for start in range(0, len(data), size):
        yield data[start : start + size]


# multistream


_PROTOCOLS: Final = (b"/noise", b"/yamux/1.0.0")


def multistream(data: bytes) -> None:
    """Both ends; answers are bounded, and the same however the bytes are cut."""
    steer, body = _head(data)
    make = (lambda: Initiator(b"/noise")) if steer & 1 else (lambda: Responder(_PROTOCOLS))
    whole, cut = _negotiate(make(), body, 0), _negotiate(make(), body, (steer >> 1) + 1)
    assert whole == cut, (whole, cut)


def _negotiate(end: Initiator | Responder, body: bytes, size: int) -> tuple[bytes, bytes | None, bytes, str]:
    answer, failed, fed = b"", "", 0
    for piece in _pieces(body, size):
        fed += len(piece)
        try:
            answer += end.receive(piece)
        except NegotiationError as error:
            failed = str(error)
            answer += error.answer
            break
        except NotSupportedError as error:
            failed = str(error)
            break
        if end.selected is not None:
            break
        assert len(end._reader.buffer) <= MAX_MESSAGE_BYTES + 2
    assert len(answer) <= 64 * (MAX_TRIES + 2)
    rest = b"" if failed else end.rest() + (body[fed:] if end.selected else b"")
    return answer, end.selected, rest, failed


# varint frames


def varint(data: bytes) -> None:
    """One frame and what follows it, however it is cut; never more held than the bound and one piece."""
    steer, body = _head(data)
    limit = (0, 20, 4096, 8192)[steer & 3]
    whole, cut = _frame(limit, body, 0), _frame(limit, body, (steer >> 2) + 1)
    assert whole == cut, (whole, cut)


def _frame(limit: int, body: bytes, size: int) -> tuple[bytes | None, bytes, str]:
    reader, fed = DelimitedReader(limit), 0
    for piece in _pieces(body, size):
        fed += len(piece)
        try:
            found = reader.feed(piece)
        except FrameError as error:
            return None, b"", str(error)
        if found is not None:
            rest = reader.rest() + body[fed:]
            assert len(found) <= limit
            assert delimited(found) + rest == body
            return found, rest, ""
        assert len(reader._buffer) <= limit + 5
    return None, reader.rest(), ""


# Noise


def noise_handshake(data: bytes) -> None:
    """A responder fed with raw bytes, or with a true initiator's messages around any payload; and an initiator."""
    steer, body = _head(data)
    if steer & 3 == 0:
        _garbled_handshake(Handshake(Role.RESPONDER, _STATIC), body, steer >> 2)
    elif steer & 3 == 1:
        initiator = Handshake(Role.INITIATOR, _STATIC)
        initiator.start()
        _garbled_handshake(initiator, body, steer >> 2)
    else:
        _sealed_handshake(body, proven=bool(steer & 1))


def _garbled_handshake(handshake: Handshake, body: bytes, size: int) -> None:
    with suppress(NoiseError):
        for piece in _pieces(body, size):
            assert len(handshake.receive(piece)) <= MAX_HANDSHAKE_BYTES
            assert len(handshake._buffer) <= MAX_HANDSHAKE_BYTES + 2
    assert handshake.channel is None, "garbage was authenticated"


def _sealed_handshake(payload: bytes, *, proven: bool) -> None:
    """The third message is genuine Noise; what is in it is the input, behind a true identity if `proven`."""
    responder, initiator = Handshake(Role.RESPONDER, _STATIC), XX(_PEER_STATIC, EphemeralKey.generate())
    second = responder.receive(_sized(initiator.write_first()))
    initiator.read_second(second[2:])
    sent = _PEER_STATIC.payload + payload if proven else payload
    third = initiator.write_third(sent)
    try:
        responder.receive(_sized(third[:65535]))
    except NoiseError:
        assert responder.channel is None
        return
    assert responder.channel is not None
    assert is_peer_id(responder.peer)
    assert NoiseHandshakePayload.FromString(sent).identity_sig
    assert responder.muxer in (None, *MUXERS)


def _sized(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def noise_transport(data: bytes) -> None:
    """Messages true, cut, changed, left out, said twice and made up: what comes out is what was sealed, in order.

    The input is a row of steps `what(1) size(1) bytes(size)`.
    """
    sender, receiver = SecureChannel(b"k" * 32, b"q" * 32), SecureChannel(b"q" * 32, b"k" * 32)
    sealed, opened, wire = b"", b"", b""
    sound = True
    for what, body in _steps(data):
        message = bytes(sender.seal(body)) if what & 7 < 6 else body
        if what & 7 == 1:
            message = message[: len(message) - 1 - (what >> 3)]
        elif what & 7 == 2:
            at = (what >> 3) % len(message)
            message = message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :]
        elif what & 7 == 3:
            message += message
        elif what & 7 == 4:
            message = b""
        sound = sound and what & 7 in (0, 5)
        sealed += body if sound else b""
        wire += message
    with suppress(NoiseError):
        for piece in _pieces(wire, data[0] if data else 0):
            opened += receiver.open(piece)
            assert receiver._partial is None or len(receiver._partial) <= 65537 + len(piece)
    assert sealed.startswith(opened) or opened.startswith(sealed)
    assert not sound or opened == sealed
    assert len(opened) <= sum(len(body) for _, body in _steps(data)), "more came out than was ever sealed"


def _steps(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 2 <= len(data):
        what, size = data[position], data[position + 1]
        yield what, data[position + 2 : position + 2 + size]
        position += 2 + size


# Identities


def public_key(data: bytes) -> None:
    """A peer's PublicKey and a signature behind it; a private key file."""
    steer, body = _head(data)
    if steer == 255:
        with suppress(ConfigError):
            host = parse_private_key(body, "identity.key_file", "x")
            assert decode_public_key(host.public_protobuf).peer_id == host.peer_id
        return
    size = len(body) - steer
    try:
        key = decode_public_key(body[: max(size, 0)])
    except PeerKeyError:
        return
    assert is_peer_id(key.peer_id)
    assert parse_peer_id(peer_id_text(key.peer_id)) == key.peer_id
    with suppress(PeerKeyError):
        key.verify(body[max(size, 0) :], b"what was never signed")
        raise AssertionError("a signature was made up")


# Text


def forwarded_for(data: bytes) -> None:
    """X-Forwarded-For, one line or several: an IP address and a port come out, whatever is in it."""
    lines = data.decode("latin-1").split("\n")
    trusted = ipaddress.ip_network("10.0.0.0/8")
    headers = {("X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR")[at]: line for at, line in enumerate(lines[:3])}
    ip, port = client_address(headers, "10.1.2.3", 4, lambda ip: ipaddress.ip_address(ip) in trusted)
    assert 0 <= port <= 65535
    assert observed_address(ip, port, websocket=True, tls=False)
    assert (ip, port) == ("10.1.2.3", 4) or ipaddress.ip_address(ip) not in trusted


def http_request(data: bytes) -> None:
    """The request in front of a WebSocket: one outcome however it is cut, and never more held than the bound."""
    steer, body = _head(data)
    whole, cut = _request(body, 0), _request(body, steer + 1)
    assert whole == cut, (whole, cut)
    if isinstance(whole, Answer):
        assert whole.data.startswith(b"HTTP/1.1 ")
        assert (whole.error is None) == (whole.data[9:12] in {b"200", b"404"})
    elif whole is not None:
        assert len(b64decode(whole.key)) == 16
        assert body.endswith(whole.rest)


def _request(body: bytes, size: int) -> Upgrade | Answer | None:
    reader, fed = RequestReader(), 0
    for piece in _pieces(body, size):
        fed += len(piece)
        found = reader.feed(piece)
        if isinstance(found, Upgrade):
            return replace(found, rest=found.rest + body[fed:])
        if found is not None:
            return replace(found, error=type(found.error) if found.error else None)  # type: ignore[arg-type]
        assert len(reader._head) < MAX_HEAD_BYTES
    return None


def proxy_header(data: bytes) -> None:
    """The PROXY protocol, however it is cut: an IP address and a port or none, and what follows is handed on whole."""
    size, stream = _head(data)
    reader, fed = ProxyHeaderReader(), 0
    with suppress(ProxyHeaderError):
        for piece in _pieces(stream, size):
            fed += len(piece)
            rest = reader.feed(piece)
            assert fed <= MAX_V2_BYTES + len(piece)
            if rest is not None:
                assert stream[:fed].endswith(rest)
                assert reader.source is None or observed_address(*reader.source, websocket=False, tls=False)
                return


def address(data: bytes) -> None:
    """Listen and announce addresses, peer IDs and observed addresses in text."""
    text = data.decode("utf-8", "replace")
    with suppress(ConfigError):
        listen = parse_listen(text, "listeners[0].address")
        assert parse_listen(listen.multiaddr, "again").multiaddr == listen.multiaddr
        assert multiaddr_bytes(listen.multiaddr)
    with suppress(ConfigError):
        (announced,) = announced_addresses((text,), (), {}, _HOST.peer_id)
        assert str(Multiaddr(multiaddr_bytes(announced))) == announced
    with suppress(IdentityError):
        peer = parse_peer_id(text)
        assert len(peer) <= MAX_PEER_ID_BYTES
        assert parse_peer_id(peer_id_text(peer)) == peer
    with suppress(ValueError):
        host, _, port = text.rpartition(" ")
        assert str(Multiaddr(observed_address(host, int(port[:9]), websocket=True, tls=True)))


# Between our own processes


def registry_frames(data: bytes) -> None:
    """Both directions of the registry link; what was decoded says the same when it is encoded again."""
    steer, body = _head(data)
    decoder: FrameDecoder[FromWorker] | FrameDecoder[FromRegistry]
    decoder = FrameDecoder.from_worker() if steer & 1 else FrameDecoder.from_registry()
    again = FrameDecoder.from_worker() if steer & 1 else FrameDecoder.from_registry()
    with suppress(RegistryLinkError):
        for piece in _pieces(body, steer >> 1):
            messages = decoder.feed(piece)
            assert len(decoder._buffer) <= len(body)
            encoded = encode_frames(messages)  # compared as bytes, because a NaN is not itself
            assert encode_frames(again.feed(bytes(encoded))) == encoded


TARGETS: Final[dict[str, Target]] = {
    "multistream": multistream,
    "varint": varint,
    "noise_handshake": noise_handshake,
    "noise_transport": noise_transport,
    "yamux": fuzz_yamux,
    "hop": fuzz_hop,
    "stop": fuzz_stop,
    "identify": fuzz_identify,
    "public_key": public_key,
    "http_request": http_request,
    "forwarded_for": forwarded_for,
    "proxy_header": proxy_header,
    "address": address,
    "registry_frames": registry_frames,
}
