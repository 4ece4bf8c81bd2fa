"""The status page: the files beside this one, served as they are, at `/` and below `/page/`.

They hold no figure, so they are public; the page asks for /status.json and /history.json as any client does. What they
may do is bounded by a strict Content-Security-Policy: nothing from elsewhere, nothing inline, no text taken for markup.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from supervisor.admin.http import Answer, Request, Route

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = (
    ("Content-Security-Policy", _POLICY),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)


def routes() -> dict[str, Route]:
    """Where each file is served, with its content and headers."""
    found: dict[str, Route] = {}
    for file in sorted(files(__package__).iterdir(), key=lambda file: file.name):
        kind = file.name.rpartition(".")[2]
        if kind in _TYPES:
            answer = Answer(HTTPStatus.OK, file.read_bytes(), _TYPES[kind], _HEADERS)
            place = "/" if file.name == "index.html" else f"/page/{file.name}"
            found[place] = Route(partial(_give, answer), public=True)
    return found


def _give(answer: Answer, _request: Request) -> Answer:
    return answer
