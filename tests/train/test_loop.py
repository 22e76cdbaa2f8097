"""fit: what a step does, when it stops, and that a killed run goes on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.train import TrainingError, fit, load, read_log


def net(seed: int = 0) -> nn.Linear:
    return nn.Linear(2, 1, dtype=np.float64, generator=np.random.default_rng(seed))


X = np.random.default_rng(0).normal(size=(12, 2))
Y = X @ [[2.0], [-1.0]] + 0.5


def mse(model: Any, batch: Any) -> Any:
    x, y = batch
    return nn.mse_loss(model(x), y)


BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)]


def test_a_step_is_that_of_the_loop_written_out() -> None:
    one, two = net(), net()
    adam = [optim.Adam(m.parameters(), 0.05) for m in (one, two)]
    warm = [optim.LinearWarmup(a, steps=4, then=optim.StepLR(a, 3)) for a in adam]
    fitted = fit(
        one, mse, BATCHES, adam[0], epochs=3, max_norm=0.5, schedule=warm[0], progress=False
    )
    losses, norms = [], []
    for _ in range(3):
        for batch in BATCHES:
            loss = mse(two, batch)
            adam[1].zero_grad()
            loss.backward()
            norms.append(optim.clip_grad_norm_(two.parameters(), 0.5))
            adam[1].step()
            warm[1].step()
            losses.append(loss.item())
    assert (fitted.losses, fitted.norms) == (losses, norms)
    np.testing.assert_array_equal(one.weight.numpy(), two.weight.numpy())
    assert (fitted.steps, fitted.epochs, fitted.stopped) == (9, 3, "epochs")


def test_steps_may_end_in_the_middle_of_an_epoch() -> None:
    model = net()
    fitted = fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), steps=4, progress=False)
    assert (fitted.steps, fitted.epochs, fitted.stopped) == (4, 1, "steps")


def test_early_stopping_gives_the_best_parameters_back() -> None:
    model, scores, weights = net(), iter([3.0, 1.0, 2.0, 5.0, 0.0]), []

    def validate() -> dict[str, float]:
        weights.append(model.weight.numpy().copy())
        return {"loss": next(scores)}

    fitted = fit(
        model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=9, validate=validate,
        patience=2, progress=False,
    )  # fmt: skip
    assert fitted.stopped == "patience"
    assert [entry["loss"] for entry in fitted.history] == [3.0, 1.0, 2.0, 5.0]
    assert fitted.best["epoch"] == 2
    np.testing.assert_array_equal(model.weight.numpy(), weights[1])


def test_a_larger_metric_can_be_the_better_one() -> None:
    model, scores = net(), iter([0.1, 0.9, 0.5])
    fitted = fit(
        model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=3, progress=False,
        validate=lambda: {"accuracy": next(scores)}, metric="accuracy", larger_is_better=True,
    )  # fmt: skip
    assert fitted.best["accuracy"] == 0.9


def test_validation_runs_in_eval_mode_without_recording() -> None:
    model = nn.Sequential(net(), nn.Dropout(0.5))
    seen = []

    def validate() -> dict[str, float]:
        seen.append((model.training, model(X).requires_grad))
        return {"loss": 0.0}

    fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=1, validate=validate,
        progress=False)  # fmt: skip
    assert seen == [(False, False)]
    assert model.training


def test_a_loss_that_is_not_a_number_ends_the_run_and_leaves_the_model(tmp_path: Path) -> None:
    model = net()
    bad = [*BATCHES[:2], (X[:4], Y[:4] * np.nan), BATCHES[2]]
    fitted = fit(model, mse, bad, optim.SGD(model.parameters(), 0.1), epochs=5, progress=False,
                 checkpoint=tmp_path / "a.ckpt", every=1)  # fmt: skip
    assert (fitted.stopped, fitted.steps) == ("diverged", 3)
    assert np.isfinite(model.weight.numpy()).all()
    assert load(tmp_path / "a.ckpt")["step"] == 2


def test_a_carried_state_gets_no_gradient_from_the_next_batch(rng: np.random.Generator) -> None:
    """Truncated BPTT over windows: the loss of a window is that of the state as it comes in."""
    gru = nn.GRU(2, 3, dtype=np.float64, generator=rng)
    windows = [rng.normal(size=(5, 4, 2)) for _ in range(3)]
    states = []

    def loss(model: Any, xs: Any, state: Any) -> Any:
        ys, state = model(xs, state)
        states.append(state)
        return (ys**2).mean(), state

    before = {k: v.copy() for k, v in gru.state_dict().items()}
    fit(gru, loss, windows, optim.SGD(gru.parameters(), 0.1), epochs=2, carry=True, progress=False)
    other, at = nn.GRU(2, 3, dtype=np.float64), None
    other.load_state_dict(before)
    sgd = optim.SGD(other.parameters(), 0.1)
    for k in range(6):
        at = None if k % 3 == 0 else at  # an epoch begins anew
        ys, at = other(windows[k % 3], at)
        sgd.zero_grad()
        (ys**2).mean().backward()
        sgd.step()
        at = at.detach()
    np.testing.assert_array_equal(gru.weight_hh_l0.numpy(), other.weight_hh_l0.numpy())
    assert all(state.requires_grad for state in states)


def test_the_log_has_a_line_for_every_step_and_validation(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "log.jsonl"
    fitted = fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=2, log=path,
                 validate=lambda: {"loss": float("nan")}, progress=False)  # fmt: skip
    lines = read_log(path)
    assert [line["loss"] for line in lines if "loss" in line] == fitted.losses
    assert [line["validation"]["loss"] for line in lines if "validation" in line] == ["nan"] * 2
    with pytest.raises(TrainingError, match=r"log=.*log.jsonl' cannot be written"):
        fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=1, log=path)


def test_callbacks_see_every_step() -> None:
    model, seen = net(), []
    fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=1, progress=False,
        callbacks=[lambda run: seen.append((run.step, run.loss, run.norm))])  # fmt: skip
    assert [step for step, *_ in seen] == [1, 2, 3]
    assert all(norm > 0 for *_, norm in seen)


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    model = net()
    fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("step 6  epoch 2  loss ")
    assert line.endswith("epochs")


# -- resuming ------------------------------------------------------------------------------------

SCRIPT = """
import sys, numpy as np, minigrad as mg
from minigrad import nn, optim
from minigrad.train import fit
file, log, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
mg.seed(1)
rng = np.random.default_rng(0)
class Model(nn.Module):
    def __init__(self):
        self.gru = nn.GRU(3, 5, num_layers=2, dropout=0.3, mode="tape", generator=rng)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(5, 1, generator=rng))
    def forward(self, x, state):
        ys, state = self.gru(x, state)
        return self.head(ys), state
