"""The one line that a wrong setting gets."""

import datetime
import pickle

import pytest

from config.errors import MISSING, ConfigError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("many", '"many"'),
        ("", '""'),
        ('say "hi"', r'"say \"hi\""'),
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        (["a", 1, False], '["a", 1, false]'),
        ({"a": {"b": []}}, "{a = {b = []}}"),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        ("µ", '"µ"'),
    ],
)
def test_the_value_is_shown_as_the_file_would_have_it(value: object, shown: str) -> None:
    assert str(ConfigError("a.b", value, "c")) == f"a.b = {shown}: expected c"


def test_a_missing_key_is_said_to_be_missing() -> None:
    assert str(ConfigError("a.b", MISSING, "c")) == "a.b is missing: expected c"


@pytest.mark.parametrize("nasty", ["a\nb", "a\rb", "a\u2028b", "a\x1b[31mb", "a\x85b", "a\x00b"])
def test_it_is_one_line_of_printable_characters_whatever_is_in_it(nasty: str) -> None:
    text = str(ConfigError(nasty, nasty, nasty))
    assert text.isprintable()
    assert text.splitlines() == [text]


def test_a_long_value_is_cut() -> None:
    assert len(str(ConfigError("k", "x" * 10_000, "short"))) < 200


@pytest.mark.parametrize("wrapped", [lambda text: text, lambda text: [text], lambda text: {"key": text}])
def test_a_pasted_private_key_is_not_shown(wrapped: object) -> None:
    assert callable(wrapped)
    pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----"
    text = str(ConfigError("k", wrapped(pem), "a path"))
    assert "MHcC" not in text
    assert "(not shown)" in text


@pytest.mark.parametrize("value", ["x", MISSING])
def test_it_survives_the_way_between_processes(value: object) -> None:
    error = pickle.loads(pickle.dumps(ConfigError("k", value, "e")))
    assert (error.key, error.value, error.expected) == ("k", value, "e")
    assert error.value is value or value == "x"
    assert str(error) == str(ConfigError("k", value, "e"))
