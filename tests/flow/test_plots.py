"""Figures: what their artists show equals the numbers they are drawn from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.flow import Monitor
from minigrad.flow.drawing.colors import MAX_DECADES
from minigrad.flow.plots import (
    PlotError,
    curves,
    decay,
    heatmap,
    histograms,
    lags,
    lyapunov,
    norms,
    singular_values,
)

matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")


def rendered(figure: Any) -> bytes:
    """As PNG: whatever fails when it is drawn fails here."""
    out = BytesIO()
    figure.savefig(out, format="png")
    assert out.getvalue().startswith(b"\x89PNG")
    return out.getvalue()


def recorded(cell: str = "LSTM", steps: int = 20, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    layer = getattr(mg.nn, cell)(2, 5, generator=rng, **options)
    return mg.flow.probe(layer, rng.normal(size=(steps, 3, 2)).astype(np.float32))


@pytest.fixture(scope="module")
def monitor() -> Monitor:
    """Four measured steps of two parameters, in the last of which a gradient is NaN."""
    net = mg.nn.Linear(3, 2, dtype=np.float64, generator=np.random.default_rng(0))
    watched = Monitor(net, every=5)
    for k in range(15):
        with watched.step():
            net.zero_grad()
            x = np.array([[1.0, 2.0, np.nan if k == 14 else 0.0]]) * 0.1**k
            net(mg.tensor(x)).sum().backward()
    return watched


# -- recordings


def test_decay_draws_the_profile_and_the_line_that_was_fitted() -> None:
    layer = next(iter(recorded().values()))
    figure = decay(layer)
    (ax,) = figure.axes
    profile, fit = layer.profile(), layer.verdicts["h"].fit
    curve, line = ax.lines[:2]
    np.testing.assert_array_equal(curve.get_xdata(), np.arange(profile.size))
    np.testing.assert_allclose(curve.get_ydata(), profile)
    expected = np.exp(fit.intercept) * fit.rate ** np.arange(profile.size)
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-9)
    assert ax.get_yscale() == "log"
    label = ax.get_legend().get_texts()[0].get_text()
    assert layer.verdicts["h"].kind in label
    assert f"{fit.rate:.3g} per step" in label
    band = ax.collections[0].get_paths()[0].vertices
    at_middle = [y for x, y in band if x == 0]
    middle = (profile.size - 1) / 2
    height = fit.intercept + middle * np.log(fit.rate)
    bounds = [np.exp(height - middle * np.log(r)) for r in (fit.high, fit.low)]
    np.testing.assert_allclose([min(at_middle), max(at_middle)], bounds, rtol=1e-9)
    rendered(figure)


def test_decay_compares_recordings_by_name() -> None:
    figure = decay({"one": recorded("RNN"), "two": recorded("GRU", bidirectional=True)})
    labels = [t.get_text().split(":")[0] for t in figure.axes[0].get_legend().get_texts()]
    assert labels == ["one", "two gru/l0/fwd", "two gru/l0/rev"]
    rendered(figure)


@pytest.mark.parametrize(
    ("profile", "kind"),
    [
        ([1.0], "undecided"),
        ([0.0, 0.0], "none"),
        ([1.0, np.nan, np.inf], "broken"),
        ([1.0, 0.5, 0.0, 0.0], "cut"),
        ([1e-300, 1e-305, 1e-310], "vanishing"),
        ([1.0, 1e200, 1e300, 1e308], "exploding"),
    ],
)
def test_decay_draws_profiles_without_a_line_too(profile: list[float], kind: str) -> None:
    norms_of = np.array(profile)
    verdict = mg.flow.judge(norms_of)
    layer = SimpleNamespace(
        path="", norms={"h": norms_of}, verdicts={"h": verdict}, profile=lambda name: norms_of
    )
    figure = decay({"x": layer})  # type: ignore[dict-item]
    shown = figure.axes[0].lines[0].get_ydata()
    good = np.isfinite(norms_of) & (norms_of > 0)
    np.testing.assert_array_equal(np.asarray(shown)[good], norms_of[good])
    assert np.isnan(np.asarray(shown)[~good]).all()
    said = [t.get_text() for t in figure.axes[0].texts]
    assert said == (["NaN or Inf from here"] if not np.isfinite(norms_of).all() else [])
    rendered(figure)


def cells(figure: Any) -> Any:
    return np.asarray(figure.axes[0].collections[0].get_array())


@pytest.mark.parametrize("direction", ["fwd", "rev"])
def test_a_heat_map_has_units_upwards_and_time_to_the_right(direction: str) -> None:
    layer = recorded(bidirectional=True)[f"lstm/l0/{direction}"]
    values = layer.values["h"].astype(np.float64)
    in_time = values if direction == "fwd" else values[::-1]
    np.testing.assert_allclose(cells(heatmap(layer, "h", row=1)), in_time[:, 1].T)
    np.testing.assert_allclose(cells(heatmap(layer, "h", row=None)), in_time.mean(axis=1).T)
    figure = heatmap(layer, "h", "gradient")
    g = np.abs(layer.gradients["h"] if direction == "fwd" else layer.gradients["h"][::-1])
    decades = np.log10(g[:, 0].T)
    shown = cells(figure)
    bottom = max(np.floor(decades.min()), np.ceil(decades.max()) - MAX_DECADES)
    np.testing.assert_allclose(shown, np.maximum(decades, bottom), rtol=1e-6)
    rendered(figure)


def test_gates_have_a_scale_from_0_to_1_and_states_one_around_0() -> None:
    layer = next(iter(recorded().values()))
    assert heatmap(layer, "f").axes[0].collections[0].get_clim() == (0.0, 1.0)
    low, high = heatmap(layer, "h").axes[0].collections[0].get_clim()
    assert low == -high
    assert high == pytest.approx(np.abs(layer.values["h"][:, 0]).max())


def test_nan_and_inf_are_hatched_and_named() -> None:
    values = np.random.default_rng(0).normal(size=(6, 2, 3))
    values[2:4, 0, 1] = np.nan
    values[5, 0, 2] = np.inf
    layer = SimpleNamespace(path="", values={"h": values}, gradients={}, steps=np.arange(6))
    figure = heatmap(layer)  # type: ignore[arg-type]
    ax = figure.axes[0]
    found = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in ax.patches]
    assert found == [(1.5, 0.5, 2.0, 1.0), (4.5, 1.5, 1.0, 1.0)]
    assert all(p.get_hatch() for p in ax.patches)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["NaN or Inf"]
    rendered(figure)
    values[:] = np.nan
    rendered(heatmap(layer))  # type: ignore[arg-type]


def test_one_unit_and_one_step_make_a_heat_map() -> None:
    layer = SimpleNamespace(
        path="", values={"h": np.zeros((1, 1, 1))}, gradients={"h": np.zeros((1, 1, 1))},
        steps=np.array([0]),
    )  # fmt: skip
    rendered(heatmap(layer))  # type: ignore[arg-type]
    rendered(heatmap(layer, what="gradient", row=None))  # type: ignore[arg-type]


# -- training


def test_norms_are_the_monitors_and_nan_is_crossed_out(monitor: Monitor) -> None:
    figure = norms(monitor)
    ax = figure.axes[0]
    for line, name in zip(ax.lines, ("weight", "bias"), strict=False):
        steps, values = monitor.history.series(name)
        np.testing.assert_array_equal(line.get_xdata(), steps)
        good = np.isfinite(values)
        np.testing.assert_array_equal(np.asarray(line.get_ydata())[good], values[good])
        assert line.get_label() == name
    assert ax.lines[-1].get_label() == "NaN or Inf"
    assert list(ax.lines[-1].get_xdata()) == [15]
    rendered(figure)
    for what in ("weight", "update", "largest"):
        rendered(norms(monitor.history, what, ["bias"]))


def test_histograms_show_shares_of_elements(monitor: Monitor) -> None:
    figure = histograms(monitor)
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["weight", "bias"]
    shown = np.asarray(figure.axes[0].collections[0].get_array())
    np.testing.assert_allclose(np.where(shown > 0, shown, 0).sum(axis=0), 1.0)
    h = monitor.history.measurements[0].parameters["weight"].histogram
    assert h is not None
    first = shown[:, 0]
    assert np.isclose(first[0], h.zero / 6)  # the third input is zero
    np.testing.assert_allclose(sorted(first[first > 0])[-1], h.counts.max() / 6)
    assert len(figure.axes[0].patches) == 1  # the NaN of step 15
    rendered(figure)
    figure = matplotlib.figure.Figure()
    ax = figure.add_subplot()
    assert histograms(monitor, "bias", ax=ax) is figure
    rendered(figure)


def test_one_measurement_makes_every_figure_of_training() -> None:
    net = mg.nn.Linear(1, 1, dtype=np.float64)
    watched = Monitor(net)
    with watched.step():
        net(mg.tensor([[1.0]])).sum().backward()
    rendered(norms(watched))
    rendered(histograms(watched))


def measured(lengths: Sequence[int], gradients: float = 1.0) -> mg.flow.History:
    """A run whose profile at step k has lengths[k] lags, each a tenth of the one before."""
    history = mg.flow.History()
    for k, n in enumerate(lengths):
        profile = gradients * 0.1 ** np.arange(n)
        cut = {
            "name": "rnn/fwd", "kind": "healthy", "reason": "", "ratio": 0.5, "rate": 0.1,
            "half_life": 1.0, "reach": float("inf") if k == 0 else 3.0, "path": {},
            "profile": profile.tolist(),
        }  # fmt: skip
        taps = {"f": {"mean": 0.5, "saturation": k / 10}}
        layer = {"reverse": False, "norms": {}, "verdicts": {}, "taps": taps}
        history.add(
            {"record": "step", "step": 10 * k, "parameters": {}, "layers": {"rnn": layer},
             "cuts": [cut]}
        )  # fmt: skip
        history.add({"record": "log", "step": 10 * k, "values": {"loss": gradients * k}})
    return history


def test_lags_are_a_column_for_each_measurement_with_the_reach_as_a_line() -> None:
    history = measured([5, 5, 2])
    figure = lags(history)
    ax = figure.axes[0]
    shown = np.ma.asarray(ax.collections[0].get_array())
    expected = np.tile(-np.arange(5.0)[:, None], 3)
    np.testing.assert_allclose(shown[:, :2], expected[:, :2], atol=1e-12)
    np.testing.assert_array_equal(np.ma.getmaskarray(shown)[:, 2], np.arange(5) >= 2)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 10, 20])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [np.nan, 3, 3])
    rendered(figure)


def test_lags_of_two_runs_are_on_one_scale_and_relative_to_lag_0() -> None:
    runs = {"a": measured([3, 3]), "b": measured([3, 3], 1e-4)}
    figure = lags(runs)
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["a rnn/fwd", "b rnn/fwd"]
    assert len({ax.collections[0].get_clim() for ax in figure.axes[:2]}) == 1
    first, second = (np.asarray(ax.collections[0].get_array()) for ax in figure.axes[:2])
    np.testing.assert_allclose(first - 4, second, atol=1e-9)
    figure = lags(runs, relative=True)
    np.testing.assert_allclose(
        *(ax.collections[0].get_array() for ax in figure.axes[:2]), atol=1e-9
    )
    rendered(figure)


@pytest.mark.parametrize("profile", [[1.0], [0.0, 0.0], [1.0, np.nan, np.inf], [1e-300, 1e300]])
def test_lags_of_any_kind_are_drawn(profile: list[float]) -> None:
    history = measured([1])
    history.measurements[0].cuts["rnn/fwd"] = (
        history.measurements[0].cuts["rnn/fwd"]._replace(profile=np.array(profile))
    )
    figure = lags(history)
    assert bool(figure.axes[0].patches) == (not np.isfinite(profile).all())
    image = figure.axes[0].collections[0]
    white = np.ma.filled(image.get_array()[:, 0] < image.get_clim()[0], False)
    np.testing.assert_array_equal(white, np.array(profile) == 0)
    rendered(figure)
    rendered(lags(history, relative=True))


def test_curves_overlay_runs_with_a_colour_for_each_line_and_dashes_for_each_run() -> None:
    runs = {"a": measured([3, 3]), "b": measured([3, 3, 3], 2.0)}
    ax = curves(runs).axes[0]
    assert [line.get_label() for line in ax.lines] == ["a", "b"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0, 2, 4])
    assert len({line.get_color() for line in ax.lines}) == 2
    ax = curves(runs, "saturation").axes[0]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0, 0.1, 0.2])
    reach = curves(runs, "reach")
    marked = [line for line in reach.axes[0].lines if line.get_marker() == "^"]
    assert [list(line.get_xdata()) for line in marked] == [[0], [0]]
    labels = [t.get_text() for t in reach.axes[0].get_legend().get_texts()]
    assert labels == ["a", "does not end", "b"]
    rendered(reach)
    two = measured([3])
    two.measurements[0].layers["gru"] = two.measurements[0].layers["rnn"]
    ax = curves({"x": two, "y": two}, "saturation").axes[0]
    assert [line.get_label() for line in ax.lines] == ["x rnn f", "x gru f", "y rnn f", "y gru f"]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "-", "--", "--"]
    assert ax.lines[0].get_color() == ax.lines[2].get_color() != ax.lines[1].get_color()
    assert len(curves(two, "saturation", names=["gru f"]).axes[0].lines) == 1


def test_curves_and_lags_of_nothing_are_refused(monitor: Monitor) -> None:
    with pytest.raises(PlotError, match="there is no 'saturation' to draw"):
        curves(monitor, "saturation")
    with pytest.raises(PlotError, match=r"x: curves: expected one of .*, got 'loss'"):
        curves({"x": monitor})
    with pytest.raises(PlotError, match="there is no 'gradient' of 'nothing'"):
        curves(monitor, "gradient", names=["weight", "nothing"])
    with pytest.raises(PlotError, match="no cut through time was measured"):
        lags(monitor)
    with pytest.raises(PlotError, match=r"there is no cut 'x'; there are \['rnn/fwd'\]"):
        lags(measured([1]), "x")
    with pytest.raises(PlotError, match="several by name, got list at 'a'"):
        lags({"a": []})
    with pytest.raises(PlotError, match="several by name, got none"):
        curves({})
    assert curves(monitor, "gradient").axes[0].lines[-1].get_label() == "NaN or Inf"


# -- dynamics


def test_singular_value_bands_are_the_percentiles() -> None:
    values = np.exp(np.random.default_rng(0).normal(size=(9, 3, 5)))
    values[4, 1, 2] = np.nan
    figure = singular_values(SimpleNamespace(singular_values=lambda: values))
    ax = figure.axes[0]
    by_label = {line.get_label(): np.asarray(line.get_ydata()) for line in ax.lines}
    flat = values.reshape(9, -1)
    np.testing.assert_allclose(by_label["largest"], np.nanmax(flat, axis=1))
    np.testing.assert_allclose(by_label["median"], np.nanmedian(flat, axis=1))
    np.testing.assert_allclose(by_label["least"], np.nanmin(flat, axis=1))
    crossed = next(line for line in ax.lines if line.get_label() == "NaN or Inf")
    assert list(crossed.get_xdata()) == [5]
    rendered(figure)


@pytest.mark.parametrize("values", [np.ones((1, 1)), np.zeros((3, 2)), np.full((2, 2), np.nan)])
def test_singular_values_of_any_kind_are_drawn(values: Any) -> None:
    rendered(singular_values(values))


def test_real_jacobians_and_spectra_are_drawn() -> None:
    layer = next(iter(recorded(steps=6).values()))
    jacobians = layer.jacobians()
    line = singular_values(jacobians).axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), jacobians.singular_values().max(axis=(1, 2)))
    rendered(lyapunov(mg.flow.lyapunov(lambda h, x: (mg.tanh(h), h), mg.tensor([[0.1]]), steps=50)))


def test_the_spectrum_is_drawn_by_index_with_its_dimension() -> None:
    exponents = np.array([0.5, 0.1, -0.2, -1.0, -np.inf])
    spectrum = SimpleNamespace(
        exponents=exponents, dimension=3.4, standard_error=np.array([0.1, 0.1, 0.1, 0.1, np.nan])
    )
    figure = lyapunov(spectrum)
    ax = figure.axes[0]
    curve = next(line for line in ax.lines if len(line.get_xdata()) == 5)
    np.testing.assert_array_equal(curve.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(np.asarray(curve.get_ydata())[:4], exponents[:4])
    assert any(list(line.get_ydata()) == [0, 0] for line in ax.lines)
    assert any(list(line.get_xdata()) == [3.4, 3.4] for line in ax.lines)
    assert ax.texts[0].get_text() == "Kaplan-Yorke dimension 3.4"
    assert "1 not finite" in ax.get_title(loc="left")
    rendered(figure)
    rendered(lyapunov([0.1]))


# -- the package


@pytest.mark.parametrize("draw", ["decay", "heatmap", "singular_values", "lyapunov", "norms"])
def test_a_figure_is_drawn_into_axes_that_are_given(draw: str, monitor: Monitor) -> None:
    figure = matplotlib.figure.Figure()
    ax = figure.subplots(1, 2)[1]
    layer = next(iter(recorded(steps=5).values()))
    what = {"singular_values": np.ones((3, 2)), "lyapunov": np.ones(3), "norms": monitor}
    assert getattr(mg.flow.plots, draw)(what.get(draw, layer), ax=ax) is figure
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_figures_leave_pyplot_alone() -> None:
    decay(recorded(steps=5))
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_importing_minigrad_does_not_import_matplotlib() -> None:
    code = "import sys, minigrad.flow.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match=r'lyapunov: .*pip install "minigrad-bptt\[plot\]"'):
        lyapunov([0.1, -0.2])


def test_what_cannot_be_drawn_is_refused(monitor: Monitor) -> None:
    layer = next(iter(recorded(steps=5).values()))
    with pytest.raises(PlotError, match="has no state 'q'; it has 'h', 'c'"):
        decay(layer, "q")
    with pytest.raises(PlotError, match="expected a Recording, one of its layers, or a dict"):
        decay(3)  # type: ignore[arg-type]
    with pytest.raises(PlotError, match="there is no layer to draw"):
        decay({})
    with pytest.raises(PlotError, match="has no value of 'q'; it has"):
        heatmap(layer, "q")
    with pytest.raises(PlotError, match="must be 'value' or 'gradient', got 'both'"):
        heatmap(layer, "h", "both")
    with pytest.raises(PlotError, match="row 9 of a batch of 3"):
        heatmap(layer, row=9)
    with pytest.raises(PlotError, match="what must be one of gradient, weight"):
        norms(monitor, "loss")
    with pytest.raises(PlotError, match="no parameter 'x'; there are 'weight', 'bias'"):
        histograms(monitor, "x")
    with pytest.raises(PlotError, match="expected a Monitor or its History, got list"):
        norms([])
    with pytest.raises(PlotError, match="nothing has been measured yet"):
        norms(Monitor(mg.nn.Linear(1, 1)))
    with pytest.raises(PlotError, match="one parameter fits into ax, got 2"):
        histograms(monitor, ax=matplotlib.figure.Figure().add_subplot())
    with pytest.raises(PlotError, match=r"\(T, B, n\) or \(T, n\), got \[3\]"):
        singular_values(np.ones(3))
    with pytest.raises(PlotError, match=r"its exponents, \(k,\), got \[0\]"):
        lyapunov([])