model = Model()
data = np.random.default_rng(2)
batches = [data.normal(size=(6, 4, 3)).astype(np.float32) for _ in range(5)]
def loss(model, x, state):
    y, state = model(x, state)
    return ((y - x[..., :1]) ** 2).mean(), state
def validate():
    return {"loss": loss(model, batches[0], None)[0].item()}
optimizer = optim.Adam(model.parameters(), 0.01)
schedule = optim.LinearWarmup(optimizer, 7, then=optim.CosineAnnealingLR(optimizer, 30))
def die(run):
    if run.step == kill_at:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
fit(model, loss, batches, optimizer, epochs=6, max_norm=1.0, schedule=schedule, carry=True,
    validate=validate, checkpoint=file, every=3, resume=True, log=log, callbacks=[die],
    progress=False)
"""


def trained(folder: Path, kills: list[int]) -> tuple[bytes, list[Any]]:
    """The last checkpoint and the log of a run that was killed at these steps."""
    folder.mkdir()
    file, log = folder / "run.ckpt", folder / "log.jsonl"
    for kill_at in [*kills, 0]:
        command = [sys.executable, "-c", SCRIPT, str(file), str(log), str(kill_at)]
        done = subprocess.run(command, capture_output=True, text=True)
        expected = -signal.SIGKILL if kill_at else 0
        assert done.returncode == expected, done.stderr
        if kill_at == kills[0] if kills else False:
            with log.open("a") as torn:  # as if the kill had come in the middle of a line
                torn.write('{"step": 1, "lo')
    return file.read_bytes(), read_log(log)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Dropout, a carried state, Adam, a schedule and validation; killed in and between epochs."""
    whole, log = trained(tmp_path / "whole", [])
    parts, parts_log = trained(tmp_path / "parts", [5, 14])
    assert whole == parts
    assert log == parts_log
    assert len([line for line in log if "loss" in line]) == 30


