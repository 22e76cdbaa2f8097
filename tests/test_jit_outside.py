"""mg.jit and what a step reads by name: rebound, edited or set, it is not what was recorded."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.jitting.modules import changed, settings
from minigrad.jitting.outside import Outside

X = np.array([1.0, -2.0, 3.0])


class Scaled:
    """A trainer, its settings where people keep them."""

    of_the_class = 1.0

    def __init__(self) -> None:
        self.scale, self.config, self.options = (
            1.0,
            types.SimpleNamespace(deep=Slots(1.0)),
            {"a": [1.0]},
        )

    @property
    def doubled(self) -> float:
        return 2.0 * self.scale

    @staticmethod
    def cubed(x: Any, power: dict[str, int]) -> Any:
        return x ** power["n"]

    def by_attribute(self, x: Any) -> Any:
        return mg.tensor(x) * self.scale

    def by_property(self, x: Any) -> Any:
        return mg.tensor(x) * self.doubled

    def by_slot(self, x: Any) -> Any:
        return mg.tensor(x) * self.config.deep.rate

    def by_entry(self, x: Any) -> Any:
        return mg.tensor(x) * self.options["a"][0]

    def by_class(self, x: Any) -> Any:
        return mg.tensor(x) * self.of_the_class

    def by_method(self, x: Any) -> Any:
        return mg.exp(self.by_attribute(x))

    def by_comprehension(self, x: Any) -> Any:
        return sum((mg.tensor(x) * rate for rate in [self.scale for _ in range(2)]), mg.tensor(0.0))


@dataclass(slots=True)
class Slots:
    rate: float


def attribute(method: str, change: Callable[[Scaled], None]) -> tuple[Any, Callable[[], None]]:
    trainer = Scaled()
    return getattr(trainer, method), lambda: change(trainer)


def set_scale(t: Scaled) -> None:
    t.scale *= -0.5


def set_slot(t: Scaled) -> None:
    t.config.deep.rate += 1.0


def replace_config(t: Scaled) -> None:
    t.config = types.SimpleNamespace(deep=Slots(t.config.deep.rate + 1.0))


def set_entry(t: Scaled) -> None:
    t.options["a"][0] += 1.0


def shadow_class(t: Scaled) -> None:
    t.of_the_class = t.of_the_class + 1.0


def closure_number() -> tuple[Any, Callable[[], None]]:
    rate = 1.0

    def step(x: Any) -> Any:
        return mg.tensor(x) * rate

    def change() -> None:
        nonlocal rate
        rate += 1.0

    return step, change


def closure_function() -> tuple[Any, Callable[[], None]]:
    """The function that the step calls is another."""
    activations = iter([mg.exp, mg.sigmoid, mg.tanh])
    activation = mg.tanh

    def step(x: Any) -> Any:
        return activation(mg.tensor(x))

    def change() -> None:
        nonlocal activation
        activation = next(activations)

    return step, change


def closure_of_a_helper() -> tuple[Any, Callable[[], None]]:
    rates = {"now": 1.0}
    losses = [lambda y: (y * rates["now"]).sum()]

    def step(x: Any) -> Any:
        return losses[0](mg.tensor(x))

    return step, lambda: rates.update(now=rates["now"] + 1.0)


def closure_model() -> tuple[Any, Callable[[], None]]:
    models = iter(
        [nn.Linear(3, 2, dtype=np.float64, generator=np.random.default_rng(k)) for k in range(9)]
    )
    model = next(models)

    def step(x: Any) -> Any:
        return model(mg.tensor(x)).detach()

    def change() -> None:
        nonlocal model
        model = next(models)

    return step, change


def a_global() -> tuple[Any, Callable[[], None]]:
    space: dict[str, Any] = {"mg": mg, "rate": 1.0, "shape": 0, "__name__": "notebook"}
    exec("def helper(y): return y * rate\ndef step(x): return helper(mg.tensor(x))", space)
    return space["step"], lambda: space.update(rate=space["rate"] + 1.0)


def of_a_module_of_ones_own() -> tuple[Any, Callable[[], None]]:
    settings = types.ModuleType("settings_of_this_test")
    settings.rate = 1.0  # type: ignore[attr-defined]

    def step(x: Any) -> Any:
        return mg.tensor(x) * settings.rate  # type: ignore[attr-defined]

    return step, lambda: setattr(settings, "rate", settings.rate + 1.0)  # type: ignore[attr-defined]


class Gain(nn.Module):
    def __init__(self, gain: list[float]):
        self.read = lambda: gain[0]

    def forward(self, x: Any) -> Any:
        return x * self.read()


def forward_of_a_module() -> tuple[Any, Callable[[], None]]:
    gain, slope = [1.0], [1.0]
    net = nn.Sequential(Gain(gain), lambda y: y * slope[0])
    turns = iter([gain, slope] * 9)

    def change() -> None:
        next(turns)[0] += 1.0

    return (lambda x: net(mg.tensor(x))), change


def an_argument() -> tuple[Any, Callable[[], None]]:
    trainer = Scaled()

    def step(owner: Any, x: Any) -> Any:
        return owner.by_method(x)

    return partial(step, trainer), lambda: set_scale(trainer)


def a_default() -> tuple[Any, Callable[[], None]]:
    config = {"rate": [1.0]}

    def step(x: Any, config: Any = config) -> Any:
        return mg.tensor(x) * config["rate"][0]

    def change() -> None:
        config["rate"][0] += 1.0

    return step, change


def a_twin() -> tuple[Any, Callable[[], None]]:
    """Two functions of one text, whose globals differ."""
    spaces: list[dict[str, Any]] = [{"rate": 1.0, "__name__": f"notebook{k}"} for k in range(2)]
    for space in spaces:
        exec("def helper(y): return y * rate", space)
    one, other = (space["helper"] for space in spaces)
    return (lambda x: other(one(mg.tensor(x)))), lambda: spaces[1].update(
        rate=spaces[1]["rate"] + 1
    )


def behind_many_others() -> tuple[Any, Callable[[], None]]:
    a_table = {word: [word, 0, 1.0] for word in range(900)}
    trainer = Scaled()

    def step(x: Any) -> Any:
        return trainer.by_attribute(x) * a_table[3][2]

    return step, lambda: set_scale(trainer)


def a_function_inside() -> tuple[Any, Callable[[], None]]:
    trainer = Scaled()

    def step(x: Any) -> Any:
        def scaled(y: Any, n: int = 2, *, more: float = 1.0) -> Any:
            return y**n * trainer.scale * more

        return scaled(mg.tensor(x))

    return step, lambda: set_scale(trainer)


CASES = {
    "a function inside": a_function_inside,
    "a default": a_default,
    "a twin": a_twin,
    "behind many others": behind_many_others,
    "an attribute": partial(attribute, "by_attribute", set_scale),
    "a property": partial(attribute, "by_property", set_scale),
    "an attribute of an attribute": partial(attribute, "by_slot", set_slot),
    "an attribute that is replaced": partial(attribute, "by_slot", replace_config),
    "an entry": partial(attribute, "by_entry", set_entry),
    "a class attribute": partial(attribute, "by_class", shadow_class),
    "a method": partial(attribute, "by_method", set_scale),
    "a comprehension": partial(attribute, "by_comprehension", set_scale),
    "a closure": closure_number,
    "a function": closure_function,
    "a helper's closure": closure_of_a_helper,
    "a model": closure_model,
    "a global": a_global,
    "a module": of_a_module_of_ones_own,
    "a forward pass": forward_of_a_module,
    "an argument": an_argument,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_step_names_is_what_it_is_now(case: str) -> None:
    step, change = CASES[case]()
    jitted = mg.jit(step)
    for k in range(12):
        if k in (4, 8):
            change()
        x = X * (k + 1)
        np.testing.assert_array_equal(jitted(x).numpy(), step(x).numpy())
    assert (jitted.recorded, jitted.replayed) == (6, 6)


@pytest.mark.parametrize("case", CASES)
def test_a_guard_that_looks_away_is_noticed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outside, "changed", lambda self: "")
    step, change = CASES[case]()
    jitted = mg.jit(step)
    for _ in range(3):
        jitted(X)
    change()
    assert not np.array_equal(jitted(X).numpy(), step(X).numpy())


def test_a_program_is_used_again_when_a_name_means_what_it_did() -> None:
    step, change = closure_function()  # tanh, exp, sigmoid, tanh
    jitted = mg.jit(step)
    for k in range(12):
        if k in (4, 8, 9):
            change()
        np.testing.assert_array_equal(jitted(X).numpy(), step(X).numpy())
    assert (jitted.recorded, jitted.replayed) == (5, 7)


def test_methods_are_steps_of_each_instance() -> None:
    class Trainer(Scaled):
        step = mg.jit(Scaled.by_attribute)

    one, other = Trainer(), Trainer()
    for k in range(8):
        other.scale = 2.0 + (k > 4)
        np.testing.assert_array_equal(one.step(X).numpy(), X)
        np.testing.assert_array_equal(other.step(X).numpy(), X * other.scale)


def test_a_step_that_counts_is_refused() -> None:
    class Counting:
        calls = 0

        def step(self, x: Any) -> Any:
            self.calls += 1
            return mg.tensor(x)

    counting = Counting()
    jitted = mg.jit(counting.step)
    jitted(X)
    with pytest.raises(mg.JitError, match=r"step changes \.calls of a Counting, .* outside"):
        jitted(X)


def test_what_a_first_call_sets_up_is_forgiven() -> None:
    class Lazy:
        mask: Any = None

        def step(self, x: Any) -> Any:
            if self.mask is None:
                self.mask = np.array([1.0, 0.0, 1.0])
            return mg.tensor(x) * self.mask

    jitted = mg.jit(Lazy().step)
    for _ in range(5):
        np.testing.assert_array_equal(jitted(X).numpy(), X * [1, 0, 1])
    assert jitted.replayed == 2


def test_a_state_under_a_name_is_to_be_an_argument() -> None:
    state = mg.tensor(np.zeros(3))

    def step(x: Any) -> Any:
        return mg.tensor(x) + state

    jitted = mg.jit(step)
    state = jitted(X)
    state = jitted(X)
    with pytest.raises(mg.JitError, match=r"step reads state of the closure, .* as an argument"):
        jitted(X)


def test_names_that_only_look_like_one_are_not_watched() -> None:
    space: dict[str, Any] = {"mg": mg, "sum": 0, "__name__": "notebook"}
    exec("def step(x): return mg.tensor(x).sum()", space)
    jitted = mg.jit(space["step"])
    for k in range(5):
        space["sum"] = k  # a global; the step's is an attribute
        assert jitted(X).item() == 2.0
    assert jitted.replayed == 3


def test_lists_that_grow_outside_are_compared_up_to_a_thousand_entries() -> None:
    seen: list[float] = []

    def step(x: Any) -> Any:
        return mg.tensor(x) * (1.0 if len(seen) < 3 else 2.0)

    jitted = mg.jit(step)
    for length in (0, 0, 0, 3, 3, 3, 2000, 2000, 2000):
        seen[:] = [0.0] * length
        np.testing.assert_array_equal(jitted(X).numpy(), step(X).numpy())
    seen[7] = 1.0  # of a long one only how many they are is compared
    jitted(X)
    assert (jitted.recorded, jitted.replayed) == (6, 4)


def test_what_holds_itself_is_compared() -> None:
    ring: dict[str, Any] = {"rate": 1.0}
    ring["next"] = [ring]

    def step(x: Any) -> Any:
        return mg.tensor(x) * ring["next"][0]["rate"]

    jitted = mg.jit(step)
    for k in range(8):
        ring["rate"] = 1.0 + k // 4
        np.testing.assert_array_equal(jitted(X).numpy(), step(X).numpy())
    assert jitted.replayed == 4


def test_functions_that_call_one_another_are_looked_at_once() -> None:
    rates = [1.0]

    def even(x: Any, n: int) -> Any:
        return x * rates[0] if n == 0 else odd(x, n - 1)

    def odd(x: Any, n: int) -> Any:
        return even(x, n - 1)

    jitted = mg.jit(lambda x: even(mg.tensor(x), 4))
    for k in range(8):
        rates[0] = 1.0 + k // 4
        np.testing.assert_array_equal(jitted(X).numpy(), X * rates[0])
    assert jitted.replayed == 4


def test_a_cache_that_every_new_length_fills_is_forgiven() -> None:
    class Caching:
        def __init__(self) -> None:
            self.weights: dict[int, Any] = {}

        def step(self, x: Any) -> Any:
            if len(x) not in self.weights:
                self.weights[len(x)] = np.arange(float(len(x)))
            return mg.tensor(x) * self.weights[len(x)]

    caching = Caching()
    jitted = mg.jit(caching.step)
    for k in range(15):
        x = np.ones(3 + k % 3)
        np.testing.assert_array_equal(jitted(x).numpy(), x * np.arange(len(x)))
    assert jitted.replayed > 0


def test_a_name_that_is_another_now_and_then_is_no_argument() -> None:
    rate = 1.0

    def step(x: Any) -> Any:
        return mg.tensor(x) * rate

    jitted = mg.jit(step)
    for rate in (1.0, 1.0, 1.0, 2.0, 1.0, 3.0, 1.0, 4.0, 1.0):
        np.testing.assert_array_equal(jitted(X).numpy(), X * rate)
    assert (jitted.recorded, jitted.replayed) == (5, 4)


def test_all_entries_of_a_modules_list_are_its_settings() -> None:
    gain = Gain([1.0])
    gain.table = [0.0] * 3000
    before = settings(gain)
    gain.table[2500] = 1.0
    assert changed(before, settings(gain)) == "table"
    gain.table.append(gain.table)  # without end
    settings(gain)
