"""Recurrent layers of PyTorch, recorded where they are, against `retain_grad` on unrolled models.

The unrolled models are written here, step by step, from torch's own operations; they know nothing
of minigrad.
"""

from __future__ import annotations

import math
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


@pytest.mark.parametrize(
    "seed", [pytest.param(i, marks=[pytest.mark.long] * (i >= 6)) for i in range(30)]
)
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


# -- cells in loops, and what lies between layers


class Cells(nn.Module):
    """Two cells, one above the other, at every step; keeps its states, with their gradients."""

    def __init__(self, kind: str = "LSTM", dropout: float = 0.3):
        super().__init__()
        cell = getattr(nn, f"{kind}Cell")
        self.cells = nn.ModuleList([cell(3, 5), cell(5, 4)])
        self.dropout = nn.Dropout(dropout)
        self.states: list[list[Any]] = [[], []]

    def forward(self, xs: Any) -> Any:
        now: list[Any] = [None, None]
        self.states = [[], []]
        for h in xs:
            for k, cell in enumerate(self.cells):
                now[k] = cell(self.dropout(h) if k else h, now[k])
                parts = now[k] if isinstance(now[k], tuple) else (now[k],)
                for s in parts:
                    s.retain_grad()
                self.states[k].append(parts)
                h = parts[0]
        return h


def both_ways(model: Any, loss: Any, seed: int = 3) -> mg.flow.Recording:
    """Recorded; then the model has the states and gradients of the same pass, not recorded."""
    with mg.flow.record_torch(model) as rec:
        torch.manual_seed(seed)
        loss().backward()
    model.zero_grad()
    torch.manual_seed(seed)
    loss().backward()
    return rec


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_cells_of_a_loop_are_one_scan_each_and_one_cut(kind: str) -> None:
    torch.manual_seed(0)
    model, xs = Cells(kind).double(), torch.randn(7, 2, 3).double()

    def loss() -> Any:
        h = model(xs)
        found = h.sum() + 2 * model.states[1][3][0].square().sum()
        # c of the lower cell is read in the middle and at the end
        return found + model.states[0][2][-1].square().sum() + model.states[0][-1][-1].sum()

    rec = both_ways(model, loss)
    assert rec.missing == []
    assert list(rec) == ["cells.0", "cells.1"]
    assert [cut.paths for cut in rec.cuts] == [["cells.0", "cells.1"]]
    for k in (0, 1):
        for leaf, name in enumerate("hc"[: 2 if kind == "LSTM" else 1]):
            found, want = rec[f"cells.{k}"].norms[name], norms(model.states[k], leaf)
            assert np.abs(found - want).max() <= 1e-12 * want.max()
        terms = rec[f"cells.{k}"].weight_terms()
        for name, p in model.cells[k].named_parameters():
            assert np.allclose(terms[name].sum(axis=0), p.grad.numpy(), rtol=1e-11, atol=1e-13)


class Stack(nn.Module):
    """A layer, something in between, and a layer above."""

    def __init__(self, between: Any):
        super().__init__()
        self.lower, self.between = nn.LSTM(3, 4, batch_first=True), between
        self.upper = nn.GRU(4, 4, batch_first=True)

    def forward(self, xs: Any) -> Any:
        return self.upper(self.between(self.lower(xs)[0]))[0]


BETWEEN = {
    "nothing": lambda: nn.Identity(),
    "dropout": lambda: nn.Dropout(0.4),
    "linear": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4)),
    "residual": lambda: _Residual(),
}


class _Residual(nn.Module):
    def forward(self, x: Any) -> Any:
        gate = torch.sigmoid(x.flip(-1))
        return torch.cat([x[..., :2], gate[..., 2:]], -1) * 0.5 + x / (1 + x.tanh().square())


def gradients_of_states(model: Any, xs: Any) -> np.ndarray:
    """|dL/dS_t| from the last step back, S_t the states of both layers: each time as the gradient
    of a first state from which the rest of the sequence is run.
    """
    T = xs.shape[1]
    found = [math.sqrt(4 * xs.shape[0])]  # dL/dh_T of the upper layer
    with torch.no_grad():
        hs = cs = upper = torch.zeros(1, 2, 4).double()
        states = []
        for t in range(T):
            out, (hs, cs) = model.lower(xs[:, t : t + 1], (hs, cs))
            _, upper = model.upper(model.between(out), upper)
            states.append((hs, cs, upper))
    for t in reversed(range(T - 1)):
        leaves = [s.clone().requires_grad_() for s in states[t]]
        out, _ = model.lower(xs[:, t + 1 :], tuple(leaves[:2]))
        loss = model.upper(model.between(out), leaves[2])[0][:, -1].sum()
        grads = torch.autograd.grad(loss, leaves)
        found.append(float(torch.cat([g.ravel() for g in grads]).norm()))
    return np.array(found)


