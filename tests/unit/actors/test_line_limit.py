"""Lines of a flood: the first of each second and kind, then a count."""

from __future__ import annotations

from actors.line_limit import LINES_PER_S, LineLimit


def test_each_kind_has_its_lines_a_second_and_the_rest_is_counted() -> None:
    limit, said = LineLimit(), list[tuple[str, int]]()

    def report(now_s: float) -> None:
        limit.report(now_s, lambda kind, count: said.append((kind, count)))

    assert sum(limit.allows("a", 10.0 + number / 1000) for number in range(LINES_PER_S + 30)) == LINES_PER_S
    assert limit.allows("b", 10.5)
    report(10.9)
    assert said == []
    report(11.0)
    assert said == [("a", 30)]
    report(12.0)
    assert said == [("a", 30)]
    assert limit.allows("a", 12.0)


def test_what_was_left_out_is_said_even_if_no_more_comes_and_only_once() -> None:
    limit, said = LineLimit(), list[tuple[str, int]]()
    for _ in range(LINES_PER_S + 1):
        limit.allows("a", 10.0)
    limit.allows("a", 11.0)
    limit.report(11.5, lambda kind, count: said.append((kind, count)))
    limit.report(12.0, lambda kind, count: said.append((kind, count)))
    assert said == [("a", 1)]
