"""Charts as inline SVG: no scripts, no fonts, colours from the page's style sheet.

Hand-written rather than drawn by a plotting library, so that a chart follows light and dark
mode, stays text that can be read aloud and searched, and costs kilobytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from markupsafe import Markup

from sftprep.report.scale import Point, Scale, downsample, number_text, value_scale
from sftprep.report.visible import visible

WIDTH, HEIGHT = 984, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 28
ROW = 34
LABELS = 190
MAX_MARKS = 60
NUMBER_ROOM = 22


@dataclass(frozen=True, slots=True)
class Series:
    """One line: `style` is a class of the style sheet; `dots` draws its points too."""

    name: str
    points: Sequence[Point]
    style: str
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at a step, e.g. a red flag; `number` points at a row of a table."""

    x: float
    label: str
    style: str = "flag"
    number: str = ""


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One benchmark: values, intervals, chance and typical range, all as shares 0..1."""

    name: str
    sft: float | None
    sft_interval: tuple[float, float] | None
    base: float | None = None
    base_interval: tuple[float, float] | None = None
    chance: float | None = None
    typical: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One metric of a comparison, all in points: change, interval, the lower bound that decides,
    the tolerated loss."""

    name: str
    change: float
    interval: tuple[float, float]
    lower: float
    limit: float
    style: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar from `start` over `length`, with its text."""

    name: str
    start: float
    length: float
    style: str
    text: str = field(default="")


def line_chart(
    title: str,
    series: Sequence[Series],
    marks: Sequence[Mark] = (),
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Markup:
    """Lines over optimiser steps. Returns an SVG with a title read by screen readers.

    Args:
        width, height: units of the drawing; it is scaled to its place on the page.
    """
    drawn = [Series(s.name, downsample(s.points), s.style, s.dots) for s in series]
    xs = [x for s in drawn for x, _ in s.points]
    if not xs:
        return Markup()
    x_scale = Scale(min(xs), max(xs), LEFT, width - RIGHT)
    y_scale = value_scale([y for s in drawn for _, y in s.points], height - BOTTOM, TOP)
    parts = [_axes(x_scale, y_scale)]
    parts += [_mark(mark, x_scale, y_scale) for mark in _spaced(marks[:MAX_MARKS], x_scale)]
    parts += [_bad_points(s, x_scale) for s in series]
    parts += [_line(s, x_scale, y_scale) for s in drawn]
    note = " (log scale)" if y_scale.log else ""
    return _svg(f"{title}{note}", width, height, Markup().join(parts))


def _svg(title: str, width: float, height: float, body: Markup) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _n(width), _n(height), visible(title), body
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _axes(x_scale: Scale, y_scale: Scale) -> Markup:
    parts = []
    left, right, floor = x_scale.start, x_scale.end, y_scale.start
    for tick in y_scale.ticks():
        y = y_scale(tick)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _n(left), _n(right), _n(y), _n(y)
            )
        )
        parts.append(_text(left - 8, y + 4, number_text(tick), "end"))
    parts.append(_text(left - 8, floor + 18, "step", "end"))
    for tick in x_scale.ticks(6 if right > 500 else 4):
        near_edge = x_scale(tick) > right - 12
        anchor = "end" if near_edge else "middle"
        x = right if near_edge else x_scale(tick)
        parts.append(_text(x, floor + 18, number_text(tick), anchor))
    return Markup().join(parts)


def _text(x: float, y: float, text: str, anchor: str = "start", style: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        style, _n(x), _n(y), anchor, visible(text)
    )


def _line(series: Series, x_scale: Scale, y_scale: Scale) -> Markup:
    places = [(_n(x_scale(x)), _n(y_scale(y))) for x, y in series.points]
    if not places:
        return Markup()
    path = Markup('<path class="line {}" d="M{}"/>').format(
        series.style, "L".join(f"{x} {y}" for x, y in places)
    )
    if not series.dots or len(places) > 200:
        return path
    dots = (
        Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"><title>{}</title></circle>').format(
            series.style, _n(x_scale(x)), _n(y_scale(y)),
            visible(f"{series.name} {y:.4g} at step {x:,.0f}"),
        )
        for x, y in series.points
    )  # fmt: skip
    return path + Markup().join(dots)


def _spaced(marks: Sequence[Mark], x_scale: Scale) -> list[Mark]:
    """The same marks; a number that would cover its neighbour's is left out."""
    shown, last = [], -math.inf
    for mark in sorted(marks, key=lambda mark: mark.x):
        x = x_scale(mark.x)
        room = x - last >= NUMBER_ROOM
        shown.append(mark if room else replace(mark, number=""))
        last = x if room and mark.number else last
    return shown