@pytest.mark.parametrize("name", BETWEEN)
@pytest.mark.parametrize("reads", ["last", "all"])
def test_layers_in_modules_of_their_own_are_judged_as_one_cut(name: str, reads: str) -> None:
    torch.manual_seed(0)
    model, xs = Stack(BETWEEN[name]()).double(), torch.randn(2, 9, 3).double()
    if name != "dropout":
        model.eval()
    with mg.flow.record_torch(model) as rec:
        out = model(xs)
        (out[:, -1].sum() if reads == "last" else 2 * out.sum() - out[:, -1].sum()).backward()
    assert rec.missing == []
    (cut,) = rec.cuts
    assert cut.paths == ["lower/l0/fwd", "upper/l0/fwd"]
    assert [(d.upper, d.lower) for d in rec.depth] == [("upper/l0", "lower/l0")]
    if name != "dropout":  # whose masks are for the whole sequence
        assert np.allclose(cut.profile, gradients_of_states(model, xs), rtol=1e-9)


def test_what_cannot_be_walked_back_between_layers_is_said_and_judged_apart() -> None:
    model, xs = Stack(nn.Identity()), torch.randn(2, 9, 3)
    model.between.forward = lambda x: x.cumsum(1)
    with mg.flow.record_torch(model) as rec:
        model(xs)[:, -1].sum().backward()
    assert [cut.paths for cut in rec.cuts] == [["lower/l0/fwd"], ["upper/l0/fwd"]]
    assert "between lower and upper lies CumsumBackward0" in rec.missing[0]


def test_an_encoder_and_the_loop_that_goes_on_from_its_state_are_one_cut() -> None:
    torch.manual_seed(0)
    encoder, decoder, xs = nn.GRU(3, 5), nn.GRUCell(2, 5), torch.randn(6, 2, 3)
    with mg.flow.record_torch(encoder, decoder) as rec:
        h = torch.tanh(encoder(xs)[1][0])
        for x in torch.randn(4, 2, 2):
            h = decoder(x, h)
        h.sum().backward()
    assert rec.missing == []
    assert [(cut.paths, cut.profile.size) for cut in rec.cuts] == [(["gru/l0/fwd", "grucell"], 10)]


def test_what_a_loop_gave_and_reads_again_is_said_to_be_no_part_of_its_cut() -> None:
    cell, head = nn.GRUCell(1, 5), nn.Linear(5, 1)
    with mg.flow.record_torch(cell) as rec:
        h, y = torch.zeros(2, 5), torch.zeros(2, 1)
        for _ in range(5):
            h = cell(y, h)
            y = head(h)
        y.sum().backward()
    assert "fed back to it as an input" in rec.missing[0]


def test_a_loop_that_does_something_to_the_state_is_told_step_by_step() -> None:
    torch.manual_seed(0)
    cell, keep = nn.GRUCell(3, 5), torch.rand(8, 2, 1)
    kept = []
    with mg.flow.record_torch(cell) as rec:
        h = torch.zeros(2, 5)
        for t in range(8):
            new = cell(torch.ones(2, 3), h)
            new.retain_grad()
            kept.append((new,))
            h = keep[t] * new + (1 - keep[t]) * h
        h.sum().backward()
    assert np.allclose(rec["grucell"].norms["h"], norms(kept, 0), rtol=1e-6)
    assert rec.cuts[0].verdict.kind == "undecided"
    assert "something is done to its state" in rec.missing[0]


# -- many calls, many passes


@pytest.mark.parametrize("detached", [True, False])
def test_windows_of_truncated_bptt_are_one_cut(detached: bool) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(3, 4, 2).double()
    sgd = torch.optim.SGD(layer.parameters(), lr=0.1)
    with mg.flow.record_torch(layer) as rec:
        state, loss = None, 0
        for xs in torch.randn(3, 6, 2, 3).double():
            out, state = layer(xs, state)
            loss = out[-1].sum()
            if detached:
                loss.backward()
                sgd.step()  # the recording has the weights that were read
                sgd.zero_grad()
                state = tuple(s.detach() for s in state)
        if not detached:
            loss.backward()
    assert rec.missing == []
    assert list(rec)[::2] == ["lstm/l0/fwd", "lstm#2/l0/fwd", "lstm#3/l0/fwd"]
    (cut,) = rec.cuts
    assert cut.profile.size == 18
    assert (cut.verdict.kind == "cut") == detached
    assert (cut.profile[6:] == 0).all() == detached


