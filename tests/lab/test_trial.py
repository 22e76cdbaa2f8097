"""One trial: what decides its result, what it reports, and what it refuses."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from minigrad.lab.tasks import task
from minigrad.lab.trial import (
    CELLS,
    INITS,
    Network,
    Trial,
    TrialError,
    measure,
    recurrent_weights,
    run_trial,
    train,
)
from minigrad.tape import no_grad

TINY: dict[str, Any] = {"length": 5, "hidden": 5, "updates": 3, "batch": 4}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task", "addding", "task 'addding' is not known; did you mean 'adding'?"),
        ("cell", "lsmt", "cell 'lsmt' is not known; did you mean 'lstm'?"),
        ("init", "kaiming", "init 'kaiming' is not known; There are default"),
        ("optimizer", "adamw", "optimizer 'adamw' is not known; did you mean 'adam'?"),
        ("hidden", 0, "hidden is a whole number from 1 on, got 0"),
        ("updates", 2.5, "updates is a whole number from 0 on, got 2.5"),
        ("seed", -1, "seed is a whole number from 0 on, got -1"),
        ("batch", True, "batch is a whole number from 1 on, got True"),
        ("learning_rate", 0.0, "learning_rate is a number above 0, got 0.0"),
        ("learning_rate", math.nan, "learning_rate is a number above 0, got nan"),
        ("max_norm", -1.0, "max_norm is a number"),
        ("length", 1, "adding: length 1 is too short"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Trial(**{"task": "adding", **TINY, field: value})


def test_max_norm_zero_means_no_clipping() -> None:
    assert Trial("adding", max_norm=0.0).max_norm == 0.0


def test_an_init_that_does_not_fit_the_cell_is_refused_with_both_names() -> None:
    trial = Trial("adding", cell="rnn", init="forget1", **TINY)
    with pytest.raises(TrialError, match="init 'forget1' does not fit 'rnn'"):
        Network(trial, task("adding", 5))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["adding", "copy"])
def test_every_cell_fits_every_kind_of_task(cell: str, name: str) -> None:
    trial, work = Trial(name, cell=cell, **TINY), task(name, 5)
    xs, _ = work.batch(np.random.default_rng(0), 1)
    with no_grad():
        out = Network(trial, work).eval()(xs)
    assert out.shape == ((1, 1) if work.last else (work.steps, 1, work.outputs))


def test_inits_do_what_their_names_say() -> None:
    work = task("adding", 9)

    def weights(cell: str, init: str) -> Any:
        return Network(Trial("adding", cell=cell, init=init, hidden=5, length=9), work).layer.cells[
            0
        ]

    for cell in ("rnn", "lstm"):
        for W in np.split(
            weights(cell, "orthogonal").weight_hh.numpy(), 4 if cell == "lstm" else 1
        ):
            np.testing.assert_allclose(W @ W.T, np.eye(5), atol=1e-5)
    np.testing.assert_array_equal(weights("rnn", "identity").weight_hh.numpy(), np.eye(5))
    lstm = weights("lstm", "forget1")
    gate = slice(5 * lstm.gates.index("f"), 5 * lstm.gates.index("f") + 5)
    assert (lstm.bias_ih.numpy()[gate] + lstm.bias_hh.numpy()[gate] == 1.0).all()
    chrono = weights("lstm", "chrono")
    u = np.exp(chrono.bias_ih.numpy()[gate])
    assert (u >= 1 - 1e-5).all()
    assert (u <= 8 + 1e-4).all()  # up to length - 1
    assert set(INITS) == {"default", "orthogonal", "identity", "forget1", "chrono"}


def test_the_largest_singular_value_and_radius_are_those_of_numpy() -> None:
    trial, work = Trial("adding", cell="lstm", hidden=5), task("adding", 50)
    layer = Network(trial, work).layer
    blocks = np.split(layer.cells[0].weight_hh.numpy().astype(np.float64), 4)
    found = recurrent_weights(layer)
    assert found["sigma_max"] == pytest.approx(max(np.linalg.norm(W, 2) for W in blocks), rel=1e-5)
    radii = [np.abs(np.linalg.eigvals(W)).max() for W in blocks]
    assert found["radius"] == pytest.approx(max(radii), rel=1e-5)


def test_a_cell_without_recurrent_weights_has_no_singular_value() -> None:
    trial = Trial("adding", cell="mingru", hidden=5)
    assert math.isnan(recurrent_weights(Network(trial, task("adding", 50)).layer)["sigma_max"])


@pytest.mark.slow
def test_the_same_trial_gives_the_same_numbers_and_another_seed_does_not() -> None:
    first, again, other = (
        run_trial(Trial("latch", cell="rnn", **TINY, seed=seed)) for seed in (0, 0, 1)
    )
    del first["seconds"], again["seconds"]
    assert first == again
    assert first["loss"] != other["loss"]


@pytest.mark.slow
def test_a_result_is_flat_and_has_everything_it_promises() -> None:
    result = run_trial(Trial("latch", cell="rnn", **TINY))
    promised = {
        "task", "cell", "init", "length", "hidden", "seed", "updates", "batch", "learning_rate",
        "max_norm", "optimizer", "loss", "baseline", "solved", "updates_done", "diverged",
        "curve_mean", "reach_before", "half_life_before", "rate_before", "verdict_before",
        "reach_after", "half_life_after", "rate_after", "verdict_after", "sigma_max", "radius",
        "nonfinite", "seconds",
    }  # fmt: skip
    assert set(result) == promised
    assert all(isinstance(value, (int, float, str, bool)) for value in result.values())
    assert result["updates_done"] == 3
    assert result["nonfinite"] == 0


@pytest.mark.slow
def test_no_updates_leave_the_network_as_it_was() -> None:
    result = run_trial(Trial("latch", cell="rnn", **{**TINY, "updates": 0}))
    assert result["updates_done"] == 0
    assert result["rate_before"] == result["rate_after"]
    assert math.isnan(result["curve_mean"])


@pytest.mark.slow
def test_progress_is_told_after_every_update() -> None:
    told: list[int] = []
    run_trial(Trial("latch", cell="rnn", **TINY), lambda done, loss: told.append(done))
    assert told == [1, 2, 3]


@pytest.mark.slow
def test_a_short_latch_is_solved_and_training_ends_there() -> None:
    trial = Trial("latch", cell="rnn", length=5, hidden=32, updates=400, learning_rate=0.01)
    work = task("latch", 5)
    network = Network(trial, work)
    found = train(trial, network, work)
    assert found["solved"]
    assert found["updates_done"] < 400
    assert found["updates_done"] % 50 == 0
    assert found["loss"] <= 0.1 * math.log(2)
    xs, y = work.batch(np.random.default_rng(99), 200)  # sequences nobody has seen
    with no_grad():
        assert (network(xs).numpy().argmax(axis=-1) == y).mean() > 0.95


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_training_and_is_said() -> None:
    trial = Trial(
        "adding", cell="relu", init="orthogonal", length=30, hidden=5, updates=200, batch=4,
        learning_rate=1e18, max_norm=0.0, optimizer="sgd",
    )  # fmt: skip
    with np.errstate(all="ignore"):
        result = run_trial(trial)
    assert result["diverged"]
    assert not result["solved"]
    assert result["updates_done"] < 200


def test_gradient_flow_of_broken_weights_is_said_to_be_broken() -> None:
    trial, work = Trial("latch", cell="rnn", **TINY), task("latch", 5)
    network = Network(trial, work)
    network.head.bias.data = np.full(2, np.nan, np.float32)
    found = measure(network, trial, work)
    assert found["verdict"] == "broken"
    assert math.isnan(float(found["rate"]))


def test_the_factor_per_step_of_an_identity_relu_net_is_one() -> None:
    """With W = 1, zero biases and inputs that keep every unit on, |dL/dh_t| does not change."""
    trial, work = Trial("latch", cell="irnn", length=40, hidden=5), task("latch", 40)
    network = Network(trial, work)
    cell = network.layer.cells[0]
    cell.weight_ih.data = np.zeros(cell.weight_ih.shape, np.float32)
    for name, p in network.layer.named_parameters():
        if "bias" in name:
            p.data = np.full(p.shape, 1e-3, np.float32)  # on from the first step
    assert measure(network, trial, work)["rate"] == pytest.approx(1.0, abs=1e-6)
