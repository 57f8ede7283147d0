"""The picture of a report."""

from typing import Any
from xml.etree import ElementTree

from benchmarks import chart


def _report(**figures: dict[str, float]) -> dict[str, Any]:
    spread = {
        name: {key: {"median": value, "min": value * 0.9, "max": value * 1.1} for key, value in each.items()}
        for name, each in figures.items()
    }
    return {
        "date": "2026-11-21T00:00:00",
        "machine": {"cpu": "a <fast> one"},
        "titles": {"us": "We"},
        "figures": spread,
    }


def test_every_peer_with_a_figure_has_a_bar_and_its_number() -> None:
    picture = chart.draw(_report(us={"rps": 18000.0}, nginx={"rps": 45000.0}, litellm={"ready_s": 9.0}))
    texts = [element.text for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("text")]
    assert {"We", "nginx", "litellm"} <= set(texts)
    assert any(text and text.startswith("45,000") for text in texts)


def test_a_bar_that_would_dwarf_ours_is_cut_and_still_has_its_number() -> None:
    picture = chart.draw(_report(us={"cpu_per_chunk_us": 20.0}, litellm={"cpu_per_chunk_us": 820.0}))
    assert "<path" in picture
    assert "820.0 µs" in picture


def test_the_table_leaves_out_what_was_not_measured() -> None:
    rows = chart.table(_report(us={"rps": 18000.0}, direct={"latency_p50_ms": 0.04})).splitlines()
    assert rows[1].split()[-2:] == ["18,000", "–"]
