"""Sweeps of real trials: every cell, from the command line, in worker processes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from minigrad.cli import main
from minigrad.lab import sweep
from minigrad.lab.sweep.config import EXAMPLE
from minigrad.lab.sweep.trials import warm_ups
from minigrad.lab.trial import CELLS, Trial, run_trial

TINY = {"task": "adding", "length": 5, "hidden": 3, "updates": 2, "batch": 2}


@pytest.mark.long
@pytest.mark.slow
def test_a_trial_gives_the_same_numbers_in_a_worker_as_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "c.toml", tmp_path / "out"
    fixed = "\n".join(f"{name} = {json.dumps(value)}" for name, value in TINY.items())
    path.write_text(f'[grid]\ncell = ["rnn", "gru"]\nseed = [0, 1]\n[fixed]\n{fixed}\n')
    assert main(["sweep", str(path), "--out", str(out), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    head = printed.out.splitlines()[0].split()
    assert head[:6] == ["cell", "runs", "loss", "solved", "diverged", "reach_before"]
    rows = {
        (row["parameters"]["cell"], row["parameters"]["seed"]): row["results"]
        for row in sweep.open_for_reading(out)[1].values()
    }
    assert sorted(rows) == [("gru", 0), ("gru", 1), ("rnn", 0), ("rnn", 1)]
    here = run_trial(Trial(cell="gru", seed=1, **TINY))  # type: ignore[arg-type]
    there = rows["gru", 1]
    for name in ("loss", "reach_after", "half_life_before", "rate_after", "sigma_max"):
        # Workers have fewer threads, so sums may be split otherwise: float32, some roundings.
        assert there[name] == pytest.approx(here[name], rel=1e-5)
    assert "cell" not in there, "the parameters of a run stand beside its results, once"


@pytest.mark.long
@pytest.mark.slow
def test_an_init_that_does_not_fit_a_cell_fails_alone(tmp_path: Path) -> None:
    config = sweep.parse(
        {"grid": {"init": ["forget1", "default"]}, "fixed": {**TINY, "cell": "rnn"}}
    )
    report = sweep.run(config, tmp_path / "out", workers=1)
    (failed,) = report.failed
    assert failed["parameters"]["init"] == "forget1"
    assert failed["error"].startswith("TrialError: trial: init 'forget1' does not fit 'rnn'")


def test_each_kind_of_run_is_compiled_by_one_worker_before_the_rest_start() -> None:
    runs = [run.parameters for run in sweep.read(EXAMPLE).runs()]
    assert [(run["cell"], run["updates"]) for run in warm_ups(runs)] == [
        ("rnn", 1), ("lstm", 1), ("gru", 1),
    ]  # fmt: skip


def test_every_cell_can_be_in_a_grid() -> None:
    config = sweep.parse({"grid": {"cell": list(CELLS)}, "fixed": TINY})
    assert [run.parameters["cell"] for run in config.runs()] == list(CELLS)


RUNS = sweep.parse({"grid": {"cell": ["rnn"], "seed": [0, 1, 2]}, "fixed": TINY})


def results(**more: Any) -> dict[str, dict[str, Any]]:
    """A finished sweep, as it is read back: what a list holds goes to one seed each."""
    return {
        run.key: {"status": "ok", "results": {name: values[i] for name, values in more.items()}}
        for i, run in enumerate(RUNS.runs())
    }


def test_the_table_shows_how_far_the_gradient_reaches() -> None:
    """A reach that never ends (inf) or cannot be told (nan) is counted, and spoils no mean."""
    rows = results(reach_before=[7.0, 9.0, "inf"], reach_after=["inf", "inf", "inf"],
                   half_life_before=[1.0, 1.0, 1.0])  # fmt: skip
    head, line = sweep.summary(RUNS, rows).splitlines()
    assert head.split() == ["cell", "runs", "reach_before", "reach_after"]
    assert re.split("  +", line)[-2:] == ["8 ± 1.4, 1 inf", "inf"]


def test_results_of_a_time_without_reach_are_shown_with_what_they_have() -> None:
    rows = results(loss=[1.0, 1.0, 1.0], half_life_before=[2.0, 4.0, 6.0])
    head, line = sweep.summary(RUNS, rows).splitlines()
    assert head.split() == ["cell", "runs", "loss", "half_life_before"]
    assert line.endswith("4 ± 2")
