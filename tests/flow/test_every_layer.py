"""Every cell, however it is run, is in a recording and in a Monitor, with the right numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError, Recording
from minigrad.tree import leaves, map_leaves, rebuild

HOW = pytest.mark.parametrize("how", ["fused", "tape"])  # tapes are walked by compiled loops, too
T, B, I, H = 5, 2, 3, 3

CELLS = {
    name: kind
    for name in nn.__all__
    if isinstance(kind := getattr(nn, name), type)
    and issubclass(kind, nn.Cell)
    and kind not in (nn.Cell, nn.GatedCell)
}


def xs(seed: int = 0, steps: int = T, size: int = I) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, B, size))


def cell_of(name: str, size: int = I) -> Any:
    options: dict[str, Any] = {"dtype": np.float64, "generator": np.random.default_rng(0)}
    if name == "AttentionLSTMCell":
        memory = np.random.default_rng(3).normal(size=(B, 4, 5))
        return nn.AttentionLSTMCell(size, H, memory_size=5, **options).attend(memory)
    if name in ("ElmanCell", "JordanCell", "LRUCell"):
        return CELLS[name](size, H, output_size=H, **options)
    if name == "IndRNNCell":  # three relus can all be at 0, and pass no gradient on
        options["nonlinearity"] = "tanh"
    return CELLS[name](size, H, **options)


def layer_of(name: str, mode: str, **options: Any) -> nn.Recurrent:
    layer = nn.Recurrent(lambda size: cell_of(name, size), I, mode=mode, **options)
    layer.eval()  # zoneout draws nothing, so that its steps can be done again
    return layer


def recorded(model: nn.Module, run: Callable[[], mg.Tensor]) -> Recording:
    """By record(); and a Monitor has the same layers, states and steps."""
    with mg.flow.record() as rec:
        run().backward()
    with mg.flow.Monitor(model, every=1) as monitor, monitor.step():
        run().backward()
    (seen,) = monitor.history.measurements
    assert {p: {n: len(x) for n, x in layer.norms.items()} for p, layer in seen.layers.items()} == {
        p: {n: len(layer.steps) for n in layer.norms} for p, layer in rec.items()
    }
    assert rec.missing == []
    return rec


def gradient_at_first_state(cell: Any, x: np.ndarray) -> list[np.ndarray]:
    """dL/dS after the first step, L = sum y_T^2, S as a variable of its own: one eager loop."""
    state, _ = cell(cell.init_state(B), mg.tensor(x[0]))
    own = [mg.tensor(s.numpy(), requires_grad=True) for s in leaves(state)]
    state = rebuild(state, own)
    for x_t in x[1:]:
        state, y = cell(state, mg.tensor(x_t))
    return [g.numpy() for g in mg.grad((y**2).sum(), own)]


@HOW
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_recorded_with_the_gradient_at_its_whole_state(name: str, how: str) -> None:
    layer = layer_of(name, how)
    rec = recorded(layer, lambda: (layer(xs())[0][-1] ** 2).sum())
    assert list(rec) == ["recurrent/l0/fwd"]
    assert len(rec["recurrent/l0/fwd"].steps) == T
    (cut,) = rec.cuts
    expected = gradient_at_first_state(layer.cells[0], xs())
    assert len(cut.labels) == len(expected)
    total = np.sqrt(sum((g**2).sum() for g in expected))
    assert cut.profile[-1] == pytest.approx(total, rel=1e-10)
    parts = np.array([(g**2).sum() for g in expected]) / total**2
    np.testing.assert_allclose(cut.shares[-1], parts, atol=1e-10)
    assert "missing" not in str(rec)


# -- however it is run: name -> (model, what is run, path -> steps)

Kind = Callable[[str, str], tuple[nn.Module, Callable[[], mg.Tensor], dict[str, int]]]


def total(y: Any) -> mg.Tensor:
    return (y**2).sum()


def one_by_one(layers: list[Any]) -> mg.Tensor:
    y: Any = xs()
    for layer in layers:
        y, _ = layer(y)
    return total(y)


class Held(nn.Module):
    def __init__(self, rnns: Any):
        self.rnns = rnns


def in_a_list(name: str, mode: str) -> Any:
    held = Held([layer_of(name, mode) for _ in range(2)])
    names = ["rnns.0/l0/fwd", "rnns.1/l0/fwd"]
    return held, lambda: scoped(held, held.rnns), dict.fromkeys(names, T)


def in_a_dict(name: str, mode: str) -> Any:
    held = Held({"enc": layer_of(name, mode), "dec": layer_of(name, mode)})
    names = ["rnns.enc/l0/fwd", "rnns.dec/l0/fwd"]
    return held, lambda: scoped(held, list(held.rnns.values())), dict.fromkeys(names, T)


def scoped(held: nn.Module, layers: list[Any]) -> mg.Tensor:
    type(held).forward = lambda self: one_by_one(layers)  # type: ignore[attr-defined]
    return held()


def in_variables(name: str, mode: str) -> Any:
    first, second = layer_of(name, mode), layer_of(name, mode)
    names = ["recurrent/l0/fwd", "recurrent-2/l0/fwd"]
    return first, lambda: one_by_one([first, second]), dict.fromkeys(names, T)


def twice(name: str, mode: str) -> Any:
    layer = layer_of(name, mode)
    names = ["recurrent/l0/fwd", "recurrent#2/l0/fwd"]
    return layer, lambda: total(layer(xs())[0] - layer(xs(1))[0]), dict.fromkeys(names, T)


def in_windows(name: str, mode: str) -> Any:
    layer = layer_of(name, mode)

    def run() -> mg.Tensor:
        state, loss = None, mg.tensor(0.0)
        for k in range(0, T, 3):
            ys, state = layer(xs()[k : k + 3], state)
            state, loss = map_leaves(lambda s: s.detach(), state), loss + total(ys)
        return loss

    return layer, run, {"recurrent/l0/fwd": 3, "recurrent#2/l0/fwd": T - 3}


def step_by_step(name: str, mode: str) -> Any:
    layer = layer_of(name, mode)

    def run() -> mg.Tensor:
        y, state = mg.tensor(xs(steps=1)), None
        for _ in range(3):
            y, state = layer(y, state)
        return total(y)

    names = ["recurrent/l0/fwd", "recurrent#2/l0/fwd", "recurrent#3/l0/fwd"]
    return layer, run, dict.fromkeys(names, 1)


def both_ways(name: str, mode: str) -> Any:
    layer = layer_of(name, mode, bidirectional=True)
    names = ["recurrent/l0/fwd", "recurrent/l0/rev"]
    return layer, lambda: total(layer(xs(), lengths=[T, 2])[0]), dict.fromkeys(names, T)


def truncated(name: str, mode: str) -> Any:
    cell = cell_of(name)

    def run() -> mg.Tensor:
        given = cell, cell.init_state(B), mg.tensor(xs())
        return total(mg.scan(*given, truncate=3, mode=mode)[1])

    return cell, run, {"": T}


def by_hand(name: str, mode: str) -> Any:
    cell = cell_of(name)

    def run() -> mg.Tensor:
        state = cell.init_state(B)
        for x in xs():
            state, y = cell(state, mg.tensor(x))
        return total(y)

    return cell, run, {"": T}


KINDS: list[Kind] = [
    in_a_list, in_a_dict, in_variables, twice, in_windows, step_by_step, both_ways, truncated,
    by_hand,
]  # fmt: skip


@HOW
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["LSTMCell", "LRUCell"])
def test_every_layer_and_every_call_is_recorded(name: str, kind: Kind, how: str) -> None:
    model, run, expected = kind(name, how)
    rec = recorded(model, run)
    assert {path: len(layer.steps) for path, layer in rec.items()} == expected
    states = {"LSTMCell": ["h", "c"], "LRUCell": ["re", "im"]}[name]
    assert all(sorted(layer.norms) == sorted(states) for layer in rec.values())
    assert all(np.isfinite(cut.profile).all() for cut in rec.cuts)
    assert rec.verdict.kind not in ("none", "broken")


def imported(library: str, tmp_path: Path) -> tuple[nn.Module, Any]:
    made = nn.LSTM(I, H, generator=np.random.default_rng(0))
    if library == "onnx":
        pytest.importorskip("onnx")
        mg.interop.export_onnx(tmp_path / "net.onnx", made)
        model = mg.interop.import_onnx(tmp_path / "net.onnx")
        return model, lambda x: next(iter(model(x).values()))
    other = nn.LSTM(I, H)
    if library == "torch":
        mg.interop.load_torch(other, mg.interop.to_torch_state_dict(made))
    else:
        arguments = mg.interop.keras_arguments(made)
        mg.interop.load_keras_weights(other, mg.interop.to_keras_weights(made), config=arguments)
    return other, lambda x: other(x)[0]


@pytest.mark.parametrize("library", ["torch", "keras", "onnx"])
def test_an_imported_model_is_recorded_as_the_one_that_was_exported(
    library: str, tmp_path: Path
) -> None:
    model, run = imported(library, tmp_path)
    x = xs().astype(np.float32)
    rec = recorded(model, lambda: total(run(x)))
    (layer,) = rec.values()
    made = nn.LSTM(I, H, generator=np.random.default_rng(0))
    with mg.flow.record() as same:
        total(made(x)[0]).backward()
    for name, norms in same["lstm/l0/fwd"].norms.items():
        np.testing.assert_allclose(layer.norms[name], norms, rtol=1e-5)


@HOW
@pytest.mark.parametrize("attention", ["additive", None])
def test_an_encoder_and_its_decoder_are_recorded(attention: str | None, how: str) -> None:
    rng = np.random.default_rng(0)
    model = nn.EncoderDecoder(7, 5, 4, 3, attention, mode=how, dtype=np.float64, generator=rng)
    source, target = rng.integers(0, 7, (3, B)), rng.integers(0, 5, (2, B))
    rec = recorded(model, lambda: total(model(source, target, [3, 2])))
    assert [path.rpartition("/")[2] for path in rec] == ["fwd", "rev", "decoder"]
    assert {path.partition("/")[0]: len(x.steps) for path, x in rec.items()} == {
        "encoder": 3, "decoder": 2,
    }  # fmt: skip
    assert rec.verdict.kind != "broken"


def test_states_of_any_name_are_found_where_the_cell_carries_them() -> None:
    """As `states` names none of them; a tap that is not carried over is no state."""
    w = mg.tensor(0.5 * np.eye(3), requires_grad=True)

    def cell(state: Any, x: Any) -> Any:
        m = mg.tap("m", mg.tanh(state["m"] @ w + x))
        mg.tap("gate", mg.sigmoid(m))
        return {"m": m}, m

    def run() -> mg.Tensor:
        init = {"m": mg.tensor(np.zeros((B, 3)))}
        return total(mg.scan(cell, init, mg.tensor(xs()))[1][-1])

    with mg.flow.record() as rec:
        run().backward()
    assert list(rec[""].norms) == ["m"]
    assert rec[""].norms["m"] == pytest.approx(rec.cuts[0].profile[::-1], rel=1e-12)
    with mg.flow.record(states=("h",)) as named:
        run().backward()
    with pytest.raises(FlowError, match="no state 'h'"):
        len(named)


# -- NaN and Inf


def grown(rows: int) -> Recording:
    """A linear net that triples: row 1 starts at 1, the others at 0; float32 overflows."""
    layer = nn.RNN(1, 2, nonlinearity="relu", bias=False)
    layer.weight_hh_l0.data = (3 * np.eye(2)).astype(np.float32)
    layer.weight_ih_l0.data = np.ones((2, 1), np.float32)
    x = np.zeros((100, rows, 1), np.float32)
    x[0, 1] = 1
    with mg.flow.record() as rec:
        total(layer(x)[0][-1]).backward()
    return rec


def test_where_a_state_overflows_is_said_and_it_has_exploded() -> None:
    rec = grown(3)
    first = int(np.ceil(np.log(float(np.finfo(np.float32).max)) / np.log(3.0)))
    found = rec.nonfinite
    assert found is not None
    assert (found.t, found.row, found.tap, found.what) == (first, 1, "h", "Inf")
    said = f"h is Inf from t = {first}, row 1, first seen in tap 'h'"
    assert said in str(rec.verdict)
    assert f"values from t = {first}, row 1" in str(rec)
    assert rec.verdict.kind == "exploding"
    assert not rec["rnn/l0/fwd"].dead["h"].any()


@pytest.mark.parametrize("reverse", [False, True])
@HOW
def test_the_first_step_row_and_tap_of_a_nan_are_found(how: str, reverse: bool) -> None:
    layer = layer_of("LSTMCell", how, bidirectional=reverse)
    x = xs()
    x[4, 1, 2] = np.nan
    with mg.flow.record() as rec:
        total(layer(x)[0]).backward()
    found = rec.nonfinite
    assert found is not None
    assert found[:6] == ("recurrent/l0/fwd", 4, 1, "h", "i", "NaN")
    assert rec.verdict.kind == "broken"
    assert "h is NaN from t = 4, row 1, first seen in tap 'i'" in rec.verdict.reason


@HOW
def test_nan_in_the_padding_is_no_fault(how: str) -> None:
    layer, x = layer_of("GRUCell", how), xs()
    x[2:, 1] = np.nan
    with mg.flow.record() as rec:
        total(layer(x, lengths=[T, 2])[0]).backward()
    assert rec.nonfinite is None
    assert rec.verdict.kind not in ("broken", "none")


@HOW
def test_a_gradient_that_is_nan_is_found_where_it_enters(how: str) -> None:
    """The values are finite: log has an infinite slope at 0, times 0 is NaN."""
    layer = layer_of("GRUCell", how)
    with mg.flow.record() as rec:
        mg.log(layer(xs())[0][3] * 0.0).sum().backward()
    found = rec.nonfinite
    assert found is not None
    assert (found.t, found.row, found.tap, found.what) == (3, 0, "", "NaN")
    assert "the gradient at h of recurrent/l0/fwd is NaN from t = 3 back" in str(rec.verdict)


# -- what a Monitor keeps of it


def test_a_measurement_says_how_far_the_gradient_reaches_by_which_path_and_where_it_is_lost(
    tmp_path: Path,
) -> None:
    """W_hh = 0 and f = 1: c carries everything; below, the gradient is lost in depth."""
    layer = nn.LSTM(I, H, num_layers=2, dtype=np.float64, generator=np.random.default_rng(0))
    nn.init.forget_bias_(layer, 40.0)
    for k in range(2):
        weight = getattr(layer, f"weight_hh_l{k}")
        weight.data = np.zeros(weight.shape)
    layer.weight_ih_l1.data = 1e-7 * layer.weight_ih_l1.numpy()
    with mg.flow.Monitor(layer, tmp_path / "run.jsonl", every=1) as monitor, monitor.step():
        total(layer(xs(steps=9))[0][-1]).backward()
    for history in (monitor.history, mg.flow.read_monitor(tmp_path / "run.jsonl")):
        (seen,) = history.measurements
        (cut,) = seen.cuts.values()
        assert cut.where == "time"
        assert sum(share for name, share in cut.path.items() if name.endswith("c")) == 1
        assert isinstance(cut.reach, float)
        assert seen.verdict is not None
        assert seen.verdict.where == "depth"
        assert seen.verdict.kind == "vanishing"


def test_files_of_a_time_without_cuts_still_load(tmp_path: Path) -> None:
    layer, path = nn.GRU(I, H, generator=np.random.default_rng(0)), tmp_path / "run.jsonl"
    with mg.flow.Monitor(layer, path, every=1) as monitor, monitor.step():
        total(layer(xs().astype(np.float32))[0][-1]).backward()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("cuts", None), line.pop("depth", None)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (seen,) = mg.flow.read_monitor(path).measurements
    assert seen.verdict is None
    assert list(seen.layers) == ["gru/l0/fwd"]
    assert "gru/l0/fwd" in mg.flow.read_monitor(path).report()


def test_a_monitor_says_where_a_state_became_nan_once(tmp_path: Path) -> None:
    layer, x = nn.GRU(I, H, generator=np.random.default_rng(0)), xs().astype(np.float32)
    with mg.flow.Monitor(layer, tmp_path / "run.jsonl", every=1) as monitor:
        for t in (4, 3, 1):
            with monitor.step():
                x[t, 1] = np.nan
                layer.zero_grad()
                total(layer(x)[0]).backward()
    said = "step 1: h is NaN from t = 4, row 1, first seen in tap 'r' of gru/l0/fwd"
    for history in (monitor.history, mg.flow.read_monitor(tmp_path / "run.jsonl")):
        assert [str(b) for b in history.nonfinite if b.what == "state"] == [said]
        assert said in history.report()
