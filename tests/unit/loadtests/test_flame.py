"""Sampled stacks become a flame graph and lists of functions."""

import xml.etree.ElementTree as ET

from loadtests import flame

RAW = """\
main (app.py:1);loop (uvloop/loop.so);epoll_pwait (libc.so.6) 900
main (app.py:1);loop (uvloop/loop.so);Wire.feed (transports/wire.py:10);decrypt (_rust.abi3.so) 30
main (app.py:1);loop (uvloop/loop.so);Wire.feed (transports/wire.py:10) 10
main (app.py:1);loop (uvloop/loop.so);digest (hmac.py:1) 20
"""
FEED = "Wire.feed (transports/wire.py:10)"
DECRYPT = "decrypt (_rust.abi3.so)"
DIGEST = "digest (hmac.py:1)"


def test_waiting_and_the_way_to_the_loop_are_left_out() -> None:
    assert flame.parse(RAW) == {(FEED, DECRYPT): 30, (FEED,): 10, (DIGEST,): 20}


def test_work_in_c_counts_for_itself_and_for_the_python_function_that_called_it() -> None:
    stacks = flame.parse(RAW)
    assert flame.by_self(stacks) == {DECRYPT: 30, FEED: 10, DIGEST: 20}
    assert flame.by_python(stacks) == {FEED: 40, DIGEST: 20}
    assert flame.inclusive(stacks) == {FEED: 40}


def test_a_function_that_calls_itself_counts_once() -> None:
    assert flame.inclusive({(FEED, FEED): 5}) == {FEED: 5}


def test_the_share_of_a_function_is_its_share_of_the_cost_of_an_operation() -> None:
    stacks = flame.parse(RAW)
    assert list(flame.top("Top:", flame.by_self(stacks), 60, 1200.0, 1)) == [
        "Top:",
        f"   50.0%     600.0 µs  {DECRYPT}",
        "",
    ]


def test_the_graph_is_valid_and_as_wide_as_the_samples() -> None:
    graph = ET.fromstring(flame.svg(flame.parse(RAW), "<title> & more"))
    boxes = {box[0].text or "": box for box in graph.iter("{http://www.w3.org/2000/svg}rect")}
    widths = {text.split(":")[0].split(" ")[0]: float(box.attrib["width"]) for text, box in boxes.items()}
    assert widths == {"all": 1600, "Wire.feed": 1066.7, "decrypt": 800, "digest": 533.3}
    assert {box.attrib["class"] for box in boxes.values()} == {"root", "ours", "native", "python"}
