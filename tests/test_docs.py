"""The documents say what is so: files, classes, commands and tests that they name exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("config", "transports", "actors", "supervisor", "tests", "examples")
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "DECISIONS.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/capacity-planning.md",
    "docs/capacity.md",
    "docs/check.md",
    "docs/install.md",
    "docs/interop.md",
    "docs/relay-behaviour.md",
    "docs/security.md",
    "docs/settings.md",
    "docs/tokens.md",
    "docs/troubleshooting.md",
    "docs/upgrade.md",
    "docs/wallets.md",
    "examples/browser/README.md",
)

# Names of others that the documents may put in backticks although they look like a class of ours.
OTHERS = {"PoisonMessage", "ActorExitRequest", "ActorSystem", "ChildActorExited", "StatusCode"}

SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FILE = re.compile(r"[\w./-]+\.(?:py|toml|md|proto|js|html|lock)")
DOTTED = re.compile(r"(?:config|transports|actors|supervisor|tests)(?:\.\w+)+(?:\(\))?")
CLASS = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]*)+(?:\.\w+)?(?:\(\))?")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def spans(name: str, kind: re.Pattern[str]) -> list[str]:
    """What stands in backticks and looks, as a whole, like `kind`."""
    return sorted({span for span in SPAN.findall(without_blocks(read(name))) if kind.fullmatch(span)})


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def sources() -> tuple[Path, ...]:
    return tuple(
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not {"node_modules", "__pycache__"} & set(path.parts)
    )


@cache
def names_of(path: Path) -> frozenset[str]:
    """What a module defines: `Class`, `function`, `CONSTANT`, `Class.method`."""
    return frozenset(defined(ast.parse(path.read_text("utf-8"))))


def defined(node: ast.Module | ast.ClassDef, at: str = "") -> Iterator[str]:
    for item in node.body:
        match item:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield at + name
            case ast.ClassDef(name=name):
                yield at + name
                yield from defined(item, f"{at}{name}.")
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield at + name
            case ast.Assign(targets=targets):
                yield from (at + target.id for target in targets if isinstance(target, ast.Name))


def exists(dotted: str) -> bool:
    """Whether `actors.limits.Reason` is a package, a module or something that a module defines."""
    parts = dotted.removesuffix("()").split(".")
    for depth in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:depth])
        if module.is_dir() or module.with_suffix(".py").is_file():
            rest = ".".join(parts[depth:])
            file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
            return not rest or (file.is_file() and rest in names_of(file))
    return False


def is_file(name: str) -> bool:
    """A path from the root, or the end of a path (`admin/http.py`) inside one of our folders."""
    return (ROOT / name).is_file() or any(path.as_posix().endswith(f"/{name}") for path in sources())


def is_class(name: str) -> bool:
    name = name.removesuffix("()")
    return name.split(".")[0] in OTHERS or any(name in names_of(path) for path in sources() if path.suffix == ".py")


def test_files_that_the_architecture_names_exist() -> None:
    named = spans("ARCHITECTURE.md", FILE)
    assert named
    assert [name for name in named if not is_file(name)] == []


def test_modules_and_what_is_in_them_that_the_architecture_names_exist() -> None:
    named = [name for name in spans("ARCHITECTURE.md", DOTTED) if not FILE.fullmatch(name)]
    assert [name for name in named if not exists(name)] == []


def test_classes_that_the_architecture_names_exist() -> None:
    named = spans("ARCHITECTURE.md", CLASS)
    assert named
    assert [name for name in named if not is_class(name)] == []


def test_a_name_that_does_not_exist_is_noticed() -> None:
    assert is_file("config/load.py")
    assert is_file("settings.py")
    assert not is_file("config/nothing.py")
    assert exists("config.load.decode")
    assert exists("config.settings.Admin.address")
    assert not exists("config.load.nothing")
    assert is_class("ConfigError")
    assert not is_class("NothingActor")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_the_documents_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", read(name))
    assert [link for link in links if not ((ROOT / name).parent / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_commands_of_make_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))
    named = re.findall(r"\bmake ([a-z-]+)\b", " ".join(re.findall(r"`[^`]+`", read(name), flags=re.DOTALL)))
    assert named
    assert set(named) <= targets


def test_the_first_commands_of_the_readme_are_run_and_test() -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```", read("README.md"), flags=re.MULTILINE | re.DOTALL)
    commands = [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if "make " in line]
    assert commands[:2] == ["make run", "make test"]


@pytest.mark.parametrize("name", [*DOCUMENTS, "Makefile", ".ci/run", "pyproject.toml"])
def test_no_path_of_someones_machine_is_in_it(name: str) -> None:
    here = {f"{path}/" for path in (ROOT, ROOT.parent, Path.home()) if path != Path("/")}
    someones = "|".join(map(re.escape, here)) + r"|/(?:home|Users)/\w+"
    assert re.findall(rf"(?:{someones})\S*", read(name)) == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"])
def test_lock_files_have_a_hash_for_each_package_and_no_address(name: str) -> None:
    lock = read(name)
    assert "://" not in lock
    assert not re.search(r"^\s*(#|-[^-]|--(?!hash=))", lock, flags=re.MULTILINE)
    pins = re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]
    assert pins
    assert all(re.match(r"[\w.-]+==\S+", pin) and "--hash=sha256:" in pin for pin in pins)


# docs/relay-behaviour.md: every row names a test, and every test that it names exists and is run.

BEHAVIOUR = "docs/relay-behaviour.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = [line for line in read(BEHAVIOUR).splitlines() if line.startswith("| ") and not line.startswith("| Case |")]
TESTS = sorted(set(NAMED.findall(read(BEHAVIOUR))))


def is_run(source: str, name: str) -> bool:
    """A test function, a state machine's `Test…`, or a scenario that another test of its module is given by name."""
    defined = {
        target
        for item in ast.parse(source).body
        for target in (
            [item.name]
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            else [each.id for each in item.targets if isinstance(each, ast.Name)]
            if isinstance(item, ast.Assign)
            else []
        )
    }
    collected = name.startswith(("test_", "Test"))
    return name in defined and (collected or len(re.findall(rf"\b{name}\b", source)) > 1)


@pytest.mark.parametrize(("path", "name"), TESTS, ids=[f"{path}::{name}" for path, name in TESTS])
def test_a_test_that_the_document_names_exists(path: str, name: str) -> None:
    assert is_run((ROOT / path).read_text("utf-8"), name)


def test_every_row_says_a_case_an_answer_and_who_shows_it() -> None:
    assert len(ROWS) > 100
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 3, row
        assert all(cells), row
        shown = cells[2].split("<br>")
        assert all(NAMED.fullmatch(each) for each in shown), row


def test_no_case_is_told_twice() -> None:
    cases = [row.split(" | ")[0] for row in ROWS]
    assert len(cases) == len(set(cases))


def test_what_does_not_exist_or_is_not_run_is_noticed() -> None:
    source = (
        "def test_it() -> None: ...\n\ndef scenario() -> None: ...\n\nALL = (scenario,)\n\ndef helper() -> None: ...\n"
    )
    assert is_run(source, "test_it")
    assert is_run(source, "scenario")
    assert not is_run(source, "helper")
    assert not is_run(source, "test_nothing")
