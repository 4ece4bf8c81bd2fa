"""The text of a trace: what one connection's layers saw, decoded, with everything that differs from run to run masked.

Takes the lines that `traced_relay.py` writes. `→` is client to relay, `←` is relay to client. Names stand for peer IDs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from google.protobuf.message import Message
from multiaddr import Multiaddr

from actors import hop, identify, ping, stop
from actors.proto.circuit_pb2 import HopMessage, StopMessage
from actors.proto.identify_pb2 import Identify
from transports.multistream import LS, MAX_MESSAGE_BYTES, PROTOCOL
from transports.proto.crypto_pb2 import KeyType, PublicKey
from transports.proto.noise_pb2 import NoiseHandshakePayload
from transports.yamux_frames import ACK, DATA, FIN, GO_AWAY, HEADER, HEADER_BYTES, PING, RST, SYN, WINDOW_UPDATE

ARROWS: Final = {"client": "→", "relay": "←"}
TYPES: Final = {DATA: "DATA", WINDOW_UPDATE: "WINDOW_UPDATE", PING: "PING", GO_AWAY: "GO_AWAY"}
FLAGS: Final = {SYN: "SYN", ACK: "ACK", FIN: "FIN", RST: "RST"}
MASKED_HEADERS: Final = re.compile(r"(?im)^(sec-websocket-(?:key|accept)|user-agent|date): .*$")
SPOKEN: Final = {identify.PROTOCOL, hop.PROTOCOL, stop.PROTOCOL, ping.PROTOCOL}
MESSAGES: Final[dict[bytes, type[Message]]] = {
    identify.PROTOCOL: Identify,
    hop.PROTOCOL: HopMessage,
    stop.PROTOCOL: StopMessage,
}
XX: Final = {"client": ["e", "s, se"], "relay": ["e, ee, s, es"]}

Line = dict[str, Any]


def head_text(side: str, head: bytes) -> list[str]:
    """The lines of an HTTP head."""
    text = MASKED_HEADERS.sub(r"\1: <masked>", masked(head.decode("latin-1").strip().replace("\r\n", "\n")))
    return [f"{ARROWS[side]} {line}" for line in text.split("\n")]


def masked(text: str) -> str:
    """Ports are the kernel's choice, the relay's version and the browser's are not what a trace is about."""
    text = re.sub(r"(/tcp/|/udp/|127\.0\.0\.1:)\d+", r"\1<port>", text)
    return re.sub(r"(frost-relay/| browser/)\d.*|( browser/).*", r"\1\2<version>", text)


class ConnectionText:
    """All that is above HTTP, of one connection."""

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self._names = names
        self._streams: dict[int, _StreamText] = {}
        self._waiting = {"client": bytearray(), "relay": bytearray()}

    def text(self, lines: list[Line]) -> Iterator[str]:
        """The lines of the text, a heading before each layer."""
        for what, group in groupby((line for line in lines if line["data"]), lambda line: line["what"].split("-")[0]):
            decode = getattr(self, f"_{what}")
            yield ""
            yield {"multistream": "multistream", "noise": "Noise", "yamux": "yamux", "closed": "closed"}[what]
            yield from decode([(line["what"], line["from"], bytes.fromhex(line["data"])) for line in group])

    def _closed(self, group: list[tuple[str, str, bytes]]) -> Iterator[str]:
        yield "the connection has ended"

    def _multistream(self, group: list[tuple[str, str, bytes]]) -> Iterator[str]:
        for _, side, data in group:
            yield from (f"{ARROWS[side]} {name.decode()}" for name, _ in messages_in(data))

    def _noise(self, group: list[tuple[str, str, bytes]]) -> Iterator[str]:
        written = {"client": 0, "relay": 0}
        payloads = {side: data for what, side, data in group if what == "noise-payload"}
        for _, side, data in (each for each in group if each[0] == "noise"):
            start = 0
            while start < len(data):
                size = int.from_bytes(data[start : start + 2], "big")
                start += 2 + size
                pattern = XX[side][written[side]]
                written[side] += 1
                yield f"{ARROWS[side]} message of {size} bytes: {pattern}"
                if "s" in pattern:
                    yield f"      {payload_text(payloads[side])}"

    def _yamux(self, group: list[tuple[str, str, bytes]]) -> Iterator[str]:
        for side, kind, flags, stream, length, body in self._frames(group):
            known = self._streams.setdefault(stream, _StreamText(side, self._names))
            if known.is_circuit(side) and not flags and kind in (DATA, WINDOW_UPDATE):
                # How it is cut, and who is first, is another thing in each run.
                if not known.passing:
                    yield f"⋮ stream {stream}: from here on the circuit's bytes and their credit, both ways"
                known.passing = True
                continue
            yield self._frame(side, kind, flags, stream, length)
            if body:
                yield from (f"      {line}" for line in known.text(side, body))

    def _frames(self, group: list[tuple[str, str, bytes]]) -> Iterator[tuple[str, int, int, int, int, bytes]]:
        for _, side, data in group:
            waiting = self._waiting[side]
            waiting += data
            while len(waiting) >= HEADER_BYTES:
                _, kind, flags, stream, length = HEADER.unpack_from(waiting)
                end = HEADER_BYTES + (length if kind == DATA else 0)
                if len(waiting) < end:
                    break
                body = bytes(waiting[HEADER_BYTES:end])
                del waiting[:end]
                yield side, kind, flags, stream, length, body

    @staticmethod
    def _frame(side: str, kind: int, flags: int, stream: int, length: int) -> str:
        names = " ".join(name for flag, name in FLAGS.items() if flags & flag)
        value = "value <masked>" if kind == PING else f"length {length}"
        where = f"stream {stream}" if kind in (DATA, WINDOW_UPDATE) else "session"
        return f"{ARROWS[side]} {where} {TYPES.get(kind, kind)} {names}".rstrip() + f", {value}"


