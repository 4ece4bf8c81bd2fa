"""What the operators' documents tell people to type, to write and to look for exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator

import click
import pytest
from prometheus_client import REGISTRY

from actors import metrics
from actors.circuit import End
from actors.limits import Reason
from config.load import decode, to_tables
from config.settings import Settings
from supervisor.cli import main
from supervisor.install import PARTS
from tests.support.relay import ROOT

DOCUMENTS = (
    "docs/install.md",
    "docs/capacity-planning.md",
    "docs/upgrade.md",
    "docs/troubleshooting.md",
    "docs/security.md",
)
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
TABLES = to_tables(Settings())


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, language: str = "") -> list[str]:
    return [body for _, kind, body in BLOCK.findall(text(name)) if kind == language]


def spans(name: str) -> list[str]:
    return SPAN.findall(BLOCK.sub("", text(name)))


def commands(name: str) -> Iterator[list[str]]:
    """Every `frost-relay …` that is typed."""
    for line in [*(line for block in blocks(name) for line in block.splitlines()), *spans(name)]:
        words = shlex.split(line, comments=True) if line.strip().startswith("frost-relay ") else []
        if words and not words[1].startswith("-"):
            yield words[1:]


def unknown(words: list[str]) -> str:
    """The first word of a command line that the program does not know; "" when it knows all."""
    command: click.Command = main
    for word in words:
        if word.startswith("-"):
            if not any(word.partition("=")[0] in parameter.opts for parameter in command.params):
                return word
        elif isinstance(command, click.Group):
            if word not in command.commands:
                return word
            command = command.commands[word]
    return ""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_their_options_exist(name: str) -> None:
    assert [" ".join(words) for words in commands(name) if unknown(words)] == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert len(list(commands("docs/install.md"))) > 5
    assert unknown(["install", "--systemd", "--root", "/x"]) == ""
    assert unknown(["config", "check", "/etc/frost-relay/relay.toml"]) == ""
    assert unknown(["config", "prove"]) == "prove"
    assert unknown(["install", "--openrc"]) == "--openrc"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_settings_exist(name: str) -> None:
    named = [re.fullmatch(rf"({'|'.join(TABLES)})\.(\w+)", span) for span in spans(name)]
    assert [found[0] for found in named if found and found[2] not in TABLES[found[1]]] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_configurations_can_be_used(name: str) -> None:
    for block in blocks(name, "toml"):
        decode(tomllib.loads(block))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_of_ours_exist_and_go_where_the_document_says(name: str) -> None:
    whole = text(name)
    ours = set(re.findall(r"config/deploy/[\w./-]*\w", whole))
    assert [each for each in ours if not (ROOT / each).exists()] == []
    installed = {path for part in PARTS.values() for _, path in part.sources} | {"/etc/nginx/nginx.conf"}
    places = r"/etc/(?:systemd/system|nginx|fail2ban|letsencrypt/renewal-hooks)/[\w./-]*\w"
    assert set(re.findall(places, whole)) <= installed


def test_reasons_and_counters_that_are_to_be_looked_for_exist() -> None:
    rows = re.search(r"^\| reason \| setting \|\n(.*?)\n\n", text("docs/troubleshooting.md"), re.MULTILINE | re.DOTALL)
    assert rows
    named = {span for row in rows[1].splitlines() for span in SPAN.findall(row.split("|")[1])}
    assert len(named) > 10
    assert named <= {reason.value for reason in Reason}
    ends = set(re.findall(r"circuits end with `reason=(\w+)` or `reason=(\w+)`", text("docs/troubleshooting.md"))[0])
    assert ends <= {end.value for end in End}
    assert metrics.REFUSALS is not None
    counters = {f"{metric.name}_total" for metric in REGISTRY.collect()}
    assert {each for name in DOCUMENTS for each in re.findall(r"frost_relay_\w+", text(name))} <= counters


def test_messages_that_are_to_be_looked_for_are_ours() -> None:
    folders = (ROOT / "supervisor", ROOT / "transports")
    sources = "".join(path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py"))
    for message in (
        "an address that no other program uses",
        "a port that this user may open",
        "a listening TCP socket bound to",
        "reload refused",
        "watchdog not fed",
        "process ended",
    ):
        shown = message.removeprefix("an address that ")
        assert shown in text("docs/troubleshooting.md")
        assert message in sources
