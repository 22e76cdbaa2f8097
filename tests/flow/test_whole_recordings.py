"""A recording has everything that ran, each under a path of its own, or says what is missing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError, Recording
from minigrad.flow.detail import Names
from minigrad.flow.explorer.network import networks
from minigrad.tree import leaves

MODES = pytest.mark.parametrize("mode", ["fused", "tape"])
T = 6


def xs(seed: int = 0, steps: int = T, size: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, 2, size))


def gru(mode: str, seed: int = 0, size: int = 3) -> nn.GRU:
    rng = np.random.default_rng(seed)
    return nn.GRU(size, size, dtype=np.float64, generator=rng, mode=mode)


def zeros(size: int = 3) -> mg.Tensor:
    return mg.tensor(np.zeros((2, size)))


def terms_add_up(rec: Recording, parameters: Iterable[mg.Tensor]) -> None:
    """By step and by lag, over all runs, the terms of every weight's gradient are its .grad."""
    for by in ("step", "lag"):
        totals: dict[int, np.ndarray] = {}
        for layer in rec.values():
            assert layer.replay is not None
            names, named = Names(layer.replay.weights), dict(layer.weight_terms(by))
            for w, _ in layer.replay.weights:
                if (terms := named.pop(names.of(w), None)) is not None:
                    totals[id(w)] = totals.get(id(w), 0.0) + terms.sum(axis=0)
            assert not named
        for p in parameters:
            assert p.grad is not None
            np.testing.assert_allclose(totals[id(p)], p.grad.numpy(), rtol=1e-12, atol=1e-12)


def steps_of(rec: Recording) -> dict[str, int]:
    return {path: len(layer.steps) for path, layer in rec.items()}


# -- where layers are held


class Held(nn.Module):
    """Two layers, however they are held."""

    def __init__(self, hold: Callable[[nn.GRU, nn.GRU], Any], mode: str):
        self.rnns = hold(gru(mode), gru(mode, 1))

    def forward(self, x: Any) -> Any:
        for rnn in self.both(self.rnns):
            x = rnn(x)[0]
        return x

    def both(self, held: Any) -> list[nn.GRU]:
        if isinstance(held, dict):
            held = list(held.values())
        if isinstance(held, (list, tuple)):
            return [rnn for part in held for rnn in self.both(part)]
        return [held]


@MODES
@pytest.mark.parametrize(
    ("hold", "names"),
    [
        (lambda a, b: [a, b], ("rnns.0", "rnns.1")),
        (lambda a, b: (a, b), ("rnns.0", "rnns.1")),
        (lambda a, b: {"enc": a, "dec": b}, ("rnns.enc", "rnns.dec")),
        (lambda a, b: [(a,), {"x": [b]}], ("rnns.0.0", "rnns.1.x.0")),
    ],
)
def test_layers_in_containers_have_the_names_of_their_parameters(
    mode: str, hold: Callable[..., Any], names: tuple[str, ...]
) -> None:
    model = Held(hold, mode)
    with mg.flow.record() as rec:
        (model(xs())[-1] ** 2).sum().backward()
    assert list(rec) == [f"{name}/l0/fwd" for name in names]
    parameters = dict(model.named_parameters())
    assert {name.rpartition(".")[0] for name in parameters} == set(names)
    terms_add_up(rec, parameters.values())


def test_a_layer_that_is_appended_to_a_list_has_a_name() -> None:
    model = Held(lambda a, b: [a], "fused")
    model.rnns.append(gru("fused", 2))
    with mg.flow.record() as rec:
        model(xs())[-1].sum().backward()
    assert list(rec) == ["rnns.0/l0/fwd", "rnns.1/l0/fwd"]


@MODES
def test_layers_in_variables_closures_and_plain_objects_are_told_apart(mode: str) -> None:
    class Plain:
        rnn = gru(mode, 1)

    local, plain = gru(mode), Plain()

    def closure(x: Any) -> Any:
        return plain.rnn(local(x)[0])[0]

    with mg.flow.record() as rec:
        (closure(xs())[-1] ** 2).sum().backward()
    assert list(rec) == ["gru/l0/fwd", "gru-2/l0/fwd"]
    terms_add_up(rec, [*local.parameters(), *plain.rnn.parameters()])


