"""What locust loads: the users, the shape that SHAPE names, and what makes a run fail.

    locust -f loadtests/locustfile.py --host /ip4/203.0.113.7/tcp/9091/ws/p2p/12D3KooW…

with the web interface on port 8089, from the root of the project. `--master` and `--worker` spread it over machines.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from locust import events
from locust.env import Environment

from loadtests.browsers.pipes import AddressError, Target
from loadtests.browsers.shapes import RENEW, chosen
from loadtests.browsers.steps import STRANGER
from loadtests.browsers.strangers import Stranger
from loadtests.browsers.users import ReservedBrowser, SigningParty

__all__ = ["ReservedBrowser", "SigningParty", "Stranger"]


def refuse(error: Exception) -> NoReturn:
    """One line that says what is wrong and what would be right."""
    sys.stderr.write(f"locustfile: {error}\n")
    sys.exit(2)


try:
    ChosenShape = chosen()
except ValueError as error:
    refuse(error)


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """A storm is a message to whoever runs users; an address that cannot be dialled ends the start."""
    if environment.runner is not None:
        environment.runner.register_message(RENEW, lambda **_: ReservedBrowser.renew_at_once())
    if environment.host:
        try:
            Target.parse(environment.host)
        except AddressError as error:
            refuse(error)


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """A run has failed when a well-behaved user has, when our own code has, or when nothing was done at all."""
    kinds = environment.stats.entries.values()
    failed = sum(each.num_failures for each in kinds if each.method != STRANGER)
    done = sum(each.num_requests for each in kinds if each.method != STRANGER)
    faults = len(environment.runner.exceptions) if environment.runner is not None else 0
    environment.process_exit_code = 1 if failed or faults or not done else 0