class _StreamText:
    """One stream: multistream, then the messages of the protocol that was agreed."""

    def __init__(self, opener: str, names: Mapping[bytes, str]) -> None:
        self._opener = opener
        self._names = names
        self._proposed = b""
        self._agreed = {"client": False, "relay": False}
        self._told = {"client": False, "relay": False}
        self._connects = False
        self.passing = False
        self._waiting = {"client": b"", "relay": b""}

    def is_circuit(self, side: str) -> bool:
        """Whether what this side says now is nothing of the relay's."""
        return self._told[side] and self._connects

    def text(self, side: str, data: bytes) -> Iterator[str]:
        """What is told by so many bytes more; half a message waits for its other half."""
        data = self._waiting[side] + data
        self._waiting[side] = b""
        while data and not self._agreed[side]:
            name, rest = next(messages_in(data), (b"", data))
            length, start = uvarint(data)
            if not name and start + length > len(data) and length <= MAX_MESSAGE_BYTES:
                self._waiting[side] = data
                return
            if not name:
                break
            data = rest
            yield f"multistream: {' '.join(name.decode(errors='replace').split())}"
            if side == self._opener and name not in (PROTOCOL, LS):
                self._proposed = name
            self._agreed[side] = name in SPOKEN if side == self._opener else name == self._proposed
        if data:
            yield from self._content(side, data)

    def _content(self, side: str, data: bytes) -> Iterator[str]:
        kind = MESSAGES.get(self._proposed)
        if kind is None or self._told[side]:
            yield f"{len(data)} bytes{' of the circuit' if self.is_circuit(side) else ''}"
            return
        length, start = uvarint(data)
        if len(data) < start + length:
            self._waiting[side] = data
            return
        message = kind.FromString(data[start : start + length])
        self._told[side] = True
        if isinstance(message, HopMessage | StopMessage):
            self._connects |= message.type == type(message).CONNECT
        yield f"{kind.__name__} of {length} bytes"
        yield from (f"  {line}" for line in self._fields(message))
        if rest := data[start + length :]:
            yield from self._content(side, rest)

    def _fields(self, message: Message) -> Iterator[str]:
        for field, value in message.ListFields():
            # Some implementations keep their protocols in a set, whose order means nothing.
            for each in (sorted(value) if field.name == "protocols" else value) if field.is_repeated else [value]:
                if isinstance(each, Message):
                    yield f"{field.name}:"
                    yield from (f"  {line}" for line in self._fields(each))
                elif field.enum_type:
                    yield f"{field.name}: {field.enum_type.values_by_number[each].name}"
                else:
                    yield f"{field.name}: {self._value(field.name, each)}"

    def _value(self, name: str, value: object) -> str:
        if name == "expire":
            return "<Unix time>"
        if not isinstance(value, bytes):
            return masked(str(value))
        if name == "id":
            return self._names.get(value, "<another peer>")
        if name in ("addrs", "listenAddrs", "observedAddr"):
            text = masked(str(Multiaddr(value)))
            for peer, called in self._names.items():
                text = text.replace(str(Multiaddr(b"\xa5\x03" + bytes([len(peer)]) + peer)), f"/p2p/<{called}>")
            return text
        return f"{key_text(value)}" if name == "publicKey" else f"<{len(value)} bytes>"


def messages_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The multistream messages at the head of `data`, each with what is behind it."""
    while data:
        length, start = uvarint(data)
        message, rest = data[start : start + length], data[start + length :]
        if length == 0 or not message.endswith(b"\n") or len(message) < length:
            return
        yield message[:-1], rest
        data = rest


def uvarint(data: bytes) -> tuple[int, int]:
    """The number at the head, and where it ends."""
    number = shift = 0
    for end, byte in enumerate(data[:5], 1):
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, end
    return number, len(data)


def payload_text(data: bytes) -> str:
    """The fields of a handshake's payload, without what they hold."""
    payload = NoiseHandshakePayload.FromString(data)
    muxers = ", ".join(payload.extensions.stream_muxers) or "none"
    return (
        f"payload: identity_key {key_text(payload.identity_key)}, identity_sig {len(payload.identity_sig)} bytes, "
        f"stream_muxers {muxers}"
    )


def key_text(data: bytes) -> str:
    """The kind of a public key."""
    return KeyType.Name(PublicKey.FromString(data).Type)