@MODES
def test_modules_without_a_name_are_called_by_their_class_where_there_are_several(
    mode: str,
) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(0.5 * np.eye(3))

        def forward(self, x: Any) -> Any:
            def cell(h: mg.Tensor, x: mg.Tensor) -> Any:
                h = mg.tap("h", mg.tanh(h @ self.w + x))
                return h, h

            return mg.scan(cell, zeros(), mg.tensor(x) if isinstance(x, np.ndarray) else x,
                           mode=mode)[1]  # fmt: skip

    a, b = Own(), Own()
    with mg.flow.record() as rec:
        a(xs())[-1].sum().backward()
    assert list(rec) == [""]
    a.zero_grad()
    with mg.flow.record() as rec:
        b(b(a(xs())))[-1].sum().backward()
    assert list(rec) == ["own", "own-2", "own-2#2"]
    terms_add_up(rec, [a.w, b.w])


def test_layers_of_an_imported_model_have_the_names_of_their_nodes(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    net = nn.Sequential(nn.GRU(3, 4), nn.LSTM(4, 4), nn.GRU(4, 4))
    path = tmp_path / "net.onnx"
    mg.interop.export_onnx(path, net)
    model = mg.interop.import_onnx(path)
    with mg.flow.record() as rec:
        outputs = model(xs().astype(np.float32))
        (outputs[next(iter(outputs))] ** 2).sum().backward()
    assert list(rec) == [f"layers.{name}/layer/l0/fwd" for name in model.layers]
    assert len(rec) == 3


# -- several calls of one layer


@MODES
def test_a_layer_called_twice_has_two_paths(mode: str) -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            self.encoder = gru(mode)

        def forward(self, a: Any, b: Any) -> Any:
            return ((self.encoder(a)[1] - self.encoder(b)[1]) ** 2).sum()

    model = Siamese()
    with mg.flow.record() as rec:
        model(xs(), xs(1, 4)).backward()
    assert steps_of(rec) == {"encoder/l0/fwd": 6, "encoder#2/l0/fwd": 4}
    terms_add_up(rec, model.parameters())
    (h_n,) = [rec["encoder/l0/fwd"].gradients["h"][-1]]
    a, b = model.encoder(xs())[1].numpy()[0], model.encoder(xs(1, 4))[1].numpy()[0]
    np.testing.assert_allclose(h_n, 2 * (a - b), rtol=1e-12)


@MODES
@pytest.mark.parametrize("together", [True, False])
def test_every_window_of_truncated_bptt_is_there(mode: str, together: bool) -> None:
    layer, x = gru(mode), xs(steps=13)
    with mg.flow.record() as rec:
        state, total = None, 0.0
        for k in range(0, 13, 4):
            ys, state = layer(x[k : k + 4], state)
            loss = (ys**2).sum()
            state = state.detach()
            if together:
                total = total + loss
            else:
                loss.backward()
        if together:
            total.backward()
    assert list(steps_of(rec).values()) == [4, 4, 4, 1]
    assert list(rec)[:2] == ["gru/l0/fwd", "gru#2/l0/fwd"]
    terms_add_up(rec, layer.parameters())


@MODES
def test_step_by_step_decoding_is_as_many_runs_of_one_step(mode: str) -> None:
    layer = gru(mode)
    with mg.flow.record() as rec:
        x, state = mg.tensor(np.ones((1, 2, 3))), None
        for _ in range(5):
            x, state = layer(x, state)
        (x**2).sum().backward()
    assert list(steps_of(rec).values()) == [1] * 5
    assert list(rec)[-1] == "gru#5/l0/fwd"
    terms_add_up(rec, layer.parameters())


@MODES
def test_weights_that_change_between_runs_are_those_of_each_run(mode: str) -> None:
    layer = gru(mode)
    optimizer = mg.optim.SGD(layer.parameters(), 0.5)
    found = []
    with mg.flow.record() as rec:
        for k in range(3):
            layer.zero_grad()
            (layer(xs(k))[0] ** 2).sum().backward()
            found.append(layer.weight_hh_l0.grad.numpy().copy())
            optimizer.step()
    for run, gradient in zip(rec.values(), found, strict=True):
        terms = run.weight_terms()["weight_hh_l0"]
        np.testing.assert_allclose(terms.sum(axis=0), gradient, rtol=1e-12, atol=1e-12)


def test_runs_share_the_copy_of_weights_that_have_not_changed() -> None:
    layer = gru("fused")
    with mg.flow.record() as rec:
        for _ in range(3):
            layer(xs())[0].sum().backward()
        layer.weight_hh_l0.data[0, 0] += 1.0
        layer(xs())[0].sum().backward()
    copies = [dict(zip("abcd", r.replay.weights, strict=True)) for r in rec.values()]  # type: ignore[union-attr]
    arrays = [{w.name: array for w, array in c.values()} for c in copies]
    assert arrays[0]["weight_hh_l0"] is arrays[2]["weight_hh_l0"]
    assert arrays[3]["weight_hh_l0"] is not arrays[0]["weight_hh_l0"]
    assert arrays[3]["weight_ih_l0"] is arrays[0]["weight_ih_l0"]


@MODES
def test_a_validation_pass_is_forward_only_and_changes_no_verdict(mode: str) -> None:
    layer = gru(mode)
    with mg.flow.record() as alone:
        layer(xs())[1].sum().backward()
    layer.zero_grad()
    with mg.flow.record() as rec:
        layer(xs())[1].sum().backward()
        with mg.no_grad():
            layer(xs(1))
        layer(xs(2))
    first, second, third = rec.values()
    assert [first.forward_only, second.forward_only, third.forward_only] == [False, True, True]
    assert rec.verdict == alone.verdict
    assert second.verdict.reason == "forward only, it ran under no_grad"
    assert third.verdict.reason == "forward only, no gradient arrived"
    assert second.values["h"].shape == (T, 2, 3)
    assert str(rec).count("forward only") == 4
    assert rec.to_dict()["gru#2/l0/fwd"]["forward_only"]
    terms_add_up(rec, layer.parameters())


def test_a_layer_that_no_loss_reads_counts_for_the_verdict() -> None:
    a, b = gru("fused"), gru("fused", 1)
    with mg.flow.record() as rec:
        y = a(xs(size=3))[0].detach()
        b(y)[0].sum().backward()
    assert [layer.forward_only for layer in rec.values()] == [True, False]
    assert rec.verdict.kind == "none"


@MODES
def test_several_backward_passes_add_up(mode: str) -> None:
    """Norms and terms are those of the sum of the losses, whichever outputs they read."""
    layer, w = gru(mode), xs(5)
    with mg.flow.record() as expected:
        ys, h_n = layer(xs())
        ((ys * w).sum() + (ys[2] ** 2).sum() + h_n.sum()).backward()
    layer.zero_grad()
    with mg.flow.record() as rec:
        ys, h_n = layer(xs())
        (ys * w).sum().backward(retain_graph=True)
        h_n.sum().backward(retain_graph=True)
        (ys[2] ** 2).sum().backward()
    (run,), (one,) = rec.values(), expected.values()
    np.testing.assert_allclose(run.norms["h"], one.norms["h"], rtol=1e-12)
    np.testing.assert_allclose(run.per_sample["h"], one.per_sample["h"], rtol=1e-12)
    terms_add_up(rec, layer.parameters())


def test_without_replay_a_second_backward_pass_is_said_to_be_missing() -> None:
    layer = gru("fused")
    with mg.flow.record(replay=False) as rec:
        ys, h_n = layer(xs())
        ys.sum().backward(retain_graph=True)
        h_n.sum().backward()
    assert len(rec.missing) == 1
    assert "the last of 2 backward passes" in rec.missing[0]


@MODES
def test_a_gradient_that_can_be_differentiated_is_recorded_too(mode: str) -> None:
    layer = gru(mode)
    norms = []
    for create_graph in (False, True):
        with mg.flow.record() as rec:
            loss = (layer(xs())[0] ** 2).sum()
            mg.grad(loss, list(layer.parameters()), create_graph=create_graph)
        norms.append(rec["gru/l0/fwd"].norms["h"])
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-12)


