"""What users do to states, gradients and hooks while a recording listens: their numbers are those
that they have without it, and the recording's are those that they saw.

Each program runs twice, plain and recorded. It gives its own numbers, and {path: [(tensor whose
.grad is dL/dh_t)]} to compare norms with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch", reason="torch is not installed; CI has a leg with it")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
EDITED, HOOKED = "something is done to its state", "hooks of yours"
Program = Callable[[Any, Any], tuple[list[Any], list[Any]]]


def loop(cell: Any, xs: Any, then: Callable[[int, Any], Any] = lambda t, h: h) -> list[Any]:
    """The states h_t of a GRUCell, which keep their gradients."""
    h, found = torch.zeros(2, 4).double(), []
    for t, x in enumerate(xs):
        h = cell(x, h)
        h.retain_grad()
        found.append(h)
        h = then(t, h)
    return found


def plain(cell: Any, xs: Any) -> Any:
    hs = loop(cell, xs)
    (hs[-1].sum() + hs[3].square().sum()).backward()
    return [h.grad for h in hs], hs


def asked_for(cell: Any, xs: Any) -> Any:
    hs = loop(cell, xs)
    return torch.autograd.grad(torch.stack(hs).sum(), hs), hs


def clamped(cell: Any, xs: Any) -> Any:
    def then(t: int, h: Any) -> Any:
        h.register_hook(lambda g: g.clamp(-0.3, 0.3))
        return h

    hs = loop(cell, xs, then)
    torch.stack(hs).sum().backward()
    return [h.grad for h in hs], hs


def looked_at(cell: Any, xs: Any) -> Any:
    seen: list[Any] = []

    def then(t: int, h: Any) -> Any:
        h.register_hook(seen.append)
        return h

    hs = loop(cell, xs, then)
    hs[-1].sum().backward()
    return seen, hs


def reset_in_place(cell: Any, xs: Any) -> Any:
    def then(t: int, h: Any) -> Any:
        if t == 4:
            h[0] = 0
        return h

    hs = loop(cell, xs, then)
    hs[-1].sum().backward()
    return [h.grad for h in hs], hs


def last_one_edited(cell: Any, xs: Any) -> Any:
    hs = loop(cell, xs)
    hs[-1].mul_(torch.tensor([[0.0], [2.0]]).double()).sum().backward()
    return [h.grad for h in hs], hs


def cut_in_place(cell: Any, xs: Any) -> Any:
    hs = loop(cell, xs, lambda t, h: h.detach_() if t == 4 else h)
    hs[-1].sum().backward()
    return [h.grad for h in hs[5:]], hs[:0]


def stopped_early(cell: Any, xs: Any) -> Any:
    h, hs = None, []
    for x in xs:
        h = cell(x, h)
        h.retain_grad()
        hs.append(h)
        if len(hs) == 4:
            break
    h.sum().backward()
    return [h.grad for h in hs], hs


def failed_and_went_on(cell: Any, xs: Any) -> Any:
    def then(t: int, h: Any) -> Any:
        if t == 2:
            with pytest.raises(RuntimeError):
                cell(torch.ones(2, 7).double(), h)
        return h

    hs = loop(cell, xs, then)
    hs[-1].sum().backward()
    return [h.grad for h in hs], hs


def twice_back(cell: Any, xs: Any) -> Any:
    hs = loop(cell, xs)
    hs[-1].sum().backward(retain_graph=True)
    hs[5].sum().backward()
    return [h.grad for h in hs], hs


def taking_turns(cell: Any, xs: Any) -> Any:
    one, two = torch.zeros(2, 4).double(), torch.ones(2, 4).double()
    hs: list[list[Any]] = [[], []]
    for x in xs:
        one, two = cell(x, one), cell(-x, two)
        for h, kept in zip((one, two), hs, strict=True):
            h.retain_grad()
            kept.append(h)
    (one * two).sum().backward()
    return [h.grad for kept in hs for h in kept], hs[0]


def forgotten_branch(cell: Any, xs: Any) -> Any:
    hs = loop(cell, xs)
    other = cell(xs[0], hs[3])  # reads h_3, too
    (hs[-1].sum() + 3 * other.sum()).backward()
    return [h.grad for h in hs], hs


PROGRAMS: dict[Program, str] = {
    plain: "", asked_for: "", clamped: HOOKED, looked_at: HOOKED, reset_in_place: EDITED,
    last_one_edited: EDITED, cut_in_place: "", stopped_early: "", failed_and_went_on: "",
    twice_back: "", taking_turns: "", forgotten_branch: "",
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_a_loop_gives_its_user_the_same_numbers_and_the_recording_has_them(
    program: Program,
) -> None:
    torch.manual_seed(0)
    cell, xs = nn.GRUCell(3, 4).double(), torch.randn(9, 2, 3).double()
    want, _ = program(cell, xs)
    weights = [None if p.grad is None else p.grad.clone() for p in cell.parameters()]
    cell.zero_grad()
    with mg.flow.record_torch(cell) as rec:
        found, states = program(cell, xs)
    for a, b in zip([*found, *(p.grad for p in cell.parameters())], [*want, *weights], strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-12, atol=1e-15)
    said = rec.missing
    assert (PROGRAMS[program] in said[0]) if PROGRAMS[program] else not said
    norms = [float(h.grad.norm()) for h in states]
    assert np.allclose(rec["grucell"].norms["h"][: len(norms)], norms, rtol=1e-12)


def test_backward_may_come_after_the_block_and_after_other_loops() -> None:
    torch.manual_seed(0)
    cell, xs = nn.GRUCell(3, 4).double(), torch.randn(9, 2, 3).double()
    with mg.flow.record_torch(cell) as rec:
        loops = [loop(cell, xs * k) for k in range(1, 6)]
    for hs in loops:
        hs[-1].sum().backward()
    assert rec.missing == []
    for k, hs in enumerate(loops, 1):
        found = rec["grucell" if k == 1 else f"grucell#{k}"].norms["h"]
        assert np.allclose(found, [float(h.grad.norm()) for h in hs], rtol=1e-12)


def test_a_recording_holds_no_graph_of_a_loop() -> None:
    import gc
    import weakref

    cell, xs = nn.LSTMCell(3, 4), torch.randn(9, 2, 3)
    with mg.flow.record_torch(cell) as rec:
        state, seen = None, []
        for x in xs:
            state = cell(x, state)
            seen.append(weakref.ref(state[1]))
        state[0].sum().backward()
    del state
    gc.collect()
    assert not any(ref() is not None for ref in seen)
    assert rec["lstmcell"].norms["c"].shape == (9,)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_what_no_later_step_brought_is_told_from_rounding(kind: str, dtype: str) -> None:
    """A loss that reads one step in the middle, by little, and the last one."""
    torch.manual_seed(0)
    cell = getattr(nn, f"{kind}Cell")(7, 33).to(getattr(torch, dtype))
    xs = torch.randn(40, 3, 7, dtype=getattr(torch, dtype))
    with mg.flow.record_torch(cell) as rec:
        state = middle = None
        for t, x in enumerate(xs):
            state = cell(x, state)
            middle = state if t == 20 else middle
        read = (lambda s: s[0]) if kind == "LSTM" else (lambda s: s)
        (read(state).sum() + 1e-3 * read(middle).sum()).backward()
    assert rec.missing == []
    y = rec[f"{kind.lower()}cell"].replay.y_gradients[0]
    assert np.flatnonzero(np.abs(y).reshape(40, -1).max(1)).tolist() == [20, 39]
    assert np.allclose(y[20], 1e-3, rtol=1e-2)


# -- layers


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_windows_that_are_not_detached_have_the_gradients_of_one_long_run(kind: str) -> None:
    """A layer's norms were those of all later windows added up."""
    torch.manual_seed(0)
    layer, xs = getattr(nn, kind)(3, 4).double(), torch.randn(3, 6, 2, 3).double()

    def run(windows: Any) -> Any:
        state = None
        for window in windows:
            if kind == "LSTM":
                _, state = layer(window, state)
            else:
                for x in window:
                    state = layer(x, state)
                state = tuple(s * 1 for s in state)  # another call
        state[0].sum().backward()

    with mg.flow.record_torch(layer) as rec:
        run(xs)
    with mg.flow.record_torch(layer) as want:
        run([xs.reshape(18, 2, 3)])
    (long,) = want.values()
    for name in "hc":
        found = np.concatenate([rec[path].norms[name] for path in rec])
        assert np.allclose(found, long.norms[name], rtol=1e-10)
    assert np.allclose(rec.cuts[0].profile, want.cuts[0].profile, rtol=1e-10)


