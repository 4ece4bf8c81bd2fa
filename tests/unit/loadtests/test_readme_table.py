"""The table of `make bench` in the README: written between its two marks, and in place of the last one."""

from __future__ import annotations

from loadtests.report import README, README_BEGIN, README_END, with_table


def test_a_table_takes_the_place_of_the_last_one() -> None:
    text = f"before\n{README_BEGIN}{README_END}after\n"
    once = with_table(text, "| first |")
    assert once == f"before\n{README_BEGIN}| first |\n{README_END}after\n"
    assert with_table(once, "| second |") == f"before\n{README_BEGIN}| second |\n{README_END}after\n"


def test_the_readme_has_both_marks_once() -> None:
    text = README.read_text()
    assert (text.count(README_BEGIN), text.count(README_END)) == (1, 1)
    assert text.index(README_BEGIN) < text.index(README_END)
