"""Main: from settings to a running tree, to other settings, and to its end. The only process with signals.

The order matters: check, open sockets, import, freeze, and only then fork, so that every process shares what is there
and a wrong setting starts nothing. Main runs no event loop and no thread: PDEATHSIG follows the thread that forked.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import Final

from thespian.actors import ActorSystemException

from actors import log
from actors.board import Board, State
from actors.messages import Begin, Boot, Drain, Outcome, Role, Stop, Update
from actors.process import name_process
from actors.rate_table import RateTable
from actors.tokens import Token, read_tokens
from config.errors import ConfigError
from config.settings import Settings
from supervisor import counter_files, descriptors, logs, plan, reload, socket_channel, system, systemd
from supervisor.listening import SPARE_ROWS
from supervisor.runtime_dir import check_room, runtime_directory
from supervisor.watch import Event, Signals, Watch, adopt_orphans, end_tree, stop_in_order
from transports import kept_certificates
from transports.address import undialable_warnings
from transports.identity import HostKey, peer_id_text
from transports.noise import Handshake, StaticKey
from transports.noise import Role as Handshaker

EXIT_CLEAN: Final = 0
EXIT_DIED: Final = 1

ACTORS: Final[Mapping[Role, str]] = {
    "registry": "actors.registry_server.RegistryActor",
    "listener": "actors.listener.ListenerActor",
    "admin": "supervisor.admin.actor.AdminActor",
    "canary": "supervisor.canary.actor.CanaryActor",
}
_SUPERVISOR: Final = "supervisor.tree.SupervisorActor"
_BEGIN_LIMIT_S: Final = 20.0
_TELL_LIMIT_S: Final = 1.0
"""How long main waits for the supervisor to take a message that nothing depends on. One that does not take other
settings hangs."""
_ENDING_S: Final = 5.0
"""What the end takes beyond the grace of the listeners, at most: STOP_LAST_S, the kill, and a loaded machine."""
ADDRESS_LOOK_S: Final = 30.0
"""How often it is looked whether the machine has other addresses."""
_INTERACTIVE_GRACE_S: Final = 1.0
"""Who presses Ctrl-C waits for us."""
_logger = log.get_logger("main")


def run(read: Callable[[], Settings], environ: Mapping[str, str], actors: Mapping[Role, str] = ACTORS) -> int:
    """Run the relay until it ends; returns the exit code. Raises ConfigError when nothing was started.

    `read` gives the settings, now and at each reload; it raises ConfigError.
    """
    started = time.monotonic()
    settings = read()
    logs.configure(settings.log.level, settings.log.format, privacy=settings.log.privacy)
    with runtime_directory(environ) as directory, closing(_Served(plan.prepare(settings, environ))) as served:
        check_room(directory, len(served.plan.slots))
        counters = counter_files.make(directory, [slot.index for slot in served.plan.slots])
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counters  # before actors.metrics is imported
        _preload((*actors.values(), _SUPERVISOR))
        boot = _boot(settings, served.plan, directory)
        board = Board.attach(boot.board_fd)
        reporter = systemd.Reporter.from_environ(environ, boot.slots, board, settings.supervision.hang_timeout_s)
        systemd.forget(os.environ)
        return _Main(boot, served, actors, started, reload.Reader(read, environ, board, directory), reporter).run()


class _Served:
    """What is served: the plan of the start, and after a reload another."""

    def __init__(self, first: plan.Plan) -> None:
        self.plan = first

    def change(self, to: plan.Plan) -> None:
        """From now on this is served. The supervisor has been told: what is not in it is closed here."""
        before, self.plan = self.plan, to
        before.close_all_but(to.sockets)

    def close(self) -> None:
        """At the end."""
        self.plan.close()


def _preload(actors: Iterable[str]) -> None:
    """Import everything before the fork, where the collector will not write: 9 MiB a worker instead of 28."""
    for dotted in actors:
        importlib.import_module(dotted.rpartition(".")[0])
    _rehearse()
    gc.collect()
    gc.freeze()


def _rehearse() -> None:
    """A Noise handshake with ourselves: the crypto libraries set themselves up at their first use, 2 MiB a worker."""
    static = StaticKey(HostKey.generate(), ())
    dialer, listener = Handshake(Handshaker.INITIATOR, static), Handshake(Handshaker.RESPONDER, static)
    listener.receive(dialer.receive(listener.receive(dialer.start())))


def _boot(settings: Settings, ready: plan.Plan, directory: str) -> Boot:
    return Boot(
        slot=plan.SUPERVISOR,
        settings=settings,
        runtime_dir=directory,
        board_fd=Board.create(len(ready.slots) + SPARE_ROWS).fd,
        rates_fd=RateTable.create().fd,
        host_seed=ready.host.seed,
        announced=ready.announced,
        slots=ready.slots,
        tokens=read_tokens(settings.access.tokens_file),
        admin_token=ready.admin_token,
        certificates_fd=kept_certificates.create(),
        first_record=time.time_ns(),
    )


class _Main:
    """One run: start the actor system and the supervisor, announce, wait, reload, end."""

    def __init__(
        self,
        boot: Boot,
        served: _Served,
        actors: Mapping[Role, str],
        started: float,
        reader: reload.Reader,
        reporter: systemd.Reporter,
    ) -> None:
        self._boot = boot
        self._served = served
        self._reader = reader
        self._reporter = reporter
        self._announced = self._reload_wanted = self._draining = False
        self._look_at_s = started + ADDRESS_LOOK_S
        self._actors = tuple(actors.items())
        self._peer = peer_id_text(served.plan.host.peer_id)
        self._board = Board.attach(boot.board_fd)
        self._supervisor_row = self._board.row(plan.SUPERVISOR.index)
        self._row = self._board.row(plan.MAIN.index)
        self._row.pid, self._row.since, self._row.state = os.getpid(), started, State.READY

    def run(self) -> int:
        """Returns the exit code. Whatever happens, no process is left behind."""
        try:
            return self._serve()
        except system.SystemStartError as error:
            _logger.error("relay cannot be started", error=str(error))
            return EXIT_DIED
        except Exception:  # a stack trace goes to the log, which never waits for its reader
            _logger.exception("relay failed")
            return EXIT_DIED
        finally:
            end_tree(self._board)

    def _serve(self) -> int:
        name_process("main")
        adopt_orphans()
        signals, event_fd = Signals(), os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._channel, sockets_fd = socket_channel.channel()
        system.harden(self._boot.runtime_dir)
        ready = self._served.plan
        inherited = [*(each.fileno() for each in ready.sockets), ready.control.fileno()]
        actor_system = system.System(self._note_system, inherited)
        supervisor = actor_system.create(_SUPERVISOR)
        actor_system.tell_within(supervisor, Begin(self._boot, self._actors, event_fd, sockets_fd), _BEGIN_LIMIT_S)
        os.close(sockets_fd)
        admin_pid = self._board.row(plan.SYSTEM.index).pid
        hang_timeout_s = self._boot.settings.supervision.hang_timeout_s
        watch = Watch(signals, event_fd, admin_pid, self._supervisor_row, hang_timeout_s, self._reporter.tick)

        def tell(message: object) -> None:
            limit_s = watch.hang_timeout_s if isinstance(message, Update) else _TELL_LIMIT_S
            actor_system.tell_within(supervisor, message, limit_s)

        return self._watch_over(watch, tell)

    def _note_system(self, pid: int) -> None:
        row = self._board.row(plan.SYSTEM.index)
        row.pid, row.since, row.state = pid, time.monotonic(), State.READY

    def _watch_over(self, watch: Watch, tell: Callable[[object], None]) -> int:
        while True:
            event = watch.wait(max(0.0, self._look_at_s - time.monotonic()))
            if event is Event.DEATH:
                _logger.error("a process died that the relay cannot live without")
                return EXIT_DIED
            if event is Event.STOP and not self._drain(watch, tell):
                break
            if event is Event.WORD and self._supervisor_row.state is State.STOPPED:
                _logger.info("drained")
                return EXIT_CLEAN
            if event is Event.WORD and self._supervisor_row.state is State.DRAINING:
                self._say_stopping(max(0.0, self._supervisor_row.drains_until - time.monotonic()))
            if event is Event.WORD and self._supervisor_row.state is State.READY:
                self._on_word()
            self._update(event, watch, tell)
        _logger.info("stopping", signal=watch.signal.name)
        grace_s = self._boot.settings.supervision.stop_timeout_s
        if watch.signal == signal.SIGINT:
            grace_s = min(grace_s, _INTERACTIVE_GRACE_S)
        self._reporter.stopping(grace_s + _ENDING_S)

        def ask_to_stop(grace_s: float) -> None:
            with suppress(ActorSystemException):  # it does not listen: the wait has its limit
                tell(Stop(grace_s))

        stop_in_order(watch, ask_to_stop, self._supervisor_row, grace_s)
        _logger.info("stopped")
        return EXIT_CLEAN

    def _update(self, event: Event, watch: Watch, tell: Callable[[object], None]) -> None:
        """Other settings, if they are asked for; other addresses, if it is time to look.

        One after the other: a signal that comes while a reload is under way asks for one more, and no more.
        """
        self._reload_wanted |= event is Event.RELOAD
        is_under_way = self._supervisor_row.reload != self._boot.number
        if self._reload_wanted and not is_under_way:
            self._reload_wanted = False
            self._reload(watch, tell)
        elif event in {Event.TIMEOUT, Event.WORD}:
            if event is Event.TIMEOUT:
                self._look_at_s = time.monotonic() + ADDRESS_LOOK_S
            if not is_under_way:
                self._look_around(tell)

    def _drain(self, watch: Watch, tell: Callable[[object], None]) -> bool:
        """On the first SIGTERM, let circuits go on for a while if the settings say so. False: end at once.

        Whoever presses Ctrl-C waits for us, and whoever signals twice means it.
        """
        supervision = self._boot.settings.supervision
        if watch.signal != signal.SIGTERM or not supervision.drain_timeout_s or self._draining:
            return False
        self._draining = True
        self._say_stopping(supervision.drain_timeout_s)
        tell(Drain(supervision.drain_timeout_s))
        return True

    def _say_stopping(self, drain_s: float) -> None:
        """The relay drains, because of a signal or of `frost-relay drain`, and is patient for so long."""
        self._reporter.stopping(drain_s + self._boot.settings.supervision.stop_timeout_s + _ENDING_S)

    def _reload(self, watch: Watch, tell: Callable[[object], None]) -> None:
        """Read the configuration again; push it, or refuse it and change nothing."""
        self._reporter.reloading()
        self._row.reload += 1  # before the file is read: whoever asks for a reload later will see another number
        number = self._row.reload
        try:
            change = self._reader.read_again(self._boot.settings, self._served.plan)
        except ConfigError as error:
            _logger.error("reload refused", number=number, error=str(error))
            with suppress(ActorSystemException):  # then it is not shown; the log has it
                tell(Outcome(number, str(error), at_unix_s=time.time()))
            self._reporter.ready()
            return
        settings = change.settings
        log.OUTPUT.change(settings.log.level, settings.log.format, settings.log.privacy)
        watch.hang_timeout_s = settings.supervision.hang_timeout_s
        self._reporter.expect(settings.supervision.hang_timeout_s)
        self._push(self._update_to(change.plan, settings, change.needs_restart, change.tokens), change.plan, tell)
        self._warn()

    def _update_to(
        self, to: plan.Plan, settings: Settings, needs_restart: tuple[str, ...], tokens: tuple[Token, ...] | None
    ) -> Update:
        return Update(self._row.reload, settings, to.announced, to.slots, needs_restart, tokens, to.admin_token)

    def _push(self, update: Update, to: plan.Plan, tell: Callable[[object], None]) -> None:
        """Sockets first, then what they are for."""
        before = self._served.plan.sockets
        self._boot = update.applied_to(self._boot)
        self._channel.send([each.fileno() for each in to.sockets if each not in before])
        tell(update)
        self._served.change(to)
        self._reporter.watch(self._boot.slots, self._board)

    def _look_around(self, tell: Callable[[object], None]) -> None:
        """The machine's own addresses, which stand for a wildcard, may have changed; workers may have left."""
        boot, served = self._boot, self._served.plan
        try:
            announced = reload.announced(boot.settings, served)
        except ConfigError:  # it has none at the moment: what was announced may come back
            announced = boot.announced
        now = replace(served.without(self._reader.has_left), announced=announced)
        if now == served:
            return
        self._row.reload += 1
        if announced != boot.announced:
            _logger.info("addresses changed", announced=" ".join(announced))
        update = self._update_to(now, boot.settings, (), boot.tokens)
        self._push(replace(update, is_reload=False), now, tell)

    def _on_word(self) -> None:
        """Every slot serves for the first time, or a reload is over."""
        if not self._announced:
            self._announce()
        self._reporter.ready()

    def _warn(self) -> None:
        """Of what the settings promise and the machine does not keep."""
        boot = self._boot
        for warning in undialable_warnings(boot.announced):
            _logger.warning(warning)
        if short := descriptors.shortage(boot.settings.limits.max_connections, boot.slots):
            _logger.warning(short)

    def _announce(self) -> None:
        """Every slot serves: say where, in one write."""
        self._announced = True
        self._warn()
        _logger.info("relay ready", peer=self._peer, processes=len(self._boot.slots))
        lines = "".join(f"{address}/p2p/{self._peer}\n" for address in self._boot.announced)
        with suppress(OSError):  # nobody has to read it
            os.write(1, lines.encode())