# -- scans


@MODES
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [13, 5]])
@pytest.mark.parametrize("truncate", [1, 4, 13, 20])
def test_a_truncated_scan_is_one_run_of_all_its_steps(
    mode: str, reverse: bool, lengths: list[int] | None, truncate: int
) -> None:
    cell = nn.GRUCell(3, 3, dtype=np.float64, generator=np.random.default_rng(0))
    with mg.flow.record() as rec:
        final, ys = mg.scan(
            cell, zeros(), mg.tensor(xs(steps=13)), lengths, reverse, mode, truncate=truncate
        )
        ((ys**2).sum() + (final * 1.5).sum()).backward()
    (run,) = rec.values()
    order = list(range(13))[:: -1 if reverse else 1]
    assert run.steps.tolist() == order
    whole = run.gradients["h"].reshape(13, -1)  # found by running single steps
    np.testing.assert_allclose(run.norms["h"], np.linalg.norm(whole, axis=1), rtol=1e-12)
    terms_add_up(rec, cell.parameters())


@MODES
def test_no_gradient_passes_from_a_window_to_the_one_before(mode: str) -> None:
    """h_t = 0.5 h_{t-1} + x_t and a loss at the end: 0.5^lag within the last window, then 0."""
    w = mg.tensor(0.5, requires_grad=True)

    def cell(h: mg.Tensor, x: mg.Tensor) -> Any:
        h = mg.tap("h", w * h + x)
        return h, h

    for seed in range(3):
        x = mg.tensor(xs(seed, 7, 1))
        with mg.flow.record() as rec:
            final, _ = mg.scan(cell, zeros(1), x, truncate=3, mode=mode)
            final.sum().backward()
        expected = np.array([0, 0, 0, 0, 0, 0, 1.0])
        np.testing.assert_allclose(rec[""].norms["h"], expected * np.sqrt(2), rtol=1e-12)
        h = np.zeros((2, 1))
        for t in range(6):
            h = 0.5 * h + x.numpy()[t]
        terms = rec[""].weight_terms("lag")["weight0"]
        np.testing.assert_allclose(terms, [h.sum(), 0, 0, 0, 0, 0, 0], rtol=1e-12)


