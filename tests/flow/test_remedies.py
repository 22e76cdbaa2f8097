"""Each remedy: for which nets it is one, and that a fork then computes what its name says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.data import Batch
from minigrad.flow.prescribing import training
from minigrad.flow.prescribing.case import Case, cells_of, exchange, kind_of
from minigrad.flow.prescribing.fork import Run, rebind
from minigrad.flow.prescribing.remedies import TABLE
from minigrad.flow.prescribing.wrappers import Residual, Standardised, Truncated

I, H, T, B = 3, 4, 8, 2


def layer_of(cell: Callable[..., Any], layers: int = 1, **options: Any) -> nn.Recurrent:
    rng = np.random.default_rng(0)
    make = lambda size: cell(size, H, dtype=np.float64, generator=rng, **options)  # noqa: E731
    return nn.Recurrent(make, I, layers, mode="tape")


class Net(nn.Module):
    def __init__(self, layer: nn.Recurrent):
        self.layer = layer

    def forward(self, xs: Any) -> Any:
        return self.layer(xs)[0][-1]


def mse(model: Any, batch: Any) -> Any:
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def run_of(layer: nn.Recurrent, scale: float = 1.0, **options: Any) -> Run:
    rng = np.random.default_rng(1)
    batches = [(scale * rng.normal(size=(T, B, I)), rng.normal(size=(B, H))) for _ in range(3)]
    net = Net(layer)
    return Run(net, mg.optim.Adam(net.parameters()), mse, batches, batches, **options)


def case_of(run: Run) -> Case:
    return Case.of(run.record().values(), run.model, run)


def offered(layer: nn.Recurrent, scale: float = 1.0, **options: Any) -> set[str]:
    case = case_of(run_of(layer, scale, **options))
    return {name for name, remedy in TABLE.items() if not remedy.missing(case)}


ALWAYS = {"loss at more steps", "shorter truncation", "smaller rate", "larger rate", "clip"}


@pytest.mark.parametrize(
    ("cell", "some"),
    [
        (nn.RNNCell, {"gated cell", "orthogonal"}),
        (nn.IRNNCell, {"gated cell"}),  # the identity is orthogonal
        (nn.LSTMCell, {"forget bias", "chrono", "orthogonal", "layer norm"}),
        (nn.PeepholeLSTMCell, {"forget bias", "chrono", "orthogonal"}),
        (nn.GRUCell, {"chrono", "orthogonal"}),
        (nn.MinimalGatedCell, {"chrono", "orthogonal"}),  # its f writes
        (nn.CoupledLSTMCell, {"chrono", "orthogonal"}),  # it has no f
        (nn.MinGRUCell, {"chrono"}),
        (nn.LEMCell, {"chrono", "orthogonal"}),  # its gates r and s write
        (nn.UnitaryCell, set()),
    ],
)
def test_a_cell_is_offered_what_it_can_do(cell: Any, some: set[str]) -> None:
    if cell is nn.UnitaryCell:
        layer = layer_of(cell)
        case = Case([*layer.cells], T)
        found = {name for name, remedy in TABLE.items() if not remedy.missing(case)}
    else:
        found = offered(layer_of(cell))
    assert found - ALWAYS == some


def forget(layer: Any) -> None:
    nn.init.forget_bias_(layer, 1.0)


def chrono(layer: Any) -> None:
    nn.init.chrono_(layer, T, np.random.default_rng(2))


def orthogonal(layer: Any) -> None:
    nn.init.each_gate_(layer, "weight_hh", nn.init.orthogonal_, generator=np.random.default_rng(2))


@pytest.mark.parametrize(
    ("cell", "apply", "name"),
    [
        (nn.LSTMCell, forget, "forget bias"),
        (nn.LSTMCell, chrono, "chrono"),
        (nn.GRUCell, chrono, "chrono"),
        (nn.MinimalGatedCell, chrono, "chrono"),
        (nn.CoupledLSTMCell, chrono, "chrono"),
        (nn.LEMCell, chrono, "chrono"),
        (nn.RNNCell, orthogonal, "orthogonal"),
        (nn.GRUCell, orthogonal, "orthogonal"),
    ],
)
def test_what_was_applied_is_not_offered_again(cell: Any, apply: Any, name: str) -> None:
    layer = layer_of(cell)
    assert name in offered(layer)
    apply(layer)
    assert name not in offered(layer)


def test_clipping_is_offered_once() -> None:
    assert "clip" not in offered(layer_of(nn.RNNCell), max_norm=2.0)


@pytest.mark.parametrize("name", sorted(TABLE))
@pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell, nn.ZoneoutLSTMCell])
def test_a_fork_with_a_remedy_trains_all_its_parameters(cell: Any, name: str) -> None:
    run = run_of(layer_of(cell, layers=2), scale=100.0, updates=2)
    remedy, case = TABLE[name], case_of(run)
    if why := remedy.missing(case):
        assert why[0].islower()
        assert not why.endswith(".")
        return
    assert remedy.code(case)
    before = {n: p.copy() for n, p in run.model.state_dict().items()}
    fork = run.fork(1)
    had = {id(p) for p in fork.model.parameters()}
    remedy.apply(fork, case, np.random.default_rng(0))
    rebind(fork.optimizer, fork.model, had)
    then = {n: p.copy() for n, p in fork.model.state_dict().items()}
    assert fork.train(lambda: None)
    assert np.isfinite(fork.measure())
    assert fork.record().cuts
    now = fork.model.state_dict()
    assert all((now[n] != then[n]).any() for n in now)
    assert [id(p) for p in fork.optimizer.params] == [id(p) for p in fork.model.parameters()]
    for n, p in run.model.state_dict().items():  # the run itself stays as it was
        np.testing.assert_array_equal(p, before[n])


def test_the_optimiser_remembers_what_is_still_there_and_begins_with_what_is_new() -> None:
    run = run_of(layer_of(nn.RNNCell))
    run.model.head = nn.Linear(H, H, dtype=np.float64, generator=np.random.default_rng(0))
    run.optimizer = mg.optim.Adam([*run.model.layer.parameters(), run.model.head.weight], 0.01)
    xs, ys = run.batches[0]
    ((run.model.head(run.model(xs)) - ys) ** 2).mean().backward()
    run.optimizer.step()
    fork = run.fork(0)
    kept = next(
        s for p, s in zip(fork.optimizer.params, fork.optimizer.state)
        if p is fork.model.head.weight
    )  # fmt: skip
    had = {id(p) for p in fork.model.parameters()}
    TABLE["gated cell"].apply(fork, case_of(run), np.random.default_rng(0))
    rebind(fork.optimizer, fork.model, had)
    state = {id(p): s for p, s in zip(fork.optimizer.params, fork.optimizer.state)}
    assert state[id(fork.model.head.weight)] is kept
    assert kept["step"] == 1
    assert id(fork.model.head.bias) not in state  # it was not trained before
    cell = fork.model.layer.cells[0]
    assert kind_of(cell) == "GRUCell"
    assert all(state[id(p)]["step"] == 0 for p in cell.parameters())
    assert fork.optimizer.lr == 0.01


def test_layer_norm_goes_on_with_the_weights_of_the_lstm() -> None:
    run = run_of(layer_of(nn.LSTMCell, proj_size=2))
    old = run.model.layer.cells[0]
    TABLE["layer norm"].apply(run, Case([old], T), np.random.default_rng(0))
    new = run.model.layer.cells[0]
    assert type(new) is nn.LayerNormLSTMCell
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"):
        assert getattr(new, name) is getattr(old, name)


def test_a_residual_layer_adds_what_it_reads(rng: np.random.Generator) -> None:
    layer, xs = layer_of(nn.LSTMCell), rng.normal(size=(5, B, I))
    layer.cells[0].input_size = I
    square = nn.Recurrent(
        lambda size: nn.GRUCell(size, I, dtype=np.float64, generator=rng), I, mode="tape"
    )
    want = square(xs)[0].numpy() + xs
    exchange(square, {id(square.cells[0]): Residual(square.cells[0])})
    np.testing.assert_array_equal(square(xs)[0].numpy(), want)


def test_a_standardised_layer_reads_what_is_divided_by_its_spread(rng: np.random.Generator) -> None:
    layer, xs = layer_of(nn.GRUCell), rng.normal(size=(5, B, I))
    mean, std = rng.normal(size=I), rng.uniform(1, 2, I)
    want = layer((xs - mean) / std)[0].numpy()
    exchange(layer, {id(layer.cells[0]): Standardised(layer.cells[0], mean, std)})
    np.testing.assert_array_equal(layer(xs)[0].numpy(), want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_inputs_that_are_no_numbers_are_not_scaled(bad: float) -> None:
    read = np.full((4, 2, I), bad)
    assert TABLE["input scale"].missing(Case([*layer_of(nn.GRUCell).cells], 4, {0: read}))


@pytest.mark.parametrize(("scale", "there"), [(1.0, False), (100.0, True), (1e-3, True)])
def test_inputs_of_another_size_than_one_are_scaled(scale: float, there: bool) -> None:
    run = run_of(layer_of(nn.LSTMCell), scale)
    case, remedy = case_of(run), TABLE["input scale"]
    assert (not remedy.missing(case)) is there
    if there:
        remedy.apply(run, case, np.random.default_rng(0))
        cell = run.model.layer.cells[0]
        read = (run.held[0][0] - cell.mean.numpy()) / cell.std.numpy()
        np.testing.assert_allclose(read.mean((0, 1)), 0, atol=1e-12)
        np.testing.assert_allclose(read.std((0, 1)), 1, atol=1e-12)


@pytest.mark.parametrize("every", [1, 2, 5, 7])
@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell])
def test_truncation_in_the_cell_is_that_of_scan(
    cell: Any, every: int, rng: np.random.Generator
) -> None:
    layer, xs = layer_of(cell), rng.normal(size=(7, B, I))
    x = mg.tensor(xs, requires_grad=True)
    inner = layer.cells[0]
    _, ys = mg.scan(inner, inner.init_state(B), x, truncate=every)
    (ys**2).sum().backward()
    want = x.grad.numpy().copy(), inner.weight_hh.grad.numpy().copy(), ys.numpy()
    layer.zero_grad()
    exchange(layer, {id(inner): Truncated(inner, every)})
    x.grad = None
    ys = layer(x)[0]
    (ys**2).sum().backward()
    got = x.grad.numpy(), inner.weight_hh.grad.numpy(), ys.numpy()
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_more_losses_are_those_of_shorter_beginnings() -> None:
    run = run_of(layer_of(nn.GRUCell))
    case, (xs, ys) = case_of(run), run.batches[0]
    want = 0.5 * mse(run.model, (xs, ys)).item() + 0.5 * np.mean(
        [mse(run.model, (xs[:t], ys)).item() for t in (2, 4, 6)]
    )
    TABLE["loss at more steps"].apply(run, case, np.random.default_rng(0))
    assert run.loss(run.model, (xs, ys)).item() == pytest.approx(want, rel=1e-12)
    assert run.asked is mse  # what counts is the loss as it was


def test_a_beginning_of_a_batch_has_its_lengths_and_its_targets() -> None:
    batch = Batch(np.arange(12).reshape(6, 2), np.array([6, 3]), np.array([1, 0]))
    assert training.is_shortened(batch, 6)
    cut = training.beginning(batch, 4)
    assert type(cut) is Batch
    assert (cut.x.tolist(), cut.lengths.tolist(), cut.y.tolist()) == (
        batch.x[:4].tolist(), [4, 3], [1, 0],
    )  # fmt: skip
    assert not training.is_shortened((batch.x, batch.x), 6)  # targets at every step
    assert not training.is_shortened(batch.x, 6)


def test_windows_that_follow_each_other_become_one() -> None:
    a, b = np.arange(8).reshape(4, 2), np.arange(8, 14).reshape(3, 2)
    xs, ys = training.joined((a, -a), (b, -b))
    assert xs.tolist() == np.arange(14).reshape(7, 2).tolist()
    assert (ys == -xs).all()
    assert training.joined((a, a), (b[:, :1], b)) is None
    assert training.joined((a, a), (a,)) is None


def test_longer_windows_are_for_runs_that_carry_a_state() -> None:
    run = run_of(layer_of(nn.GRUCell))
    assert "carried" in TABLE["longer truncation"].missing(case_of(run))


def test_cells_are_exchanged_wherever_they_are_held() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            self.own = nn.RNNCell(2, 2)
            self.listed = [nn.RNNCell(2, 2), (nn.RNNCell(2, 2),)]
            self.named = {"a": {"b": nn.RNNCell(2, 2)}}

    model = Holder()
    old = list(cells_of(model))
    assert len(old) == 4
    exchange(model, {id(cell): nn.GRUCell(2, 2) for cell in old})
    assert [kind_of(cell) for cell in cells_of(model)] == ["GRUCell"] * 4


def test_cells_above_the_first_are_known_in_a_report_and_in_a_model() -> None:
    layer = nn.RNN(I, H, num_layers=3, bidirectional=True, dtype=np.float64, mode="tape")
    flows = mg.flow.probe(layer, np.ones((5, 1, I))).values()
    report, model = Case.of(flows), Case.of(flows, layer)
    assert report.upper == model.upper == {2, 3, 4, 5}
    assert sorted(report.lowest) == sorted(model.lowest) == [0, 1]
    assert [kind_of(cell) for cell in report.cells] == ["RNNCell"] * 6
    assert report.cells == list(layer.cells)


def test_a_layer_that_is_called_twice_is_one_cell(rng: np.random.Generator) -> None:
    layer = nn.GRU(I, H, dtype=np.float64, generator=rng, mode="tape")
    with mg.flow.record() as rec:
        a, b = (layer(rng.normal(size=(n, 1, I)))[0][-1] for n in (5, 7))
        (a * b).sum().backward()
    case = Case.of(rec.values())
    assert case.cells == list(layer.cells)
    assert (case.steps, case.upper, case.lowest) == (7, frozenset(), [0])