def test_a_run_that_ends_between_an_epoch_and_its_validation_goes_on(tmp_path: Path) -> None:
    calls = []

    def validate() -> dict[str, float]:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return {"loss": 1.0}

    for _ in range(2):
        model = net()
        options = dict(epochs=2, validate=validate, checkpoint=tmp_path / "a.ckpt", every=3)
        try:
            fitted = fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), resume=True,
                         progress=False, **options)  # fmt: skip
        except KeyboardInterrupt:
            continue
    assert (fitted.steps, len(fitted.losses), len(fitted.history)) == (6, 3, 2)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        model = net()
        sgd = optim.SGD(model.parameters(), 0.1)
        fitted = fit(model, mse, BATCHES, sgd, epochs=2, resume=True, progress=False,
                     checkpoint=tmp_path / "a.ckpt")  # fmt: skip
        results.append((len(fitted.losses), fitted.steps, model.weight.numpy().tolist()))
    assert results[0][0] == 6
    assert results[1] == (0, *results[0][1:])


def test_a_checkpoint_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "a.ckpt"
    sgd = optim.SGD(model.parameters(), 0.1)
    fit(model, mse, BATCHES, sgd, epochs=1, checkpoint=path, progress=False)
    before = path.read_bytes()
    with pytest.raises(TrainingError, match="is there already; resume=True goes on from it"):
        fit(model, mse, BATCHES, sgd, epochs=1, checkpoint=path, progress=False)
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "a.ckpt"
    fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=1, checkpoint=path,
        progress=False)  # fmt: skip
    other = nn.Linear(3, 1, dtype=np.float64)
    with pytest.raises(TrainingError, match=r"a\.ckpt is of another run"):
        fit(other, mse, BATCHES, optim.SGD(other.parameters(), 0.1), epochs=2, checkpoint=path,
            resume=True, progress=False)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(), "say how long, epochs= or steps="),
        (dict(epochs=0), "epochs is a whole number from 1 on, got 0"),
        (dict(steps=1.5), "steps is a whole number"),
        (dict(epochs=1, patience=2), "patience needs validate="),
        (dict(epochs=1, resume=True), "resume and every need checkpoint="),
        (dict(epochs=1, batches=[]), "batches gave nothing"),
        (dict(epochs=1, validate=lambda: {"bits": 1.0}), "validate gave bits, but metric='loss'"),
    ],
)
def test_arguments_that_make_no_sense_are_named(options: Any, message: str) -> None:
    model = net()
    given = dict(batches=BATCHES, progress=False) | options
    batches = given.pop("batches")
    with pytest.raises(TrainingError, match=message):
        fit(model, mse, batches, optim.SGD(model.parameters(), 0.1), **given)


def test_minigrads_own_generator_is_part_of_the_run(tmp_path: Path) -> None:
    mg.seed(3)
    model = nn.Sequential(net(), nn.Dropout(0.5))
    fit(model, mse, BATCHES, optim.SGD(model.parameters(), 0.1), epochs=1, progress=False,
        checkpoint=tmp_path / "a.ckpt")  # fmt: skip
    assert len(load(tmp_path / "a.ckpt")["random"]) == 1
