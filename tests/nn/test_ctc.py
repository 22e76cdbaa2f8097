"""CTC against torch's stored values, and against the sum over all paths written out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from golden.store import Case, cases, gradients, weighted_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import each_mode

import minigrad as mg
from minigrad.errors import DTypeError, ShapeError
from minigrad.nn.ctc import Labelling

CASES = cases("ctc")


@each_mode
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_torchs_to_1e_8(name: str, mode: str) -> None:
    case: Case = CASES[name]
    options = dict(case.options)
    x = mg.tensor(case.arrays["x"], requires_grad=True)
    targets = np.array(options.pop("targets"), np.int64).reshape(x.shape[1], -1)
    loss = mg.nn.ctc_loss(mg.log_softmax(x, axis=-1), targets, mode=mode, **options)
    np.testing.assert_allclose(loss.numpy(), case.arrays["loss"], rtol=1e-8, atol=1e-12)
    weighted_loss(case, {"loss": loss}).backward()
    np.testing.assert_allclose(x.grad.numpy(), gradients(case)["x"], rtol=1e-8, atol=1e-10)


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def by_enumeration(p: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """labelling -> its probability: the sum over all C^T paths of one row."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        labels = collapsed(path, blank)
        found[labels] = found.get(labels, 0.0) + float(
            np.prod([p[t, k] for t, k in enumerate(path)])
        )
    return found


def frames(seed: int, time: int, batch: int, classes: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(time, batch, classes), scale=2.0)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@each_mode
@pytest.mark.parametrize("blank", [0, 2])
def test_the_loss_of_every_labelling_is_the_sum_over_its_paths(blank: int, mode: str) -> None:
    log_p = frames(blank, 4, 1, 3)
    exact = by_enumeration(np.exp(log_p[:, 0]), blank)
    assert sum(exact.values()) == pytest.approx(1.0)
    for labels, p in exact.items():
        targets = np.array([labels], np.int64).reshape(1, -1)
        loss = mg.nn.ctc_loss(log_p, targets, blank=blank, reduction="none", mode=mode)
        assert np.exp(-loss.numpy()) == pytest.approx([p], rel=1e-10)


@each_mode
def test_a_loss_far_below_the_spacing_of_ones_is_kept(mode: str) -> None:
    """Both frames the label, all but surely: -ln p is what the two other paths leave, to 1e-10."""
    for tiny in (1e-12, 1e-20, 1e-30):
        blank, other = math.log(tiny), math.log(2.0 * tiny)
        log_p = np.array([[[blank, -3.0 * tiny, other]], [[blank, -3.0 * tiny, other]]])
        loss = mg.nn.ctc_loss(log_p, [[1]], mode=mode, reduction="sum").item()
        # 11 has p = e^(-6 tiny), and 1- and -1 have p = tiny each, to first order.
        assert loss == pytest.approx(4.0 * tiny, rel=1e-10 if tiny < 1e-12 else 1e-3)


@each_mode
def test_padding_of_frames_and_labels_changes_nothing(mode: str) -> None:
    log_p = frames(1, 6, 3, 4)
    lengths, counts = [6, 2, 4], [2, 1, 0]
    targets = np.array([[1, 3], [2, 99], [-7, 99]])
    log_p[2:, 1], log_p[4:, 2] = np.nan, np.nan
    x = mg.tensor(log_p, requires_grad=True)
    loss = mg.nn.ctc_loss(x, targets, lengths, counts, reduction="none", mode=mode)
    loss.sum().backward()
    for b, (n, k) in enumerate(zip(lengths, counts, strict=True)):
        one = mg.tensor(log_p[:n, b : b + 1], requires_grad=True)
        alone = mg.nn.ctc_loss(one, targets[b : b + 1, :k], mode=mode, reduction="sum")
        alone.backward()
        assert loss.numpy()[b] == pytest.approx(alone.item(), rel=1e-12)
        np.testing.assert_allclose(x.grad.numpy()[:n, b], one.grad.numpy()[:, 0], rtol=1e-10)
        assert not x.grad.numpy()[n:, b].any()