def test_backward_passes_add_up_and_validation_counts_for_no_verdict() -> None:
    torch.manual_seed(0)
    layer, xs = nn.GRU(3, 4), torch.randn(9, 2, 3)
    with mg.flow.record_torch(layer) as rec:
        loss = layer(xs)[0][-1].sum()
        loss.backward(retain_graph=True)
        once = rec["gru/l0/fwd"].norms["h"].copy()
        loss.backward()
        with torch.no_grad():
            layer(xs)
        layer.eval()(xs)
    assert np.allclose(rec["gru/l0/fwd"].norms["h"], 2 * once, rtol=1e-6)
    assert list(rec) == ["gru/l0/fwd", "gru#2/l0/fwd", "gru#3/l0/fwd"]
    assert [rec[path].forward_only for path in rec] == [False, True, True]
    assert [rec[path].wants for path in rec] == [True, False, True]
    assert rec.missing == []


def test_memory_bounds_what_is_kept_and_says_what_was_let_go_of() -> None:
    layer = nn.GRU(3, 4)
    with mg.flow.record_torch(layer, memory=8_000) as rec:
        for _ in range(9):
            layer(torch.randn(50, 2, 3))[0][-1].sum().backward()
    assert 1 <= len(rec) < 9
    assert f"gru: the first {9 - len(rec)} calls were let go of" in rec.missing[0]


# -- what torch does to modules


def test_hooks_are_gone_after_the_block_also_where_it_raised() -> None:
    layer, xs = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    before = layer(xs)[0]
    try:
        with mg.flow.record_torch(layer) as rec:
            out = layer(xs)[0]
            out[-1].sum().backward()
            raise KeyError
    except KeyError:
        pass
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks
    assert torch.equal(out, before)  # and nothing else was changed
    assert rec.cuts[0].profile.size == 5
    with pytest.raises(RuntimeError, match="input_size"), mg.flow.record_torch(layer):
        layer(torch.randn(5, 2, 7))  # its own error, as without recording
    with mg.flow.record_torch(layer) as again:
        layer(xs)[0].sum().backward()
    assert again.missing == []


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_lower_precision_is_widened_and_said(how: str) -> None:
    layer, xs = nn.LSTM(3, 8), torch.randn(9, 2, 3)
    if how == "weights":
        layer, xs = layer.bfloat16(), xs.bfloat16()

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            layer(xs)[0][-1].float().sum().backward()

    try:
        run()
    except RuntimeError as error:  # where the CPU lacks what oneDNN wants for it
        pytest.skip(f"PyTorch itself does not run this here: {error}")
    with mg.flow.record_torch(layer) as rec:
        run()
    (said,) = rec.missing
    assert said.startswith("lstm ran in bfloat16 and is run again in float32; their last states")
    assert 0 < float(said.split(" differ by ")[1].split()[0]) < 0.05


def test_a_compiled_model_is_heard_and_a_scripted_one_is_said_to_be_missing() -> None:
    layer, xs = nn.Sequential(nn.LSTM(3, 4)), torch.randn(5, 2, 3)
    compiled = torch.compile(layer, backend="eager")
    with mg.flow.record_torch(compiled) as rec:
        compiled(xs)[0].sum().backward()
    assert list(rec) == ["0/l0/fwd"]
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(layer)
    with mg.flow.record_torch(scripted) as rec:
        scripted(xs)[0].sum().backward()
    with pytest.raises(mg.flow.FlowError, match=r"0 was compiled by torch\.jit"):
        _ = rec.cuts
    assert "was compiled by torch.jit" in rec.missing[0]


def test_what_was_called_past_its_hooks_is_said_to_be_missing() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.GRU(3, 4), nn.GRU(4, 4)

        def forward(self, xs: Any) -> Any:
            return self.b.forward(self.a(xs)[0])[0]

    model = Two()
    with mg.flow.record_torch(model) as rec:
        model(torch.randn(5, 2, 3)).sum().backward()
    assert list(rec) == ["a/l0/fwd"]
    assert any(said.startswith("b was not heard") for said in rec.missing)
    with mg.flow.record_torch(model) as rec:
        weights = dict(model.named_parameters())
        call = torch.func.functional_call
        torch.func.grad(lambda w: call(model, w, (torch.randn(5, 2, 3),)).sum())(weights)
    assert any("torch.func" in said for said in rec.missing)


