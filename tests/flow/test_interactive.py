"""Pages with knobs: what is in them, what is refused, and that they turn in a browser."""

from __future__ import annotations

import base64
import itertools
import json
import re
import struct
import sys
import types
import zlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explorer_browser import Tab

import minigrad as mg
from minigrad.flow import FlowError, connectivity, interactive, show, sliders
from minigrad.flow.engines import least_width
from minigrad.flow.results import OutputError

HOSTILE = "</script><b>&amp;\u2028'\""


def data(page: Any) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.html)
    assert found is not None
    return json.loads(found[1])


def powers(a: float, n: int = 9) -> dict[str, Any]:
    return {"a^k": a ** np.arange(float(n))}


# -- sliders


def test_every_combination_of_the_knobs_has_its_curves_the_last_one_fastest() -> None:
    asked: list[tuple[float, int]] = []

    def measure(a: float, n: int) -> tuple[dict[str, Any], str]:
        asked.append((a, n))
        return powers(a, n), f"{a} {n}"

    found = data(sliders(measure, {"a": [0.5, 2.0, 3.0], "n": [3, 4]}, start=[2.0, 4]))
    assert asked == list(itertools.product([0.5, 2.0, 3.0], [3, 4]))
    assert [frame["words"] for frame in found["frames"]] == [f"{a} {n}" for a, n in asked]
    assert found["frames"][3]["lines"][0]["ys"] == [1.0, 2.0, 4.0, 8.0]
    assert [(k["name"], k["labels"], k["start"]) for k in found["knobs"]] == [
        ("a", ["0.5", "2", "3"], 1), ("n", ["3", "4"], 1),
    ]  # fmt: skip


def test_without_a_knob_it_is_one_picture() -> None:
    found = data(sliders(lambda: {"y": [1.0, 3.0]}, {}))
    assert (len(found["frames"]), found["knobs"]) == (1, [])


def test_a_line_keeps_its_look_at_every_position() -> None:
    page = sliders(lambda a: {"one": [a]} if a < 1 else {"two": [a], "one": [a]}, {"a": [0, 1]})
    looks = [{line["name"]: line["look"] for line in f["lines"]} for f in data(page)["frames"]]
    assert looks == [{"one": 0}, {"one": 0, "two": 1}]


def test_what_is_not_finite_is_a_gap_and_moves_no_axis() -> None:
    page = sliders(lambda: {"y": [1.0, np.nan, np.inf, 3.0], "p": ([0.0, np.nan], [2.0, 9.0])}, {})
    first, second = data(page)["frames"][0]["lines"]
    assert first["ys"] == [1.0, None, None, 3.0]
    assert second["ys"] == [2.0, None]
    assert data(page)["limits"] == [0.0, 3.0, pytest.approx(0.92), pytest.approx(3.08)]


@pytest.mark.parametrize(
    ("ys", "low", "high"),
    [([1.0, 1e-3], -3, 0), ([1.0, 1e-300], -12, 0), ([0.0, -1.0, 50.0], 1, 2), ([0.0], 0, 1)],
)
def test_a_logarithmic_axis_ends_at_powers_of_ten_twelve_at_most(
    ys: list[float], low: int, high: int
) -> None:
    _, _, y0, y1 = data(sliders(lambda: {"y": ys}, {}, log=True))["limits"]
    assert (round(y0), round(y1)) == (low, high)
    assert y0 <= low < high <= y1


@pytest.mark.parametrize(
    ("limits", "log", "ends"), [((1e-3, 10.0), True, (-3, 1)), ((-1.0, 4.0), False, (-1, 4))]
)
def test_limits_are_kept_whatever_the_curves(
    limits: tuple[float, float], log: bool, ends: tuple[float, float]
) -> None:
    found = sliders(powers, {"a": [9.0]}, log=log, limits=limits)
    assert data(found)["limits"] == [0, 8, pytest.approx(ends[0]), pytest.approx(ends[1])]
    with pytest.raises(FlowError, match="low < high; got "):
        sliders(powers, {"a": [9.0]}, limits=limits[::-1])
    with pytest.raises(FlowError, match="0 < low < high; got "):
        sliders(powers, {"a": [9.0]}, log=True, limits=(0.0, 1.0))


