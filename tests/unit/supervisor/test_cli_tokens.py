from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors.tokens import read_tokens
from supervisor import cli

SECRET = "nobody-may-see-this-secret"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ("tokens", *arguments), env={"FROST_RELAY_CONFIG": ""})


def written(path: Path, content: str) -> str:
    path.touch(0o600)
    path.write_text(content)
    return f'access.tokens_file="{path}"'


def test_tokens_are_listed_without_their_secrets(tmp_path: Path) -> None:
    file = written(
        tmp_path / "tokens.toml",
        f'[[tokens]]\nname = "anna"\nsecret = "{SECRET}"\n'
        f'[[tokens]]\nname = "bert"\nsecret = "{SECRET}2"\nmax_connections = 5\nexpires = 2020-01-01T00:00:00Z\n',
    )
    result = call("list", "--set", file)
    assert result.exit_code == 0
    assert SECRET not in result.output
    head, anna, bert = (line.split() for line in result.output.splitlines())
    assert head == ["NAME", "CONNECTIONS", "RESERVATIONS", "EXPIRES"]
    assert anna == ["anna", "any", "any", "never"]
    assert bert == ["bert", "5", "any", "2020-01-01T00:00:00+00:00", "(expired)"]


def test_without_a_file_it_is_said_that_everybody_may_connect() -> None:
    result = call("list")
    assert result.exit_code == 2
    assert 'access.tokens_file = "": expected the file of tokens' in result.output


def test_what_new_prints_can_be_added_to_the_file(tmp_path: Path) -> None:
    made = [call("new", name) for name in ("anna", "bert")]
    assert {result.exit_code for result in made} == {0}
    path = tmp_path / "tokens.toml"
    written(path, "".join(result.output for result in made))
    tokens = read_tokens(str(path)) or ()
    assert [token.name for token in tokens] == ["anna", "bert"]
    assert tokens[0].secret != tokens[1].secret


@pytest.mark.parametrize("name", ["", "anna b", "a/b", "x" * 65])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    result = call("new", name)
    assert result.exit_code == 2
    assert "expected 1 to 64 letters" in result.output
