"""Where a value comes from, as `config show` says it."""

from pathlib import Path

import pytest

from config.load import load_with_origins
from config.origins import DEFAULT, Origins

FILE = """\
# a comment with max_circuits = 5
[limits]
max_reservations = 10

max_circuits = 5 # five
circuit_rate_per_ip = "off"
[access]
deny_peers = [
  "a",
  "b",
]
  [log]
  level = "debug"

[[listeners]]
address = "/ip4/127.0.0.1/tcp/1"
[[listeners]]
address = "/ip4/127.0.0.1/tcp/2"
workers = 3
"""


def origins(tmp_path: Path, text: str, *overrides: str, **environ: str) -> tuple[Origins, str]:
    path = tmp_path / "relay.toml"
    path.write_text(text)
    return load_with_origins(str(path), overrides, environ)[1], str(path)


def test_a_value_of_the_file_has_its_line(tmp_path: Path) -> None:
    found, file = origins(tmp_path, FILE)
    assert found.of(("limits", "max_reservations")) == f"{file}:3"
    assert found.of(("limits", "max_circuits")) == f"{file}:5"
    assert found.of(("limits", "circuit_rate_per_ip")) == f"{file}:6"
    assert found.of(("access", "deny_peers")) == f"{file}:8"
    assert found.of(("log", "level")) == f"{file}:13"
    assert found.of(("listeners", 0, "address")) == f"{file}:16"
    assert found.of(("listeners", 1, "workers")) == f"{file}:19"


def test_what_nobody_sets_is_the_default(tmp_path: Path) -> None:
    found, _ = origins(tmp_path, FILE)
    assert found.of(("limits", "max_connections")) == DEFAULT
    assert found.of(("listeners", 0, "workers")) == DEFAULT
    assert found.of(("admin", "listen")) == DEFAULT


def test_the_environment_is_named_by_its_variable_and_set_by_its_flag(tmp_path: Path) -> None:
    found, file = origins(
        tmp_path, FILE, "log.level=info", FROST_RELAY__LIMITS__MAX_CIRCUITS="6", FROST_RELAY__LOG__LEVEL="error"
    )
    assert found.of(("limits", "max_circuits")) == "FROST_RELAY__LIMITS__MAX_CIRCUITS"
    assert found.of(("limits", "max_reservations")) == f"{file}:3"
    assert found.of(("log", "level")) == "--set"


def test_a_table_that_is_set_whole_replaces_what_was_in_it(tmp_path: Path) -> None:
    found, _ = origins(tmp_path, FILE, 'listeners=[{address="/ip4/127.0.0.1/tcp/3"}]')
    assert found.of(("listeners", 0, "address")) == "--set"


def test_one_part_of_a_list_that_is_set_leaves_the_others_where_they_were(tmp_path: Path) -> None:
    found, file = origins(tmp_path, FILE, "listeners[1].workers=4")
    assert found.of(("listeners", 1, "workers")) == "--set"
    assert found.of(("listeners", 1, "address")) == f"{file}:18"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("limits.max_circuits = 5\n", ":1"),
        ("limits = {max_circuits = 5}\n", ":1"),
        ("[ limits ]  # those\n\nmax_circuits=5\n", ":3"),
        ('[limits]\n"max_circuits" = 5\n', ""),
        ('[identity]\nkey_file = "/a"\n[limits]\nmax_circuits = 5\r\n', ":4"),
    ],
)
def test_other_ways_to_write_it_have_their_line_or_none(tmp_path: Path, text: str, line: str) -> None:
    found, file = origins(tmp_path, text)
    assert found.of(("limits", "max_circuits")) == f"{file}{line}"


def test_a_text_that_looks_like_a_setting_makes_no_wrong_line(tmp_path: Path) -> None:
    text = '[announce]\naddresses = ["""\n[limits]\nmax_circuits = 9\n"""]\n[limits]\nmax_circuits = 5\n'
    made = Origins()
    made.note_file({"limits": {"max_circuits": 5}}, "f", text)
    assert made.of(("limits", "max_circuits")) == "f"