def test_what_lies_beneath_is_a_picture_of_the_array_its_first_row_at_the_bottom() -> None:
    values = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, np.nan]])
    found = data(sliders(lambda: {"y": [0.0]}, {}, under=(values, (0, 3, -1, 1))))
    png = base64.b64decode(found["under"].removeprefix("data:image/png;base64,"))
    width, height = struct.unpack(">II", png[16:24])
    size, kind = struct.unpack(">I4s", png[33:41])
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + size]), np.uint8).reshape(height, width + 1)
    assert (width, height, kind, found["limits"]) == (3, 2, b"IDAT", [0, 3, -1, 1])
    assert rows[:, 1:].tolist() == [[105, 180, 255], [255, 180, 105]]


def test_drawings_are_shown_no_narrower_than_they_can_be_read_and_kept_once() -> None:
    drawing = mg.flow.Drawing('digraph { a -> b [label="text" fontsize=9] }')
    found = data(sliders(lambda n: (drawing, f"{n}"), {"n": [1, 2, 3]}))
    assert len(found["pictures"]) == 1
    assert base64.b64decode(found["pictures"][0].split(",")[1]).decode() == drawing.svg()
    assert [frame["picture"]["uri"] for frame in found["frames"]] == [0, 0, 0]
    assert found["frames"][0]["picture"]["least"] == least_width(drawing.svg()) > 0