def test_a_layer_that_computes_something_else_is_found_out() -> None:
    class Odd(nn.LSTM):
        def forward(self, xs: Any, state: Any = None) -> Any:
            out, (h, c) = super().forward(xs, state)
            return out, (h + 0.1, c)

    layer = Odd(3, 4)
    with mg.flow.record_torch(layer) as rec:
        layer(torch.randn(5, 2, 3))[0].sum().backward()
    assert "its last state differs from PyTorch's by" in rec.missing[0]


def test_nan_is_recorded_as_it_came() -> None:
    layer, xs = nn.LSTM(3, 4), torch.randn(9, 2, 3)
    xs[4, 0] = torch.nan
    with mg.flow.record_torch(layer) as rec:
        layer(xs)[0][-1].sum().backward()
    assert rec.missing == []
    assert rec.verdict.kind == "broken"
    assert "NaN" in str(rec.nonfinite)


def test_a_recording_holds_no_module_and_no_graph() -> None:
    import gc
    import weakref

    model = Stack(nn.Identity())
    held = weakref.ref(model.lower)
    with mg.flow.record_torch(model) as rec:
        out = model(torch.randn(2, 5, 3))
        graph = weakref.ref(out)
        out.sum().backward()
    del model, out
    gc.collect()
    assert held() is None
    assert graph() is None
    assert rec.cuts[0].profile.size == 5


@pytest.mark.parametrize("wrong", [(), (3,), (mg.nn.LSTM(2, 2),)])
def test_what_is_no_model_of_torch_is_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(mg.flow.FlowError, match=r"expected a torch\.nn\.Module, got"):
        mg.flow.record_torch(*wrong)


def test_reading_too_early_and_recording_twice_say_what_to_do() -> None:
    layer, xs = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    linear = nn.Linear(3, 3)
    with mg.flow.record_torch(linear) as rec:
        linear(xs).sum().backward()
    with pytest.raises(mg.flow.FlowError, match=r"no nn\.RNN, nn\.LSTM, nn\.GRU or cell"):
        print(rec)
    with mg.flow.record_torch(layer) as rec:
        layer(xs)
        with pytest.raises(mg.flow.FlowError, match="already recording"):
            mg.flow.record_torch(layer).__enter__()
    with pytest.raises(mg.flow.FlowError, match="call backward"):
        print(rec)


# -- cells of a user's own


