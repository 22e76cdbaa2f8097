"""no_grad and the other switches: nested, shared, decorating, left by exceptions, in threads."""

import threading
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.switches import state


def records():
    return (mg.tensor([1.0], requires_grad=True) * 2.0).requires_grad


def anomaly():
    return state.anomaly


MAKERS = {
    "no_grad": mg.no_grad,
    "detect_anomaly": mg.detect_anomaly,
    "scope": lambda: mg.scope("part"),
    "listen": lambda: mg.listen(lambda *heard: None),
}
each_switch = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def now():
    return state.mode, state.recording, state.anomaly, state.scope, state.listeners, state.tape


@each_switch
def test_one_object_is_entered_again_inside_itself_and_all_is_put_back(make):
    outside, switch = now(), make()

    def descend(depth):
        with switch:
            inside = now()
            assert inside != outside
            if depth:
                descend(depth - 1)
            assert now() == inside

    for _ in range(3):
        descend(3)
        assert now() == outside


@each_switch
def test_an_exception_puts_everything_back(make):
    outside, switch = now(), make()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), switch, switch:
            1 / 0  # noqa: B018
        assert now() == outside


@each_switch
def test_functions_methods_and_recursions_are_decorated(make):
    outside, switch = now(), make()

    class Net:
        @switch
        def method(self, depth):
            """What it does."""
            assert now() != outside
            return self.method(depth - 1) if depth else "done"

        @switch
        @staticmethod
        def static():
            return now()

        @classmethod
        @switch
        def of_class(cls):
            return cls, now()

    assert Net().method(3) == "done"
    assert Net.method.__doc__ == "What it does."
    assert Net.static() != outside
    assert Net.of_class()[0] is Net
    assert now() == outside


@each_switch
def test_a_generator_runs_inside_and_its_caller_outside(make):
    outside = now()
    closed = []

    @make()
    def steps(n):
        try:
            for i in range(n):
                assert now() != outside
                try:
                    got = yield i
                except KeyError:
                    got = "caught"
                if got:
                    yield got
        finally:
            closed.append(now() != outside)
        return "end"

    def through():
        return (yield from steps(1))

    assert list(zip(steps(3), steps(3), strict=True)) == [(0, 0), (1, 1), (2, 2)]
    g = steps(2)
    assert next(g) == 0
    assert now() == outside
    assert g.send("sent") == "sent"
    assert next(g) == 1
    assert g.throw(KeyError()) == "caught"
    assert now() == outside
    g.close()
    h = through()
    next(h)
    with pytest.raises(StopIteration) as stopped:
        next(h)
    assert stopped.value.value == "end"
    assert closed == [True] * len(closed)
    assert len(closed) == 4
    assert now() == outside


@each_switch
def test_what_cannot_be_decorated_is_refused(make):
    async def waits():
        pass

    with pytest.raises(TypeError, match="is asynchronous"):
        make()(waits)
    for wrong in (3, type("A", (), {})):
        with pytest.raises(TypeError, match="decorates functions and methods"):
            make()(wrong)


def test_blocks_inside_generators_may_end_in_any_order():
    outside = now()

    def block(switch):
        with switch:
            yield

    first, second = block(mg.no_grad()), block(mg.detect_anomaly())
    next(first), next(second)
    next(first, None)
    assert records()
    assert anomaly()
    next(second, None)
    assert now() == outside


def test_threads_that_share_one_object_do_not_see_each_other():
    quiet, barrier, seen = mg.no_grad(), threading.Barrier(4), []

    def work(k):
        for _ in range(50):
            barrier.wait()
            if k % 2:
                with quiet, quiet:
                    seen.append(records() is False)
            seen.append(records() is True)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(seen) == 300
    assert all(seen)
    assert records()


def test_a_tape_decorates_too_and_leaves_what_was_there():
    tape = mg.Tape()

    @tape
    def step():
        return mg.tensor([1.0]) * 2.0

    with mg.detect_anomaly():
        step()
        step()
        assert anomaly()
    assert len(tape) == 2
    with pytest.raises(mg.MinigradError, match="another Tape is active"), tape, tape:
        pass
    assert state.tape is None


def test_anomaly_says_of_what_it_read_only_what_it_looked_at():
    with mg.detect_anomaly():
        with pytest.raises(mg.NumericalError, match=r"It began earlier: the input 'x' held nan"):
            mg.tanh(mg.tensor([np.nan, 1.0]))
        with pytest.raises(mg.NumericalError, match="What it read was finite: the input 'x'"):
            mg.log(mg.tensor([-1.0]))
        with pytest.raises(mg.NumericalError, match=r"began earlier: the input 1 held inf"):
            mg.concatenate([mg.tensor([1.0]), mg.tensor([np.inf])])
        zero = mg.tensor([0.0], requires_grad=True)
        with pytest.raises(
            mg.NumericalError, match="finite: the gradient that arrived, the output y"
        ):
            mg.sqrt(zero).sum().backward()
        with pytest.raises(
            mg.NumericalError, match="began earlier: the gradient that arrived held nan"
        ):
            (zero * 1.0).backward([np.nan])


def test_no_grad_decorates_with_and_without_parentheses() -> None:
    x = mg.tensor(2.0, requires_grad=True)

    class Net:
        @mg.no_grad
        def evaluate(self, t: Any) -> Any:
            """What it does."""
            return t * x

        @mg.no_grad
        @staticmethod
        def alone(t: Any) -> Any:
            return t * x

    @mg.no_grad
    def steps() -> Any:
        yield x * 2.0

    for y in (Net().evaluate(3.0), Net.alone(3.0), *steps(), mg.no_grad(lambda: x * 2.0)()):
        assert not y.requires_grad
    assert (x * 2.0).requires_grad
    assert Net.evaluate.__doc__ == "What it does."
    with pytest.raises(TypeError, match="no_grad: decorates functions and methods, got False"):
        mg.no_grad(False)
