"""What a machine lacks skips a test with the reason; a pipeline that skips proves nothing, so there it fails."""

import pytest

from tests.support import builds, toolchain


@pytest.fixture(params=[False, True], ids=["by-hand", "in-ci"])
def outcome(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """How a test ends that misses something."""
    if request.param:
        monkeypatch.setenv("CI", "true")
        return pytest.fail.Exception
    monkeypatch.delenv("CI", raising=False)
    return pytest.skip.Exception


@pytest.mark.parametrize("build", [toolchain.go_program, toolchain.rust_program])
def test_a_missing_compiler_is_named(
    build: object, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(build)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(outcome, match=r"missing.*: (go|cargo)$"):
        build()


def test_a_compiler_that_is_too_old_is_missing(outcome: type[BaseException]) -> None:
    told = r"missing.*: go 1\.26\.0 or newer \(installed: go1\.25\.9\)$"
    with pytest.raises(outcome, match=told), toolchain.told_to_the_test():
        builds.require_version("go", "1.26.0", "go1.25.9")


@pytest.mark.parametrize("said", ["go1.26.0", "go1.26.8 X:nodwarf5", "go1.100", "rustc 1.95.0 (59807616e 2026-04-14)"])
def test_a_compiler_that_is_new_enough_is_taken(said: str) -> None:
    builds.require_version("a compiler", "1.26.0", said)
