"""Tables, strips, figures, files and the page show the profile that was judged, or the sum."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.cli import main
from minigrad.flow import explorer, plots, tables, terminal

T, B, I, H = 23, 3, 2, 5


def rnn_read_at_every_step() -> tuple[mg.flow.Recording, np.ndarray, np.ndarray]:
    """A recording of loss = sum of h_t^2 over all t; and |dL/dh_t| that comes to h_t from later
    steps, by lag, of the last output alone and of all of them, by the recursion in NumPy.
    """
    rng = np.random.default_rng(0)
    rnn = mg.nn.RNN(I, H, dtype=np.float64, generator=rng)
    x = rng.standard_normal((T, B, I))
    with mg.flow.record() as recording:
        h, _ = rnn(mg.tensor(x))
        (h**2).sum().backward()
    hs, w = h.numpy(), rnn.weight_hh_l0.numpy()
    alone = carried = 2 * hs[-1]
    found = [(np.linalg.norm(alone), np.linalg.norm(carried))]
    for t in range(T - 1, 0, -1):
        slope = 1 - hs[t] ** 2
        alone = (alone * slope) @ w
        carried = ((carried + (2 * hs[t] if t < T - 1 else 0)) * slope) @ w
        found.append((np.linalg.norm(alone), np.linalg.norm(carried)))
    judged, summed = np.array(found).T
    return recording, judged, summed


def of_page(page: str) -> dict[str, Any]:
    """The data of a page."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(data)


@pytest.fixture(scope="module")
def recorded() -> tuple[mg.flow.Recording, np.ndarray, np.ndarray]:
    return rnn_read_at_every_step()


def test_the_profile_is_that_of_the_last_output_and_the_sum_that_of_all(recorded: Any) -> None:
    recording, judged, summed = recorded
    (cut,) = recording.cuts
    np.testing.assert_allclose(cut.profile, judged, rtol=1e-9)
    np.testing.assert_allclose(cut.summed, summed, rtol=1e-9)


@pytest.mark.parametrize("which", ["judged", "summed"])
def test_a_report_shows_one_of_them_in_numbers_and_bars(recorded: Any, which: str) -> None:
    recording, *both = recorded
    profile = dict(zip(("judged", "summed"), both))[which]
    text = str(mg.flow.report(recording, summed=which == "summed"))
    row = text.splitlines()[1].split()
    numbers = [float(x) for x in row[2:5]]
    wanted = [profile[0], profile[-1], profile[-1] / profile[0]]
    np.testing.assert_allclose(numbers, wanted, rtol=0.06)
    assert row[-1] == tables.sparkline(profile[::-1], *tables.log_range([profile]))
    assert row[-2] == recording.verdict.kind == "vanishing"  # whichever is shown
    assert ("shown is the sum over all outputs" in text) == (which == "summed")


def test_a_report_says_that_a_verdict_is_about_the_gradient_and_not_about_learning(
    recorded: Any,
) -> None:
    text = str(mg.flow.report(recorded[0]))
    assert "before training it does not say whether the net will learn" in text


@pytest.mark.parametrize("which", [0, 1])
def test_a_strip_and_a_figure_show_one_of_them(recorded: Any, which: int) -> None:
    recording, profile = recorded[0], recorded[1 + which]
    of_recording = terminal.strip(recording, mode="ascii", width=60, summed=which == 1)
    of_array = terminal.strip(profile[None, ::-1], mode="ascii", width=60)
    assert of_recording.split("|")[1] == of_array.split("|")[1]
    pytest.importorskip("matplotlib")
    curve = plots.decay(recording, summed=which == 1).axes[0].lines[0]
    np.testing.assert_allclose(curve.get_ydata(), profile, rtol=1e-9)


def test_the_page_has_both_and_a_switch(recorded: Any) -> None:
    recording, judged, summed = recorded
    found = of_page(explorer.page(recording, summed=True))
    (cut,) = found["networks"][0]["moments"][""]["cuts"]
    np.testing.assert_allclose(cut["profile"], judged, rtol=1e-4)
    np.testing.assert_allclose(cut["summed"], summed, rtol=1e-4)
    assert cut["steps"] == list(range(T))[::-1]
    assert cut["many"]
    assert found["summed"]


