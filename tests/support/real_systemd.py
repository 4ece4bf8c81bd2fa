"""A real systemd: PID 1 of namespaces of its own, with nothing but the units of a test.

It shares the network with the test, unless it is to have its own, and nothing that is written: /etc and /usr/local/bin
are copies, /run, /var and /opt are empty but for this project and this Python, which a user without a home can reach
there. Needs root, and a cgroup hierarchy that it may own. No unit of this machine is seen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from tests.support.relay import ROOT
from tests.support.toolchain import missing, required_program

PROJECT: Final = "/opt/project"
PACKAGES: Final = "/opt/packages"
"""What this Python has installed."""
_PYTHON: Final = "/opt/python"
COMMAND: Final = f"{_PYTHON}/bin/python3 -m supervisor.cli"
"""`frost-relay`, for a unit with `ENVIRONMENT`."""
ENVIRONMENT: Final = {"PYTHONPATH": f"{PROJECT}:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1"}
START_LIMIT_S: Final = 20.0
_SYSTEMD: Final = "/lib/systemd/systemd"
_TARGETS: Final = ("sysinit", "basic", "shutdown", "multi-user", "sockets", "network-online", "umount", "local-fs")
_BOOT: Final = f"""
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$1/mounts"
mount -t tmpfs tmpfs "$1/mounts"
mkdir "$1/mounts/project" "$1/mounts/packages" "$1/mounts/python"
mount --bind "{ROOT}" "$1/mounts/project"
mount --bind "{sysconfig.get_path("purelib")}" "$1/mounts/packages"
mount --bind "{sys.base_prefix}" "$1/mounts/python"
for each in /etc /usr/local/bin; do
    mkdir -p "$1/mounts/upper$each" "$1/mounts/work$each"
    mount -t overlay overlay -o "lowerdir=$each,upperdir=$1/mounts/upper$each,workdir=$1/mounts/work$each" $each
done
for each in /run /var/lib /var/cache /var/log /opt; do mount -t tmpfs tmpfs $each; done
mkdir -p {PROJECT} {PACKAGES} {_PYTHON} /run/systemd/system /run/lock
mount --bind "$1/mounts/project" {PROJECT}
mount --bind "$1/mounts/packages" {PACKAGES}
mount --bind "$1/mounts/python" {_PYTHON}
rm -rf /etc/frost-relay /etc/systemd/system/*
if [ "$2" = alone ]; then ip link set lo up; fi
cp -r "$1/etc" /etc/frost-relay
echo {_PYTHON}/lib > /etc/ld.so.conf.d/0-python.conf
ldconfig -X
mount --make-rshared / # as an init does; credentials are mounted through it
cd /
export SYSTEMD_UNIT_PATH="$1/units:/etc/systemd/system" container=other
exec {_SYSTEMD} --system --unit=multi-user.target --log-target=console --log-level=info
"""


class RealSystemd:
    """Context manager; `units` are files by their name, `etc` is what will be /etc/frost-relay.

    `alone`: on a network of its own, with loopback only and all ports free.
    """

    def __init__(self, folder: Path, units: Mapping[str, str], etc: Mapping[str, str], *, alone: bool = False) -> None:
        if os.geteuid() != 0:
            missing("root, to run a systemd in namespaces")
        if not Path(_SYSTEMD).exists():
            missing("systemd")
        self._unshare = required_program("unshare")
        self._nsenter = required_program("nsenter")
        required_program("systemctl")
        self.folder = folder
        self._alone = alone
        self._cgroup = _own_cgroup(f"frost-relay-test-{os.getpid()}")
        for target in _TARGETS:
            _write(folder / "units" / f"{target}.target", "[Unit]\nDefaultDependencies=no\n")
        for name, text in units.items():
            _write(folder / "units" / name, text)
        (folder / "etc").mkdir(exist_ok=True)
        for name, text in etc.items():
            _write(folder / "etc" / name, text)

    def __enter__(self) -> Self:
        self._log = (self.folder / "systemd.log").open("wb")
        command = [self._unshare, "--pid", "--fork", "--mount", "--uts", "--ipc", "--cgroup", "--kill-child=SIGKILL"]
        command += ["--net"] if self._alone else []
        self.process = subprocess.Popen(
            ["sh", "-c", f'echo $$ > {self._cgroup}/cgroup.procs; exec "$@"', "sh", *command, "sh", "-c", _BOOT, "sh",
             str(self.folder), "alone" if self._alone else ""],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self.wait(lambda: self.control("is-system-running") in {"running", "degraded"}, "systemd is up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._log:
            self.process.send_signal(signal.SIGKILL)  # its child, our systemd, goes with it, and all in its namespace
            self.process.wait()
        end = time.monotonic() + START_LIMIT_S
        while not _removed(self._cgroup) and time.monotonic() < end:
            time.sleep(0.02)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Ask until it holds."""
        end = time.monotonic() + START_LIMIT_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"not so: {what}\n{(self.folder / 'systemd.log').read_text(errors='replace')}")
            time.sleep(0.05)

    def control(self, *arguments: str) -> str:
        """What `systemctl` says, its errors included."""
        return self._inside("systemctl", "--no-pager", *arguments)[0] if self._init() else ""

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command as root, inside; what it says, its errors included."""
        said, code = self._inside(*command)
        assert code == status, (command, code, said)
        return said

    def on_its_network(self, *command: str) -> list[str]:
        """The words that run a command outside which reaches what is reached inside."""
        return [self._nsenter, "-t", str(self._init()), "-n", *command]

    def _inside(self, *command: str) -> tuple[str, int]:
        enter = [self._nsenter, "-t", str(self._init()), "-m", "-p", "-C", "-n"]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=60, check=False)
        return (done.stdout + done.stderr).strip(), done.returncode

    def _init(self) -> int | None:
        """The process that is PID 1 inside, once there is one."""
        children = psutil.Process(self.process.pid).children()
        return children[0].pid if children else None

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.control("show", "--value", "-p", name, unit)

    def main_process(self, unit: str) -> int:
        """The unit's main process, by its number outside."""
        inside = self.show(unit, "MainPID")
        return next(each for each in self.processes(unit) if _number_inside(each) == inside)

    def processes(self, unit: str) -> list[int]:
        """All processes of a unit, by their numbers outside."""
        text = (self._cgroup / "system.slice" / unit / "cgroup.procs").read_text("ascii")
        return [int(each) for each in text.split()]

    def path(self, path: str) -> Path:
        """Where a file that is there inside is found outside."""
        return Path(f"/proc/{self._init()}/root{path}")

    def read(self, path: str) -> str:
        """A file as it is seen inside; empty when it is not there."""
        place = self.path(path)
        return place.read_text(errors="replace") if place.exists() else ""


def _number_inside(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return line.split()[-1]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o644)


def _own_cgroup(name: str) -> Path:
    """A cgroup for the test's systemd, in the unified hierarchy."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    place = next((Path(line[1]) for line in mounts if line[2] == "cgroup2"), None)
    if place is None:
        missing("a cgroup2 hierarchy")
    try:
        (place / name).mkdir()
    except OSError as error:
        missing(f"a cgroup2 hierarchy that can be written ({error.strerror})")
    return place / name


def _removed(cgroup: Path) -> bool:
    """Whether the cgroup and all below it are gone; a killed process is in its cgroup until it is reaped."""
    try:
        for folder, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(folder)
    except OSError:
        return not cgroup.exists()
    return True