def test_hooks_of_a_user_on_what_a_layer_gave_count() -> None:
    torch.manual_seed(0)
    layer, xs = nn.LSTM(3, 4).double(), torch.randn(6, 2, 3).double()
    with mg.flow.record_torch(layer) as rec:
        out = layer(xs)[0]
        out.register_hook(lambda g: 0.1 * g)
        out[-1].sum().backward()
    assert np.isclose(rec["lstm/l0/fwd"].norms["h"][-1], 0.1 * np.sqrt(8))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("batch", [True, False])
def test_what_a_layer_gave_may_be_edited_in_place(first: bool, batch: bool) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(3, 4, batch_first=first).double()  # what it gives is a view, where first
    xs = torch.randn(6, 6, 3).double() if batch else torch.randn(6, 3).double()
    with mg.flow.record_torch(layer) as rec:
        out, (h, _) = layer(xs)
        out.mul_(0.5)
        (out.sum() + h.mul_(3).sum()).backward()
    with mg.flow.record_torch(layer) as want:
        out, (h, _) = layer(xs)
        (0.5 * out.sum() + 3 * h.sum()).backward()
    assert rec.missing == []
    assert np.allclose(rec["lstm/l0/fwd"].norms["h"], want["lstm/l0/fwd"].norms["h"], rtol=1e-12)


