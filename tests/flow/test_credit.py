"""Credit by sample and step or lag, against loops over samples with weights of their own each step.

The oracle runs every sample by itself, eagerly, with a copy of the cell for each step, and goes
back from each output by itself: what arrives at a copy is one term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import Credit, FlowError, LayerFlow
from minigrad.flow.plots import PlotError
from minigrad.flow.plots import credit as picture
from minigrad.nn import zoo
from minigrad.tree import leaves, map_leaves

Array = np.ndarray
T, B, I, H = 4, 2, 2, 2
CELLS: dict[str, Callable[[], Any]] = {
    "rnn": lambda: nn.RNNCell(I, H, dtype=np.float64, generator=np.random.default_rng(1)),
    "lstm": lambda: nn.LSTMCell(I, H, dtype=np.float64, generator=np.random.default_rng(1)),
    "gru": lambda: nn.GRUCell(I, H, dtype=np.float64, generator=np.random.default_rng(1)),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "padded": {"lengths": [T, 2]},
    "plain": {},
    "reverse": {"reverse": True},
    "truncated": {"truncate": 3},
    "truncated-padded": {"truncate": 2, "lengths": [T, 1], "reverse": True},
    "episodes": {"resets": np.arange(T * B).reshape(T, B) % 5 == 3},
}


def recorded(kind: str, options: dict[str, Any], mode: str, rng: Any) -> tuple[LayerFlow, Any]:
    """A layer with a loss on all outputs and the last state, and what the oracle needs."""
    cell, xs = CELLS[kind](), rng.normal(size=(T, B, I))
    init = map_leaves(lambda s: mg.tensor(rng.normal(size=s.shape)), cell.init_state(B))
    c, last = rng.normal(size=(T, B, H)), [rng.normal(size=(B, H)) for _ in leaves(init)]
    for name, p in cell.named_parameters():
        p.name = name
    with mg.flow.record() as rec:
        final, ys = mg.scan(cell, init, mg.tensor(xs), mode=mode, **options)
        (ys * c).sum().backward(retain_graph=True)
        sum((s * g).sum() for s, g in zip(leaves(final), last)).backward()
    return rec[""], (CELLS[kind], init, xs, c, last, options)


def table(make: Any, init: Any, xs: Array, c: Array, last: Any, options: dict[str, Any]) -> Any:
    """name -> (used at, read at, sample, *shape), steps in order of computation."""
    lengths, window = options.get("lengths", [T] * B), options.get("truncate", T)
    found: dict[str, Array] = {}
    for b in range(B):
        order = range(lengths[b])
        order = order[::-1] if options.get("reverse") else order
        skipped = T - lengths[b] if options.get("reverse") else 0  # padding that comes first
        first = map_leaves(lambda s, b=b: s[b : b + 1], init)
        state, cells, losses = first, [], []
        for k, t in enumerate(order, start=skipped):
            cells.append(make())
            if k % window == 0:
                state = map_leaves(lambda s: s.detach(), state)
            if "resets" in options and options["resets"][t, b]:
                state = first
            state, y = cells[-1](state, mg.tensor(xs[t, b : b + 1]))
            losses.append((y * c[t, b]).sum())
        if skipped + len(losses) > (T - 1) // window * window:  # cut off between windows, otherwise
            losses[-1] = losses[-1] + sum((s * g[b]).sum() for s, g in zip(leaves(state), last))
        for s, loss in enumerate(losses):
            for k, cell in enumerate(cells[: s + 1]):
                names, learned = zip(*cell.named_parameters(), strict=True)
                gradients = mg.grad(loss, learned, retain_graph=True, allow_unused=True)
                for name, p, g in zip(names, learned, gradients, strict=True):
                    where = found.setdefault(name, np.zeros((T, T, B, *p.shape)))
                    if g is not None:
                        where[k + skipped, s + skipped, b] = g.numpy()
    return found


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "lstm-tape"])
def test_every_term_is_that_of_a_loop_over_samples(
    kind: str, options: dict[str, Any], rng: Any
) -> None:
    kind, _, tape = kind.partition("-")
    flow, known = recorded(kind, options, tape or "fused", rng)
    every = table(*known)
    for by in ("step", "lag"):
        found = flow.credit(by)
        assert (found.by, found.path) == (by, flow.path)
        rows, sums = flow.weight_terms(by, row=-1), flow.weight_terms(by)
        for name, parts in every.items():
            if by == "step":
                terms = parts.sum(axis=1)
                assert found.steps.tolist() == flow.steps.tolist()
            else:
                terms = np.stack([sum(parts[s - k, s] for s in range(k, T)) for k in range(T)])
                assert found.steps.tolist() == list(range(T))
            whole = terms.sum((0, 1))
            np.testing.assert_allclose(rows[name], terms[:, -1], rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(sums[name], terms.sum(1), rtol=1e-12, atol=1e-12)
            flat = terms.reshape(T, B, -1)
            np.testing.assert_allclose(
                found.norms[name], np.linalg.norm(flat, axis=2), rtol=1e-12, atol=1e-13
            )
            shares = flat @ whole.ravel() / (whole**2).sum()
            np.testing.assert_allclose(found.shares[name], shares, rtol=1e-10, atol=1e-12)
            assert found.shares[name].sum() == pytest.approx(1.0, rel=1e-12)
            assert found.totals[name] == pytest.approx(np.linalg.norm(whole), rel=1e-12)
        assert found.norms.keys() == rows.keys() == every.keys()


def test_every_layer_and_direction_has_credit_for_its_own_weights(rng: Any) -> None:
    layer = nn.LSTM(I, H, 2, bidirectional=True, dtype=np.float64, generator=rng)
    xs, lengths = rng.normal(size=(T, B, I)), [2, T]
    with mg.flow.record() as rec:
        (layer(xs, lengths=lengths)[0] ** 2).sum().backward()
    seen = []
    for flow in rec.values():
        terms = flow.weight_terms()
        for b in range(B):
            rows = flow.weight_terms("step", b)
            for name in rows:
                terms[name] = terms[name] - rows[name]
                assert not rows[name][~flow.replay.real[:, b]].any()
        for rest in terms.values():
            np.testing.assert_allclose(rest, 0 * rest, atol=1e-12)
        seen += list(terms)
    assert sorted(seen) == sorted(p.name for p in layer.parameters())


def test_a_planted_step_is_named_as_the_teacher(rng: Any) -> None:
    """One input of one sample is not zero, so W_ih learns there and nowhere else."""
    layer = nn.RNN(I, H, bias=False, mode="tape", dtype=np.float64, generator=rng)
    xs = np.zeros((T, B, I))
    xs[2, 1] = [0.3, -0.2]
    with mg.flow.record() as rec:
        layer(xs)[0][-1].sum().backward()
    found = rec["rnn/l0/fwd"].credit()
    (best, other) = found.top("weight_ih_l0", 2)
    assert (best.step, best.row) == (2, 1)
    assert (best.share, other.share) == (pytest.approx(1.0), 0.0)
    assert best.norm == pytest.approx(found.totals["weight_ih_l0"])
    lag = rec["rnn/l0/fwd"].credit("lag").top("weight_ih_l0", 1)[0]
    assert (lag.step, lag.row) == (T - 1 - 2, 1)
    text = str(found)
    assert "rnn/l0/fwd: what taught the weights" in text
    assert "+100.0 %" in text
    with pytest.raises(KeyError, match="known are 'weight_hh_l0', 'weight_ih_l0'"):
        found.top("w")


def test_a_cell_that_reads_something_of_each_row_has_credit_by_step_alone(rng: Any) -> None:
    memory = mg.tensor(rng.normal(size=(B, 3, I)), requires_grad=True)
    cell = zoo.AttentionLSTMCell(I, H, memory_size=I, dtype=np.float64, generator=rng)
    cell.attend(memory * 1.0)
    for name, p in cell.named_parameters():
        p.name = name
    xs = mg.tensor(rng.normal(size=(T, B, I)))
    with mg.flow.record() as rec:
        (mg.scan(cell, cell.init_state(B), xs, mode="tape").ys ** 2).sum().backward()
    found = rec[""].credit()
    assert set(found.norms) == {name for name, _ in cell.named_parameters()}
    for name, p in cell.named_parameters():
        rows = [rec[""].weight_terms("step", row)[name] for row in range(B)]
        np.testing.assert_allclose(sum(rows).sum(0), p.grad.numpy(), rtol=1e-11, atol=1e-13)
        sizes = np.stack([np.linalg.norm(r.reshape(T, -1), axis=1) for r in rows], axis=1)
        np.testing.assert_allclose(found.norms[name], sizes, rtol=1e-12, atol=1e-15)
    with pytest.raises(FlowError, match="rows of one batch, which this cell cannot"):
        rec[""].credit("lag")


def test_what_cannot_be_compiled_is_taken_apart_step_by_step(rng: Any) -> None:
    w = mg.tensor(rng.normal(size=(H, H)), requires_grad=True, name="w")

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", mg.tanh(h @ w + x) * (1.0 if float(x.numpy()[0, 0]) > -9 else 2.0))
        return h, h

    with mg.flow.record() as rec:
        xs = mg.tensor(rng.normal(size=(T, B, H)))
        mg.scan(cell, mg.tensor(np.zeros((B, H))), xs, mode="tape").ys.sum().backward()
    for by in ("step", "lag"):
        rows = sum(rec[""].weight_terms(by, row)["w"] for row in range(B))
        np.testing.assert_allclose(rows.sum(0), w.grad.numpy(), rtol=1e-12)


def test_a_cell_that_mixes_rows_has_terms_by_step_and_is_refused_by_lag(rng: Any) -> None:
    w = mg.tensor(rng.normal(size=(H, H)), requires_grad=True, name="w")

    def cell(h: Any, x: Any) -> Any:
        h = mg.tanh(h @ w + x)
        h = mg.tap("h", h - 0.5 * h.mean(axis=0, keepdims=True))
        return h, h

    for rows in (1, 3):
        with mg.flow.record() as rec:
            xs = mg.tensor(rng.normal(size=(T, rows, H)))
            h = mg.tensor(rng.normal(size=(rows, H)))
            (mg.scan(cell, h, xs, mode="tape").ys ** 2).sum().backward()
        terms = rec[""].weight_terms()["w"]
        found = sum(rec[""].weight_terms("step", row)["w"] for row in range(rows))
        np.testing.assert_allclose(found, terms, rtol=1e-11, atol=1e-13)
        for read in (rec[""].weight_terms, rec[""].credit):
            with pytest.raises(FlowError, match="the cell mixes the rows of its batch"):
                read("lag")
        w.grad = None


def test_no_gradient_and_a_gradient_of_zero_have_no_shares(rng: Any) -> None:
    layer = nn.RNN(I, H, mode="tape", dtype=np.float64, generator=rng)
    x = rng.normal(size=(T, B, I))
    with mg.flow.record() as rec:
        layer(x)
        (layer(x)[0] * 0.0).sum().backward()
    for flow in rec.values():
        for by in ("step", "lag"):
            found = flow.credit(by)
            assert set(found.norms) == set(flow.weights)
            assert not any(n.any() for n in found.norms.values())
            assert all(np.isnan(s).all() for s in found.shares.values())
            assert "cannot be told" in str(found)
            picture(found, "weight_hh_l0")
        assert not flow.weight_terms("lag", row=1)["weight_hh_l0"].any()


def test_nan_is_told_and_shown(rng: Any) -> None:
    layer = nn.RNN(I, H, mode="tape", generator=rng)
    x = rng.normal(size=(T, B, I)).astype(np.float32)
    x[1, 1] = np.nan
    with mg.flow.record() as rec:
        layer(x)[0].sum().backward()
    found = rec["rnn/l0/fwd"].credit()
    assert np.isnan(found.norms["weight_ih_l0"][:, 1]).any()
    assert np.isfinite(found.norms["weight_ih_l0"][:, :1]).all()
    assert np.isnan(found.shares["weight_ih_l0"]).all()
    picture(found, "weight_ih_l0", "norm")


def test_arguments_that_make_no_sense_are_refused(rng: Any) -> None:
    layer = nn.RNN(I, H, mode="tape", generator=rng)
    with mg.flow.record() as rec:
        layer(np.ones((1, 1, I), np.float32))[0].sum().backward()
    flow = rec["rnn/l0/fwd"]
    with pytest.raises(ValueError, match="credit: by must be 'step' or 'lag', got 'row'"):
        flow.credit("row")
    with pytest.raises(ValueError, match="weight_terms: row 1 of a batch of 1"):
        flow.weight_terms("step", row=1)
    found = flow.credit("lag")
    assert found.shares["weight_ih_l0"] == pytest.approx(1.0)
    for make, told in (
        (lambda: picture(found, "weight_ih_l0", "size"), "what must be 'share' or 'norm'"),
        (lambda: picture(rec, "weight_ih_l0"), r"rec\[path\]\.credit\(\) makes one"),
        (lambda: picture(found, "w"), "no weight 'w'; there are 'bias_hh_l0'"),
    ):
        with pytest.raises(PlotError, match=told):
            make()
    h = mg.tensor(np.ones((1, 2)), requires_grad=True)
    with mg.flow.record() as rec, mg.scope("t=0"):
        mg.tap("h", h * 2.0).sum().backward()
    with pytest.raises(FlowError, match="credit: this recording cannot be run again"):
        rec[""].credit()


def test_the_picture_has_a_cell_for_each_term_in_order_of_time() -> None:
    share = np.array([[0.5, 0.1], [-0.2, 0.0], [0.6, 0.0]])
    found = Credit("net", "step", np.array([2, 1, 0]), {"w": abs(share)}, {"w": share}, {"w": 1.0})
    axes = picture(found, "w").axes[0]
    (mesh,) = axes.collections
    np.testing.assert_array_equal(np.asarray(mesh.get_array()), share[::-1].T)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-0.6, 0.6)
    assert axes.get_xlabel() == "time step t"
    assert axes.get_title(loc="left") == "net w: what taught it"
    lag = Credit("net", "lag", np.arange(3), {"w": abs(share)}, {"w": share}, {"w": 1.0})
    assert picture(lag, "w", "norm").axes[0].get_xlabel() == "lag (steps from use to output)"
