"""The picture and the table of a report: plain SVG bars, drawn by hand so that nothing has to be installed for them.

A bar that would dwarf all others is cut, and shows it by a slanted gap; its number is always written out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

OURS: Final = ("us", "us-counted")


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure, drawn for all peers."""

    key: str
    title: str
    unit: str
    form: str = "{:,.0f}"
    better: str = "less is better"


PANELS: Final = (
    Panel("rps", "Requests per second, 32 connections", "", better="more is better"),
    Panel("added_latency_p50_ms", "Added latency, one connection, p50", "ms", "{:,.3f}"),
    Panel("added_latency_p99_ms", "Added latency, one connection, p99", "ms", "{:,.3f}"),
    Panel("cpu_per_chunk_us", "CPU per streamed chunk, 400 streams", "µs", "{:,.1f}"),
    Panel("added_chunk_delay_p99_ms", "Added delay of a chunk, 400 streams, p99", "ms", "{:,.2f}"),
    Panel("stall_extra_ms", "Longest extra stall of 50 streams beside a 1 MB prompt", "ms", "{:,.1f}"),
    Panel("idle_streams_rss_mb", "Memory with idle streams open", "MB"),
    Panel("idle_rss_mb", "Memory when idle", "MB"),
    Panel("ready_s", "From start to first answer", "s", "{:,.2f}"),
)
_TABLE: Final = (
    *PANELS,
    Panel("rps_p50_ms", "  p50", "ms", "{:,.2f}"),
    Panel("rps_p99_ms", "  p99", "ms", "{:,.2f}"),
    Panel("cpu_per_request_us", "CPU per request", "µs", "{:,.1f}"),
    Panel("latency_p50_ms", "Latency p50", "ms", "{:,.3f}"),
    Panel("chunk_delay_p99_ms", "Chunk delay p99", "ms", "{:,.2f}"),
    Panel("chunks_alone_share", "Chunks that came alone", "", "{:.3f}"),
    Panel("streams_opened", "Streams that began, of 400", ""),
    Panel("idle_streams_opened", "Idle streams that began", ""),
    Panel("chunks_delivered_share", "Chunks delivered in time", "", "{:.3f}"),
)
_WIDTH, _LABEL, _BAR, _ROW, _HEAD = 860, 190, 470, 24, 46
_CUT: Final = 6.0  # a bar longer than so many of ours is cut
_INK, _SOFT, _OWN, _OTHER = "#1f2328", "#6e7781", "#d9822b", "#8aa2b8"


def draw(report: Mapping[str, Any]) -> str:
    """The report as an SVG picture."""
    parts: list[str] = []
    top = 16.0
    for panel in PANELS:
        rows = [(name, figures[panel.key]) for name, figures in report["figures"].items() if panel.key in figures]
        if rows:
            parts += _panel(panel, rows, report["titles"], top)
            top += _HEAD + _ROW * len(rows) + 16
    foot = f"{report['date'][:10]} · {report['machine']['cpu']} · proxy alone on one core, one worker · median, min–max"
    parts.append(_text(16, top + 8, foot, size=11, colour=_SOFT))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 24:.0f}" '
        f'font-family="system-ui, sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _panel(panel: Panel, rows: list[tuple[str, Any]], titles: Mapping[str, str], top: float) -> Iterator[str]:
    yield _text(16, top + 18, panel.title, size=15, weight="600")
    yield _text(_WIDTH - 16, top + 18, panel.better, size=11, colour=_SOFT, anchor="end")
    longest = max(0.0, *(value["median"] for _, value in rows)) or 1.0
    ours = next((value["median"] for name, value in rows if name == OURS[0]), 0.0)
    scale = min(longest, _CUT * ours) if ours > 0 and panel.better.startswith("less") else longest
    for place, (name, value) in enumerate(rows):
        y = top + _HEAD - 16 + place * _ROW
        length = _BAR * min(1.0, max(0.0, value["median"]) / scale)
        yield _text(_LABEL - 8, y + 13, titles.get(name, name), size=12, anchor="end")
        colour = _OWN if name in OURS else _OTHER
        yield f'<rect x="{_LABEL}" y="{y}" width="{max(1.0, length):.1f}" height="16" rx="2" fill="{colour}"/>'
        if value["median"] > scale:
            x = _LABEL + length * 0.8
            yield f'<path d="M{x:.0f} {y + 18} l8 -20 h6 l-8 20 z" fill="white"/>'
        yield _text(_LABEL + length + 6, y + 13, _value(panel, value), size=12)


def _value(panel: Panel, value: Mapping[str, float]) -> str:
    text = f"{panel.form.format(value['median'])} {panel.unit}".strip()
    if value["min"] == value["max"]:
        return text
    return f"{text}  ({panel.form.format(value['min'])}–{panel.form.format(value['max'])})"


def _text(
    x: float, y: float, text: str, *, size: int, colour: str = _INK, weight: str = "400", anchor: str = "start"
) -> str:
    style = f'font-size="{size}" fill="{colour}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>'


def table(report: Mapping[str, Any]) -> str:
    """The report as lines for a terminal: the medians."""
    names = list(report["figures"])
    lines = [" " * 56 + "".join(f"{name:>14}" for name in names)]
    for panel in _TABLE:
        figures = [report["figures"][name].get(panel.key) for name in names]
        cells = [f"{panel.form.format(each['median']) if each else '–':>14}" for each in figures]
        lines.append(f"{panel.title + (', ' + panel.unit if panel.unit else ''):56}" + "".join(cells))
    return "\n".join(lines)
