"""prescribe(): planted effects are found and no others, the run stays as it is, time is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import Remedy, prescribe
from minigrad.flow.prescribing.prescription import Outcome, Prescription, Tried
from minigrad.random import default_generator

T, B, H = 4, 2, 3


class Net(nn.Module):
    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.rnn = nn.RNN(1, H, dtype=np.float64, generator=rng, mode="tape")
        self.head = nn.Linear(H, 1, dtype=np.float64, generator=rng)

    def forward(self, xs: Any) -> Any:
        return self.head(self.rnn(xs)[0][-1])


def mse(model: Any, batch: Any) -> Any:
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def batches(n: int = 4) -> list[Any]:
    rng = np.random.default_rng(5)
    return [(rng.normal(size=(T, B, 1)), 5.0 + rng.normal(size=(B, 1))) for _ in range(n)]


class Planted(Remedy):
    """Adds something to the bias of the head, whose best value is 5."""

    def __init__(self, name: str, shift: Any):
        self.name, self.shift = name, shift

    def apply(self, run: Any, case: Any, rng: np.random.Generator) -> None:
        run.model.head.bias.data = run.model.head.bias.numpy() + self.shift(rng)


GOOD = Planted("good", lambda rng: 4.0)
BAD = Planted("bad", lambda rng: -4.0)
NOTHING = Planted("nothing", lambda rng: 0.0)


class EitherWay(Planted):
    """Better for even seeds and worse for odd ones."""

    def __init__(self) -> None:
        super().__init__("either way", None)
        self.turn = count()

    def apply(self, run: Any, case: Any, rng: np.random.Generator) -> None:
        run.model.head.bias.data = run.model.head.bias.numpy() + (-1) ** next(self.turn)


def tried(*remedies: Any, **options: Any) -> Prescription:
    options = dict(updates=1, seeds=6, seconds=1e6, remedies=remedies) | options
    return prescribe(Net(), mse, batches(), **options)


@pytest.mark.long
def test_what_helps_is_found_and_what_does_nothing_or_harm_is_not() -> None:
    found = tried(GOOD, NOTHING, EitherWay(), BAD, seeds=8)
    assert [t.name for t in found.helped] == ["good"]
    assert [t.name for t in found.tried if t.hurts] == ["bad"]
    assert (found["good"].lower, found["good"].higher) == (8, 0)
    assert found["good"].p == 1 / 256
    assert (found["nothing"].pairs, found["nothing"].p) == (0, 1.0)
    assert (found["either way"].lower, found["either way"].higher) == (4, 4)
    text = str(found)
    assert "good helped: the loss is lower in 8 of 8 seeds (p = 0.0039)." in text
    assert "bad made it worse: the loss is higher in 8 of 8 seeds" in text
    assert "No difference that could be told from chance: nothing, either way." in text


def test_that_nothing_helped_is_said() -> None:
    found = tried(NOTHING, BAD)
    assert found.helped == []
    assert "Nothing that was tried helped." in str(found)


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_few_seeds_are_said_to_tell_nothing(seeds: int) -> None:
    found = tried(GOOD, NOTHING, seeds=seeds)
    assert found["good"].lower == seeds
    assert found.helped == []
    assert "it cannot be told what helps: among 2 remedies that takes at least 6." in str(found)
    assert "Nothing that was tried helped" not in str(found)


@pytest.mark.parametrize("updates", [1, 7, 23])  # without and with mg.jit
def test_a_fork_as_it_is_goes_on_as_the_run_would(updates: int) -> None:
    """Against a loop written by hand on a second model, optimiser memory and all."""
    data = batches(5)
    runs = []
    for _ in range(2):
        net = Net(3)
        adam = mg.optim.Adam(net.parameters(), 0.05)
        for batch in data[:3]:
            step(net, adam, batch, None)
        runs.append((net, adam))
    (net, adam), (twin, other) = runs
    found = prescribe(
        net, mse, data, adam, held=data[:1], remedies=[], updates=updates, seeds=1, max_norm=0.5
    )
    before = mse(twin, data[0]).item()
    for k in range(updates):
        step(twin, other, data[k % 5], 0.5)
    outcome = found.without[0]
    assert (outcome.loss, outcome.loss_after) == (before, mse(twin, data[0]).item())


def step(net: Net, optimizer: Any, batch: Any, max_norm: float | None) -> None:
    loss = mse(net, batch)
    optimizer.zero_grad()
    loss.backward()
    mg.optim.clip_grad_norm_(net.parameters(), max_norm or math.inf)
    optimizer.step()


def test_the_run_stays_as_it_is_to_the_bit() -> None:
    net = Net()
    adam = mg.optim.Adam(net.parameters(), 0.05)
    step(net, adam, batches()[0], None)
    rng = np.random.default_rng(0)
    data = mg.data.Batches(list(rng.normal(size=(9, T, 1))), rng.normal(size=(9, 1)), batch=2)
    next(iter(data))

    def state() -> list[Any]:
        gradients = [(id(p), id(p.grad), p.grad.tolist()) for p in net.parameters()]
        generator = default_generator(None).bit_generator.state
        optimizer = {k: np.array(v).tolist() for k, v in adam.state_dict().items()}
        return [
            {k: v.tolist() for k, v in net.state_dict().items()},
            gradients, optimizer, data.state_dict(), generator, net.training,
        ]  # fmt: skip

    before = state()
    found = prescribe(
        net, lambda model, b: ((model(b.x) - b.y) ** 2).mean(), data, adam, updates=2, seeds=2
    )
    assert len(found.tried) > 4
    assert state() == before


def test_the_same_call_gives_the_same_numbers() -> None:
    one, two = (tried("orthogonal", "gated cell", seeds=2).to_dict() for _ in range(2))
    for found in (one, two):
        del found["seconds"]
    assert one == two


def test_seeds_see_the_batches_in_other_orders_and_remedies_the_same() -> None:
    seen: list[int] = []
    data = [(xs, ys, np.array(k)) for k, (xs, ys) in enumerate(batches(6))]

    def loss(model: Any, batch: Any) -> Any:
        seen.append(int(batch[2]))
        return mse(model, batch)

    prescribe(Net(), loss, data, held=data[:1], remedies=[NOTHING], updates=6, seeds=3)
    orders = [o for o in windows(seen, 6) if sorted(o) == list(range(6))]
    assert len(orders) >= 6
    assert len({tuple(o) for o in orders}) >= 3


def windows(seen: list[int], n: int) -> Iterator[list[int]]:
    """Runs of n different numbers, one after the other."""
    at = 0
    while at + n <= len(seen):
        if len(set(seen[at : at + n])) == n:
            yield seen[at : at + n]
            at += n
        else:
            at += 1


class Clock:
    """A second passes whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("seconds", [1, 10, 30, 45])