def _mark(mark: Mark, x_scale: Scale, y_scale: Scale) -> Markup:
    x = x_scale(mark.x)
    to_left = x > x_scale.end - 30
    head = Markup('<path d="M{} {}l{} 4l{} 4z"/>').format(
        _n(x), TOP, -9 if to_left else 9, 9 if to_left else -9
    )
    name = Markup()
    if mark.number:
        place, anchor = (x - 12, "end") if to_left else (x + 12, "start")
        name = _text(place, TOP + 8, mark.number, anchor, "number")
    return Markup(
        '<g class="{}"><line x1="{}" x2="{}" y1="{}" y2="{}"/>{}{}<title>{}</title></g>'
    ).format(mark.style, _n(x), _n(x), TOP, _n(y_scale.start), head, name, visible(mark.label))


def _bad_points(series: Series, x_scale: Scale) -> Markup:
    """Crosses at the top edge where a value is NaN or infinite: never silently a gap."""
    bad = [x for x, y in series.points if not math.isfinite(y)][:MAX_MARKS]
    label = f"{series.name} not finite at step"
    return Markup().join(
        Markup(
            '<text class="bad" x="{}" y="{}" text-anchor="middle">×<title>{}</title></text>'
        ).format(_n(x_scale(x)), TOP + 8, f"{label} {number_text(x)}")
        for x in bad
    )


def interval_chart(title: str, rows: Sequence[IntervalRow]) -> Markup:
    """Base and SFT with 95% intervals per benchmark, against chance and the typical range."""
    height = ROW * len(rows) + BOTTOM
    scale = Scale(0.0, 1.0, LABELS, WIDTH - RIGHT - 10)
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = _n(scale(share))
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="0" y2="{}"/>').format(
                x, x, height - BOTTOM
            )
        )
        parts.append(_text(scale(share), height - BOTTOM + 18, f"{share:.0%}", "middle"))
    for number, row in enumerate(rows):
        parts.append(_interval_row(row, ROW * number + ROW / 2, scale))
    return _svg(title, WIDTH, height, Markup().join(parts))


def _interval_row(row: IntervalRow, y: float, scale: Scale) -> Markup:
    parts = [_text(LABELS - 14, y + 4, row.name, "end", "label")]
    if row.typical is not None:
        low, high = scale(row.typical[0]), scale(row.typical[1])
        parts.append(
            Markup('<rect class="typical" x="{}" y="{}" width="{}" height="24"/>').format(
                _n(low), _n(y - 12), _n(high - low)
            )
        )
    if row.chance is not None:
        x = _n(scale(row.chance))
        parts.append(
            Markup('<line class="chance" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                x, x, _n(y - 12), _n(y + 12)
            )
        )
    parts.append(_whisker(row.base, row.base_interval, y + 5, scale, "base"))
    parts.append(_whisker(row.sft, row.sft_interval, y - 5, scale, "sft"))
    return Markup().join(parts)


