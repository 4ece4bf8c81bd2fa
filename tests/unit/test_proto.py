"""The generated protobuf code: it is what its sources say, and its sources say what the specifications say."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError, Message
from libp2p.identity.identify.pb.identify_pb2 import Identify as TheirIdentify
from libp2p.relay.circuit_v2.pb import circuit_pb2 as their_circuit

from actors.proto import circuit_pb2, identify_pb2
from transports.proto import noise_pb2

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path.relative_to(ROOT) for folder in ("transports", "actors") for path in ROOT.glob(f"{folder}/proto/*.proto")
)
GENERATED = sorted(
    path.relative_to(ROOT) for folder in ("transports", "actors") for path in ROOT.glob(f"{folder}/proto/*_pb2.py*")
)


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools, which brings protoc, is not installed")
def test_the_committed_code_is_what_protoc_makes_of_the_sources(tmp_path: Path) -> None:
    path = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # protoc finds its mypy plugin there
    )
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--mypy_out={tmp_path}"]
    subprocess.run([*command, *map(str, SOURCES)], cwd=ROOT, env={**os.environ, "PATH": path}, check=True, timeout=60)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2.py*"))
    assert made == GENERATED
    for name in made:
        assert _code(tmp_path / name) == _code(ROOT / name), f"{name} is stale: make proto"


def _code(path: Path) -> list[str]:
    """The lines but for the compiler's own version, which may differ within what pyproject.toml allows."""
    lines = path.read_text().splitlines()
    if "_runtime_version.ValidateProtobufRuntimeVersion(" in lines:
        at = lines.index("_runtime_version.ValidateProtobufRuntimeVersion(")
        del lines[at : lines.index(")", at)]
    return [line for line in lines if not line.startswith("# Protobuf Python Version")]


def test_hop_and_stop_messages_are_the_same_bytes_as_py_libp2ps() -> None:
    for module, name in ((their_circuit, "theirs"), (circuit_pb2, "ours")):
        assert module.HopMessage.Type.items() == [("RESERVE", 0), ("CONNECT", 1), ("STATUS", 2)], name
        assert module.StopMessage.Type.items() == [("CONNECT", 0), ("STATUS", 1)], name
    limit = circuit_pb2.Limit(duration=120, data=131072)
    hop = circuit_pb2.HopMessage(
        type=circuit_pb2.HopMessage.STATUS,
        peer=circuit_pb2.Peer(id=b"peer", addrs=[b"a", b"b"]),
        reservation=circuit_pb2.Reservation(expire=1_800_000_000, addrs=[b"c"], voucher=b"voucher"),
        limit=limit,
        status=circuit_pb2.NO_RESERVATION,
    )
    theirs = their_circuit.HopMessage.FromString(hop.SerializeToString())
    assert _fields(theirs.peer) == {"id": b"peer", "addrs": [b"a", b"b"]}
    assert _fields(theirs.reservation) == {"expire": 1_800_000_000, "addrs": [b"c"], "voucher": b"voucher"}
    assert _fields(theirs.limit) == {"duration": 120, "data": 131072}
    assert theirs.type == their_circuit.HopMessage.STATUS
    stop = circuit_pb2.StopMessage(type=circuit_pb2.StopMessage.CONNECT, peer=hop.peer, limit=limit)
    theirs_stop = their_circuit.StopMessage.FromString(stop.SerializeToString())
    assert theirs_stop.type == their_circuit.StopMessage.CONNECT
    assert theirs_stop.limit.duration == 120


def test_the_status_codes_are_those_of_the_specification() -> None:
    assert dict(circuit_pb2.Status.items()) == {
        "UNUSED": 0,
        "OK": 100,
        "RESERVATION_REFUSED": 200,
        "RESOURCE_LIMIT_EXCEEDED": 201,
        "PERMISSION_DENIED": 202,
        "CONNECTION_FAILED": 203,
        "NO_RESERVATION": 204,
        "MALFORMED_MESSAGE": 400,
        "UNEXPECTED_MESSAGE": 401,
    }


def test_the_first_value_of_an_enum_is_sent_and_an_absent_one_can_be_told() -> None:
    assert circuit_pb2.HopMessage(type=circuit_pb2.HopMessage.RESERVE).SerializeToString() == b"\x08\x00"
    assert circuit_pb2.HopMessage.FromString(b"\x08\x00").HasField("type")
    assert not circuit_pb2.HopMessage.FromString(b"").HasField("type")
    assert not circuit_pb2.Limit.FromString(b"").HasField("data")
    assert circuit_pb2.Limit.FromString(b"\x10\x00").HasField("data")


def test_an_unknown_type_keeps_its_number_and_unknown_fields_are_ignored() -> None:
    hop = circuit_pb2.HopMessage.FromString(b"\x08\x07\x7a\x02hi")
    assert hop.HasField("type")
    assert hop.type == 7


def test_identify_is_the_same_bytes_as_py_libp2ps() -> None:
    ours = identify_pb2.Identify(
        publicKey=b"key",
        listenAddrs=[b"a", b"b"],
        protocols=["/ipfs/ping/1.0.0"],
        observedAddr=b"seen",
        protocolVersion="ipfs/0.1.0",
        agentVersion="frost-relay",
        signedPeerRecord=b"record",
    )
    theirs = TheirIdentify.FromString(ours.SerializeToString())
    assert (theirs.public_key, list(theirs.listen_addrs), list(theirs.protocols)) == (
        b"key",
        [b"a", b"b"],
        ["/ipfs/ping/1.0.0"],
    )
    assert (theirs.observed_addr, theirs.protocol_version, theirs.agent_version) == (
        b"seen",
        "ipfs/0.1.0",
        "frost-relay",
    )
    assert theirs.signedPeerRecord == b"record"


def test_noise_extensions_are_the_bytes_of_the_specification() -> None:
    payload = noise_pb2.NoiseHandshakePayload(
        identity_key=b"k", identity_sig=b"s", extensions=noise_pb2.NoiseExtensions(stream_muxers=["/yamux/1.0.0"])
    )
    assert payload.SerializeToString() == b"\x0a\x01k\x12\x01s\x22\x0e\x12\x0c/yamux/1.0.0"


@pytest.mark.parametrize(
    ("message", "raw"),
    [
        (identify_pb2.Identify, b"\x32\x02\xff\xfe"),
        (identify_pb2.Identify, b"\x1a\x02\xff\xfe"),
        (noise_pb2.NoiseExtensions, b"\x12\x02\xff\xfe"),
    ],
)
def test_text_that_is_not_utf_8_does_not_parse(message: type[Message], raw: bytes) -> None:
    with pytest.raises(DecodeError):
        message.FromString(raw)


def _fields(message: Message) -> dict[str, object]:
    return {field.name: list(value) if field.name == "addrs" else value for field, value in message.ListFields()}
