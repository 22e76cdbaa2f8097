"""Heat strips in the terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.flow import FlowError, tables, terminal
from minigrad.flow.drawing.colors import BROKEN, STOPS
from minigrad.flow.terminal import MODES, detect, strip

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class Stream(io.StringIO):
    """A terminal, or a pipe, of some encoding."""

    def __init__(self, tty: bool = True, encoding: str = "utf-8"):
        super().__init__()
        self._tty, self._encoding = tty, encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._tty


@pytest.fixture
def recording() -> Any:
    rng = np.random.default_rng(0)
    lstm = mg.nn.LSTM(2, 5, bidirectional=True, generator=rng)
    return mg.flow.probe(lstm, rng.normal(size=(30, 3, 2)).astype(np.float32))


@pytest.mark.parametrize(
    ("variables", "stream", "mode"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, Stream(), "truecolor"),
        ({"TERM": "xterm-256color"}, Stream(), "256"),
        ({"TERM": "xterm"}, Stream(), "blocks"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, Stream(), "blocks"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, Stream(), "blocks"),
        ({}, Stream(), "blocks"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, Stream(tty=False), "blocks"),
        ({"TERM": "xterm"}, Stream(encoding="ascii"), "ascii"),
        ({"TERM": "xterm"}, Stream(encoding="latin-1"), "ascii"),
        ({"TERM": "xterm"}, Stream(encoding="no-such"), "ascii"),
        ({}, io.BytesIO(), "ascii"),
    ],
)
def test_a_strip_shows_what_the_stream_can(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], stream: Any, mode: str
) -> None:
    for name in ("TERM", "COLORTERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert detect(stream) == mode
    text = strip(np.ones((2, 3)), stream=stream)
    assert ("\x1b" in text) == (mode in ("truecolor", "256"))
    assert text.isascii() == (mode != "blocks")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [9, 40, 200])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (100, 300)])
def test_lines_fit_the_width(mode: str, width: int, shape: tuple[int, int]) -> None:
    text = strip(np.random.default_rng(0).random(shape), mode=mode, width=width, height=5)
    *rows, _ = ESCAPE.sub("", text).split("\n")
    assert len(rows) == min(5, shape[0])
    assert len({len(row) for row in rows}) == 1
    assert max(map(len, rows)) <= width


def test_neighbours_are_joined_by_their_largest_gradient_or_mean_value() -> None:
    x = np.array([[1.0, 1e-9, 1e-3, 1e-3], [1e-9, 1e-9, 1e-9, 1e-9]])
    first, _ = strip(x, mode="ascii", width=7, height=1).split("\n")
    assert first == "0-1 |@|"
    first, _ = strip(x, mode="ascii", width=8, height=1).split("\n")
    assert first == "0-1 |@.|"
    first, _ = strip(np.array([[1.0, -1.0, 1.0, 1.0]]), of="value", mode="ascii", width=6).split(
        "\n"
    )
    assert first == "0 |=@|".replace("=", terminal.ASCII_SHADES[4])


def test_nan_is_an_exclamation_mark_and_zero_a_blank() -> None:
    x = np.array([[np.nan, 0.0, 1.0, np.inf, 1e-3]])
    assert strip(x, mode="ascii", width=40).startswith("0 |! @!.|")
    colored = strip(x, mode="truecolor", width=40)
    red, green, blue = (int(BROKEN[i : i + 2], 16) for i in (1, 3, 5))
    assert colored.count(f"48;2;{red};{green};{blue}m") == 2
    nothing = strip(np.zeros((1, 3)), mode="ascii", width=40)
    assert nothing.startswith("0 |   |")
    assert strip(np.full((1, 2), np.nan), of="value", mode="ascii").startswith("0 |!!|")


def test_the_largest_gradient_has_the_last_colour_of_the_drawings() -> None:
    line, _ = strip(np.array([[1e-4, 1.0]]), mode="truecolor", width=20).split("\n")
    colors = [tuple(map(int, c)) for c in re.findall(r"48;2;(\d+);(\d+);(\d+)m", line)]
    ends = [tuple(int(s[i : i + 2], 16) for i in (1, 3, 5)) for s in (STOPS[0], STOPS[-1])]
    assert colors == ends


def test_256_colours_are_those_of_the_palettes_cube() -> None:
    text = strip(np.random.default_rng(0).random((4, 30)), mode="256", width=60)
    found = [int(c) for c in re.findall(r"48;5;(\d+)m", text)]
    assert found
    assert all(16 <= c <= 231 for c in found)


def test_a_layer_is_units_by_time_and_a_recording_cuts_and_layers_by_time(recording: Any) -> None:
    forward, reverse = recording["lstm/l0/fwd"], recording["lstm/l0/rev"]
    text = strip(forward, mode="ascii", width=60)
    assert [line.split()[0] for line in text.split("\n")[:-1]] == ["0", "1", "2", "3", "4"]
    lines = strip(recording, mode="ascii", width=60).split("\n")
    paths = ["lstm/l0/fwd", "lstm/l0/rev"]
    assert [line.partition(" |")[0].rstrip() for line in lines[:-1]] == [
        *paths,  # the cuts, which were judged
        *(f"  {path}" for path in paths),
    ]
    for forth, back in (lines[:2], lines[2:4]):
        assert forth.rstrip("|")[-1] == "@"  # the loss reads the last step
        assert back.split("|")[1][0] == "@"  # of a reverse layer, t = 0 comes last
    assert strip(reverse, "f", "value", mode="ascii", width=60).count("\n") == 5


def test_what_cannot_be_shown_is_refused(recording: Any) -> None:
    layer = recording["lstm/l0/fwd"]
    with pytest.raises(FlowError, match="has no gradients of 'q'; '"):
        strip(layer, "q")
    with pytest.raises(FlowError, match="must be 'gradient' or 'value', got 'both'"):
        strip(layer, of="both")
    with pytest.raises(FlowError, match="mode must be one of truecolor"):
        strip(layer, mode="sepia")
    with pytest.raises(FlowError, match="only gradients are shown; name a layer"):
        strip(recording, of="value")
    with pytest.raises(FlowError, match=r"expected rows by time steps, \(n, T\), got \[0, 3\]"):
        strip(np.zeros((0, 3)))
    with pytest.raises(FlowError, match="expected a Recording, a layer of it or an array, got str"):
        strip("h")  # type: ignore[arg-type]
    with pytest.raises(FlowError, match="there is no layer to show"):
        strip({})  # type: ignore[arg-type]


def test_sparklines_have_the_bars_that_the_stream_has() -> None:
    assert terminal.spark_blocks(Stream()) == tables.BLOCKS
    assert terminal.spark_blocks(Stream(encoding="ascii")) == tables.ASCII_BLOCKS
