"""The passes, each by the Program before and after it, and by what both compute."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.compile import passes, trace_step
from minigrad.compile.kernel import evaluate
from minigrad.compile.reverse import reverse

ROWS = 2


def leaf(*shape: int, name: str = "") -> Any:
    values = np.random.default_rng(len(shape) + sum(shape)).normal(size=shape)
    return mg.tensor(values, requires_grad=True, name=name)


H, X, W, U = leaf(ROWS, 4), leaf(ROWS, 4), leaf(4, 6, name="W"), leaf(4, 2, name="U")


def traced(cell: Any, init: Any = H) -> tuple[Any, Any]:
    step = trace_step(cell, init, X)
    return step.trace, step.program


def counts(program: Any) -> Counter[str]:
    return Counter(v.op.name for v in program.body)


def values(program: Any, init: Any = (H,)) -> list[np.ndarray]:
    """What a program computes for one step."""
    known: dict[Any, Any] = dict(zip(program.carry, (t.numpy() for t in init), strict=True))
    known |= {v: X.numpy() for v in program.xs}
    known |= {v: v.tensor.numpy() for v in program.weights}
    evaluate(program.body, known, ROWS)
    return [known[v] for v in (*program.carry_out, *program.ys)]


def same(before: Any, after: Any, init: Any = (H,)) -> None:
    after.check()
    for a, b in zip(values(before, init), values(after, init), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


def test_prune_drops_what_nothing_reads() -> None:
    trace, program = traced(lambda h, x: (h + x, (mg.exp(h @ W), h * 2.0)[1]))
    dead = passes.replace(program, body=trace_body(trace))
    assert counts(dead)["exp"] == 1
    pruned = passes.prune(dead)
    assert counts(pruned) == {"add": 1, "multiply": 1}
    assert not pruned.weights
    same(program, pruned)


def trace_body(trace: Any) -> list[Any]:
    return [v for v in trace.values if v.role == "op"]


def test_products_with_one_operand_become_one() -> None:
    trace, program = traced(lambda h, x: (h, mg.tanh(h @ W)[:, :2] + h @ U))
    merged, new = passes.merge_products(trace, program)
    assert counts(program)["matmul"] == 2
    assert counts(merged)["matmul"] == 1
    assert len([v for v in program.body if v.op.name == "matmul" and v in new]) == 2
    (product,) = [v for v in merged.body if v.op.name == "matmul"]
    assert product.shape == (ROWS, 8)
    same(program, merged)


def test_products_of_one_weight_and_of_different_operands_stay() -> None:
    for cell in (lambda h, x: (h, h @ W + h @ W), lambda h, x: (h, h @ W + (h * 2.0) @ W)):
        trace, program = traced(cell)
        merged, new = passes.merge_products(trace, program)
        assert merged is program
        assert not new


def test_share_does_equal_computations_once() -> None:
    trace, program = traced(lambda h, x: (mg.tanh(h * x), mg.tanh(h * x) + mg.sigmoid(h * x)))
    shared, _ = passes.share(trace, program)
    assert counts(program) == {"multiply": 3, "tanh": 2, "sigmoid": 1, "add": 1}
    assert counts(shared) == {"multiply": 1, "tanh": 1, "sigmoid": 1, "add": 1}
    same(program, shared)


def test_share_tells_parameters_numbers_and_gradients_apart() -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return h, (h[:, :2], h[:, 2:], h * 0.0, h * -0.0, mg.tanh(h.detach()), mg.tanh(h))

    trace, program = traced(cell)
    shared, _ = passes.share(trace, program)
    assert len(shared.body) == len(program.body) == 6


def test_slices_move_ahead_of_elementwise_ops() -> None:
    def gates(h: Any, x: Any) -> tuple[Any, Any]:
        z = h @ W + mg.concatenate([x, x[:, :2]], axis=1)
        return h, mg.tanh(z[:, :2]) * mg.sigmoid(z[:, 2:4]) + z[:, 4:]

    trace, program = traced(gates)
    pushed, _ = passes.push_slices(trace, program)
    wide = [v for v in program.body if v.op.name == "add" and v.shape == (ROWS, 6)]
    assert len(wide) == 1
    assert not [v for v in pushed.body if v.op.name == "add" and v.shape == (ROWS, 6)]
    same(program, pushed)


def test_slices_stay_where_the_whole_is_read_too() -> None:
    trace, program = traced(lambda h, x: (mg.tanh(h + x), mg.tanh(h + x)[:, :2]))
    program, _ = passes.share(trace, program)
    pushed, _ = passes.push_slices(trace, program)
    assert pushed is program


def test_slices_of_a_broadcast_leave_the_small_axis_alone() -> None:
    column, row = leaf(4), leaf(1)
    trace, program = traced(lambda h, x: (h, (mg.tanh(h * row + column))[:, 1:3]))
    pushed, _ = passes.push_slices(trace, program)
    assert all(v.shape == (ROWS, 2) for v in pushed.body if v.op.name == "tanh")
    same(program, pushed)


def backward_of(cell: Any) -> tuple[Any, Any, Any]:
    trace, program = traced(cell)
    back, _ = reverse(trace, program, program.weights)
    return program, back, passes.recompute(back, program)


def reads(back: Any, program: Any) -> list[str]:
    """The ops whose results BPTT reads."""
    inside = set(program.body)
    return sorted(v.op.name for v in back.xs if v in inside)


def test_what_is_cheap_is_computed_again_rather_than_kept() -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        t = mg.tanh(h)
        return t * (t + x), h

    program, before, after = backward_of(cell)
    assert reads(before, program) == ["add", "tanh"]
    assert reads(after, program) == []  # all of it from h and x
    assert counts(after)["add"] == counts(before)["add"] + 1


def test_what_is_dear_is_kept() -> None:
    program, _, after = backward_of(lambda h, x: (mg.sigmoid(h) * mg.exp(h), h))
    assert reads(after, program) == ["exp"]


def test_all_passes_in_turn_keep_the_meaning() -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        z = (h @ W + x @ W) * 0.5
        a, b = z[:, :4], z[:, 2:]
        return mg.tanh(a) * mg.softmax(b), (h @ U, mg.tanh(a), a)

    trace, program = traced(cell)
    done, _ = passes.optimise(trace, program)
    same(program, done)
    merged, _ = passes.merge_products(trace, program)
    done, _ = passes.optimise(trace, merged)
    same(program, done)


def test_the_trail_shows_every_pass() -> None:
    trace, program = traced(lambda h, x: (mg.tanh(h * x), mg.tanh(h * x)[:, :2]))
    steps = passes.trail(trace, program)
    assert [name for name, _ in steps] == ["share", "push_slices", "share"]
    for _, after in steps:
        same(program, after)
