"""Thespian, hardened to carry a daemon. The one place that changes it, before the first fork; all processes inherit it.

What is changed, and why, stands beside each change; the measurements are in DECISIONS.md. The result: Unix sockets in a
private directory, sealed messages of bounded size, one process tree that dies together, plain logging without a logger
process, and a process that crashes crashes. It must never decide anything about the relay.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import os
import resource
import selectors
import signal
import types
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from thespian.actors import ActorAddress, ActorSystemException, ChildActorExited, InvalidActorSpecification

from actors import log
from actors.loop_selector import LoopSelector
from actors.process import die
from supervisor import seal, unix_sockets
from supervisor.thespian_parts import (
    ActorStartupFailed,
    ActorSystemBase,
    EndpointConnected,
    LoggerConnected,
    async_transport,
    common,
    system_base,
    tcp,
    transports,
    utilities,
)

THESPIAN_VERSION = "4.0.1"
EXIT_CHILD_DIED = 70

_PR_SET_PDEATHSIG = 1
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGABRT", "SIGXCPU", "SIGXFSZ")
_MAINS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")

_libc = ctypes.CDLL(None, use_errno=True)
_logger = log.get_logger("system")


PROCESS_LIMITS = "ulimit -u, TasksMax= in the unit, memory"
"""What may be too little when no process can be started."""


class SystemStartError(ActorSystemException):
    """The actor system cannot be started or reached: ours to repair."""


# --- one process tree that dies together ---------------------------------------------------------------------------


class _Forker:
    """Who forked last: a child compares it with its parent, to see whether the parent died before PDEATHSIG was set."""

    pid = 0


def _remember_forker() -> None:
    _Forker.pid = os.getpid()


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies. First of all in the child; forks come from main threads only."""
    signal.set_wakeup_fd(-1)  # main's: a signal to this process is not one to main
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != _Forker.pid:
        os._exit(EXIT_CHILD_DIED)


def _set_signals() -> None:
    """Signals of a process below main: crashes crash, and what is sent to the whole group is main's to answer."""
    for name in _CRASHES:  # stock Thespian catches SIGSEGV in Python and spins on it for ever
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    for name in _MAINS:  # stock ends each actor by itself, in no order; main tells the supervisor instead
        signal.signal(getattr(signal, name), signal.SIG_IGN)


# --- plain logging -------------------------------------------------------------------------------------------------

_root = logging.root
_manager = logging.Logger.manager


def _keep_logging(*_args: object, **_kwargs: object) -> logging.Logger:
    """Undo Thespian's exchange of the root logger, which sends each line as a message (183 to 1,682 µs against 12)."""
    logging.root = logging.Logger.root = _root
    logging.Logger.manager = _manager
    return _root


# --- faults in Thespian's own loop ----------------------------------------------------------------------------------