class Own(nn.Module):
    """h_t = a h_{t-1} + tanh(W h_{t-1} + U x_t), called as torch's cells are."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(5, 5).double() * 0.3)
        self.U = nn.Parameter(torch.randn(5, 3).double())

    def forward(self, x: Any, h: Any) -> Any:
        return 0.5 * h + torch.tanh(h @ self.W.T + x @ self.U.T)


class Twin(mg.nn.Module):
    def __init__(self, a: float = 0.5):
        self.W = mg.nn.Parameter(np.zeros((5, 5)), np.float64)
        self.U = mg.nn.Parameter(np.zeros((5, 3)), np.float64)
        self.a = a

    def forward(self, h: Any, x: Any) -> Any:
        h = mg.tap("h", self.a * h + mg.tanh(h @ self.W.T + x @ self.U.T))
        return h, h

    def init_state(self, batch: int) -> Any:
        return mg.tensor(np.zeros((batch, 5)))


def test_a_twin_stands_for_a_cell_of_ones_own_and_is_checked_at_every_step() -> None:
    torch.manual_seed(0)
    cell, xs, kept = Own(), torch.randn(9, 2, 3).double(), []

    def run() -> Any:
        h = torch.zeros(2, 5).double()
        kept.clear()
        for x in xs:
            h = cell(x, h)
            h.retain_grad()
            kept.append((h,))
        return h.sum()

    with mg.flow.record_torch(cell, twins={cell: Twin()}) as rec:
        run().backward()
    run().backward()
    assert np.allclose(rec["own"].norms["h"], norms(kept, 0), rtol=1e-12)
    with mg.flow.record_torch(cell, twins={cell: Twin(0.6)}) as rec:
        run().backward()
    with pytest.raises(mg.flow.FlowError, match=r"own: at step 1 its twin Twin computes"):
        _ = rec.cuts


def tapped_lstm(w: Any, xs: Any, H: int) -> Any:
    h = c = torch.zeros(xs.shape[1], H, dtype=xs.dtype)
    outputs = []
    for x in xs:
        a = x @ w.weight_ih.T + h @ w.weight_hh.T + w.bias_ih + w.bias_hh
        i, f, g, o = a.chunk(4, -1)
        f = mg.flow.tap_torch("f", torch.sigmoid(f))
        c = mg.flow.tap_torch("c", f * c + torch.sigmoid(i) * torch.tanh(g))
        h = mg.flow.tap_torch("h", torch.sigmoid(o) * torch.tanh(c))
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("reads", ["last", "all"])
def test_tapped_states_give_the_cut_that_the_layer_gives(reads: str) -> None:
    torch.manual_seed(0)
    cell, layer = nn.LSTMCell(3, 5).double(), nn.LSTM(3, 5).double()
    layer.load_state_dict({f"{n}_l0": p for n, p in cell.state_dict().items()})
    xs = torch.randn(12, 2, 3).double()
    whole = slice(-1, None) if reads == "last" else slice(None)
    with mg.flow.record_torch(nn.Identity()) as rec:
        tapped_lstm(cell, xs, 5)[whole].sum().backward()
    with mg.flow.record_torch(layer) as want:
        layer(xs)[0][whole].sum().backward()
    assert rec.missing == []
    (found,), (cut,) = rec.cuts, want.cuts
    assert np.allclose(found.profile, cut.profile, rtol=1e-9)
    for name in "hc":
        assert np.allclose(rec["loop"].norms[name], want["lstm/l0/fwd"].norms[name], rtol=1e-12)
    gate = rec["loop"].activations["f"].mean
    assert np.allclose(gate, want["lstm/l0/fwd"].activations["f"].mean, rtol=1e-12)


def test_a_state_that_is_not_tapped_makes_the_cut_untold() -> None:
    torch.manual_seed(0)
    W = torch.randn(4, 4).double().requires_grad_()
    with mg.flow.record_torch(nn.Identity()) as rec:
        h = hidden = torch.ones(2, 4).double()
        outputs = []
        for _ in range(9):
            hidden = torch.tanh(hidden @ W)
            h = mg.flow.tap_torch("h", torch.tanh(h @ W + hidden))
            outputs.append(h)
        torch.stack(outputs).sum().backward()
    assert rec.cuts[0].verdict.kind == "undecided"
    assert "carries more than its tapped states" in rec.cuts[0].verdict.reason


def test_loops_are_told_apart_and_taps_do_nothing_elsewhere() -> None:
    x = torch.ones(2, 4, requires_grad=True)
    assert mg.flow.tap_torch("h", x) is x
    with mg.flow.record_torch(nn.Identity()) as rec:
        for _ in range(2):
            h = x * 1.0
            for _ in range(3):
                h = mg.flow.tap_torch("h", h * 0.5, "decay")
            h.sum().backward()
        with torch.no_grad():
            mg.flow.tap_torch("h", x * 1.0, "decay")
    assert [rec[path].steps.tolist() for path in rec] == [[0, 1, 2], [0, 1, 2]]
    assert [round(f, 6) for f in rec["decay"].norms["h"] / rec["decay"].norms["h"][-1]] == [
        0.25, 0.5, 1.0,
    ]  # fmt: skip
    assert "under no_grad" in rec.missing[0]


def test_a_monitor_watches_a_model_of_torch() -> None:
    torch.manual_seed(0)
    model = Stack(nn.Dropout(0.1))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with mg.flow.Monitor(model, every=2) as monitor:
        for _ in range(4):
            before = {n: p.detach().clone() for n, p in model.named_parameters()}
            with monitor.step():
                loss = model(torch.randn(2, 6, 3))[:, -1].square().mean()
                sgd.zero_grad()
                loss.backward()
                norm = monitor.clip(1e-3)
                sgd.step()
            monitor.log(loss=loss.item())
    last = monitor.history.measurements[-1]
    assert [m.step for m in monitor.history.measurements] == [1, 2, 4]
    for name, p in model.named_parameters():
        moved = (p.detach() - before[name]).norm() / p.detach().norm()
        assert np.isclose(last.parameters[name].update, float(moved), rtol=1e-4)
        gates = {"lower": "ifgo", "upper": "rzn"}[name.split(".")[0]]
        told = last.parameters[name].gates
        assert list(told) == list(gates)
        for gate, part in zip(gates, p.detach().chunk(len(gates)), strict=True):
            assert np.isclose(told[gate].weight, float(part.norm()), rtol=1e-5)
    assert norm > 1e-3
    assert "lower/l0/fwd" in monitor.report()
