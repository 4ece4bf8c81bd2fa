"""A py-libp2p peer in a process of its own (tests/support/pylibp2p_program.py)."""

import sys
from collections.abc import Mapping

from tests.support.programs import ProgramPeer


class PyPeer(ProgramPeer):
    """Starts the program at once and does not wait for it: the first call does."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__("py-libp2p", [sys.executable, "-m", "tests.support.pylibp2p_program"], environ)
