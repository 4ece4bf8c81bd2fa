"""What of the status page can be said without a browser; the rest is tests/interop/test_status_page.py."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from actors.limits import Reason
from supervisor.admin import page
from supervisor.admin.http import Answer, Request

FOLDER = Path(page.__file__).parent
MAX_BYTES = 30_000


def answers() -> dict[str, Answer]:
    found = {}
    for path, route in page.routes().items():
        answer = route.handler(Request(path, {}))
        assert isinstance(answer, Answer)
        found[path] = answer
    return found


def test_every_file_is_served_under_its_type_and_nothing_else() -> None:
    served = {path: answer.content_type.partition(";")[0] for path, answer in answers().items()}
    names = {each.name for each in FOLDER.iterdir() if each.suffix not in {".py", ""}}
    assert served.keys() == {"/"} | {f"/page/{name}" for name in names - {"index.html"}}
    assert served["/"] == "text/html"
    assert {served[path] for path in served if path.endswith(".js")} == {"text/javascript"}
    assert served["/page/page.css"] == "text/css"
    assert served["/page/icon.svg"] == "image/svg+xml"


def test_anybody_may_have_the_page_which_has_no_figures_and_nobody_may_change_it() -> None:
    assert all(route.public and route.method == "GET" for route in page.routes().values())


def test_the_browser_is_told_to_fetch_nothing_from_elsewhere_and_run_nothing_inline() -> None:
    for answer in answers().values():
        policy = dict(answer.headers)["Content-Security-Policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert {rules[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
        assert {rules[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}


class Found(HTMLParser):
    """The attributes of a document, and the text of what would be run or applied inline."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []
        self.inline: list[str] = []
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self._within in {"script", "style"} and data.strip():
            self.inline.append(data)


def test_the_document_names_only_files_of_its_own_by_paths_that_a_proxy_may_put_elsewhere() -> None:
    found = Found()
    found.feed(answers()["/"].body.decode())
    assert found.inline == []
    assert not [name for name, _ in found.attributes if name == "style" or name.startswith("on")]
    named = [value for name, value in found.attributes if name in {"src", "href", "action"}]
    assert named
    assert {f"/{value}" for value in named} <= answers().keys() | {"/status.json"}


def test_no_file_names_another_host() -> None:
    for path, answer in answers().items():
        addresses = re.findall(r"https?://[\w.-]+", answer.body.decode())
        assert set(addresses) <= {"http://www.w3.org"}, path  # the name of SVG, which is not fetched


def test_the_page_is_small() -> None:
    assert sum(len(answer.body) for answer in answers().values()) < MAX_BYTES


def test_every_reason_for_a_refusal_is_explained() -> None:
    explained = re.findall(r'^  (\w+): "', (FOLDER / "reasons.js").read_text(), flags=re.MULTILINE)
    assert set(explained) == {reason.value for reason in Reason}, "say in reasons.js what it means"


def luminance(colour: str) -> float:
    """WCAG 2.2, 'relative luminance'."""
    digits = colour.lstrip("#")
    pairs = [each * 2 for each in digits] if len(digits) == 3 else [digits[at : at + 2] for at in (0, 2, 4)]
    parts = [int(pair, 16) / 255 for pair in pairs]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_text_can_be_read_light_and_dark() -> None:
    looks = re.findall(r":root \{(.*?)\}", (FOLDER / "page.css").read_text(), flags=re.DOTALL)
    assert len(looks) == 2
    for look in looks:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", look))
        pairs = [(text, back) for text in ("text", "soft", "good", "warn", "bad") for back in ("card", "back")]
        pairs += [("text", "warn-back"), ("text", "bad-back"), ("card", "accent")]
        weak = [(text, back) for text, back in pairs if contrast(colours[text], colours[back]) < 4.5]  # WCAG's AA
        assert weak == []
