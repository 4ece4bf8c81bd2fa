"""What all commands share: options that say where settings come from, exit codes, the one way an error looks."""

from __future__ import annotations

import errno
from contextlib import suppress
from inspect import cleandoc
from typing import Any, Final

import click

from config.errors import ConfigError
from config.paths import CONFIG_VARIABLE, DEFAULT_CONFIG_FILE

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2


class FailedError(Exception):
    """What was asked for could not be done: one line for the user, exit code 1."""


class Command(click.Command):
    """A command whose errors are one line on standard error: FailedError exit code 1, ConfigError exit code 2."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # click keeps the lines of a paragraph that begins with a backspace; docstrings write it as backslash and b.
        options["help"] = cleandoc(options.get("help") or "").replace("\\b\n", "\n\b\n")
        super().__init__(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            say(str(error))
            ctx.exit(EXIT_CONFIG)
        except FailedError as error:
            say(str(error))
            ctx.exit(EXIT_FAILED)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            say(f"it cannot be written: {error.strerror}")
            ctx.exit(EXIT_FAILED)


def say(line: str) -> None:
    """One line for people on standard error; where that is full, the exit code has to do."""
    with suppress(OSError):
        click.echo(f"frost-relay: {' '.join(line.split())}", err=True)


config_option: Final = click.option(
    "--config", "file", metavar="FILE", help=f"TOML file. Default: ${CONFIG_VARIABLE}, {DEFAULT_CONFIG_FILE}."
)
set_option: Final = click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Set one value; may be repeated."
)
version_option: Final = click.version_option(package_name="frost-relay", message="%(prog)s %(version)s")