def test_rows_of_different_lengths_stand_at_the_lag_from_their_own_last_step() -> None:
    rng = np.random.default_rng(0)
    gru = mg.nn.GRU(I, H, dtype=np.float64, generator=rng)
    x, lengths = rng.standard_normal((T, B, I)), np.array([T, 1, 7])
    with mg.flow.record() as recording:
        _, h = gru(x, lengths=lengths)
        (h**2).sum().backward()
    (cut,) = recording.cuts
    assert tables.times(cut, recording).tolist() == list(range(T))[::-1]
    page = of_page(explorer.page(recording, sample=2))
    (shown,) = page["networks"][0]["moments"][""]["cuts"]
    one = np.array(shown["one"], float)
    np.testing.assert_allclose(one[:7], cut.per_sample[:7, 2], rtol=1e-4)
    assert (one[7:] == 0).all()  # it has no such lags, which is no NaN
    str(mg.flow.report(recording))


def test_layers_that_lose_the_gradient_between_them_are_named() -> None:
    rng = np.random.default_rng(0)
    rnn = mg.nn.RNN(I, H, num_layers=3, nonlinearity="relu", dtype=np.float64, generator=rng)
    for k in range(3):  # h_t = h_{t-1} + ...: nothing is lost through time
        setattr(rnn, f"weight_hh_l{k}", mg.nn.Parameter(np.eye(H)))
        getattr(rnn, f"bias_hh_l{k}").data = np.ones(H)
    rnn.weight_ih_l1.data = 1e-7 * rnn.weight_ih_l1.numpy()
    with mg.flow.record() as recording:
        _, h = rnn(0.1 * rng.standard_normal((25, B, I)))
        h[-1].sum().backward()
    assert recording.verdict.where == "depth"
    text = str(mg.flow.report(recording))
    assert "lost in depth, between layer 1 and layer 0" in text
    assert "lost in depth, between layer 2 and layer 1" not in text
    assert "between layer 2 and layer 1" in text


SIZES = ["--steps", "5", "--hidden", "4", "--batch", "2", "--train", "1", "--no-html"]


@pytest.mark.long
def test_the_command_measures_the_loss_of_training_where_the_sum_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    profiles = {}
    for options in ([], ["--sum"]):
        folder = f"r{len(options)}"
        assert main(["flow", "--cells", "rnn", *SIZES, *options, "--out", folder]) == 0
        said = capsys.readouterr().out
        assert "reach" in said
        assert "healthy now" in said or "vanishing now" in said or "undecided now" in said
        assert ("Norms are sums over all outputs" in said) == bool(options)
        stored = json.loads((tmp_path / folder / "flow.json").read_text())
        (cut,) = stored["cells"]["rnn"]["after"]["cuts"]
        rows = csv.DictReader(io.StringIO((tmp_path / folder / "flow.csv").read_text()))
        after = [row for row in rows if row["state"] == "S" and row["training"] == "after"]
        assert [float(row["norm"]) for row in after] == cut["profile"]
        assert [(row["lag"], row["t"]) for row in after[:2]] == [("0", "5"), ("1", "4")]
        profiles[folder] = cut["profile"], cut["summed"]
    assert profiles["r0"][0] == profiles["r0"][1]
    assert profiles["r1"][0] != profiles["r1"][1]


@pytest.mark.parametrize("window", [1, 4])
def test_calls_that_go_on_with_one_anothers_state_stand_behind_one_another(window: int) -> None:
    rng = np.random.default_rng(0)
    gru = mg.nn.GRU(I, H, dtype=np.float64, generator=rng)
    x, state = rng.standard_normal((12, B, I)), None
    with mg.flow.record() as recording:
        for begin in range(0, 12, window):
            y, state = gru(x[begin : begin + window], state)
        (y[-1] ** 2).sum().backward()
    (moment,) = of_page(explorer.page(recording))["networks"][0]["moments"].values()
    (cut,) = moment["cuts"]
    assert cut["steps"] == list(range(12))[::-1]
    for k, layer in enumerate(moment["layers"]):
        assert layer["steps"] == list(range(k * window, (k + 1) * window))
        assert (layer["before"], layer["after"]) == (k * window, 12 - (k + 1) * window)
    assert len(moment["layers"]) == 12 // window
    with mg.flow.record() as whole:
        (gru(x)[0][-1] ** 2).sum().backward()
    np.testing.assert_allclose(cut["profile"], whole.cuts[0].profile, rtol=1e-4)