def change_chart(title: str, rows: Sequence[ChangeRow]) -> Markup:
    """Changes with intervals around zero, each against its tolerated loss."""
    if not rows:
        return Markup()
    ends = [value for row in rows for value in (*row.interval, row.change, row.limit, 0.0)]
    finite = [value for value in ends if math.isfinite(value)]
    room = 0.06 * (max(finite) - min(finite)) or 1.0
    scale = Scale(min(finite) - room, max(finite) + room, LABELS, WIDTH - RIGHT - 10)
    floor = ROW * len(rows)
    parts = []
    for tick in scale.ticks(7):
        parts.append(_upright(scale(tick), 0, floor, "zero" if tick == 0 else "grid"))
        parts.append(_text(scale(tick), floor + 18, f"{tick:+g}" if tick else "0", "middle"))
    for number, row in enumerate(rows):
        y = ROW * number + ROW / 2
        parts.append(_text(LABELS - 14, y + 4, row.name, "end", "label"))
        parts.append(_upright(scale(row.limit), y - 12, y + 12, "margin"))
        parts.append(_whisker(row.change, row.interval, y, scale, row.style))
        parts.append(_upright(scale(row.lower), y - 6, y + 6, f"whisker {row.style}"))
    return _svg(title, WIDTH, floor + BOTTOM, Markup().join(parts))


def _upright(x: float, top: float, bottom: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        style, _n(x), _n(x), _n(top), _n(bottom)
    )


def _whisker(
    value: float | None, interval: tuple[float, float] | None, y: float, scale: Scale, style: str
) -> Markup:
    if value is None or not math.isfinite(value):
        return Markup()
    parts = [
        Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"/>').format(
            style, _n(scale(value)), _n(y)
        )
    ]
    if interval is not None and all(map(math.isfinite, interval)):
        low, high = (_n(scale(bound)) for bound in interval)
        parts.insert(
            0,
            Markup('<line class="whisker {}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                style, low, high, _n(y), _n(y)
            ),
        )
    return Markup().join(parts)


def bar_chart(title: str, bars: Sequence[Bar], total: float) -> Markup:
    """Horizontal bars on a common scale 0..total; with starts they form a waterfall."""
    height = 26 * len(bars) + 6
    scale = Scale(0.0, max(total, 1e-9), LABELS, WIDTH - 110)
    parts = []
    for number, bar in enumerate(bars):
        y = 26 * number + 4
        x, width = scale(bar.start), scale(bar.start + bar.length) - scale(bar.start)
        parts.append(_text(LABELS - 14, y + 14, bar.name, "end", "label"))
        parts.append(
            Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="18" rx="2"/>').format(
                bar.style, _n(x), y, _n(max(width, 1.0))
            )
        )
        parts.append(_text(x + max(width, 1.0) + 6, y + 14, bar.text))
    return _svg(title, WIDTH, height, Markup().join(parts))


def histogram(title: str, edges: Sequence[float], counts: Sequence[float], unit: str) -> Markup:
    """Columns between edges (one more edge than counts); empty input gives nothing."""
    if not counts or len(edges) != len(counts) + 1 or not max(counts) > 0:
        return Markup()
    height = 190
    x_scale = Scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y_scale = Scale(0.0, max(counts), height - BOTTOM, TOP)
    parts = []
    for (left, right), count in zip(pairwise(edges), counts, strict=True):
        x, top = x_scale(left), y_scale(count)
        parts.append(
            Markup(
                '<rect class="bar sft" x="{}" y="{}" width="{}" height="{}">'
                "<title>{}</title></rect>"
            ).format(
                _n(x + 0.5), _n(top), _n(max(x_scale(right) - x - 1, 0.5)),
                _n(height - BOTTOM - top),
                f"{number_text(left)} to {number_text(right)}: {count:,.0f}",
            )
        )  # fmt: skip
    for tick in x_scale.ticks(6):
        parts.append(_text(x_scale(tick), height - BOTTOM + 18, number_text(tick), "middle"))
    parts.append(_text(LEFT - 8, height - BOTTOM + 18, unit, "end"))
    for tick in y_scale.ticks(3):
        parts.append(_text(LEFT - 8, y_scale(tick) + 4, number_text(tick), "end"))
    return _svg(title, WIDTH, height, Markup().join(parts))
