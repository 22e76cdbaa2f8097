"""fit(jit=True): the bits of the plain run, resumed ones too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.train import TrainingError, fit


class Tagger(nn.Module):
    """Characters in, scores of the next ones out, and the state to go on from."""

    def __init__(self) -> None:
        draw = np.random.default_rng(3)
        self.embed = nn.Embedding(5, 4, generator=draw)
        self.drop = nn.Dropout(0.2, generator=np.random.default_rng(4))
        self.lstm = nn.LSTM(4, 6, generator=draw)
        self.head = nn.Linear(6, 5, generator=draw)

    def forward(self, xs: Any, state: Any = None) -> Any:
        hs, state = self.lstm(self.drop(self.embed(xs)), state)
        return self.head(hs), state


def loss(model: Any, batch: Any, state: Any = None) -> Any:
    logits, state = model(batch[0], state)
    return nn.cross_entropy(logits, batch[1]), state


def data(n: int) -> list[Any]:
    draw = np.random.default_rng(0)
    return [(draw.integers(0, 5, (7, 3)), draw.integers(0, 5, (7, 3))) for _ in range(n)]


def trained(jit: Any, batches: Any = None, **options: Any) -> tuple[Any, Any]:
    model = Tagger()
    fitted = fit(
        model, loss, batches or data(5), mg.optim.Adam(model.parameters(), 0.01), carry=True,
        max_norm=0.5, progress=False, jit=jit, **{"epochs": 2, **options},
    )  # fmt: skip
    return model, fitted


def equal(a: Any, b: Any) -> bool:
    return all(
        np.array_equal(p.numpy(), q.numpy())
        for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )


def test_losses_norms_and_parameters_have_the_bits_of_the_plain_run() -> None:
    plain, expected = trained(False)
    model, fitted = trained(True)
    assert (fitted.losses, fitted.norms) == (expected.losses, expected.norms)
    assert equal(model, plain)
    # a state of None and a carried one are two kinds of arguments, each recorded twice
    assert (fitted.replayed, expected.replayed) == (6, 0)


def test_a_run_that_is_resumed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    plain, expected = trained(False)
    file = tmp_path / "run.ckpt"
    trained(True, epochs=None, steps=4, checkpoint=file)
    model, fitted = trained(True, checkpoint=file, resume=True)
    assert fitted.losses == expected.losses[4:]
    assert equal(model, plain)


def test_auto_falls_back_to_plain_steps_and_says_why() -> None:
    plain, expected = trained(False)

    def reading(model: Any, batch: Any, state: Any = None) -> Any:
        value, state = loss(model, batch, state)
        assert value.item() > 0
        return value, state

    model = Tagger()
    fitted = fit(
        model, reading, data(5), mg.optim.Adam(model.parameters(), 0.01), carry=True,
        max_norm=0.5, progress=False, jit="auto", epochs=2,
    )  # fmt: skip
    assert fitted.losses == expected.losses
    assert equal(model, plain)
    assert fitted.replayed == 0
    assert "t.item()" in fitted.plainly
    with pytest.raises(mg.JitError, match=r"t.item\(\)"):
        fit(model, reading, data(5), mg.optim.SGD(model.parameters()), carry=True, progress=False,
            jit=True, epochs=1)  # fmt: skip


def test_auto_gives_up_on_batches_of_ever_other_shapes() -> None:
    draw = np.random.default_rng(1)
    batches = [(draw.integers(0, 5, (n, 3)), draw.integers(0, 5, (n, 3))) for n in range(1, 13)]
    _, expected = trained(False, batches)
    _, fitted = trained("auto", batches)
    assert fitted.losses == expected.losses
    assert "too many shapes" in fitted.plainly


def test_a_monitor_looks_into_plain_steps_of_a_jitted_run() -> None:
    seen = []
    model = Tagger()
    monitor = mg.flow.Monitor(model, every=3)
    fitted = fit(
        model, loss, data(5), mg.optim.Adam(model.parameters(), 0.01), carry=True, max_norm=0.5,
        progress=False, jit=True, epochs=2, callbacks=[monitor, lambda run: seen.append(run.step)],
    )  # fmt: skip
    _, expected = trained(False)
    assert fitted.losses == expected.losses
    assert len(seen) == 10
    assert [m.step for m in monitor.history.measurements] == [3, 6, 9]


def test_jit_is_true_false_or_auto() -> None:
    with pytest.raises(TrainingError, match="jit is True, False or 'auto', got 'yes'"):
        trained("yes")


class Weighted:
    """A loss whose weight a callback moves."""

    def __init__(self) -> None:
        self.weight = 1.0

    def __call__(self, model: Any, batch: Any, state: Any = None) -> Any:
        value, state = loss(model, batch, state)
        return value * self.weight, state


class Counting(Weighted):
    calls = 0

    def __call__(self, model: Any, batch: Any, state: Any = None) -> Any:
        self.calls += 1
        return super().__call__(model, batch, state)


@pytest.mark.parametrize("kind", [Weighted, Counting])
def test_a_loss_that_reads_its_settings_reads_them_at_every_step(kind: type[Weighted]) -> None:
    def run(jit: Any) -> tuple[Any, Any]:
        model, weighted = Tagger(), kind()

        def callback(run: Any) -> None:
            weighted.weight = 0.5 if run.step > 6 else 1.0

        fitted = fit(
            model, weighted, data(6), mg.optim.Adam(model.parameters(), 0.01), carry=True,
            epochs=3, progress=False, jit=jit, callbacks=[callback],
        )  # fmt: skip
        return model, fitted

    plain, expected = run(False)
    model, fitted = run("auto")
    assert fitted.losses == expected.losses
    assert equal(model, plain)
    if kind is Counting:
        assert fitted.plainly.startswith("mg.jit: Counting changes .calls of a Counting")
    else:
        assert fitted.replayed > 6
