"""The npm packages of example and tests: pinned by hash, and installable from whatever registry a machine has."""

import json

from tests.support.toolchain import EXAMPLE

LOCK = json.loads((EXAMPLE / "package-lock.json").read_text())
WANTED = json.loads((EXAMPLE / "package.json").read_text())["dependencies"]


def test_the_lock_names_no_address() -> None:
    assert "://" not in (EXAMPLE / "package-lock.json").read_text()


def test_every_package_is_pinned_by_its_hash() -> None:
    packages = {path: package for path, package in LOCK["packages"].items() if path}
    assert len(packages) > len(WANTED)
    assert [path for path, package in packages.items() if not package.get("integrity", "").startswith("sha512-")] == []


def test_the_wanted_versions_are_exact_and_locked() -> None:
    assert {name: LOCK["packages"][f"node_modules/{name}"]["version"] for name in WANTED} == WANTED
