"""Going on from a checkpoint: all of it is taken over, or nothing has changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import StateDictError
from minigrad.random import set_state
from minigrad.train import TrainingError
from minigrad.train.checkpoint import load, save
from minigrad.train.loop import Run


def new_run(seed: int = 0) -> Run:
    net = nn.Linear(2, 1, generator=np.random.default_rng(seed))
    adam = optim.Adam(net.parameters(), 0.1)
    run = Run(net, None, mg.data.Batches([[1.0], [2.0], [3.0]], batch=1), adam)
    run.schedule, run.checkpoint = optim.StepLR(adam, 3), None
    run.generators = [np.random.default_rng(seed), np.random.Generator(np.random.MT19937(seed))]
    run.step, run.state = seed, mg.tensor([float(seed)])
    run.best_parameters = net.state_dict()
    run.fitted.history = [{"step": 1, "epoch": 0, "loss": 0.5}]
    run.fitted.best = run.fitted.history[0]
    return run


def state_of(run: Run) -> str:
    return repr(run.state_dict()) + repr([g.bit_generator.state for g in run.generators])


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        place: Any = tree
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a step that is a text": put("step", value="7"),
    "a step that is a truth value": put("step", value=True),
    "a negative epoch": put("epoch", value=-1),
    "a position of a float": put("position", value=0.5),
    "a step beyond 64 bits": put("step", value=2**64),
    "a model of another shape": put("model", "weight", value=np.ones((3, 1), np.float32)),
    "a model of texts": put("model", "bias", value="x"),
    "a model that is a list": put("model", value=[]),
    "best parameters of another shape": put("best_parameters", "bias", value=np.ones(2)),
    "best parameters that are a number": put("best_parameters", value=3),
    "an optimiser without moments": put("optimizer", value={"lr": 0.1}),
    "a learning rate that is a list": put("optimizer", "lr", value=[1]),
    "a learning rate that is a text": put("optimizer", "lr", value="fast"),
    "a count of steps of nan": put("optimizer", "1.step", value=float("nan")),
    "moments of texts": put("optimizer", "1.mean", value=["a"]),
    "a schedule of texts": put("schedule", 0, "t", value="x"),
    "a schedule of nothing": put("schedule", 0, value={}),
    "a schedule of more parts": put("schedule", value=[{"t": 1, "base": 0.1}] * 2),
    "no schedule": put("schedule", value=None),
    "data at a place that is none": put("data", "position", value=99),
    "data of another size": put("data", "items", value=7),
    "data that are a text": put("data", value="x"),
    "one generator": put("random", value=[{}]),
    "generators that are none": put("random", value=[1, 2]),
    "a generator of another kind": put("random", 0, "bit_generator", value="MT19937"),
    "a generator past the end of its numbers": put("random", 1, "state", "pos", value=10**6),
    "a generator before them": put("random", 1, "state", "pos", value=-5),
    "a generator with few numbers": put("random", 1, "state", "key", value=np.ones(3, np.uint32)),
    "a carried state of nothing": put("carried", value={}),
    "a carried state of texts": put("carried", value={"array": "x"}),
    "a history of numbers": put("history", value=[1]),
    "a history of texts": put("history", 0, "loss", value="x"),
    "a best that is a list": put("best", value=[1]),
    "a count since the best of texts": put("since_best", value="x"),
    "no random numbers": lambda tree: tree.pop("random") and None,
    "no carried state": lambda tree: tree.pop("carried") and None,
    "no end": lambda tree: (tree.pop("ended"), None)[1],
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_load_that_fails_leaves_everything_as_it_was(what: str, tmp_path: Any) -> None:
    tree = load(save(tmp_path / "a.ckpt", new_run(1).state_dict()))
    CHANGES[what](tree)
    run = new_run(2)
    parameter, before = run.model.weight, state_of(run)
    with pytest.raises(TrainingError):
        run.load(tree)
    assert state_of(run) == before
    assert run.model.weight is parameter
    for mine, other in zip(run.generators, new_run(2).generators, strict=True):
        assert mine.random(700).tolist() == other.random(700).tolist()


def test_a_load_that_succeeds_takes_everything(tmp_path: Any) -> None:
    other, run = new_run(1), new_run(2)
    run.load(load(save(tmp_path / "a.ckpt", other.state_dict())))
    assert state_of(run) == state_of(other)


def test_a_load_that_is_interrupted_leaves_everything_as_it_was() -> None:
    run = new_run(2)
    tree, before = new_run(1).state_dict(), state_of(run)

    class Interrupting(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            if key == "history":
                raise KeyboardInterrupt
            return super().__getitem__(key)

    with pytest.raises(KeyboardInterrupt):
        run.load(Interrupting(tree))
    assert state_of(run) == before


def test_a_module_writes_nothing_unless_all_of_it_fits() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    whole = {name: np.ones_like(w) for name, w in net.state_dict().items()}
    before = repr(net.state_dict())
    for wrong_array in (np.array(["x"]), np.array([1j]), np.array([None])):
        with pytest.raises(StateDictError, match=r"no numbers: '1.bias' is"):
            net.load_state_dict(whole | {"1.bias": wrong_array})
        assert repr(net.state_dict()) == before


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_a_generator_goes_on_from_any_place_and_refuses_places_that_are_none(kind: str) -> None:
    made = np.random.Generator(getattr(np.random, kind)(3))
    made.random(5, np.float32)
    state = copy.deepcopy(made.bit_generator.state)
    wanted = made.random(1000).tolist()
    again = np.random.Generator(getattr(np.random, kind)(4))
    set_state(again, state)
    assert again.random(1000).tolist() == wanted
    for wrong in (
        None,
        [],
        {},
        {"state": 3},
        state | {"bit_generator": "x"},
        state | {"state": {}},
    ):
        before = copy.deepcopy(again.bit_generator.state)
        with pytest.raises(ValueError, match="state of a generator"):
            set_state(again, wrong)
        np.testing.assert_equal(again.bit_generator.state, before)