@each_mode
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_too_few_frames_are_an_infinite_loss_without_a_gradient(dtype: Any, mode: str) -> None:
    x = mg.tensor(frames(2, 3, 2, 3).astype(dtype), requires_grad=True)
    targets = [[1, 1], [1, 2]]  # a repeat needs a blank: three frames do, two do not
    loss = mg.nn.ctc_loss(x, targets, [2, 3], reduction="none", mode=mode)
    assert loss.numpy()[0] == np.inf
    assert np.isfinite(loss.numpy()[1])
    safe = mg.nn.ctc_loss(x, targets, [2, 3], reduction="sum", zero_infinity=True, mode=mode)
    safe.backward()
    assert safe.item() == pytest.approx(loss.numpy()[1])
    assert not x.grad.numpy()[:, 0].any()
    assert np.isfinite(x.grad.numpy()).all()
    assert mg.nn.ctc_loss(x, targets, mode=mode, reduction="none").numpy()[0] < np.inf


@given(seed=st.integers(0, 10**6), blank=st.integers(0, 2), time=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_a_wide_beam_finds_every_labelling_with_its_probability(
    seed: int, blank: int, time: int
) -> None:
    log_p = frames(seed, time, 1, 3)
    exact = by_enumeration(np.exp(log_p[:, 0]), blank)
    (found,) = mg.nn.ctc_beam(log_p, blank=blank, width=500, best=500)
    assert {tuple(f.labels): pytest.approx(np.exp(f.log_p), rel=1e-9) for f in found} == {
        labels: p for labels, p in exact.items() if p > 0
    }
    scores = [f.log_p for f in found]
    assert scores == sorted(scores, reverse=True)


def test_a_narrow_beam_gives_a_lower_bound() -> None:
    log_p = frames(3, 8, 2, 5)
    for narrow, wide in zip(
        mg.nn.ctc_beam(log_p, width=2), mg.nn.ctc_beam(log_p, width=2000), strict=True
    ):
        assert narrow[0].log_p <= wide[0].log_p + 1e-12


def test_greedy_takes_out_repeats_and_then_blanks() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 0]
    p = np.full((8, 1, 3), 0.1)
    p[np.arange(8), 0, path] = 0.8
    assert mg.nn.ctc_greedy(np.log(p)) == [Labelling([1, 1, 2], pytest.approx(8 * np.log(0.8)))]
    assert mg.nn.ctc_greedy(np.log(p), [4])[0].labels == [1]
    assert mg.nn.ctc_greedy(np.log(p), blank=1)[0].labels == [0, 0, 2, 0]


def test_a_net_learns_to_spell_without_being_told_when(rng: np.random.Generator) -> None:
    """Three patterns of two frames each, with silence between; CTC has to find them."""
    patterns, words = rng.normal(size=(3, 4)), [[1, 2], [2, 3], [3, 1], [1, 1]]
    rows = [[w for label in word for w in (label, label, 0)] for word in words]
    x = np.array([[patterns[w - 1] if w else np.zeros(4) for w in row] for row in rows])
    x = np.swapaxes(x, 0, 1)
    net = mg.nn.RNN(4, 8, dtype=np.float64, generator=rng, mode="tape")
    head = mg.nn.Linear(8, 4, dtype=np.float64, generator=rng)
    optimizer = mg.optim.Adam([*net.parameters(), *head.parameters()], lr=0.03)
    for _ in range(80):
        log_p = mg.log_softmax(head(net(x)[0]), axis=-1)
        loss = mg.nn.ctc_loss(log_p, words, mode="tape")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [f.labels for f in mg.nn.ctc_greedy(log_p)] == words
    assert [f[0].labels for f in mg.nn.ctc_beam(log_p)] == words


P = frames(0, 4, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((P[0], [[1]]), ShapeError, r"expected log_probs of shape \(T, B, C\)"),
        ((P, [1, 2]), ShapeError, r"expected targets of shape \(B, S\) with B = 2"),
        ((P, [[1.0], [2.0]]), DTypeError, r"targets are class numbers"),
        ((P, [[1], [3]]), ShapeError, r"ctc_loss: targets"),
        ((P, [[1], [0]]), ShapeError, r"a target is 0, the blank"),
        ((P, [[1], [1]], [4, 5]), ShapeError, r"lengths\[1\] is 5"),
        ((P, [[1], [1]], None, [1, 2]), ShapeError, r"target_lengths run from 0 to 1, got 1 to 2"),
        ((P, [[1], [1]], None, [1]), ShapeError, r"one target length for each of 2 rows"),
        ((P, [[1], [1]], None, None, 3), ShapeError, r"blank=3 is not one of the 3 classes"),
        ((P, [[1], [1]], None, None, 0, "max"), ValueError, r"'mean', 'sum' or 'none', got 'max'"),
    ],
)
def test_bad_arguments_are_named(arguments: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        mg.nn.ctc_loss(*arguments)


def test_a_beam_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="width and best must be >= 1, got 0 and 1"):
        mg.nn.ctc_beam(P, width=0)
