"""The file of tokens, right and wrong, and where a request carries a secret."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.tokens import MAX_FILE_BYTES, MAX_TOKENS, Tokens, read_tokens, secret_of
from config.errors import ConfigError

SECRET = "anna-secret-of-32-characters.~_-"
OTHER = "a-secret-of-somebody-else"
ANNA = f'[[tokens]]\nname = "anna"\nsecret = "{SECRET}"\n'


def file(tmp_path: Path, content: str | bytes, mode: int = 0o600) -> str:
    path = tmp_path / "tokens.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return str(path)


def refusal(tmp_path: Path, content: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read_tokens(file(tmp_path, content))
    assert caught.value.key == "access.tokens_file"
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.expected


def test_a_token_is_found_by_its_secret_and_by_its_name(tmp_path: Path) -> None:
    bert = f'[[tokens]]\nname = "bert"\nsecret = "{OTHER}"\nmax_connections = 5\nmax_reservations = 2\n'
    tokens = Tokens(read_tokens(file(tmp_path, ANNA + bert)) or ())
    anna, found = tokens.by_secret(SECRET), tokens.by_secret(OTHER)
    assert anna is not None
    assert found is not None
    assert (anna.name, anna.max_connections, anna.max_reservations, anna.expires) == ("anna", 0, 0, None)
    assert (found.name, found.max_connections, found.max_reservations) == ("bert", 5, 2)
    assert tokens.by_name("anna") is anna


@pytest.mark.parametrize("secret", ["", SECRET[:-1], SECRET + "x", SECRET.upper(), "nobody-has-this-one"])
def test_any_other_secret_is_nobodys(tmp_path: Path, secret: str) -> None:
    tokens = Tokens(read_tokens(file(tmp_path, ANNA)) or ())
    assert tokens.by_secret(secret) is None
    assert tokens.by_name("bert") is None


@pytest.mark.parametrize("text", ["2027-01-31T00:00:00Z", "2027-01-31T00:00:00", "2027-01-31T02:00:00+02:00"])
def test_a_token_is_valid_until_it_expires_and_a_time_without_a_zone_is_utc(tmp_path: Path, text: str) -> None:
    token = Tokens(read_tokens(file(tmp_path, ANNA + f"expires = {text}\n")) or ()).by_name("anna")
    assert token is not None
    end = datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    assert token.valid_at(end - 1)
    assert not token.valid_at(end)


def test_an_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    assert read_tokens(file(tmp_path, "# none yet\n")) == ()


def test_without_a_file_there_are_no_tokens() -> None:
    assert read_tokens("") is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(f'[[tokens]]\nname = "anna"\nsecret = "{SECRET}\n', "a TOML file", id="no TOML"),
        pytest.param(b"\xff\xfe", "a TOML file", id="no UTF-8"),
        pytest.param('[[tokens]]\nname = "anna"\n', "tokens[0] must be", id="no secret"),
        pytest.param(f'[[tokens]]\nsecret = "{SECRET}"\n', "tokens[0] must be", id="no name"),
        pytest.param(ANNA.replace("anna", "anna b"), "tokens[0].name must be 1 to 64", id="a name with a space"),
        pytest.param(ANNA.replace(SECRET, "short"), "tokens[0].secret must be 16 to 128", id="a short secret"),
        pytest.param(ANNA.replace(SECRET, "x" * 129), "tokens[0].secret must be 16 to 128", id="a long secret"),
        pytest.param(ANNA.replace(SECRET, SECRET + "/"), "tokens[0].secret must be", id="a secret with a slash"),
        pytest.param(ANNA + "max_connections = -1\n", "tokens[0].max_connections must be a whole", id="negative"),
        pytest.param(ANNA + 'max_reservations = "5"\n', "tokens[0].max_reservations must be a whole", id="a text"),
        pytest.param(ANNA + 'expires = "soon"\n', "tokens[0].expires must be a time", id="no time"),
        pytest.param(ANNA + "expires = 2027-01-31\n", "tokens[0].expires must be a time", id="a date"),
        pytest.param(ANNA + "colour = 5\n", "tokens[0] must be [[tokens]] tables of name, secret", id="unknown key"),
        pytest.param("token = []\n", "the file must be [[tokens]] tables", id="unknown table"),
        pytest.param("tokens = 5\n", "tokens must be [[tokens]] tables", id="no tables"),
        pytest.param(ANNA + ANNA.replace(SECRET, OTHER), "a name of their own", id="one name twice"),
        pytest.param(ANNA + ANNA.replace('"anna"', '"bert"'), "a secret of their own", id="one secret twice"),
        pytest.param(b"#" * (MAX_FILE_BYTES + 1), "at most", id="too long"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_its_secrets(
    tmp_path: Path, content: str | bytes, expected: str
) -> None:
    assert expected in refusal(tmp_path, content)


def test_there_may_be_10000_tokens_and_not_one_more(tmp_path: Path) -> None:
    content = "".join(f'[[tokens]]\nname = "n{number}"\nsecret = "{number:016}"\n' for number in range(MAX_TOKENS + 1))
    assert "at most 10000 tokens" in refusal(tmp_path, content)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="mode 0600"):
        read_tokens(file(tmp_path, ANNA, mode))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a file that exists"):
        read_tokens(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "target",
    [
        f"/t/{SECRET}",
        f"/t/{SECRET}/",
        f"/mounted/by/a/proxy/t/{SECRET}",
        f"/?token={SECRET}",
        f"/relay?a=b&token={SECRET}",
        f"/?token={SECRET}&a=b",
        f"/t/{SECRET}?a=b",
    ],
)
def test_a_secret_is_in_the_path_or_in_the_query(target: str) -> None:
    assert secret_of(target) == SECRET


@pytest.mark.parametrize(
    "target",
    ["", "/", f"/{SECRET}", f"/t/{SECRET}/more", "/t/short", f"/?tokens={SECRET}", f"/?xtoken={SECRET}", f"t/{SECRET}"],
)
def test_anything_else_is_no_secret(target: str) -> None:
    assert secret_of(target) == ""
