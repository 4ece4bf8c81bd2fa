"""`python -m supervisor.cli` is `frost-relay`."""

from __future__ import annotations

from supervisor.cli import main

main(prog_name="frost-relay")
