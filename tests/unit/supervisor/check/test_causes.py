from __future__ import annotations

import errno
import re
import socket
from pathlib import Path

import pytest

from supervisor.check import causes
from supervisor.check.report import STEPS


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (200, "RESERVATION_REFUSED"),
        (201, "RESOURCE_LIMIT_EXCEEDED"),
        (202, "PERMISSION_DENIED"),
        (203, "CONNECTION_FAILED"),
        (204, "NO_RESERVATION"),
        (400, "MALFORMED_MESSAGE"),
        (401, "UNEXPECTED_MESSAGE"),
    ],
)
def test_each_status_of_the_specification_has_its_name_and_a_remedy(code: int, name: str) -> None:
    trouble = causes.status(code, "the call was")
    assert trouble.cause.startswith(f"the call was refused: {name}: ")
    assert trouble.remedy


def test_a_status_that_nobody_knows_is_told_by_its_number() -> None:
    assert "status 999" in causes.status(999, "the call was").cause


@pytest.mark.parametrize("code", [200, 301, 302, 308, 400, 401, 403, 404, 418, 426, 429, 500, 502, 503, 504])
def test_an_http_answer_that_is_no_upgrade_is_told_by_its_number_and_has_a_remedy(code: int) -> None:
    trouble = causes.http_status(code, "nginx")
    assert f"HTTP {code} from nginx instead of 101" in trouble.cause
    assert trouble.remedy


@pytest.mark.parametrize("code", [200, 400, 426])
def test_missing_upgrade_headers_come_with_the_lines_for_nginx(code: int) -> None:
    remedy = causes.http_status(code, "").remedy
    assert "proxy_http_version 1.1" in remedy
    assert "$http_upgrade" in remedy


@pytest.mark.parametrize(
    ("code", "cause"),
    [(10, "expired"), (9, "not valid yet"), (62, "another name than a.example"), (64, "another name"), (18, "nobody")],
)
def test_what_is_wrong_with_a_certificate(code: int, cause: str) -> None:
    trouble = causes.certificate(code, "in OpenSSL's words", "a.example", "for b.example, until 2020")
    assert cause in trouble.cause
    assert "for b.example, until 2020" in trouble.cause
    assert trouble.remedy


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOMEM])
def test_a_connection_that_could_not_be_made(number: int) -> None:
    trouble = causes.os_error(OSError(number, "in the system's words"))
    assert trouble.cause
    assert trouble.remedy


def test_a_name_that_does_not_exist() -> None:
    trouble = causes.os_error(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert "the name is not known" in trouble.cause


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_hangs_says_for_how_long_it_was_waited(step: str) -> None:
    trouble = causes.hangs(step, 2.5)
    assert "(2.5 s)" in trouble.cause
    assert trouble.remedy


def test_a_port_that_speaks_as_it_was_asked_is_not_the_cause() -> None:
    assert causes.wrong_way("tls", "tls") is None
    assert causes.wrong_way("tls", "") is None


@pytest.mark.parametrize(("speaks", "use"), [("tls", "/tls/ws"), ("http", "/ws"), ("libp2p", "leave out")])
def test_a_port_that_speaks_something_else_says_what_to_use(speaks: str, use: str) -> None:
    trouble = causes.wrong_way("other", speaks)
    assert trouble is not None
    assert use in trouble.remedy


def document() -> str:
    return (Path(__file__).parents[4] / "docs" / "check.md").read_text("utf-8")


def test_the_document_explains_every_status_and_every_http_answer_that_has_a_cause() -> None:
    text = document()
    assert [name for name, _ in causes.STATUSES.values() if name.partition(":")[0] not in text] == []
    assert [code for code in causes.HTTP if str(code) not in text] == []


def test_the_document_has_every_step() -> None:
    text = document()
    told = set(re.findall(r"^✓ (\w+(?: \w+)?)\s+\d+ ms", text, re.MULTILINE))
    assert told == set(STEPS) - {"idle"}
    assert "| idle |" in text