def test_the_budget_is_kept_and_what_it_did_not_reach_is_listed(seconds: float) -> None:
    clock = Clock()
    found = tried(GOOD, BAD, NOTHING, updates=5, seeds=2, seconds=seconds, clock=clock)
    assert clock.now <= seconds + 4
    done = [t.name for t in found.tried]
    assert [*done, *found.not_tried] == ["good", "bad", "nothing"]
    assert found.not_tried
    assert f"Not tried, as the time was over: {', '.join(found.not_tried)}." in str(found)
    assert all(t.whole or len(t.outcomes) < 2 for t in found.tried)


def test_enough_time_reaches_everything() -> None:
    found = tried(GOOD, BAD, NOTHING, updates=5, seeds=2, seconds=100, clock=Clock())
    assert [t.name for t in found.tried] == ["good", "bad", "nothing"]
    assert found.not_tried == []
    assert "Not tried" not in str(found)


def test_a_fork_that_diverges_has_lost() -> None:
    class Blow(Remedy):
        name = "blow up"

        def apply(self, run: Any, case: Any, rng: np.random.Generator) -> None:
            run.model.head.bias.data = np.array([np.nan])

    found = tried(Blow())
    assert [o.loss_after for o in found["blow up"].outcomes] == [math.inf] * 6
    assert found["blow up"].hurts


def test_a_run_that_diverges_is_helped_by_what_keeps_it_finite() -> None:
    found = prescribe(
        Net(), mse, batches(), lambda ps: mg.optim.SGD(ps, 1e200),
        remedies=[Planted("nothing", lambda rng: 0.0), Slow()], updates=4, seeds=6,
    )  # fmt: skip
    assert [o.loss_after for o in found.without] == [math.inf] * 6
    assert [t.name for t in found.helped] == ["slow"]
    assert found["nothing"].pairs == 0


