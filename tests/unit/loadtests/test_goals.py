"""What counts as a goal met, and what the page and the chart say of it."""

import xml.etree.ElementTree as ET

import pytest

from loadtests import chart, goals, report
from loadtests.goals import APART, TOGETHER
from loadtests.runs import Outcome

MEASURES = [goal.measure for goal in goals.GOALS]


def _costing(share: float, idle_mib: float = 50) -> Outcome:
    return Outcome({measure: [share] for measure in MEASURES} | {"idle_bytes": [idle_mib * goals.MIB]})


def _outcomes(ours: float = 0.8, apart: float = 1.0, go: float = 2.0) -> dict[str, Outcome]:
    rows = {TOGETHER[0]: _costing(ours), TOGETHER[1]: _costing(ours), APART: _costing(apart)}
    return rows | {"rust-libp2p": _costing(1), "go-libp2p": _costing(go)}


def _verdict(outcomes: dict[str, Outcome], title: str, who: str) -> goals.Verdict:
    (found,) = [one for one in goals.verdicts(outcomes) if one.title == title and one.who == who]
    return found


@pytest.mark.parametrize(("share", "met"), [(0.8, True), (0.81, False)])
def test_a_goal_is_met_up_to_its_limit(share: float, met: bool) -> None:
    found = _verdict(_outcomes(ours=share), "session", "ours")
    assert (found.met, found.found) == (met, f"{share:.2f} ×")


def test_peers_apart_have_a_goal_of_their_own() -> None:
    assert _verdict(_outcomes(apart=1.0), "session", APART).met
    assert not _verdict(_outcomes(apart=1.01), "session", APART).met


def test_a_circuit_is_compared_with_whichever_is_cheaper() -> None:
    assert _verdict(_outcomes(ours=0.8, go=2.0), "circuit", "ours").found == "0.80 ×"
    assert _verdict(_outcomes(ours=0.8, go=0.5), "circuit", "ours").found == "1.60 ×"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    outcomes = _outcomes()
    del outcomes["rust-libp2p"].samples["bulk_s_per_gb"]
    assert _verdict(outcomes, "bulk", "ours").met is None


@pytest.mark.parametrize(("mib", "met"), [(90, True), (90.1, False)])
def test_the_idle_relay_has_a_limit_in_mib(mib: float, met: bool) -> None:
    outcomes = _outcomes()
    outcomes["ours"].samples["idle_bytes"] = [mib * goals.MIB]
    assert _verdict(outcomes, "idle relay on one core", "ours").met is met


def test_two_cores_serve_twice_as_much_when_a_session_costs_the_same() -> None:
    assert goals.scaling(_outcomes(ours=0.8, apart=0.8)) == pytest.approx(2.0)
    assert goals.scaling(_outcomes(ours=1.0, apart=1.5)) == pytest.approx(1.6)


def test_the_page_names_what_fails_and_what_is_missed() -> None:
    outcomes = _outcomes(ours=1.2) | {"py-libp2p": Outcome(failures={"sessions": "TimeoutError"})}
    facts = dict.fromkeys(("cores", "cpu", "kernel", "python", "date", "commit"), "x")
    page = report.markdown(outcomes, goals.verdicts(outcomes), facts, "1 run")
    assert "- py-libp2p fails at sessions: TimeoutError" in page
    assert "| session | ours | ≤ 0.8 × rust | 1.20 × | **missed** |" in page
    assert "| bulk | ours, two workers, peers apart | ≤ 1.3 × rust | 1.00 × | met |" in page


def test_the_chart_has_a_bar_for_each_relay_and_measure() -> None:
    outcomes = _outcomes(go=50)
    picture = ET.fromstring(chart.svg(outcomes, "rust-libp2p"))
    widths = [float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(widths) == len(chart.MEASURES) * len(outcomes)
    assert max(widths) == pytest.approx(chart.LONGEST * chart.SCALE, abs=0.1)