@MODES
def test_two_scans_in_one_scope_have_two_paths(mode: str) -> None:
    w = mg.tensor(0.5 * np.eye(3), requires_grad=True)
    w.name = "w"

    def cell(h: mg.Tensor, x: mg.Tensor) -> Any:
        h = mg.tap("h", mg.tanh(h @ w + x))
        return h, h

    with mg.flow.record() as rec:
        h, ys = mg.scan(cell, zeros(), mg.tensor(xs()), mode=mode)
        h, _ = mg.scan(cell, h, ys, mode=mode)
        with mg.scope("decoder"):
            h, _ = mg.scan(cell, h, mg.tensor(xs(1, 1)), mode=mode)
        h.sum().backward()
    assert steps_of(rec) == {"": 6, "#2": 6, "decoder": 1}
    assert rec.inputs is not None
    np.testing.assert_allclose(rec.inputs, rec[""].inputs)  # those of the first alone
    terms_add_up(rec, [w])


@MODES
def test_cells_in_one_step_are_told_apart_by_their_scopes(mode: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.low, self.high = (nn.GRUCell(3, 3, dtype=np.float64, generator=rng) for _ in "ab")

        def step(self, state: Any, x: Any) -> Any:
            a, y = self.low(state[0], x)
            b, y = self.high(state[1], y)
            return (a, b), y

    model = Two()
    with mg.flow.record() as rec:
        (a, b), _ = mg.scan(model.step, (zeros(), zeros()), mg.tensor(xs()), mode=mode)
        (a.sum() + (b * 2.0).sum()).backward()
    (run,) = rec.values()
    assert list(run.norms) == ["low/h", "high/h"]
    assert run.norms["high/h"][-1] == pytest.approx(2 * np.sqrt(6), rel=1e-12)
    assert set(run.gradients) >= {"low/h", "high/h", "low/z", "high/z"}
    terms_add_up(rec, model.parameters())


@MODES
def test_one_cell_twice_in_a_step_taps_twice(mode: str) -> None:
    cell = nn.RNNCell(3, 3, dtype=np.float64, generator=np.random.default_rng(0))

    def step(h: Any, x: Any) -> Any:
        h, _ = cell(h, x)
        return cell(h, x)

    with mg.flow.record() as rec:
        result = mg.scan(step, zeros(), mg.tensor(xs()), mode=mode, record=True)
        result.final.sum().backward()
    (run,) = rec.values()
    assert list(run.norms) == ["h", "h#2"]
    assert run.norms["h#2"][-1] == pytest.approx(np.sqrt(6), rel=1e-12)
    assert result.record is not None
    np.testing.assert_allclose(result.record.norms["h"], run.norms["h"], rtol=1e-12)
    np.testing.assert_array_equal(result.record.values["h#2"], result.ys.numpy())
    terms_add_up(rec, cell.parameters())


@MODES
def test_a_scan_that_taps_nothing_is_said_to_be_missing(mode: str) -> None:
    w = mg.tensor(0.5 * np.eye(3), requires_grad=True)

    def silent(h: mg.Tensor, x: mg.Tensor) -> Any:
        h = mg.tanh(h @ w + x)
        return h, h

    layer = gru(mode)
    with mg.flow.record() as rec:
        (
            layer(xs())[1][0] + mg.scan(silent, zeros(), mg.tensor(xs()), mode=mode)[0]
        ).sum().backward()
    assert list(rec) == ["gru/l0/fwd"]
    (said,) = rec.missing
    assert said.startswith("a scan in the network tapped nothing")
    assert said in str(rec)
    assert said in repr(rec)
    assert rec.to_dict()["missing"] == [said]
    assert said in json.dumps(networks(rec)[0].notes)
    assert "missing" in mg.flow.draw(rec).dot


def test_a_layer_without_a_wanted_state_is_said_to_be_missing() -> None:
    a, b = gru("fused"), nn.LSTM(3, 3, dtype=np.float64)
    with mg.flow.record(states=("c",)) as rec:
        b(a(xs())[0])[0].sum().backward()
    assert list(rec) == ["lstm/l0/fwd"]
    assert "gru/l0/fwd taps r, z, n, h, but no state c" in rec.missing[0]


# -- loops written by hand


def by_hand(cell: Any, state: Any, x: np.ndarray) -> Any:
    for x_t in x:
        state, _ = cell(state, mg.tensor(x_t))
    return state


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_a_cell_called_in_a_loop_is_one_run_for_each_sequence(kind: type) -> None:
    a, b = (kind(3, 3, dtype=np.float64) for _ in "ab")
    name = kind.__name__.lower()
    with mg.flow.record() as rec:
        ends = [by_hand(a, a.init_state(2), xs()), by_hand(b, b.init_state(2), xs(1, 4)),
                by_hand(a, a.init_state(2), xs(2, 1))]  # fmt: skip
        total: Any = 0.0
        for end in ends:
            total = total + (leaves(end)[0] ** 2).sum()
        total.backward()
    assert steps_of(rec) == {name: 6, f"{name}-2": 4, f"{name}#2": 1}
    assert len({len(layer.activations) for layer in rec.values()}) == 1


def test_cells_that_take_turns_in_a_loop_are_two_runs() -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            self.cells = [nn.GRUCell(3, 3, dtype=np.float64) for _ in range(2)]

        def forward(self, x: np.ndarray) -> Any:
            states = [zeros(), zeros()]
            for x_t in x:
                y = mg.tensor(x_t)
                for k, cell in enumerate(self.cells):
                    states[k], y = cell(states[k], y)
            return y

    model = Stack()
    with mg.flow.record() as rec:
        (model(xs()) * model(xs(1, 4))).sum().backward()
    assert steps_of(rec) == {"cells.0": 6, "cells.1": 6, "cells.0#2": 4, "cells.1#2": 4}


def test_one_cell_on_two_sequences_side_by_side_is_two_runs() -> None:
    cell = nn.GRUCell(3, 3, dtype=np.float64)
    with mg.flow.record() as rec:
        a, b = zeros(), zeros()
        for x_t in xs():
            a, _ = cell(a, mg.tensor(x_t))
            b, _ = cell(b, mg.tensor(-x_t))
        ((a - b) ** 2).sum().backward()
    assert steps_of(rec) == {"": 6, "#2": 6}
    end = np.linalg.norm(2 * (a - b).numpy())
    np.testing.assert_allclose([run.norms["h"][-1] for run in rec.values()], end, rtol=1e-12)


@pytest.mark.parametrize("scoped", [True, False])
def test_a_loop_that_detaches_its_state_begins_a_run_where_it_begins_again(scoped: bool) -> None:
    w, h = mg.tensor(0.5, requires_grad=True), mg.tensor(np.ones((1, 1)))
    with mg.flow.record() as rec:
        for _ in range(3):
            h = h.detach()
            for t in range(4):
                if scoped:
                    with mg.scope(f"t={t}"):
                        h = mg.tap("h", w * h)
                else:
                    h = mg.tap("h", w * h)
            h.sum().backward()
        with mg.no_grad():
            h = mg.tap("h", w * h) if not scoped else h
    runs = list(rec.values())
    assert [run.path for run in runs[:3]] == ["", "#2", "#3"]
    for run in runs[:3]:
        assert run.norms["h"].tolist() == [0.125, 0.25, 0.5, 1.0]
    assert [run.forward_only for run in runs[3:]] == [True] * (not scoped)


# -- what shows a recording


def test_tables_drawings_and_pages_have_every_run(tmp_path: Path) -> None:
    model = Held(lambda a, b: [a, b], "fused")
    with mg.flow.record() as rec:
        ((model(xs())[-1] - model(xs(1, 4))[-1]) ** 2).sum().backward()
        with mg.no_grad():
            model(xs(2, 3))
    paths = [f"rnns.{k}{call}/l0/fwd" for call in ("", "#2", "#3") for k in range(2)]
    assert list(rec) == paths
    drawing = mg.flow.draw(rec).dot
    rolled = mg.flow.draw(rec, view="rolled").dot
    page = mg.flow.report(rec).to_html(tmp_path / "page.html").read_text("utf-8")
    for path in paths:
        assert path in str(rec)
        assert path in drawing
        assert path in rolled
        assert f'"{path}"' in page
        assert path in rec.to_dict()
    assert "3 calls; this is rnns.0/l0/fwd" in mg.flow.drawing.draw_rolled(model, rec).dot


def test_a_drawing_has_a_node_only_for_steps_that_ran() -> None:
    layer, other = gru("fused"), gru("fused", 1)
    with mg.flow.record() as rec:
        (layer(xs(steps=3))[1] + layer(xs(steps=1))[1] + other(xs())[1]).sum().backward()
    drawing = mg.flow.draw(rec, steps=range(T)).dot
    nodes = {line.split()[0] for line in drawing.splitlines() if "tooltip" in line}
    for key, steps in (
        ("p0_gru_l0_fwd_h", 3),
        ("p0_gru__2_l0_fwd_h", 1),
        ("p0_gru_n2_l0_fwd_h", T),
    ):
        assert {f"{key}_t{t}" for t in range(T)} & nodes == {f"{key}_t{t}" for t in range(steps)}


def test_a_second_call_and_a_second_layer_are_two_rows_of_a_drawing() -> None:
    a, b = gru("fused"), gru("fused", 1)
    with mg.flow.record() as rec:
        (a(xs())[1] + a(xs(1))[1] + b(xs())[1]).sum().backward()
    assert list(rec) == ["gru/l0/fwd", "gru#2/l0/fwd", "gru-2/l0/fwd"]
    names = [line.split()[0] for line in mg.flow.draw(rec).dot.splitlines() if "_name" in line]
    assert len(set(names)) == 3


def test_a_monitor_has_every_run(tmp_path: Path) -> None:
    model = Held(lambda a, b: {"a": a, "b": [b]}, "fused")
    optimizer = mg.optim.SGD(model.parameters(), 0.1)
    with mg.flow.Monitor(model, tmp_path / "run.jsonl", every=1) as monitor:
        for k in range(3):
            with monitor.step():
                optimizer.zero_grad()
                (model(xs(k)) ** 2).mean().backward()
                optimizer.step()
                with mg.no_grad():
                    model(xs(9))
    paths = ["rnns.a/l0/fwd", "rnns.b.0/l0/fwd", "rnns.a#2/l0/fwd", "rnns.b.0#2/l0/fwd"]
    history = mg.flow.read_monitor(tmp_path / "run.jsonl")
    assert monitor.history.layers == history.layers == paths
    assert history.report().count("forward only") == 2
    last = history.measurements[-1].layers["rnns.a#2/l0/fwd"]
    assert last.verdict.reason == "forward only, it ran under no_grad"


def test_a_monitor_says_what_it_misses() -> None:
    w = nn.Parameter(0.5 * np.eye(3))

    class Net(nn.Module):
        def __init__(self) -> None:
            self.w, self.rnn = w, gru("fused")

        def forward(self, x: Any) -> Any:
            def silent(h: mg.Tensor, x: mg.Tensor) -> Any:
                h = mg.tanh(h @ self.w + x)
                return h, h

            return mg.scan(silent, zeros(), self.rnn(x)[0])[0]

    net = Net()
    with mg.flow.Monitor(net, every=1) as monitor, pytest.warns(
        mg.flow.MonitorWarning, match="tapped nothing"
    ), monitor.step():  # fmt: skip
        net(xs()).sum().backward()


# -- memory, threads


def test_beyond_its_memory_the_oldest_calls_are_let_go_of_and_said() -> None:
    layer, once = gru("fused"), nn.LSTM(3, 3, dtype=np.float64)
    with mg.flow.record(memory=20_000) as rec:
        once(xs())[0].sum().backward()
        for k in range(30):
            layer(xs(k))[0].sum().backward()
    kept = list(rec)
    assert kept[0] == "lstm/l0/fwd"  # it has no later call
    assert kept[-1] == "gru#30/l0/fwd"
    (said,) = rec.missing
    gone = 30 - (len(kept) - 1)
    assert 0 < gone < 30
    assert said.startswith(f"gru/l0/fwd: the first {gone} calls were let go of")
    assert said in str(rec)


def test_a_recording_hears_its_own_thread_only() -> None:
    layer = gru("fused")
    recorded = {}

    def work(seed: int) -> None:
        with mg.flow.record() as rec:
            layer(xs(seed, seed + 1))[0].sum().backward()
        recorded[seed] = steps_of(rec)

    with mg.flow.record() as rec:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        layer(xs())[0].sum().backward()
    assert steps_of(rec) == {"gru/l0/fwd": 6}
    assert recorded == {k: {"gru/l0/fwd": k + 1} for k in range(3)}


# -- units that are not dead


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_a_unit_that_overflows_is_not_dead(mode: str) -> None:
    """h_t = relu(3 h_{t-1} + x_t): Inf, which makes NaN of all; a unit with x < 0 stays zero."""
    layer = nn.RNN(4, 4, nonlinearity="relu", mode=mode)
    for p in layer.parameters():
        p.data[...] = 0
    layer.weight_ih_l0.data[...] = np.eye(4)
    layer.weight_hh_l0.data[...] = np.diag([3.0, 3.0, 0.0, 0.0])
    x = np.ones((90, 2, 4), np.float32)
    x[..., 3] = -1.0
    x[::2, :, 2] = 0.5
    for steps, dead in ((20, [False, False, False, True]), (90, [False] * 4)):
        with mg.flow.record() as rec, np.errstate(all="ignore"):
            y, _ = layer(x[:steps])
            y[-1].sum().backward()
        assert np.isfinite(y.numpy()).all() == (steps == 20)
        assert rec["rnn/l0/fwd"].dead["h"].tolist() == dead
        first = int(np.argmin(np.isfinite(y.numpy()).all(axis=(1, 2))))
        assert (f"(values from t = {first}, row 0)" in str(rec)) == (steps == 90)


def test_recording_in_a_recording_is_still_refused() -> None:
    with mg.flow.record(), pytest.raises(FlowError, match="already recording"), mg.flow.record():
        pass