def _to_the_end(run: Callable[..., Any]) -> Callable[..., Any]:
    """The loop `run`, whose faults end the process: stock says them to a log file of its own, and exits with 0."""

    def run_to_the_end(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except ActorStartupFailed:
            raise  # the parent knows
        except Exception:  # noqa: BLE001 - whatever it is
            die("loop failed")

    return run_to_the_end


# --- actor and admin processes -------------------------------------------------------------------------------------


class _Deaths:
    """Tells of ended children in this process, instead of by a message that needs the child's address."""

    exit_codes: dict[int, int]

    def childDied(self) -> bool:  # noqa: N802 - Thespian's name
        """After SIGCHLD. Stock loses the death of a child that ended before it had said where it listens."""
        living, dead = utilities.partition(self._checkChildLiveness, getattr(self, "_child_procs", []))  # type: ignore[attr-defined]
        self._child_procs = living
        for child in dead:
            self.exit_codes[child.childProc.pid] = child.childProc.exitcode
            unix_sockets.remove_leftovers(child.childProc.pid)
            notice = ChildActorExited(getattr(child, "childRealAddr", child.childAddr))
            self.tell_exit(notice)
        return True

    def _childExited(self, _address: ActorAddress) -> None:  # noqa: N802 - Thespian's name
        """An exit is being handled. Stock drops all dead children here: of two that die at once, one unheard of."""

    def tell_exit(self, notice: ChildActorExited) -> None:
        """Hand the notice to whoever runs in this process."""
        raise NotImplementedError


class Manager(_Deaths, common.MultiProcManager):
    """Runs one actor in its process."""

    start_error: str = ""
    """Why the child that was made last has no process; "" when it has one."""

    def _startChildActor(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802 - Thespian's name
        """Stock says the reason to nobody, and that the child has ended."""
        self.start_error = ""
        try:
            super()._startChildActor(*args, **kwargs)
        except OSError as error:
            self.start_error = error.strerror or str(error)
            raise

    def __init__(self, *args: Any) -> None:
        self.exit_codes = {}
        _keep_logging()
        super().__init__(*args)
        self._governer._maxRate = 1 << 30  # noqa: SLF001 - stock sleeps in the actor's thread when it sends often

    def run(self) -> None:
        """The process's main loop."""
        _set_signals()
        self.transport.run = _to_the_end(self.transport.run)
        super().run()

    def tell_exit(self, notice: ChildActorExited) -> None:
        """To the actor, right after the message at hand; what still waited for the child's address is dropped."""
        self._awaitingAddressUpdate.remove_intents_for_address(notice.childAddress)
        self._receiveQueue.append(transports.ReceiveEnvelope(self.transport.myAddress, notice))


class Admin(_Deaths, common.MultiProcAdmin):
    """Thespian's own process: parent of the supervisor, and nothing else."""

    def __init__(self, inherited: Sequence[int], *args: Any) -> None:
        """`inherited`: descriptors that only what comes below the supervisor has a use for."""
        self.exit_codes = {}
        self._inherited = inherited
        super().__init__(*args)

    def _startChildActor(self, *args: Any, **named: Any) -> None:  # noqa: N802 - Thespian's name
        """Start the supervisor, which has the listening sockets from here on; a port is free when it closes them."""
        super()._startChildActor(*args, **named)
        for fd in self._inherited:
            os.close(fd)
        self._inherited = ()

    def tell_exit(self, _notice: ChildActorExited) -> None:
        """The supervisor is gone: so is its tree (PDEATHSIG); end, and let main see it."""
        _logger.error("supervisor died", exit_code=next(reversed(self.exit_codes.values()), None))
        os._exit(EXIT_CHILD_DIED)

    def h_LoggerConnected(self, envelope: transports.ReceiveEnvelope) -> Any:  # noqa: N802 - Thespian's name
        """End of the admin's start; stock exchanges the root logger here too."""
        result = super().h_LoggerConnected(envelope)
        _keep_logging()
        return result


def _admin_process(
    starter: Any, endpoint: Any, address: Any, capabilities: dict[str, Any], context: Any, inherited: Sequence[int]
) -> None:
    """Body of the admin's process: as Thespian's startAdmin, but no second fork and no logger process."""
    _die_with_parent()
    os.setsid()  # Ctrl-C at the terminal is for main alone
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the identity key
    transport = tcp.TCPTransport(endpoint)
    admin = Admin(inherited, transport, address, capabilities, None, context)
    admin.addrOfStarter = starter
    signal.signal(signal.SIGCHLD, admin.signalChildDied)
    _set_signals()
    transport.enableRXPauseFlowControl(False)
    admin.asLogger = admin.asLogProc = None
    transport.run = _to_the_end(transport.run)
    transport.scheduleTransmit(None, transports.TransmitIntent(transport.myAddress, LoggerConnected()))
    admin.run()


def _start_child(original: Any) -> Any:
    def start(*args: Any) -> None:
        _die_with_parent()
        original(*args)

    return start


class System(ActorSystemBase):
    """The actor system as main sees it."""

    def __init__(self, note_admin: Callable[[int], None], inherited: Sequence[int]) -> None:
        """`note_admin` gets the admin's process ID as soon as there is one, also when the start then fails.

        `inherited`: descriptors that pass through the admin's process to the supervisor's.
        """
        self._note_admin = note_admin
        self._inherited = inherited
        super().__init__(types.SimpleNamespace(capabilities={"Admin Port": unix_sockets.ADMIN_PORT}))

    def _startAdmin(self, address: Any, starter: Any, capabilities: dict[str, Any], _log_defs: object) -> None:  # noqa: N802
        endpoint = self.transport.prepEndpoint(address, capabilities)
        arguments = (starter, endpoint, address, capabilities, self.mpcontext, self._inherited)
        process = self.mpcontext.Process(target=_admin_process, args=arguments, name="system")
        try:
            process.start()
        except OSError as error:
            raise SystemStartError(f"no process can be started ({error.strerror}); look at {PROCESS_LIMITS}") from error
        common.detach_child(process)  # main waits for it by its process ID
        self._note_admin(process.pid)
        self.transport.connectEndpoint(endpoint)
        answer = self.transport.run(None, common.MAX_ADMIN_STARTUP_DELAY)
        if not isinstance(answer, transports.ReceiveEnvelope) or not isinstance(answer.message, EndpointConnected):
            raise SystemStartError("the actor system's admin does not answer")

    def create(self, actor: str) -> ActorAddress:
        """Start the primary actor named by a dotted path. Raises thespian.actors.ActorSystemException."""
        try:
            return self.newPrimaryActor(actor, None, None)
        except InvalidActorSpecification as error:
            raise SystemStartError(f"no second process can be started; look at {PROCESS_LIMITS}") from error

    def tell_within(self, actor: ActorAddress, message: object, limit_s: float) -> None:
        """Send, and wait at most `limit_s` until it was taken (stock: a minute). Raises ActorSystemException."""
        system_base.MAX_TELL_PERIOD = timedelta(seconds=limit_s)
        self.tell(actor, message)


# --- what the supervisor asks about its own children ----------------------------------------------------------------


def newest_child_pid(actor: Any) -> int:
    """Process ID of the child that this actor made last; 0 in a system without processes."""
    children = getattr(actor._myRef, "_child_procs", None)  # noqa: SLF001
    return children[-1].childProc.pid if children else 0


def start_error(actor: Any) -> str:
    """Why the child that this actor made last could not be started, in one word or two; "" if it was."""
    return getattr(actor._myRef, "start_error", "")  # noqa: SLF001


def exit_code(actor: Any, pid: int) -> int | None:
    """How a child of this actor ended (negative: by that signal); None when it is not known. Forgets it."""
    codes: dict[int, int] = getattr(actor._myRef, "exit_codes", {})  # noqa: SLF001
    return codes.pop(pid, None)


# --- the change itself ----------------------------------------------------------------------------------------------


def _refuse(found: str) -> NoReturn:
    raise SystemStartError(
        f"thespian {found} is installed, and supervisor/system.py changes private parts of {THESPIAN_VERSION}: "
        f"install thespian=={THESPIAN_VERSION}"
    )


def harden(directory: str) -> None:
    """Change Thespian for this process and all that are forked from it. Once, before `System()`."""
    found = importlib.metadata.version("thespian")
    if found != THESPIAN_VERSION:
        _refuse(found)
    os.register_at_fork(before=_remember_forker)
    seal.install(os.urandom(32))
    unix_sockets.install(directory)
    namespace = types.ModuleType("selectors")
    namespace.__dict__.update(selectors.__dict__)
    namespace.__dict__["DefaultSelector"] = LoopSelector
    tcp.selectors = namespace  # an actor's wait runs its event loop
    common.ThespianLogForwarder = _keep_logging  # no log line travels as a message
    common.MultiProcManager = Manager
    common.startChild = _start_child(common.startChild)  # PDEATHSIG before anything else
    utilities.thesplog_control(logging.CRITICAL, False, 0)  # no log file of Thespian's own in /tmp
    async_transport.MAX_PENDING_TRANSMITS = 512  # of all peers together: 20 to one stuck peer would mute an actor
    transports.DEFAULT_MAX_TRANSMIT_PERIOD = timedelta(seconds=15)  # stock keeps what cannot be sent for 5 minutes
    system_base.MAX_CHILD_ACTOR_CREATE_DELAY = timedelta(seconds=20)  # stock: 50 s
    common.MAX_ADMIN_STARTUP_DELAY = timedelta(seconds=20)  # stock gives up after 5 s, also on a busy machine
