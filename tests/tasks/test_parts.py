"""What tasks are made of: counting, distances, writing, units at equal parameters, clean splits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.tasks import TASKS, TaskError, comparing
from minigrad.tasks.alignments import MissingPlotError, picture, shaded
from minigrad.tasks.dates import Dates
from minigrad.tasks.forecast import Forecast
from minigrad.tasks.ngrams import NGram
from minigrad.tasks.speech import distance, error_rate
from minigrad.tasks.writing import write

# -- counting


def test_pairs_are_counted_as_witten_and_bell_do() -> None:
    """0 is followed by 1 twice and by 2 once; alone there are 0, 1, 2 with 3, 2, 1 of 6."""
    model = NGram([[0, 1, 0, 1, 0, 2]], order=2, symbols=4)
    alone = {1: (2 + 3 / 4) / (6 + 3), 3: (0 + 3 / 4) / (6 + 3)}
    assert model.probability((0,), 1) == pytest.approx((2 + 2 * alone[1]) / (3 + 2))
    assert model.probability((9, 0), 3) == pytest.approx(2 * alone[3] / (3 + 2))
    assert model.probability((3,), 1) == pytest.approx(alone[1])  # never seen: the shorter context


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_after_any_context_add_up_to_one(
    order: int, rng: np.random.Generator
) -> None:
    model = NGram([rng.integers(0, 7, 60), rng.integers(0, 7, 1)], order, symbols=7)
    for context in [(), (1,), (2, 3), (6, 6, 6), tuple(rng.integers(0, 7, 5).tolist())]:
        total = sum(model.probability(context, symbol) for symbol in range(7))
        assert total == pytest.approx(1.0)


def test_what_is_skipped_is_context_alone() -> None:
    model = NGram([[5, 0, 1]], order=1, symbols=2, skip=1)
    assert model.bits([[5, 0, 1]]) == 1.0


# -- distances


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("saturday", "sunday", 3),
     ("aaa", "aa", 1)],
)  # fmt: skip
def test_the_distance_is_levenshteins(a: str, b: str, edits: int) -> None:
    assert distance(list(map(ord, a)), list(map(ord, b))) == edits
    assert distance(list(map(ord, b)), list(map(ord, a))) == edits


def test_the_error_rate_counts_edits_over_labels_not_rows() -> None:
    assert error_rate([[1], [2, 2, 2]], [[1], [1, 2, 3]]) == 2 / 4


# -- writing


def test_each_symbol_written_is_the_next_input_until_the_end() -> None:
    """A model that says x + 1 after x; the state counts the steps."""

    def model(ids: Any, state: int) -> tuple[Any, int]:
        return mg.tensor(np.eye(7)[(ids + 1) % 7] * 50), state + 1

    found = write(model, 0, np.array([0, 3]), steps=9, end=5, temperature=0.0)
    assert found == [[1, 2, 3, 4], [4]]
    assert write(model, 0, np.array([0]), steps=3, temperature=0.0) == [[1, 2, 3]]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_first_state_is_the_one_given(cell: str) -> None:
    from minigrad.tasks.base import first_state

    layer = {"gru": mg.nn.GRU, "lstm": mg.nn.LSTM}[cell](2, 3, mode="tape", dtype=np.float64)
    h = np.arange(6.0).reshape(2, 3)
    state = first_state(layer, mg.tensor(h))
    np.testing.assert_array_equal((state.h if cell == "lstm" else state).numpy()[0], h)
    assert layer(np.ones((4, 2, 2)), state)[0].shape == (4, 2, 3)


# -- attention, drawn


def test_shades_grow_with_the_weight() -> None:
    lines = shaded(np.array([[0.0, 0.3, 1.0]]), "abc", "X", ascii_only=True)
    assert lines == ["  abc", "X  :#"]


def test_a_picture_is_written_whole_and_its_absence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels = [(np.eye(3), "abc", "ABC"), (np.ones((1, 2)), "x$", "Y")]
    assert picture(tmp_path / "a.png", panels).read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPlotError, match=r'pip install "minigrad-bptt\[plot\]"'):
        picture(tmp_path / "b.png", panels)


# -- equal parameters


@pytest.mark.parametrize("name", ["digits", "names", "vowels", "forecast"])
def test_cells_are_compared_at_nearly_the_same_number_of_parameters(name: str) -> None:
    kind = TASKS[name]
    base = kind.choose(quick=True)
    budget = kind(base).parameters()
    for settings in comparing.variants(kind, base):
        hidden = comparing.hidden_for(kind, settings, budget)
        counts = [
            kind(kind.choose(**asked(settings) | {"hidden": h})).parameters()
            for h in (hidden - 1, hidden, hidden + 1)
        ]
        assert min(counts, key=lambda n: abs(n - budget)) == counts[1]
        if settings == base:
            assert hidden == base.hidden


def asked(settings: Any) -> dict[str, Any]:
    names = ("cell", "quick", "series") if settings.series else ("cell", "quick")
    merge = {"merge": settings.merge} if settings.cell == "bilstm" else {}
    return {name: getattr(settings, name) for name in names} | merge


@pytest.mark.long
@pytest.mark.slow
def test_a_comparison_has_every_cell_and_every_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: Any = type("Fewer", (TASKS["vowels"],), {"cells": ("rnn", "bilstm")})
    monkeypatch.setattr(comparing, "hidden_for", lambda *args: 4)  # one size: less to compile
    base = kind.choose(cell="rnn", hidden=4, epochs=1)
    told: list[Any] = []
    rows = comparing.compare(kind, base, runs=2, folder=tmp_path, told=told.append)
    assert [(row.cell, row.merge) for row in rows] == [
        ("rnn", "concat"),
        *(("bilstm", merge) for merge in ("concat", "sum", "mean", "mul")),
    ]  # fmt: skip
    assert told == rows
    found = json.loads((tmp_path / comparing.COMPARISON).read_text("utf-8"))
    assert found["seeds"] == [0, 1]
    assert all(len(row["values"]) == 2 and row["ms"] > 0 for row in found["rows"])
    assert {len(row["half_lives"]) for row in found["rows"][:1]} == {1}
    assert {len(row["half_lives"]) for row in found["rows"][1:]} == {2}
    table = comparing.shown(kind, rows).splitlines()
    assert len(table) == 6
    assert table[3].startswith("bilstm, sum")


# -- no leak


def test_the_scale_of_a_forecast_is_that_of_the_training_part() -> None:
    task = Forecast(Forecast.choose(series="sunspots-yearly", hidden=1))
    values = mg.data.sunspots().values[task.windows.parts.train]
    past = task.choice.past
    assert task.scale == pytest.approx(np.diff(values)[past - 1 :].std() / values.std())


def test_a_window_ends_before_the_value_it_forecasts() -> None:
    task = Forecast(Forecast.choose(series="co2", hidden=1))
    windows, values = task.windows.test, task.data.values
    last = task.windows.scaler.inverse(windows.xs[-1])[:, 0]
    np.testing.assert_allclose(last, values[windows.starts + task.choice.past - 1])
    true = task.windows.scaler.inverse(windows.ys[0])[:, 0]
    np.testing.assert_allclose(true, values[windows.starts + task.choice.past])


def test_the_utterances_of_a_row_are_of_one_part() -> None:
    """Every frame of a test row is a frame of the published test part."""
    kind = TASKS["speech"]
    task: Any = kind(kind.choose(quick=True, hidden=1))
    tested = {x.tobytes() for i in task.data.test for x in task.utterances[i]}
    for part, inside in ((task.train, False), (task.valid, False), (task.held_out, True)):
        for row in part[0][:20]:
            assert all((frame.tobytes() in tested) == inside for frame in row)


def test_no_day_of_the_test_part_is_trained_on() -> None:
    pytest.importorskip("babel")
    task = Dates(Dates.choose(quick=True, hidden=1))
    train, test = ({task.data.iso[i] for i in p} for p in (task.parts.train, task.parts.test))
    assert train.isdisjoint(test)


# -- the user's own input


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("digits", "1 2 3", "64 numbers from 0 to 16, 8 rows of 8 pixels; got 3 numbers from 1"),
        ("digits", "one", "numbers with blanks between"),
        ("digits", " ".join(["17"] * 64), "from 17 to 17"),
        ("captions", "", "got 0 numbers"),
        ("forecast", "1 2 3", "has 3 numbers; expected 48 or more"),
        ("forecast", " ".join(["nan"] * 60), "expected 48 or more"),
        ("characters", "Ω", "cannot be read"),
        ("names", "Ω", "letters from a to z"),
    ],
)
def test_input_that_cannot_be_read_says_what_is_expected(
    name: str, text: str, message: str
) -> None:
    kind = TASKS[name]
    task = kind(kind.choose(hidden=2))
    with pytest.raises(TaskError, match=message):
        task.read(text)


def test_a_result_must_be_strictly_better_than_every_baseline() -> None:
    from minigrad.tasks.running import Result

    def beaten(value: float, larger: bool) -> bool:
        some: Any = SimpleNamespace(
            value=value, larger_is_better=larger, baselines={"a": 0.5, "b": 0.7}
        )
        return bool(Result.beaten.fget(some))  # type: ignore[attr-defined]

    assert [beaten(v, True) for v in (0.6, 0.7, 0.8)] == [False, False, True]
    assert [beaten(v, False) for v in (0.4, 0.5, 0.6)] == [True, False, False]