class Slow(Remedy):
    name = "slow"

    def apply(self, run: Any, case: Any, rng: np.random.Generator) -> None:
        run.optimizer.lr = 1e-3


def test_a_function_of_the_seed_makes_a_run_for_each() -> None:
    found = prescribe(Net, mse, batches(), remedies=[GOOD], updates=1, seeds=6)
    assert len({o.loss for o in found.without}) == 6
    assert [t.name for t in found.helped] == ["good"]


def test_a_carried_state_goes_from_batch_to_batch() -> None:
    class Reader(Net):
        def forward(self, xs: Any, state: Any = None) -> Any:
            hs, state = self.rnn(xs, state)
            return self.head(hs), state

    seen: list[bool] = []

    def loss(model: Any, batch: Any, state: Any) -> Any:
        seen.append(state is None)
        ys, state = model(batch[0], state)
        return ((ys - batch[1]) ** 2).mean(), state

    data = list(mg.data.Stream(np.random.default_rng(0).normal(size=(101, 1)), 5, 4))
    found = prescribe(
        Reader(), loss, data, carry=True, updates=4, seeds=2,
        remedies=["longer truncation", "shorter truncation", "loss at more steps"],
    )  # fmt: skip
    assert "longer truncation" in [t.name for t in found.tried]
    assert found["longer truncation"].code == "windows of 10 steps"
    assert "loss at more steps" in found.not_offered
    assert any(seen)
    assert not all(seen)


def test_no_remedies_leave_the_run_alone() -> None:
    found = tried(seeds=1)
    assert "There is nothing to try." in str(found)


def test_a_loss_of_another_model_is_refused() -> None:
    other = Net()
    with pytest.raises(mg.flow.FlowError, match="calls that model, not another one"):
        prescribe(
            Net(), lambda model, batch: mse(other, batch) + 0 * mse(model, batch).detach(),
            batches(), remedies=["clip"], updates=1, seeds=1,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(remedies=["forgt bias"]), "did you mean 'forget bias'"),
        (dict(remedies=[3]), "names or Remedy objects, got int"),
        (dict(updates=0), "updates"),
        (dict(seeds=0), "seeds"),
        (dict(seconds=0), "seconds"),
        (dict(seconds=math.nan), "seconds"),
        (dict(held=[]), "held gave nothing"),
        (dict(optimizer=mg.optim.Adam(Net().parameters())), "the model's own parameters"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prescribe(Net(), mse, batches(), **options)


def test_no_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="batches gave nothing"):
        prescribe(Net(), mse, [])


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    net = Net()
    net.lock = (i for i in range(3))
    with pytest.raises(mg.flow.FlowError, match=r"cannot be copied with copy\.deepcopy"):
        prescribe(net, mse, batches())


def test_one_batch_is_both_and_that_is_said() -> None:
    found = prescribe(Net(), mse, batches(1), remedies=["clip"], updates=1, seeds=1)
    assert "the loss on the batch it is trained on" in str(found)
    assert "the loss on batches held out" in str(tried("clip", seeds=1))


def outcomes(losses: list[float]) -> list[Outcome]:
    return [Outcome(k, 7.0, math.inf, math.nan, 1.0, x) for k, x in enumerate(losses)]


def test_a_table_has_medians_and_words_for_what_has_no_number() -> None:
    without, with_it = outcomes([0.5, 0.7, math.inf]), outcomes([0.1, 0.2, 0.3])
    found = Prescription(
        "vanishing, reach 7", 20, ["input-scale", "vanishing"], 10, 3, 60.0, without
    )
    found.tried = [Tried("x", "code", with_it, without)]
    text = str(found.judged())
    assert "As it stands: vanishing, reach 7 (input-scale)." in text
    row = next(line for line in text.splitlines() if line.startswith("x "))
    assert row.split() == ["x", "7", ">", "20", "?", "1", "0.2", "3", "of", "3", "0.12"]
    assert found["x"].ratio == pytest.approx(0.2)
    with pytest.raises(KeyError, match="tried were 'x'"):
        found["y"]
