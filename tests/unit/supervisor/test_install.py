from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from config.errors import ConfigError
from config.load import load
from config.settings import Settings
from supervisor import install
from supervisor.cli import main

UNIT = "etc/systemd/system/frost-relay.service"


@pytest.fixture(autouse=True)
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program where the service sees it, wherever this checkout is."""
    monkeypatch.setattr(install, "program", lambda: "/opt/relay-2/bin/frost-relay")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["install", *arguments])


def everything(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_the_service_and_a_configuration_are_written_and_it_says_what_comes_next(tmp_path: Path) -> None:
    result = call("--systemd", "--root", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert sorted(everything(tmp_path)) == ["etc/frost-relay/relay.toml", UNIT]
    unit = (tmp_path / UNIT).read_text()
    assert "ExecStart=/opt/relay-2/bin/frost-relay run\n" in unit
    assert "ExecReload=/opt/relay-2/bin/frost-relay reload\n" in unit
    assert load(f"{tmp_path}/etc/frost-relay/relay.toml", [], {}) == Settings()
    assert (tmp_path / UNIT).stat().st_mode & 0o777 == 0o644
    assert result.stdout.splitlines() == [
        f"written   {tmp_path}/{UNIT}",
        f"written   {tmp_path}/etc/frost-relay/relay.toml",
        "Next:",
        "  systemctl daemon-reload",
        "  systemctl enable --now frost-relay.service",
        "  systemctl status frost-relay.service",
    ]


def test_called_again_nothing_changes(tmp_path: Path) -> None:
    parts = [f"--{part}" for part in install.PARTS]
    call(*parts, "--name", "relay.example.net", "--root", str(tmp_path))
    before = everything(tmp_path)
    result = call(*parts, "--name", "relay.example.net", "--root", str(tmp_path))
    assert everything(tmp_path) == before
    assert "written" not in result.stdout
    assert "replaced" not in result.stdout


def test_what_is_the_operators_stays_and_what_is_ours_is_renewed(tmp_path: Path) -> None:
    parts = [f"--{part}" for part in install.PARTS]
    call(*parts, "--name", "relay.example.net", "--root", str(tmp_path))
    for name in everything(tmp_path):
        (tmp_path / name).write_text("changed")
    call(*parts, "--name", "relay.example.net", "--root", str(tmp_path))
    assert {name for name, text in everything(tmp_path).items() if text == "changed"} == {
        "etc/frost-relay/relay.toml",
        "etc/nginx/conf.d/frost-relay.conf",
        "etc/fail2ban/jail.d/frost-relay.conf",
    }


def test_printing_writes_nothing_and_shows_each_file_under_its_path(tmp_path: Path) -> None:
    result = call("--systemd", "--print", "--root", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert result.stdout.startswith(f"# /{UNIT}\n\n")
    assert "ExecStart=/opt/relay-2/bin/frost-relay run\n" in result.stdout
    _, _, config = result.stdout.partition("# /etc/frost-relay/relay.toml\n")
    assert tomllib.loads(config)["limits"]


def test_another_configuration_is_named_to_the_service(tmp_path: Path) -> None:
    call("--systemd", "--config", "/srv/relay.toml", "--root", str(tmp_path))
    unit = (tmp_path / UNIT).read_text()
    for command in ("ExecStart=/opt/relay-2/bin/frost-relay run", "ExecReload=/opt/relay-2/bin/frost-relay reload"):
        assert f"{command} --config /srv/relay.toml\n" in unit
    assert (tmp_path / "srv/relay.toml").exists()


def test_the_name_is_put_everywhere_and_the_hook_can_be_run(tmp_path: Path) -> None:
    call("--nginx", "--certbot", "--name", "relay.example.net", "--root", str(tmp_path))
    site = (tmp_path / "etc/nginx/conf.d/frost-relay.conf").read_text()
    assert install.EXAMPLE_NAME not in site
    assert "server_name relay.example.net;" in site
    assert os.access(tmp_path / "etc/letsencrypt/renewal-hooks/deploy/frost-relay", os.X_OK)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--nginx",), 'frost-relay: --name = "": expected the name that browsers dial'),
        (("--nginx", "--name", "a b"), 'frost-relay: --name = "a b": expected'),
        (("--nginx", "--name", "relay.example.org;"), "frost-relay: --name"),
        (("--systemd", "--config", "relay.toml"), 'frost-relay: --config = "relay.toml": expected an absolute path'),
        (("--systemd", "--config", "/a b"), "frost-relay: --config"),
        ((), "say what to install: --systemd, "),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = call(*arguments, "--root", str(tmp_path))
    assert result.exit_code == 2
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    result = call("--systemd", "--root", str(tmp_path))
    assert result.exit_code == 2
    assert (
        result.stderr
        == f'frost-relay: --root = "{tmp_path}/{UNIT}": expected a file that can be written (Not a directory)\n'
    )


def test_every_file_of_a_part_is_shipped() -> None:
    for part in install.PARTS.values():
        for source, _ in part.sources:
            assert (install.DEPLOY / source).is_file()


class TestProgram:
    """Where the program is, and whether the service could run it."""

    @pytest.mark.parametrize("place", ["/root/venv/bin/python", "/home/me/venv/bin/python"])
    def test_one_that_protect_home_hides_is_refused(self, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(sys, "executable", place)
        with pytest.raises(ConfigError, match="outside /home, /root"):
            install.program()

    def test_one_that_is_not_there_is_refused(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(sys, "executable", "/opt/nothing/bin/python")
        with pytest.raises(ConfigError, match="/opt/nothing/bin/frost-relay"):
            install.program()

    def test_the_one_beside_python_is_taken(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.undo()
        (tmp_path / "frost-relay").touch()
        monkeypatch.setattr(sys, "executable", f"{tmp_path}/python")
        assert install.program() == f"{tmp_path}/frost-relay"
