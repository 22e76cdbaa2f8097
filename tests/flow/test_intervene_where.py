"""Interventions: in which layer they act, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.flow import FlowError, intervene

T, B, H = 6, 3, 4
Array = np.ndarray


def lstm(mode: str, **options: Any) -> Any:
    generator = np.random.default_rng(1)
    return mg.nn.LSTM(2, H, dtype=np.float64, mode=mode, generator=generator, **options)


@pytest.fixture
def xs(rng: np.random.Generator) -> Array:
    return rng.normal(size=(T, B, 2))


def test_it_acts_in_the_layer_that_is_named_and_says_where(xs: Array) -> None:
    layer = lstm("tape", num_layers=2, bidirectional=True)
    ups = ["lstm/l1/fwd", "lstm/l1/rev"]
    for where, met in (
        ("lstm/l1", ups), ("lstm/l1/rev", ups[1:]), (layer.cells[2], ups[:1]),
        (layer, ["lstm/l0/fwd", "lstm/l0/rev", *ups]),
    ):  # fmt: skip
        with intervene("h", scale=0.0, layer=where) as done:
            layer(xs)
        assert done.met == {path: ["h"] for path in met}
    with mg.flow.record(), intervene("h", scale=0.0, layer="lstm/l0") as done:  # as it is called
        layer(xs)
        layer(xs)
    assert list(done.met) == ["lstm/l0/fwd", "lstm/l0/rev"]


@pytest.mark.parametrize("size", [(), (2, 3)], ids=["a number a row", "a matrix a row"])
def test_a_row_of_any_shape_is_clipped_as_a_whole(size: tuple[int, ...]) -> None:
    g = np.arange(1.0, 1 + B * max(int(np.prod(size)), 1)).reshape(B, *size)
    x = mg.tensor(np.zeros_like(g), requires_grad=True)
    with intervene("x", clip_norm=2.0):
        mg.tap("x", x).backward(g)
    assert x.grad is not None
    lengths = np.linalg.norm(g.reshape(B, -1), axis=1)
    wanted = g * np.minimum(1.0, 2.0 / lengths).reshape(B, *(1,) * len(size))
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-12)


def test_arrays_from_elsewhere_are_run_with_interventions(xs: Array) -> None:
    cell = lstm("tape").cells[0]
    with intervene("f", clamp=(1, 1)) as done:
        rec = mg.flow.replay(cell, xs, cell.init_state(B), np.ones((T, B, H)), name="keras")
    assert done.met == {"keras": ["f"]}
    assert (rec["keras"].values["f"] == 1).all()


def test_a_recording_is_read_as_it_ran_inside_of_a_block_and_outside(xs: Array) -> None:
    layer = lstm("tape")
    with mg.flow.record() as plain:
        (layer(xs)[0] ** 2).sum().backward()
    with intervene("h", scale=0.5) as on, mg.flow.record() as changed:
        (layer(xs)[0] ** 2).sum().backward()
    names = list(on.met)
    read = [rec["lstm/l0/fwd"].gradients["h"].copy() for rec in (plain, changed)]
    jacobians = [rec["lstm/l0/fwd"].jacobians().steps for rec in (plain, changed)]
    for rec in (plain, changed):
        rec["lstm/l0/fwd"].replay.__dict__.pop("detail", None)
        rec["lstm/l0/fwd"].__dict__.pop("gradients", None)
    with on:
        layer(xs)
        for k, rec in enumerate((plain, changed)):
            flow = rec["lstm/l0/fwd"]
            assert np.array_equal(flow.gradients["h"], read[k])
            assert np.array_equal(flow.jacobians().steps, jacobians[k])
            assert rec.causes is not None
        assert list(on.met) == names
    assert not np.allclose(read[0], read[1])


def test_fit_runs_plainly_inside_of_a_block(xs: Array) -> None:
    layer = lstm("tape")
    optimizer = mg.optim.SGD(layer.parameters(), lr=0.1)
    with intervene("h", clip_norm=0.0):  # so that nothing is learned
        before = [p.numpy().copy() for p in layer.parameters()]
        loss = lambda net, x: (net(x)[0] ** 2).sum()  # noqa: E731
        mg.train.fit(layer, loss, [xs], optimizer, epochs=4, jit=True)
    for p, then in zip(layer.parameters(), before, strict=True):
        assert np.array_equal(p.numpy(), then)


# -- what makes no sense

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"scale": 1.0, "name": "q"}, FlowError, "nothing was tapped by that name.*lstm/l0/fwd: i, f"),
    ({}, FlowError, "say one thing that is done"),
    ({"scale": 1.0, "noise": 1.0}, FlowError, "got scale and noise"),
    ({"clamp": 1.0}, ValueError, "a pair"),
    ({"clamp": (1, 0)}, ValueError, "low <= high"),
    ({"clamp": (1, 2), "of": "gradient"}, ValueError, "low <= 0 <= high"),
    ({"scale": 1.0, "of": "grad"}, FlowError, "'value' or 'gradient'"),
    ({"clip_norm": 1.0, "of": "value"}, FlowError, "clip_norm is of gradients"),
    ({"patch": 1.0, "of": "gradient"}, FlowError, "a gradient is not patched"),
    ({"clip_norm": -1.0}, ValueError, ">= 0"),
    ({"clip_norm": 1.0, "units": 1}, mg.ShapeError, "of a whole row"),
    ({"noise": np.nan}, ValueError, "standard deviation"),
    ({"patch": np.zeros(3)}, mg.ShapeError, r"broadcasts to \[6, 3, 4\]"),
    ({"patch": "a"}, mg.DTypeError, "takes numbers"),
    ({"patch": mg.tensor(1.0, requires_grad=True)}, mg.GradientError, "write .detach"),
    ({"scale": 0.0, "steps": 6}, mg.ShapeError, "steps: 6 is not among 0 to 5"),
    ({"scale": 0.0, "rows": -4}, mg.ShapeError, "rows: -4 is not among 0 to 2"),
    ({"scale": 0.0, "units": [1, 1]}, mg.ShapeError, "twice"),
    ({"scale": 0.0, "steps": [True]}, mg.ShapeError, "mask"),
    ({"scale": 0.0, "steps": 1.5}, TypeError, "a number, a slice"),
    ({"scale": 0.0, "steps": "1"}, TypeError, "a number, a slice"),
    ({"scale": 0.0, "rows": True}, TypeError, "a number, a slice"),
    ({"scale": 0.0, "layer": 1}, FlowError, "a Module or a path"),
    ({"scale": 0.0, "layer": "lstm#2"}, FlowError, "one call of a layer"),
    ({"scale": 0.0, "layer": mg.nn.RNN(1, 1)}, FlowError, "in this RNN"),
]


@pytest.mark.parametrize(("given", "error", "message"), REFUSED, ids=[str(r[0]) for r in REFUSED])
def test_what_makes_no_sense_is_refused(
    given: dict[str, Any], error: type[Exception], message: str, xs: Array
) -> None:
    with pytest.raises(error, match=message), intervene(**{"name": "h", **given}):
        lstm("tape")(xs)
    assert mg.tape.state.intervening is None


def test_a_tap_that_the_step_does_not_use_is_refused(xs: Array) -> None:
    def ignores(h: Any, x: Any) -> Any:
        mg.tap("h", h + x)
        return h + x, h

    def shared(h: Any, x: Any) -> Any:
        return h + mg.tap("h", mg.tensor(2.0)) * x, h

    for cell, message in (
        (ignores, "does not use what the tap returns"),
        (shared, "without a row"),
    ):
        for mode in ("fused", "tape"):
            with pytest.raises(FlowError, match=message), intervene("h", scale=2.0):
                mg.scan(cell, mg.tensor(np.zeros((B, 2))), mg.tensor(xs), mode=mode)


def test_what_does_not_go_together_is_refused(xs: Array) -> None:
    layer, on = lstm("fused"), intervene("h", scale=2.0)
    step = mg.jit(lambda x: layer(x)[0].sum().detach())
    with pytest.raises(mg.JitError, match=r"mg\.flow\.intervene wants to look inside"), on:
        step(xs)

    def jitted(x: Any) -> Any:
        with on:
            return layer(x)[0].sum().detach()

    with pytest.raises(mg.JitError, match="entered in a jitted step"):
        mg.jit(jitted)(xs)
    with pytest.raises(FlowError, match="is entered already"), on, on:
        pass
    with pytest.raises(FlowError, match=r"read rec\[path\].jacobians"), on:
        mg.flow.jacobians(layer.cells[0], None, xs)

    def entering(h: Any, x: Any) -> Any:
        with intervene("h", scale=2.0):
            return mg.tap("h", h + x), h

    with pytest.raises(FlowError, match="enter it around the scan"), on:
        mg.scan(entering, mg.tensor(np.zeros((B, 2))), mg.tensor(xs))
    jumps = iter([True, True])

    def now_and_then(h: Any, x: Any) -> Any:
        h = h + x
        return (mg.tap("h", h) if next(jumps, False) else h), h

    with pytest.raises(mg.TraceError, match="is not in this one"), on:
        mg.scan(now_and_then, mg.tensor(np.zeros((B, 2))), mg.tensor(xs), mode="tape")
