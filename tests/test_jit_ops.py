"""mg.jit over every registered op, and over random programs of them: the bits of the plain step."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.kinds import Elementwise
from minigrad.op import REGISTRY

CALLS = [
    (op, s.shapes, s.params, f"{op.name}-{i}")
    for op in REGISTRY.values()
    for i, s in enumerate(op.samples or [])
    if op.kind != "scan"
] + [
    (op, ((3, 4),) * len(op.inputs), {}, op.name)
    for op in REGISTRY.values()
    if isinstance(op, Elementwise)
]

if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"):
    CALLS = CALLS[::8]  # each compiles kernels of its own; all of them run without JIT


def values(op: Any, shapes: Any, draw: np.random.Generator) -> list[Any]:
    """Arguments of an op, inside its domain."""
    low, high = op.domain if isinstance(op, Elementwise) else (-2.0, 2.0)
    names = op.inputs * len(shapes) if op.variadic else op.inputs
    return [
        draw.random(shape) < 0.5 if name in op.bools else draw.uniform(low, high, shape)
        for name, shape in zip(names, shapes, strict=False)
    ]


def results(step: Any, leaves: list[Any], given: list[Any], weights: Any) -> list[Any]:
    """What a call gives, and the gradients that it leaves."""
    for leaf, array in zip(leaves, given, strict=True):
        if isinstance(leaf, mg.Tensor):
            with mg.no_grad():
                leaf[...] = array
    y = step(weights)
    return [y.numpy(), *(t.grad.numpy() for t in leaves if getattr(t, "grad", None) is not None)]


@pytest.mark.parametrize(
    ("op", "shapes", "params"), [c[:3] for c in CALLS], ids=[c[3] for c in CALLS]
)
def test_an_op_and_its_gradient(op: Any, shapes: Any, params: Any) -> None:
    draw = np.random.default_rng(0)
    leaves = [
        mg.tensor(a, requires_grad=op.differentiable and a.dtype.kind == "f")
        for a in values(op, shapes, draw)
    ]

    def step(weights: Any) -> Any:
        for t in leaves:
            t.grad = None
        y = op(leaves, **params) if op.variadic else op(*leaves, **params)
        if y.requires_grad:
            (y * mg.tanh(weights)).sum().backward()
        return y.detach()

    jitted = mg.jit(step)
    shape = step(mg.tensor(1.0)).shape
    for _ in range(4):
        given, weights = values(op, shapes, draw), mg.tensor(draw.normal(size=shape))
        expected = results(step, leaves, given, weights)
        found = results(jitted, leaves, given, weights)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert jitted.replayed == 2


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    shape = [(3, 4), (1, 1), (2, 5), (7, 3)][seed % 4]
    params = [mg.tensor(draw.normal(size=shape), requires_grad=True) for _ in range(3)]
    params.append(mg.tensor(draw.normal(size=(shape[1], shape[1])), requires_grad=True))
    unary = [mg.tanh, mg.sigmoid, mg.relu, mg.exp, mg.square, mg.softplus, mg.abs, mg.sin]
    plan = [(int(draw.integers(8)), draw.integers(0, 99, 3)) for _ in range(12)]

    def step(x: Any, scale: float) -> Any:
        for p in params:
            p.grad = None
        known = [x, *params[:3]]
        for kind, (i, j, k) in plan:
            a, b = known[i % len(known)], known[j % len(known)]
            known.append(
                [
                    lambda a, b, k: unary[k % 8](a * 0.3),
                    lambda a, b, k: a + b * scale,
                    lambda a, b, k: mg.tanh(a @ params[3]),
                    lambda a, b, k: mg.maximum(a, b),
                    lambda a, b, k: a - a.mean(axis=0, keepdims=True),
                    lambda a, b, k: mg.concatenate([a, b], axis=0)[k % shape[0] :][: shape[0]],
                    lambda a, b, k: mg.where(mg.greater(a, b), a * 0.5, b[::-1]),
                    lambda a, b, k: mg.softmax(a, axis=-1) * b[:, :1],
                ][kind](a, b, int(k))
            )
        loss = sum(((v * v).mean() for v in known[-4:]), start=mg.tensor(0.0))
        loss.backward()
        return loss, known[-1].detach()

    jitted = mg.jit(step)
    for _ in range(5):
        x, scale = mg.tensor(draw.normal(size=shape)), float(draw.random())
        for p in params:
            with mg.no_grad():
                p[...] = draw.normal(size=p.shape)
        expected = [*(t.numpy() for t in step(x, scale)), *(_grad(p) for p in params)]
        found = [*(t.numpy() for t in jitted(x, scale)), *(_grad(p) for p in params)]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert jitted.replayed == 3


def _grad(p: Any) -> Any:
    return np.zeros(0) if p.grad is None else p.grad.numpy()


def test_one_hot_of_an_argument_is_made_anew_at_every_call() -> None:
    step = mg.jit(lambda tokens: mg.add(mg.one_hot(tokens, 4), 1.0))
    for tokens in ([0, 3], [1, 1], [2, 0], [3, 2]):
        found = step(np.array(tokens))
        np.testing.assert_array_equal(np.asarray(found), 1 + np.eye(4)[tokens])
    with pytest.raises(mg.ShapeError, match="one_hot: indices reach from 0 to 4, n is 4"):
        step(np.array([0, 4]))
