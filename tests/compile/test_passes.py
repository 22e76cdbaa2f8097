"""The passes, each by the Program before and after it, and by what both compute."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.compile import passes, pipeline, trace_step
from minigrad.compile.kernel import evaluate
from minigrad.compile.program import ProgramError
from minigrad.compile.reversing import reverse
from minigrad.compile.sequences import whole

ROWS = 2


def leaf(*shape: int, name: str = "") -> Any:
    values = np.random.default_rng(len(shape) + sum(shape)).normal(size=shape)
    return mg.tensor(values, requires_grad=True, name=name)


H, X, W, U = leaf(ROWS, 4), leaf(ROWS, 4), leaf(4, 6, name="W"), leaf(4, 2, name="U")


TENSORS: dict[Any, Any] = {}  # of all that is traced here


def traced(cell: Any, init: Any = H) -> tuple[Any, Any]:
    step = trace_step(cell, init, X)
    TENSORS.update(step.trace.tensors)
    return step.trace, step.program


def counts(program: Any) -> Counter[str]:
    return Counter(v.op.name for v in program.body)


def values(program: Any, init: Any = (H,)) -> list[np.ndarray]:
    """What a program computes for one step."""
    known: dict[Any, Any] = dict(zip(program.carry, (t.numpy() for t in init), strict=True))
    known |= {v: whole(v, TENSORS, ROWS).numpy()[0] for v in program.xs}
    known |= {v: TENSORS[v].numpy() for v in program.weights}
    evaluate(program.body, known, ROWS)
    return [known[v] for v in (*program.carry_out, *program.ys)]


def same(before: Any, after: Any, init: Any = (H,)) -> None:
    after.check()
    for a, b in zip(values(before, init), values(after, init), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


def test_prune_drops_what_nothing_reads() -> None:
    trace, program = traced(lambda h, x: (h + x, (mg.exp(h @ W), h * 2.0)[1]))
    dead = replace(program, body=trace_body(trace))
    assert counts(dead)["exp"] == 1
    pruned = passes.prune(dead)
    assert counts(pruned) == {"add": 1, "multiply": 1}
    assert not pruned.weights
    same(program, pruned)


def trace_body(trace: Any) -> list[Any]:
    return [v for v in trace.values if v.role == "op"]


def test_products_with_one_operand_become_one() -> None:
    trace, program = traced(lambda h, x: (h, mg.tanh(h @ W)[:, :2] + h @ U))
    merged = passes.merge(trace, program)
    assert counts(program)["matmul"] == 2
    assert counts(merged)["matmul"] == 1
    (product,) = [v for v in merged.body if v.op.name == "matmul"]
    assert product.shape == (ROWS, 8)
    same(program, merged)


def test_products_of_one_weight_and_of_different_operands_stay() -> None:
    for cell in (lambda h, x: (h, h @ W + h @ W), lambda h, x: (h, h @ W + (h * 2.0) @ W)):
        trace, program = traced(cell)
        assert passes.merge(trace, program) is program


def test_share_does_equal_computations_once() -> None:
    trace, program = traced(lambda h, x: (mg.tanh(h * x), mg.tanh(h * x) + mg.sigmoid(h * x)))
    shared = passes.share(trace, program)
    assert counts(program) == {"multiply": 3, "tanh": 2, "sigmoid": 1, "add": 1}
    assert counts(shared) == {"multiply": 1, "tanh": 1, "sigmoid": 1, "add": 1}
    same(program, shared)


def test_share_tells_parameters_numbers_and_gradients_apart() -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return h, (h[:, :2], h[:, 2:], h * 0.0, h * -0.0, mg.tanh(h.detach()), mg.tanh(h))

    trace, program = traced(cell)
    shared = passes.share(trace, program)
    assert len(shared.body) == len(program.body) == 6


def test_slices_move_ahead_of_elementwise_ops() -> None:
    def gates(h: Any, x: Any) -> tuple[Any, Any]:
        z = h @ W + mg.concatenate([x, x[:, :2]], axis=1)
        return h, mg.tanh(z[:, :2]) * mg.sigmoid(z[:, 2:4]) + z[:, 4:]

    trace, program = traced(gates)
    pushed = passes.push_slices(trace, program)
    wide = [v for v in program.body if v.op.name == "add" and v.shape == (ROWS, 6)]
    assert len(wide) == 1
    assert not [v for v in pushed.body if v.op.name == "add" and v.shape == (ROWS, 6)]
    same(program, pushed)


def test_slices_stay_where_the_whole_is_read_too() -> None:
    trace, program = traced(lambda h, x: (mg.tanh(h + x), mg.tanh(h + x)[:, :2]))
    program = passes.share(trace, program)
    pushed = passes.push_slices(trace, program)
    assert pushed is program


def test_slices_of_a_broadcast_leave_the_small_axis_alone() -> None:
    column, row = leaf(4), leaf(1)
    trace, program = traced(lambda h, x: (h, (mg.tanh(h * row + column))[:, 1:3]))
    pushed = passes.push_slices(trace, program)
    assert all(v.shape == (ROWS, 2) for v in pushed.body if v.op.name == "tanh")
    same(program, pushed)


def backward_of(cell: Any) -> tuple[Any, Any, Any]:
    trace, program = traced(cell)
    trace.forward = False
    back = reverse(trace, program, program.weights)
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


def gates(h: Any, x: Any) -> tuple[Any, Any]:
    z = (h @ W + mg.exp(x) @ W) * 0.5
    a, b = z[:, :4], z[:, 2:]
    return mg.tanh(a) * mg.softmax(b), (h @ U, mg.tanh(a), a)


def through(cell: Any, *programs: str) -> list[pipeline.Done]:
    """What the pipeline does to a cell: to its step, then to what is made of that."""
    trace, program = traced(cell)
    given = pipeline.Setting(trace, program)
    found: list[pipeline.Done] = []
    for on in programs:
        program, done = pipeline.run(on, program, given)
        if on == pipeline.STEP:
            given = replace(given, step=program, wanted=program.weights, kept=program.body[:2])
        found += done
    return found


def test_every_pass_keeps_the_meaning() -> None:
    done = through(gates, "step", "forward")
    assert [d.made_by.name for d in done] == [
        "prune", "hoist", "merge", "keep", "fold", "share", "push_slices", "share", "order",
        "batch", "accumulate",
    ]  # fmt: skip
    for d in done:
        same(d.before, d.after)


def test_every_pass_of_bptt_gives_a_program_of_its_own_kind() -> None:
    done = through(gates, "step", "bptt", "backward")
    assert {d.after.name for d in done if d.on != "step"} == {"backward step"}
    assert [d.made_by.name for d in done if d.on == "backward"][-3:] == [
        "sink",
        "batch",
        "accumulate",
    ]


def test_a_pass_that_breaks_a_program_is_caught_where_it_stands(monkeypatch: Any) -> None:
    def lose(program: Any, given: Any) -> Any:
        return replace(program, body=program.body[1:])

    broken = [p._replace(run=lose) if p.name == "order" else p for p in pipeline.PASSES]
    monkeypatch.setattr(pipeline, "PASSES", tuple(broken))
    with pytest.raises(ProgramError, match="not defined"):
        through(gates, "step", "forward")


def test_what_passes_did_is_counted() -> None:
    done = {d.made_by.name: str(d) for d in through(gates, "step", "forward")}
    assert done["hoist"].endswith("matmul 3 -> 2, exp 2 -> 1, hoisted 0 -> 1")
    assert done["merge"].endswith("matmul 2 -> 1, getitem 2 -> 4, concatenate 0 -> 1")
    assert done["keep"].endswith("stored 0 -> 2")


def test_hoist_takes_products_of_what_is_computed_from_the_input_out_of_the_step() -> None:
    trace, program = traced(lambda h, x: (mg.tanh(h + mg.exp(x) @ W[:, :4] + x @ W[:, :4]), h))
    hoisted = passes.hoist(trace, program)
    assert counts(program)["matmul"] == 2
    assert counts(hoisted)["matmul"] == 1  # that of x itself is done by the loop
    assert [v.op.name for v in hoisted.xs if v.op] == ["matmul"]
    same(program, hoisted)


def test_hoist_leaves_products_with_a_state_where_they_are() -> None:
    trace, program = traced(lambda h, x: (mg.tanh((h + mg.exp(x)) @ W[:, :4]), h))
    assert passes.hoist(trace, program) is program


def test_order_puts_a_product_as_early_as_it_can_be() -> None:
    _, program = traced(lambda h, x: (mg.tanh(mg.exp(x) + x) + (h * 2.0) @ W[:, :4], h))
    ordered = [v.op.name for v in passes.order(program).body if v.op.name in ("matmul", "exp")]
    assert ordered == ["exp", "matmul"]
    after = [v.op.name for v in passes.order(program).body]
    assert after.index("matmul") == after.index("multiply") + 1
    same(program, passes.order(program))


def test_batch_takes_products_that_no_state_runs_through() -> None:
    _, program = traced(lambda h, x: (mg.tanh(x @ W[:, :4] + h @ W[:, :4]), h @ U))
    found = passes.batch(replace(program, kept={v: v for v in program.carry}))
    assert [v.inputs[0] for v in found.early] == program.xs
    assert [v.inputs[0] for v in found.late] == program.carry
    assert passes.batch(program).late == []  # a state that is not stored for all steps


def test_accumulate_adds_a_product_to_what_a_loop_has_computed() -> None:
    trace, program = traced(lambda h, x: (mg.tanh(h * x + mg.tanh(h * x) @ W[:, :4]), h))
    found = passes.accumulate(passes.order(passes.share(trace, program)))
    ((total, product),) = found.onto.items()
    assert (total.op.name, product.op.name) == ("add", "matmul")
    same(program, found)
    _, program = traced(lambda h, x: (mg.tanh(mg.tanh(h @ W[:, :4]) + h @ W[:, :4]), h))
    assert not passes.accumulate(passes.order(program)).onto  # no loop stands before the product


def test_sink_stores_what_products_over_time_multiply() -> None:
    done = through(lambda h, x: (mg.tanh(h @ W[:, :4] + x), h), "step", "bptt", "backward")
    (sunk,) = [d.after for d in done if d.made_by.name == "sink"]
    assert [v.op.name for v in sunk.kept.values()] == ["multiply"]