def test_second_derivatives_and_gradients_by_vmap_are_said() -> None:
    torch.manual_seed(0)
    layer, xs = nn.GRU(3, 4).double(), torch.randn(6, 2, 3).double().requires_grad_()
    with mg.flow.record_torch(layer) as rec:
        (g,) = torch.autograd.grad(layer(xs)[0][-1].sum(), xs, create_graph=True)
        g.square().sum().backward()
    assert "create_graph" in rec.missing[0]
    eye = torch.eye(8).reshape(8, 2, 4).double()
    want = torch.autograd.grad(layer(xs)[0][-1], xs, eye, is_grads_batched=True)[0]
    with mg.flow.record_torch(layer) as rec:
        found = torch.autograd.grad(layer(xs)[0][-1], xs, eye, is_grads_batched=True)[0]
    assert torch.allclose(found, want)
    assert "by vmap" in rec.missing[0]


def test_the_gradient_of_a_checkpointed_layer_is_that_of_the_run_that_had_one() -> None:
    torch.manual_seed(0)
    layer, xs = nn.GRU(3, 4).double(), torch.randn(6, 2, 3).double().requires_grad_()
    with mg.flow.record_torch(layer) as want:
        layer(xs)[0][-1].sum().backward()
    for reentrant, path in ((True, "gru#2/l0/fwd"), (False, "gru/l0/fwd")):
        with mg.flow.record_torch(layer) as rec:
            run = lambda x: layer(x)[0]  # noqa: E731
            torch.utils.checkpoint.checkpoint(run, xs, use_reentrant=reentrant)[-1].sum().backward()
        assert rec.missing == []
        assert np.allclose(rec[path].norms["h"], want["gru/l0/fwd"].norms["h"])


def test_a_loop_under_autocast_is_said_to_be_widened_and_its_numbers_are_torchs() -> None:
    torch.manual_seed(0)
    cell, xs, hs = nn.LSTMCell(3, 8), torch.randn(9, 2, 3), []
    with mg.flow.record_torch(cell) as rec, torch.autocast("cpu", torch.bfloat16):
        state = None
        for x in xs:
            state = cell(x, state)
            state[0].retain_grad()
            hs.append(state[0])
        state[0].float().sum().backward()
    (said,) = rec.missing
    assert said.startswith("lstmcell ran in bfloat16 and is run again in float32")
    want = [float(h.grad.float().norm()) for h in hs]
    assert np.allclose(rec["lstmcell"].norms["h"], want, rtol=3e-2)


def test_inference_mode_and_empty_batches_leave_the_rest_readable() -> None:
    layer, cell, xs = nn.GRU(3, 4), nn.GRUCell(3, 4), torch.randn(5, 2, 3)
    with mg.flow.record_torch(nn.ModuleList([layer, cell])) as rec:
        with torch.inference_mode():
            cell(xs[1], cell(xs[0], layer(xs)[1][0]))
        layer(xs[:, :0])
        cell(xs[1], cell(xs[0], layer(xs)[1][0])).sum().backward()
    assert "its input is empty" in rec.missing[0]
    assert [rec[path].forward_only for path in rec] == [True, True, False, False]


def test_parametrised_weights_are_not_computed_once_more() -> None:
    """Spectral norms take a step of the power method whenever they are read in training."""
    torch.manual_seed(0)
    cell = nn.utils.parametrizations.spectral_norm(nn.GRUCell(3, 4).double(), "weight_hh")
    norm = cell.parametrizations.weight_hh[0]
    xs, before = torch.randn(2, 3).double(), (norm._u.clone(), norm._v.clone())
    cell(xs)
    want = norm._u.clone()
    norm._u.copy_(before[0])
    norm._v.copy_(before[1])
    with mg.flow.record_torch(cell) as rec:
        cell(xs).sum().backward()
    assert torch.equal(norm._u, want)
    assert rec.missing == []


def test_weights_that_were_edited_behind_autograd_are_found_out() -> None:
    cell, xs = nn.GRUCell(3, 4).double(), torch.randn(9, 2, 3).double()
    with mg.flow.record_torch(cell) as rec:
        loop(cell, xs, lambda t, h: (cell.bias_ih.data.add_(float(t == 4)), h)[1])[
            -1
        ].sum().backward()
    assert "differs from PyTorch's by" in rec.missing[0]
