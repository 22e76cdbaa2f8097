"""The nets of tools/labelled: what is said of them is true, and some of them are diagnosed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

import verdicts
from labelled import labels, nets, oracle, plants, scoring
from labelled.equations import STATES, STEPS

from minigrad.tree import leaves

Array = np.ndarray


def stack(cell: str, layers: int, rng: np.random.Generator, hidden: int = 5) -> nets.Net:
    spec = nets.draw(
        0, rng, cell=cell, task="plain", layers=layers, hidden=hidden, steps=7, rows=3,
        lengths=False, bidirectional=False, mode="tape", dtype="float64", scale=1.0,
    )  # fmt: skip
    return nets.made(spec, rng)


@pytest.mark.parametrize("cell", STEPS)
def test_the_equations_of_each_cell_are_those_of_its_layer(
    cell: str, rng: np.random.Generator
) -> None:
    net = stack(cell, 2, rng)
    _, final = net.layer(net.xs)
    states, gates = net.stack().forward(net.xs)
    ours = [np.split(s[-1], len(STATES[cell]), axis=1) for s in states]
    for part, theirs in enumerate(leaves(final)):
        for layer in range(2):
            np.testing.assert_allclose(ours[layer][part], theirs.numpy()[layer], atol=1e-13)
    assert all(a.shape == (7, 3, 5) for g in gates for a in g.values())


@pytest.mark.parametrize("cell", STEPS)
def test_jacobians_by_complex_steps_are_those_of_differences(
    cell: str, rng: np.random.Generator
) -> None:
    of = stack(cell, 1, rng).stack()
    s, x = rng.standard_normal((2, of.size)), rng.standard_normal((2, nets.FEATURES))
    found = of.jacobian(0, s, x)
    both, n = np.concatenate([s, x], axis=1), of.size
    for k in range(both.shape[1]):
        e = np.zeros(both.shape[1])
        e[k] = 1e-6
        up, down = (of.step(0, b[:, :n], b[:, n:])[0] for b in (both + e, both - e))
        np.testing.assert_allclose(found[:, :, k], (up - down) / 2e-6, atol=1e-8)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_oracle_has_the_powers_of_a_linear_net(factor: float, rng: np.random.Generator) -> None:
    net = stack("relu", 2, rng)
    for cell in net.layer.cells:
        cell.weight_hh.data = factor * np.eye(5)
        cell.weight_ih.data = np.zeros(cell.weight_ih.shape)
        cell.bias_ih.data = np.ones(5)
    net.layer.cells[1].weight_ih.data = 1e-4 * np.eye(5)
    ends = np.array([7, 4, 7])
    dy = np.ones((3, 5))
    found = oracle.flow(net.stack(), net.xs, ends, dy)
    np.testing.assert_allclose(found.share, factor ** np.arange(7), rtol=1e-6)
    # each step sends 1e-4 of what arrives there to the layer below
    above = np.sqrt(3 * 5)
    rows = sum(sum(factor ** (2 * k) for k in range(n)) for n in ends) * 5
    np.testing.assert_allclose(found.depth, [1e-4 * np.sqrt(rows), above], rtol=1e-6)


def test_the_oracle_counts_units_and_gates_and_finds_the_first_nan(
    rng: np.random.Generator,
) -> None:
    net = stack("lstm", 1, rng)
    cell = net.layer.cells[0]
    cell.bias_ih.data[:2] = -800.0  # i of two units of five
    real = np.ones((7, 3), bool)
    assert oracle.dead(net.stack(), net.xs) == 0.4
    assert oracle.saturated(net.stack(), net.xs, real) == 0.0  # i keeps where it is shut
    cell.bias_ih.data[10:15] = 50.0
    assert oracle.saturated(net.stack(), net.xs, real) == 0.25
    assert oracle.first_nonfinite(net.stack(), net.xs, real) is None
    net.xs[4, 1, 0] = np.nan
    assert oracle.first_nonfinite(net.stack(), net.xs, real) == (4, 1)
    real[4:, 1] = False
    assert oracle.first_nonfinite(net.stack(), net.xs, real) is None


def test_wilsons_interval_is_the_published_one() -> None:
    np.testing.assert_allclose(scoring.wilson(8, 10), (0.8, 0.4902, 0.9433), atol=1e-4)
    np.testing.assert_allclose(scoring.wilson(0, 10), (0.0, 0.0, 0.2775), atol=1e-4)
    assert np.isnan(scoring.wilson(0, 0)[0])


def test_scores_count_what_is_there_and_what_was_named() -> None:
    def outcome(there: bool | None, *said: str) -> scoring.Outcome:
        return scoring.Outcome("a", "", {"vanishing": there, "detached": False}, said)

    given = [
        outcome(True, "vanishing"), outcome(True), outcome(False, "vanishing"),
        outcome(None, "vanishing"), outcome(False, "detached"),
    ]  # fmt: skip
    assert scoring.score(given, "vanishing") == scoring.Score(1, 1, 1, 1, 1)
    assert scoring.score(given, "detached") == scoring.Score(0, 0, 1, 0)
    assert scoring.table(given, ["vanishing"])[2].startswith("| vanishing | 2 | 1 | 1 | 1 | 0.50 ")
    assert scoring.confusion(given, ["vanishing", "detached"])[2] == "| a | 5 | 2 +1 |  +1 | 1 |"


def test_seeds_give_the_same_nets_again() -> None:
    for _ in range(2):
        a, b = (plants.vanishing(8, np.random.default_rng(8)) for _ in range(2))
        assert a.spec == b.spec
        np.testing.assert_array_equal(a.xs, b.xs)
        for x, y in zip(a.stack().layers, b.stack().layers):
            assert all(np.array_equal(x[name], y[name]) for name in x)


FEW = [plant for plant in plants.PLANTS if "rate" not in plant and "trained" not in plant]


@pytest.mark.parametrize("plant", [*FEW, "untrained"])
def test_a_net_of_each_kind_is_diagnosed_without_a_mistake(plant: str) -> None:
    seed = next(s for s in range(0, 80, 2) if _small(_spec(plant, s)))
    outcome = verdicts.measured((plant, seed))
    assert not outcome.missed, outcome
    assert not outcome.false, outcome


def _small(spec: nets.Spec) -> bool:
    """Nothing is compiled for it, and it takes a fraction of a second."""
    return spec.mode == "tape" and spec.hidden * spec.layers < 30 and 20 <= spec.steps <= 70


def _spec(plant: str, seed: int) -> nets.Spec:
    return plants.PLANTS[plant](seed, np.random.default_rng(verdicts.key(plant, seed))).spec


@pytest.mark.slow
@pytest.mark.long
def test_causes_are_named_with_precision_and_recall_of_95_percent() -> None:
    # Every other net of that half; `python tools/verdicts.py` makes the tables of all.
    outcomes = verdicts.run(list(plants.PLANTS), range(0, verdicts.EACH, 2), 1)
    every = [scoring.score(outcomes, name) for name in labels.NAMES]
    hits, missed, false = (
        sum(getattr(s, what) for s in every) for what in ("hits", "missed", "false")
    )
    assert hits / (hits + false) >= 0.95
    assert hits / (hits + missed) >= 0.95
