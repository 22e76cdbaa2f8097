"""Random steps: jitted, with other numbers and sizes at each call, they give the plain bits."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compile.agree import small_parts
from compile.programs import RandomProgram, programs
from hypothesis import HealthCheck, given, note, settings

import minigrad as mg
from minigrad import nn, optim
from minigrad.tree import leaves

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
# Compiled, each has kernels of its own.
SEEDS = [pytest.param(k, marks=[pytest.mark.long] * (COMPILED and k >= 4)) for k in range(16)]
WIDE = os.environ.get("MINIGRAD_TESTS_WIDE") == "1"
CELLS = 12 if WIDE else 3 if COMPILED else 40

Draw = np.random.Generator


def same_bits(x: Any, y: Any) -> bool:
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def assert_same(make: Callable[[], tuple[Any, list[Any], Any]], calls: list[Any]) -> None:
    """make: -> (a step, its parameters, a clipping that it may do)."""
    found = []
    for jitted in (False, True):
        step, params, optimizer = make()

        def whole(*given: Any, step: Any = step, params: Any = params, o: Any = optimizer) -> Any:
            o.zero_grad()
            loss, *others = step(*given)
            loss.backward()
            optim.clip_grad_norm_(params, 0.5)
            o.step()
            return [loss.detach(), *(v.detach() for v in others)]

        run = mg.jit(whole) if jitted else whole
        seen = [np.array(v.numpy()) for given in calls for v in run(*given)]
        found.append([*seen, *(p.numpy().copy() for p in params)])
    for k, (x, y) in enumerate(zip(*found, strict=True)):
        assert same_bits(x, y), f"result {k}"


# -- ops -------------------------------------------------------------------------------------------

OPS: list[Callable[[Draw, Any, Any], Any]] = [
    lambda draw, v, w: mg.tanh(v),
    lambda draw, v, w: v * w,
    lambda draw, v, w: v + w,
    lambda draw, v, w: mg.sigmoid(v) - v,
    lambda draw, v, w: mg.maximum(v, w),
    lambda draw, v, w: mg.clip(v, -0.3, 0.4),
    lambda draw, v, w: mg.where(mg.greater(v, 0.1), v, mg.tanh(v)),
    lambda draw, v, w: v @ w if v.shape[-1] == w.shape[0] else v @ mg.transpose(w),
    lambda draw, v, w: v.sum(axis=any_axis(draw, v), keepdims=bool(draw.integers(2))),
    lambda draw, v, w: v.mean(),
    lambda draw, v, w: mg.var(v, axis=any_axis(draw, v)),
    lambda draw, v, w: mg.max(v, axis=any_axis(draw, v)),
    lambda draw, v, w: mg.logsumexp(v, axis=-1),
    lambda draw, v, w: mg.softmax(v, axis=any_axis(draw, v)),
    lambda draw, v, w: mg.log_softmax(v, axis=any_axis(draw, v)),
    lambda draw, v, w: mg.transpose(v, tuple(draw.permutation(v.ndim))),
    lambda draw, v, w: v[::-1] if draw.integers(2) else v[..., ::2],
    lambda draw, v, w: mg.concatenate([v, v * 2.0], any_axis(draw, v)),
    lambda draw, v, w: mg.stack([v, w]),
    lambda draw, v, w: mg.reshape(v, (-1,)),
    lambda draw, v, w: mg.take(v, np.array([0, -1, 0]), 0),
    lambda draw, v, w: mg.pad(v, ((1, 0),) * v.ndim),
    lambda draw, v, w: mg.flip(v, any_axis(draw, v)),
    lambda draw, v, w: mg.expand_dims(v, 1),
]


def any_axis(draw: Draw, v: Any) -> int:
    return int(draw.integers(v.ndim))


def computed(seed: int, given: list[Any]) -> list[Any]:
    """What some random ops make of the Tensors and of one another; those that fit."""
    draw, known = np.random.default_rng(seed), list(given)
    for _ in range(draw.integers(4, 12)):
        op = OPS[draw.integers(len(OPS))]
        v, w = (known[draw.integers(len(known))] for _ in range(2))
        try:
            y = op(draw, v, w)
        except (mg.ShapeError, ValueError, IndexError):
            continue
        if 0 < y.size <= 400 and y.ndim <= 4:
            known.append(y)
    return known[len(given) :]


@pytest.mark.parametrize("seed", SEEDS)
def test_ops(seed: int) -> None:
    dtype = (np.float32, np.float64)[seed % 2]

    def make() -> tuple[Any, list[Any], Any]:
        draw = np.random.default_rng(seed)
        shapes = (3, 4), (4, 3), (4,), (2, 3, 4)
        params = [
            mg.tensor(draw.standard_normal(shape).astype(dtype), requires_grad=True)
            for shape in shapes
        ]

        def step(x: Any, z: Any) -> list[Any]:
            made = computed(seed, [*params, x, z])
            loss = sum((mg.tanh(v).sum() for v in made[-3:]), params[2].sum())
            return [loss, *made[-2:]]

        return step, params, (optim.Adam, optim.SGD)[seed // 2 % 2](params, lr=0.05)

    def numbers(k: int) -> list[Any]:
        draw = np.random.default_rng((seed, k))
        return [mg.tensor(draw.standard_normal(s).astype(dtype)) for s in ((3, 4), (1, 4))]

    assert_same(make, [numbers(k) for k in range(4)])


# -- cells -----------------------------------------------------------------------------------------


@settings(
    max_examples=CELLS, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(programs())
def test_cells(program: RandomProgram) -> None:
    note(str(program))

    def make() -> tuple[Any, list[Any], Any]:
        weights, _, _ = program.tensors()
        cell = program.cell(weights)
        params = [t for t in weights.values() if t.requires_grad]
        params = params or [mg.tensor(1.0, requires_grad=True)]

        def step(init: Any, xs: Any) -> list[Any]:
            result = mg.scan(cell, init, xs, **program.options)
            found = [*leaves(result.final), *leaves(result.ys)]
            loss = sum(((t * t).sum() for t in found if t.dtype.kind == "f"), params[0].sum())
            return [loss, *found]

        return step, params, optim.SGD(params, lr=0.01)

    def numbers(k: int) -> list[Any]:
        _, init, xs = program.tensors(k)
        return [tuple(mg.tensor(t.numpy()) for t in given) for given in (init, xs)]

    with small_parts(*program.parts):
        assert_same(make, [numbers(k) for k in range(4)])


# -- layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_layers(seed: int) -> None:
    draw = np.random.default_rng(seed)
    kind = (nn.LSTM, nn.GRU, nn.RNN)[draw.integers(3)]
    inputs, hidden = (int(n) for n in draw.integers(1, 8, 2))
    how: dict[str, Any] = {
        "num_layers": int(draw.integers(1, 3)), "bidirectional": bool(draw.integers(2)),
        "batch_first": bool(draw.integers(2)), "return_sequences": bool(draw.integers(4)),
        "dtype": (np.float32, np.float64)[seed % 2],
    }  # fmt: skip
    if how["bidirectional"]:
        how["merge"] = str(draw.choice(["concat", "sum", "mean", "mul"]))
    checkpoint = (None, None, "auto", 2)[draw.integers(4)]
    name = (None, "lengths", "mask", "resets")[seed // 2 % 4]
    sizes = [tuple(map(int, draw.integers(1, 7, 2))) for _ in range(3)]

    def make() -> tuple[Any, list[Any], Any]:
        net = kind(inputs, hidden, generator=np.random.default_rng(seed), **how)
        net.checkpoint = checkpoint

        def step(x: Any, which: Any) -> list[Any]:
            y, last = net(x, **({} if name is None else {name: which}))
            states = last if isinstance(last, tuple) else (last,)
            loss = (y * y).sum() + sum((0.5 * s).sum() for s in states)
            return [loss, y, *states]

        params = list(net.parameters())
        return step, params, optim.SGD(params, lr=0.1)

    def numbers(k: int, time: int, batch: int) -> list[Any]:
        draw = np.random.default_rng((seed, k))
        x = draw.standard_normal((time, batch, inputs)).astype(how["dtype"])
        which: Any = {
            None: 0.0, "lengths": draw.integers(0, time + 1, batch),
            "mask": draw.random((time, batch)) < 0.6, "resets": draw.random((time, batch)) < 0.3,
        }[name]  # fmt: skip
        if how["batch_first"]:
            x = np.ascontiguousarray(x.swapaxes(0, 1))
            which = which.T.copy() if name in ("mask", "resets") else which
        return [mg.tensor(x), which]

    order = (0, 0, 0, 1, 1, 2, 2, 2, 0)
    assert_same(make, [numbers(k, *sizes[i]) for k, i in enumerate(order)])
