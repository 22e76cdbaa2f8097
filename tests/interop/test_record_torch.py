"""Recurrent layers of PyTorch, recorded where they are, against `retain_grad` on unrolled models.

The unrolled models are written here, step by step, from torch's own operations; they know nothing
of minigrad.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch", reason="torch is not installed; CI has a leg with it")
nn, rnn = torch.nn, torch.nn.utils.rnn
torch.set_num_threads(1)

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def one_step(kind: str, w: dict[str, Any], x: Any, state: Any) -> Any:
    """The equations of torch.nn, for one step of one layer and direction."""
    a = x @ w["weight_ih"].T + w.get("bias_ih", 0)
    b = state[0] @ w["weight_hh"].T + w.get("bias_hh", 0)
    if kind == "LSTM":
        i, f, g, o = (a + b).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return (h @ w["weight_hr"].T if "weight_hr" in w else h), c
    if kind == "GRU":
        (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
        z = (a_z + b_z).sigmoid()
        return (z * state[0] + (1 - z) * (a_n + (a_r + b_r).sigmoid() * b_n).tanh(),)
    return ((a + b).relu() if kind == "RELU" else (a + b).tanh(),)


def unrolled(layer: Any, xs: Any, init: list[Any], real: Any) -> tuple[Any, list[Any], dict]:
    """(output, last states, (layer, direction) -> states of each step) with gradients retained.

    xs: (T, B, I). real: (T, B). Dropout draws as torch does, layer by layer.
    """
    kind = layer.mode.removeprefix("RNN_")
    directions = 2 if layer.bidirectional else 1
    states: dict[tuple[int, int], list[Any]] = {}
    lasts = []
    for k in range(layer.num_layers):
        outputs = []
        for d in range(directions):
            end = f"_l{k}{'_reverse' if d else ''}"
            w = {n.removesuffix(end): p for n, p in layer.named_parameters() if n.endswith(end)}
            state = tuple(s[k * directions + d] for s in init)
            steps, ys = [], [None] * len(xs)
            for t in reversed(range(len(xs))) if d else range(len(xs)):
                new = one_step(kind, w, xs[t], state)
                for s in new:
                    s.retain_grad()
                steps.append(new)
                kept = real[t][:, None]
                state = tuple(torch.where(kept, a, b) for a, b in zip(new, state, strict=True))
                ys[t] = torch.where(kept, new[0], torch.zeros_like(new[0]))
            states[k, d] = steps
            lasts.append(state)
            outputs.append(torch.stack(ys))
        xs = torch.cat(outputs, -1)
        if k + 1 < layer.num_layers and layer.training and layer.dropout:
            if real.all():
                xs = nn.functional.dropout(xs, layer.dropout)
            else:  # torch drops out of packed rows
                sizes = real.sum(1)
                order = real.sum(0).argsort(descending=True, stable=True)
                t = torch.cat([torch.full((int(n),), i) for i, n in enumerate(sizes)])
                b = torch.cat([order[: int(n)] for n in sizes])
                mask = nn.functional.dropout(torch.ones(len(t), xs.shape[-1], dtype=xs.dtype),
                                             layer.dropout)  # fmt: skip
                whole = torch.ones_like(xs)
                whole[t, b] = mask
                xs = xs * whole
    return xs, [torch.stack(parts) for parts in zip(*lasts, strict=True)], states


def norms(states: list[Any], leaf: int) -> np.ndarray:
    """|dL/ds_t| of every step, in order of computation."""
    found = [s[leaf].grad for s in states]
    return np.array([0.0 if g is None else float(g.double().norm()) for g in found])


def random_net(seed: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    """A layer, its input as it takes it, its first state or None, and how the input lies."""
    draw = np.random.default_rng(seed)
    dtype = torch.float64 if draw.random() < 0.5 else torch.float32
    kind = ("RNN", "LSTM", "GRU")[seed % 3]
    I, H, T, B = (int(draw.integers(1, n)) for n in (5, 8, 10, 5))
    how = ("plain", "batch_first", "packed", "unsorted", "single")[int(draw.integers(5))]
    options = dict(num_layers=int(draw.integers(1, 4)), bidirectional=bool(draw.random() < 0.4))
    options |= dict(bias=bool(draw.random() < 0.8), batch_first=how == "batch_first")
    if kind == "RNN" and draw.random() < 0.5:
        options["nonlinearity"] = "relu"
    if kind == "LSTM" and H > 1 and draw.random() < 0.4:
        options["proj_size"] = int(draw.integers(1, H))
    if options["num_layers"] > 1 and draw.random() < 0.6:
        options["dropout"] = float(draw.choice([0.2, 0.5]))
    torch.manual_seed(seed)
    layer = getattr(nn, kind)(I, H, **options).to(dtype)
    real = torch.ones(T, B, dtype=torch.bool)
    if how in ("packed", "unsorted"):
        lengths = torch.tensor(draw.integers(1, T + 1, B))
        lengths[int(draw.integers(B))] = T
        if how == "packed":
            lengths = lengths.sort(descending=True)[0]
        real = torch.arange(T)[:, None] < lengths
    B = 1 if how == "single" else B
    real = real[:, :B]
    xs = torch.randn(T, B, I, dtype=dtype)
    init = None
    if draw.random() < 0.5:
        count = options["num_layers"] * (2 if options["bidirectional"] else 1)
        sizes = [options.get("proj_size", H), H][: 2 if kind == "LSTM" else 1]
        init = [torch.randn(count, B, n, dtype=dtype) for n in sizes]
    return layer, xs, init, dict(how=how, real=real)


def run_as_given(layer: Any, xs: Any, init: Any, how: str, real: Any) -> tuple[Any, list[Any]]:
    """(output as (T, B, n), last states (.., B, n)) of the module itself."""
    x, state = xs, init
    if how == "batch_first":
        x = xs.transpose(0, 1)
    elif how == "single":
        x, state = xs[:, 0], init and [s[:, 0] for s in init]
    elif how in ("packed", "unsorted"):
        x = rnn.pack_padded_sequence(xs, real.sum(0), enforce_sorted=how == "packed")
    if state is not None:
        state = tuple(state) if len(state) > 1 else state[0]
    out, last = layer(x, state)
    last = list(last) if isinstance(last, tuple) else [last]
    if how == "batch_first":
        out = out.transpose(0, 1)
    elif how == "single":
        out, last = out[:, None], [s[:, None] for s in last]
    elif how in ("packed", "unsorted"):
        out = rnn.pad_packed_sequence(out)[0]
    return out, last


def loss_of(out: Any, last: list[Any], real: Any, seed: int) -> Any:
    """Of the last output alone, of every output, or of the last states."""
    draw = torch.Generator().manual_seed(seed)
    read = [[out[-1]], [out * real[..., None]], last, [out, *last]][seed % 4]
    return sum((t * torch.randn(t.shape, generator=draw).to(t.dtype)).sum() for t in read)


@pytest.mark.parametrize("seed", range(30))
def test_norms_are_those_that_retain_grad_keeps_of_an_unrolled_model(seed: int) -> None:
    layer, xs, init, about = random_net(seed)
    with mg.flow.record_torch(layer) as rec:
        torch.manual_seed(seed)
        out, last = run_as_given(layer, xs, init, **about)
        loss_of(out, last, about["real"], seed).backward()
    kind, H = layer.mode.split("_")[0], layer.hidden_size
    sizes = [layer.proj_size or H, H][: 2 if kind == "LSTM" else 1]
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    zeros = [torch.zeros(count, xs.shape[1], n, dtype=xs.dtype) for n in sizes]
    grads = {n: p.grad.clone() for n, p in layer.named_parameters()}
    layer.zero_grad()
    torch.manual_seed(seed)
    out, last, states = unrolled(layer, xs, init or zeros, about["real"])
    loss_of(out, last, about["real"], seed).backward()
    assert not rec.missing
    found = {}
    for (k, d), steps in states.items():
        flow = rec[f"{kind.lower()}/l{k}/{'rev' if d else 'fwd'}"]
        for leaf, name in enumerate(("h", "c")[: len(sizes)]):
            want = norms(steps, leaf)
            apart = np.abs(flow.norms[name] - want).max()
            assert apart <= TOLERANCE[xs.dtype] * max(want.max(), 1e-30), (k, d, name)
        found |= {name: terms.sum(0) for name, terms in flow.weight_terms().items()}
    for name, g in grads.items():  # what each step adds to a weight's gradient sums to its .grad
        apart = np.abs(found[name] - g.numpy()).max()
        assert apart <= 30 * TOLERANCE[xs.dtype] * max(float(g.abs().max()), 1e-3), name
