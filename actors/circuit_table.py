"""The circuits whose source is connected to one worker, from the registry's grant to the end.

A slot that was granted is given back once, whatever becomes of the circuit. Must never decide whether there is a
circuit: that is the registry's, and the target's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors import histograms, log, metrics
from actors.circuit import CircuitActor, End
from actors.query_server import OwnedCircuit
from actors.registry_protocol import CircuitGranted, HeldCircuit
from transports.identity import peer_id_text
from transports.yamux import Stream

if TYPE_CHECKING:
    from actors.peer import Peer
    from actors.worker import Worker

_logger = log.get_logger("worker")


class CircuitTable:
    """By the numbers that the registry gave: `granted`, those called for included, and `running`, both ends joined."""

    __slots__ = ("_worker", "granted", "running")

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.granted: dict[int, OwnedCircuit] = {}
        self.running: dict[int, CircuitActor] = {}

    def hold(self, granted: CircuitGranted, source: Peer, target: bytes) -> None:
        """The registry granted a circuit: a slot is ours until `give_back`."""
        held = HeldCircuit(granted.circuit, source.key, target, source.counted_as)
        self.granted[granted.circuit] = OwnedCircuit(held, granted.worker, self._worker.now_s)

    def give_back(self, circuit_id: int) -> None:
        """The circuit has ended, or was not opened: its slot is free."""
        if self.granted.pop(circuit_id, None) is not None:
            self._worker.registry.close_circuit(circuit_id)

    def begin(
        self, circuit_id: int, source: Peer, target: bytes, left: Stream, right: Stream, early: bytes, first: bytes
    ) -> None:
        """Both ends agree: from here on the circuit owns the two streams."""
        worker = self._worker
        limits = worker.settings.limits
        circuit = CircuitActor(
            worker,
            self._ended,
            circuit_id,
            source.key,
            target,
            left,
            right,
            max_bytes=limits.circuit_bytes,
            duration_s=limits.circuit_duration_s,
            idle_timeout_s=limits.circuit_idle_timeout_s,
        )
        self.running[circuit_id] = circuit
        worker.row.circuits += 1
        metrics.CIRCUITS_OPENED.inc()
        if _logger.debugs:  # its end is told at info, with all that this says
            _logger.debug("circuit opened", source=source.name, target=peer_id_text(target), address=source.address)
        circuit.join(early, first)

    def finish(self, end: End) -> None:
        """All of them are over, for a reason of ours."""
        for circuit in list(self.running.values()):
            circuit.finish(end)

    def _ended(self, circuit: CircuitActor, end: End) -> None:
        """A circuit is over: its slot is free."""
        worker = self._worker
        del self.running[circuit.id]
        worker.row.circuits -= 1
        self.give_back(circuit.id)
        metrics.CIRCUITS_ENDED.labels(end.value).inc()
        lasted_s = worker.clock() - circuit.began_s
        histograms.CIRCUIT_DURATION.observe(worker.row, lasted_s)
        histograms.CIRCUIT_BYTES.observe(worker.row, circuit.left.bytes + circuit.right.bytes)
        metrics.BYTES_RELAYED.labels("to_target").inc(circuit.left.bytes)
        metrics.BYTES_RELAYED.labels("to_source").inc(circuit.right.bytes)
        _logger.info(
            "circuit ended",
            reason=end.value,
            source=peer_id_text(circuit.source),
            target=peer_id_text(circuit.target),
            duration_s=round(lasted_s, 1),
            to_target_bytes=circuit.left.bytes,
            to_source_bytes=circuit.right.bytes,
        )
