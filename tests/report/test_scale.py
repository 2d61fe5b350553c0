"""Charts: ticks, scales, down-sampling, smoothing, marks of bad values."""

import math
import random
import time
from xml.etree import ElementTree

import pytest

from sftprep.report import charts
from sftprep.report.scale import (
    Scale,
    downsample,
    number_text,
    round_ticks,
    smooth,
    value_scale,
)
from sftprep.report.visible import markdown_safe, visible


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_a_scale_maps_ends_to_ends_and_keeps_outside_values_at_the_edge() -> None:
    scale = Scale(0, 10, 100, 200)
    assert [scale(v) for v in (0, 5, 10, 99)] == [100, 150, 200, 200]


def test_a_log_scale_puts_powers_at_equal_distances() -> None:
    scale = Scale(0.01, 100, 0, 400, log=True)
    assert [scale(v) for v in (0.01, 0.1, 1, 10, 100)] == pytest.approx([0, 100, 200, 300, 400])


def test_ticks_are_round() -> None:
    assert round_ticks(0.3, 5.2, 5) == [2, 4]
    assert round_ticks(0, 1, 5) == [0, 0.25, 0.5, 0.75, 1]


def test_values_over_decades_get_a_log_axis_and_others_do_not() -> None:
    assert value_scale([1, 1, 1, 1000], 0, 1).log is True
    assert value_scale([1, 2, 3, 4], 0, 1).log is False


def test_a_scale_of_nothing_or_of_one_value_still_maps() -> None:
    assert math.isfinite(value_scale([], 10, 0)(0.5)) is True
    assert math.isfinite(value_scale([2.0], 10, 0)(2.0)) is True
    assert math.isfinite(value_scale([math.nan, 2.0], 10, 0)(2.0)) is True


def test_downsampling_keeps_first_last_and_every_extreme() -> None:
    draw = random.Random(1)
    points = [(float(i), draw.random()) for i in range(100_000)]
    points[54_321] = (54_321.0, 99.0)
    points[77_777] = (77_777.0, -99.0)
    kept = downsample(points)
    assert len(kept) <= 1600
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert (54_321.0, 99.0) in kept and (77_777.0, -99.0) in kept
    assert kept == sorted(kept)


def test_few_points_are_all_kept() -> None:
    points = [(1.0, 2.0), (2.0, 3.0)]
    assert downsample(points) == points


def test_smoothing_keeps_a_constant() -> None:
    values = [y for _, y in smooth([(float(i), 10.4) for i in range(50)], 8)]
    assert values == pytest.approx([10.4] * 50)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.002, "0.002"), (2e-5, "2e-05"), (12_000, "12k"), (3.5e6, "3.5M"), (1e9, "1G")],
)
def test_tick_labels_are_short(value: float, text: str) -> None:
    assert number_text(value) == text


def test_values_that_are_not_finite_are_marked() -> None:
    points = [(1.0, 2.0), (2.0, math.nan), (3.0, math.inf), (4.0, 2.5)]
    svg = charts.line_chart("Loss", [charts.Series("loss", points, "sft")])
    titles = [e.text for e in parsed(str(svg)).iter("title")]
    assert titles == ["loss not finite at step 2", "loss not finite at step 3"]


def test_a_chart_has_a_name_for_screen_readers() -> None:
    svg = charts.line_chart("Loss by step", [charts.Series("loss", [(1.0, 2.0)], "sft")])
    root = parsed(str(svg))
    assert (root.get("role"), root.get("aria-label")) == ("img", "Loss by step")


def test_hostile_labels_stay_text() -> None:
    label = "</svg><script>alert(1)</script>\u202e\x1b"
    mark = charts.Mark(1.0, label)
    svg = charts.line_chart(label, [charts.Series(label, [(1.0, 2.0)], "sft")], [mark])
    root = parsed(str(svg))
    assert [e.tag for e in root.iter() if e.tag == "script"] == []
    assert "\u202e" not in str(svg) and "\x1b" not in str(svg)


def test_empty_charts_are_empty() -> None:
    assert charts.line_chart("t", [charts.Series("s", [], "sft")]) == ""
    assert charts.histogram("t", [], [], "tokens") == ""
    assert charts.histogram("t", [0, 1], [0], "tokens") == ""


def test_intervals_with_nan_leave_the_mark_out() -> None:
    row = charts.IntervalRow("mmlu", math.nan, None, 0.4, (math.nan, 0.5), 0.25, (0.3, 0.7))
    root = parsed(str(charts.interval_chart("t", [row])))
    assert len(list(root.iter("circle"))) == 1


def test_a_hundred_thousand_steps_are_drawn_quickly_and_small() -> None:
    points = [(float(i), 2 + math.sin(i)) for i in range(100_000)]
    started = time.process_time()
    svg = charts.line_chart("Loss", [charts.Series("loss", points, "sft")])
    assert time.process_time() - started < 2
    assert len(svg) < 60_000


def test_invisible_characters_become_visible() -> None:
    assert visible("a\x1b[31m\u202eb\u200bc\ud800") == "a\\x1b[31m\\u202eb\\u200bc\\ud800"
    assert visible("two\r\nlines\tand\nmore") == "two\nlines\tand\nmore"
    assert visible("été \u3000 \u00a0 日本") == "été \u3000 \u00a0 日本"
    assert visible("abcdef", limit=2) == "ab … (4 more characters)"


def test_markdown_cells_cannot_break_their_row() -> None:
    assert markdown_safe("a|b\n# c <i>`x`") == "a\\|b \\# c \\<i\\>\\`x\\`"