@pytest.mark.parametrize(
    ("measure", "knobs", "start", "told"),
    [
        (powers, {"a": []}, (), "expected from 1 to 400 positions .* got 0"),
        (powers, {"a": range(401)}, (), "got 401"),
        (powers, {"a": [1.0]}, (2.0,), "'a' starts at 2.0, which is not among"),
        (powers, {"a": [1.0]}, (1.0, 1.0), "start has 2 values for 1 knobs"),
        (lambda a: 3, {"a": [1]}, (), "curves by name or a Drawing, .* got int"),
        (lambda a: {}, {"a": [1]}, (), "got dict"),
        (lambda a: {"y": np.ones((2, 3))}, {"a": [1]}, (), r"'y' has \(2, 3\)"),
        (lambda a: {"y": ([1.0], [1.0, 2.0])}, {"a": [1]}, (), r"'y' has \(1,\) and \(2,\)"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    measure: Any, knobs: dict[str, Any], start: Any, told: str
) -> None:
    with pytest.raises(FlowError, match=told):
        sliders(measure, knobs, start=start)


# -- connectivity


@pytest.mark.parametrize("T", [1, 2, 5])
def test_connectivity_of_running_sums_is_one_for_all_that_was_summed(T: int) -> None:
    found = connectivity(lambda x: mg.cumsum(x, axis=0)[..., 0], np.ones((T, 2)), "x" * T)
    np.testing.assert_array_equal(found.norms, np.tril(np.ones((T, T))))
    assert data(found)["rows"] == (100 * np.tril(np.ones((T, T)))).tolist()


def test_what_comes_later_is_connected_where_a_net_reads_backwards() -> None:
    found = connectivity(lambda x: x[::-1, :, 1], np.ones((3, 2)))
    np.testing.assert_array_equal(found.norms, np.eye(3)[::-1])


@pytest.mark.parametrize(
    ("x", "options", "told"),
    [
        (np.ones((3, 1, 1)), {}, r"x is one sequence, \(T, F\) with T > 0, got \(3, 1, 1\)"),
        (np.ones((0, 2)), {}, r"got \(0, 2\)"),
        (np.ones((3, 2)), {"text": "ab"}, "text has 2 entries for 3 steps"),
        (np.ones((3, 2)), {"said": ["a"]}, "said has 1 entries for 3 steps"),
        (np.ones((3, 2)), {"start": 3}, "start is a step from 0 to 2, got 3"),
        (np.ones((3, 2)), {}, r"read\(\) took \(3, 3, 2\) and gave \(3, 3, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(x: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(FlowError, match=told):
        connectivity(lambda x: x, x, **options)


# -- the page, and where it goes


def test_no_text_can_end_the_data_and_no_script_writes_markup() -> None:
    page = sliders(lambda a: (powers(1.0), HOSTILE), {HOSTILE: [HOSTILE]}, title=HOSTILE)
    assert page.html.count("</script>") == 2
    assert data(page)["title"] == data(page)["knobs"][0]["labels"][0] == HOSTILE
    for file in resources.files(interactive).iterdir():
        if file.name.endswith(".js"):
            source = file.read_text("utf-8")
            assert not re.search(r"innerHTML|insertAdjacent|eval\(|fetch\(", source)


def test_a_page_replaces_one_of_its_kind_and_nothing_else(tmp_path: Path) -> None:
    page = sliders(powers, {"a": [1.0]})
    assert page.save(page.save(tmp_path / "a.html")).read_text("utf-8") == page.html
    other = connectivity(lambda x: x[..., 0], np.ones((1, 1)))
    with pytest.raises(OutputError, match="this file is no connectivity page"):
        other.save(tmp_path / "a.html")


def test_a_script_writes_what_a_notebook_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, path, shown = sliders(powers, {"a": [1.0]}), tmp_path / "a.html", []
    show(page, path)
    assert capsys.readouterr().out == f"drawn to {path}\n"
    assert path.read_text("utf-8") == page.html
    path.unlink()
    kernel = types.SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: kernel  # type: ignore[attr-defined]
    display = types.ModuleType("IPython.display")
    display.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    show(page, path)
    assert shown == [page]
    assert not path.exists()


@pytest.mark.parametrize(
    ("svg", "pixels"),
    [
        ('<svg width="750pt" viewBox="0 0 750 9"><text font-size="9"/></svg>', 750),
        ('<svg width="750pt" viewBox="0 0 750 9"><text font-size="18"/></svg>', 375),
        ('<svg width="90px" viewBox="0 0 90 9"><text font-size="4"/></svg>', 90),
        ('<svg width="100" viewBox="0 0 200 9"><text style="font-size:36px"/></svg>', 50),
        ("<svg/>", 0),
    ],
)
def test_the_least_width_is_that_at_which_text_is_nine_pixels_high(svg: str, pixels: int) -> None:
    assert least_width(svg) == pixels


# -- in a browser


@pytest.mark.slow
def test_a_knob_turns_by_keyboard_and_shows_what_was_measured_there(tab: Tab) -> None:
    page = sliders(
        lambda a: (powers(a), f"a is {a}"), {"a": [0.5, 1.0, 2.0]}, title=HOSTILE, log=True
    )
    for width, dark in ((1280, False), (390, True)):
        tab.emulate(width, dark=dark)
        tab.open(page.html)
        assert tab.text("h1") == " ".join(HOSTILE.split())
        before = tab.find(".curve").get_attribute("d")
        tab.press("\ue014", ".knob input")  # arrow to the right
        assert tab.text("#words") == "a is 2.0"
        assert tab.find(".knob input").get_attribute("aria-valuetext") == "2"
        assert tab.find(".curve").get_attribute("d") != before
        sizes = tab.js(
            "return [...document.querySelectorAll('text')]"
            ".map(t => parseFloat(getComputedStyle(t).fontSize))"
        )
        assert min(sizes) >= 9
        assert tab.js("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert [url for url in tab.requests() if not url.startswith(("file:", "data:"))] == []


@pytest.mark.slow
def test_a_letter_that_is_chosen_colours_those_that_its_prediction_used(tab: Tab) -> None:
    said = ["one", "two", "three"]
    tab.open(connectivity(lambda x: mg.cumsum(x, axis=0)[..., 0], np.eye(3), "a\nb", said).html)
    assert tab.text("#words") == "three"
    tab.press("\ue012", ".knob input")  # arrow to the left
    assert tab.text("#words") == "two"
    colours = [letter.value_of_css_property("background-color") for letter in tab.all(".letter")]
    assert len(set(colours[:2])) == 1
    assert colours[2].endswith(" 0)")
