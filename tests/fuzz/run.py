"""Runs one fuzz target: `python -m tests.fuzz.run TARGET SECONDS [FOLDER]`; `all` runs each for so long.

What is found goes to FOLDER (`.cache/fuzz/`): inputs that reach new code in TARGET/, an input that breaks the target in
TARGET.crash-…. A target fails when it raises, when one input takes more than INPUT_S, or when the process takes more
than MEMORY_MIB.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CORPUS: Final = ROOT / "tests" / "fuzz" / "corpus"
FOUND: Final = ROOT / ".cache" / "fuzz"
INPUT_S: Final = 5
MEMORY_MIB: Final = 1024
MAX_INPUT_BYTES: Final = 16 * 1024


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Fuzz in this process, which ends with it: status 0 when nothing was found."""
    import atheris  # noqa: PLC0415 - not on every machine, and `all` does without

    # The layers are instrumented as they are imported, so nothing of them may be imported before.
    with atheris.instrument_imports(include=["transports", "actors", "config"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    grown = folder / name
    grown.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "timeout": INPUT_S,
        "rss_limit_mb": MEMORY_MIB,
        "max_len": MAX_INPUT_BYTES,
        "artifact_prefix": f"{folder}/{name}.",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    arguments = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(grown), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


def fuzz_all(seconds: int) -> int:
    """Each target in a process of its own; the number of those in which something was found."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    failed = []
    for name in TARGETS:
        print(f"{name}: {seconds} s", flush=True)  # noqa: T201
        if subprocess.run([sys.executable, "-m", "tests.fuzz.run", name, str(seconds)], check=False).returncode:
            failed.append(name)
    print(f"found something in: {', '.join(failed)}" if failed else "found nothing")  # noqa: T201
    return len(failed)


def main(arguments: Sequence[str]) -> int:
    """`TARGET SECONDS [FOLDER]`."""
    name, seconds, *folder = arguments
    if name == "all":
        return fuzz_all(int(seconds))
    fuzz(name, int(seconds), Path(*folder) if folder else FOUND)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
