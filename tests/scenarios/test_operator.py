"""What an operator sees of peers and circuits, and how he ends one: the commands against a relay with real peers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from supervisor.cli import main
from tests.scenarios.scene import Puppet, Scene, counter, name_of, port_of, until
from tests.support.client import HopRefusedError


async def command(scene: Scene, *arguments: str) -> Result:
    """A command as typed; in a thread, because the peers of the test live in this loop."""
    call = [*arguments, "--socket", str(scene.relay.control_socket)]
    return await asyncio.to_thread(CliRunner().invoke, main, call)


async def rows(scene: Scene, *arguments: str) -> list[dict[str, Any]]:
    result = await command(scene, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


async def test_a_reserved_peer_is_listed_with_all_that_finds_it(solo: Scene) -> None:
    client = await solo.reserved(Puppet)
    await client.identified.wait()
    (row,) = await rows(solo, "peers", "--peer", name_of(client))
    assert row["address"] == f"127.0.0.1:{port_of(client)}"
    assert row["transport"] == solo.place.transport
    assert row["worker"].startswith(f"{solo.place.transport}-")
    assert row["since"] < row["until"]
    assert row["circuits"] == 0
    shown = (await command(solo, "peers")).stdout.splitlines()
    assert any(line.startswith(name_of(client)) for line in shown[1:])


async def test_who_is_connected_without_a_reservation_is_listed_only_when_asked_for(solo: Scene) -> None:
    client = await solo.dial()
    assert await rows(solo, "peers", "--peer", name_of(client)) == []
    (row,) = await rows(solo, "peers", "--all", "--peer", name_of(client))
    assert row["until"] is None


async def test_the_filters_leave_out_the_others(solo: Scene) -> None:
    client = await solo.reserved()
    mine = name_of(client)
    (row,) = await rows(solo, "peers", "--peer", mine)
    for matching in (("--ip", "127.0.0.0/8"), ("--ip", "127.0.0.1"), ("--transport", solo.place.transport),
                     ("--worker", row["worker"])):  # fmt: skip
        assert mine in {each["peer"] for each in await rows(solo, "peers", *matching)}
    other = "tcp" if solo.place.transport != "tcp" else "ws"
    for missing in (("--ip", "10.0.0.0/8"), ("--ip", "::1"), ("--transport", other), ("--worker", "no-such")):
        assert mine not in {each["peer"] for each in await rows(solo, "peers", *missing)}


async def test_a_list_is_cut_at_its_limit_and_says_so(solo: Scene) -> None:
    for _ in range(3):
        await solo.reserved()
    result = await command(solo, "peers", "--limit", "2", "--json")
    assert len(result.stdout.splitlines()) == 2
    assert "there are more" in result.stderr


async def test_a_circuit_is_listed_with_its_bytes_and_workers(scene: Scene) -> None:
    circuit = await scene.circuit()
    circuit.left.write(b"x" * 700)
    await circuit.right.read(700)
    circuit.right.write(b"y" * 30)
    await circuit.left.read(30)
    (row,) = await rows(scene, "circuits", "--peer", name_of(circuit.target))
    assert (row["source"], row["target"]) == (name_of(circuit.source), name_of(circuit.target))
    assert (row["state"], row["to_target_bytes"], row["to_source_bytes"]) == ("open", 700, 30)
    assert (row["source_worker"] == row["target_worker"]) == scene.place.together
    for each in (circuit.source, circuit.target):
        (peer,) = await rows(scene, "peers", "--all", "--peer", name_of(each))
        assert peer["circuits"] == 1


async def test_a_circuit_whose_target_has_not_answered_is_listed_as_calling(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id))
    asked = await target.stop_asked()
    (row,) = await rows(scene, "circuits", "--peer", name_of(source))
    assert (row["state"], row["to_target_bytes"]) == ("calling", 0)
    asked.abort()
    with pytest.raises(HopRefusedError):
        await connecting


async def test_a_kicked_peer_loses_all_its_connections_and_its_reservation(scene: Scene) -> None:
    before = counter(scene.relay, "frost_relay_refusals_total", reason="kicked")
    first = await scene.reserved()
    second = await scene.dial_beside(first, host=first.host)
    bystander = await scene.reserved()
    result = await command(scene, "kick", name_of(first))
    assert (result.exit_code, result.stdout) == (0, f"ended 2 connections of {name_of(first)}\n")
    await asyncio.gather(first.closed.wait(), second.closed.wait())
    assert not bystander.closed.is_set()
    assert await rows(scene, "peers", "--all", "--peer", name_of(first)) == []
    assert counter(scene.relay, "frost_relay_refusals_total", reason="kicked") == before + 2

    async def logged() -> bool:
        return f"reason=kicked peer={name_of(first)}" in scene.relay.stderr

    await until(logged, "a line in the log")
    again = await command(scene, "kick", name_of(first))
    assert again.exit_code == 1
    assert again.stderr == f"frost-relay: {name_of(first)} is not connected\n"
    await (await scene.dial(host=first.host)).reserve()


async def test_the_status_counts_what_is_held(solo: Scene) -> None:
    await solo.reserved()
    result = await command(solo, "status", "--json")
    document = json.loads(result.stdout)
    assert document["ready"]
    assert document["reservations"] >= 1
    shown = (await command(solo, "status")).stdout
    assert max(map(len, shown.splitlines())) <= 80
