"""Attention with masks, sampling, beam search, and the encoder-decoder made of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from modes import each_mode

import minigrad as mg
from minigrad import nn

BEGIN, END = 0, 1


# -- attention -----------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("score", ["additive", "dot"])
def test_padding_of_the_memory_gets_no_attention_and_changes_nothing(
    score: str, mode: str, rng: np.random.Generator
) -> None:
    cell = nn.AttentionLSTMCell(2, 3, 4, score=score, dtype=np.float64, generator=rng)
    memory, xs = rng.normal(size=(2, 5, 4)), mg.tensor(rng.normal(size=(3, 2, 2)))
    memory[1, 2:] = 1e3

    def run(memory: Any, lengths: Any, xs: Any) -> tuple[Any, Any, Any]:
        memory = mg.tensor(memory, requires_grad=True)
        cell.attend(memory, lengths)
        result = mg.scan(cell, cell.init_state(len(memory)), xs, mode=mode, record=["attention"])
        result.ys.sum().backward()
        return result.ys.numpy(), result.record.values["attention"], memory.grad.numpy()

    ys, weights, gradient = run(memory, [5, 2], xs)
    assert (weights[:, 1, 2:] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-12)
    assert (gradient[1, 2:] == 0).all()
    alone, _, alone_gradient = run(memory[1:, :2], None, xs[:, 1:])
    np.testing.assert_allclose(ys[:, 1:], alone, rtol=1e-12)
    np.testing.assert_allclose(gradient[1:, :2], alone_gradient, rtol=1e-10)


def test_lengths_of_a_memory_are_checked() -> None:
    cell = nn.AttentionLSTMCell(2, 3, 4)
    with pytest.raises(mg.ShapeError, match=r"AttentionLSTMCell.attend: lengths\[1\] is 6"):
        cell.attend(np.ones((2, 5, 4), np.float32), [5, 6])


# -- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_have_the_frequencies_of_the_softmax(
    temperature: float, rng: np.random.Generator
) -> None:
    logits, n = np.array([0.0, 1.0, -2.0, 0.5]), 40_000
    drawn = nn.sample(np.tile(logits, (n, 1)), temperature, generator=rng)
    p = np.exp(logits / temperature)
    p /= p.sum()
    counts = np.bincount(drawn, minlength=4)
    assert (np.abs(counts - n * p) < 5 * np.sqrt(n * p * (1 - p))).all()


def test_top_k_draws_from_the_k_largest_only(rng: np.random.Generator) -> None:
    drawn = nn.sample(np.tile([0.0, 3.0, 2.0, -1.0], (500, 1)), top_k=2, generator=rng)
    assert set(drawn.tolist()) == {1, 2}
    assert nn.sample([[0.0, 3.0]], top_k=7, generator=rng).shape == (1,)
    assert (nn.sample(np.tile([0.0, 3.0], (50, 1)), top_k=1, generator=rng) == 1).all()


def test_one_generator_gives_one_sequence_of_samples() -> None:
    draws = [nn.sample(np.zeros((9, 5)), generator=np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(temperature=-1.0), ValueError, "temperature must be >= 0 and finite"),
        (dict(temperature=float("nan")), ValueError, "temperature must be >= 0"),
        (dict(top_k=0), ValueError, "top_k must be >= 1, got 0"),
    ],
)
def test_wrong_options_of_sample_are_named(options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        nn.sample([[0.0, 1.0]], **options)


# -- beam search ---------------------------------------------------------------------------------


def markov(seed: int, classes: int = 4) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(classes, classes), scale=1.5)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def enumerated(table: np.ndarray, longest: int) -> list[tuple[float, list[int]]]:
    """Every sequence of a Markov chain up to a length, with its log p, best first."""
    others = [s for s in range(len(table)) if s != END]
    found = []
    for n in range(longest + 1):
        for symbols in itertools.product(others, repeat=n):
            path = [BEGIN, *symbols, END]
            log_p = sum(table[a, b] for a, b in itertools.pairwise(path))
            found.append((float(log_p), list(symbols)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_best_sequences(seed: int) -> None:
    table = markov(seed)
    exact = enumerated(table, 5)
    found = nn.beam_search(
        lambda s, x: (s, table[x]), np.zeros((1, 1)), BEGIN, END, width=300, max_steps=6
    )
    of = {tuple(symbols): log_p for log_p, symbols in exact}
    for (log_p, _), hypothesis in zip(exact[:20], found, strict=False):  # some are equally probable
        assert hypothesis.log_p == pytest.approx(log_p)
        assert of[tuple(hypothesis.symbols)] == pytest.approx(log_p)
    assert len({tuple(h.symbols) for h in found}) == len(found)


def test_a_length_penalty_prefers_longer_sequences() -> None:
    table = np.log([[0.1, 0.5, 0.4], [1 / 3, 1 / 3, 1 / 3], [0.05, 0.5, 0.45]])
    lengths = [
        len(
            nn.beam_search(
                lambda s, x: (s, table[x]), np.zeros((1, 1)), BEGIN, END, 50, 8, length_penalty=a
            )[0].symbols
        )
        for a in (0.0, 3.0)
    ]
    assert lengths[0] == 0
    assert lengths[1] > 0


def test_what_never_ends_is_given_as_it_is() -> None:
    table = np.log([[0.0001, 1e-300, 0.9998], [1.0, 1.0, 1.0], [0.5, 1e-300, 0.5]])
    (best, *_) = nn.beam_search(
        lambda s, x: (s, table[x]), np.zeros((1, 1)), BEGIN, END, width=1, max_steps=3
    )
    assert len(best.symbols) == 3


# -- encoder and decoder -------------------------------------------------------------------------


def model(mode: str = "fused", **options: Any) -> nn.EncoderDecoder:
    generator = np.random.default_rng(0)
    return nn.EncoderDecoder(
        6, 5, 4, 3, mode=mode, dtype=np.float64, generator=generator, **options
    )


SOURCE, TARGET = np.array([[2, 3], [4, 5], [5, 2], [3, 0]]), np.array([[0, 0], [3, 2], [4, 4]])
LENGTHS = [4, 3]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("attention", ["additive", "dot", None])
def test_both_modes_give_the_same_logits_and_gradients(attention: str | None, tied: bool) -> None:
    found = []
    for mode in ("fused", "tape"):
        net = model(mode, attention=attention, tied=tied)
        loss = (net(SOURCE, TARGET, LENGTHS) ** 2).mean()
        loss.backward()
        found.append([loss.numpy(), *(p.grad.numpy() for p in net.parameters())])
    for fused, tape in zip(*found, strict=True):
        np.testing.assert_allclose(fused, tape, rtol=1e-9, atol=1e-12)
        assert np.abs(tape).max() > 0


def test_tied_weights_are_one_parameter() -> None:
    net = model(tied=True)
    assert not any("head" in name for name, _ in net.named_parameters())
    assert net(SOURCE, TARGET).shape == (3, 2, 5)


@pytest.mark.parametrize("attention", ["additive", None])
def test_padding_of_the_source_changes_no_logit(attention: str | None) -> None:
    net = model(attention=attention)
    padded = net(SOURCE, TARGET, LENGTHS).numpy()
    alone = net(SOURCE[:3, 1:], TARGET[:, 1:]).numpy()
    np.testing.assert_allclose(padded[:, 1:], alone, rtol=1e-12)


@pytest.mark.parametrize("attention", ["dot", None])
def test_greedy_takes_the_largest_logit_that_teacher_forcing_shows(attention: str | None) -> None:
    net = model(attention=attention)
    for row, symbols in enumerate(net.greedy(SOURCE, BEGIN, END, LENGTHS, max_steps=6)):
        fed = np.array([[BEGIN, *symbols]]).T
        n = LENGTHS[row]
        logits = net(SOURCE[:n, row : row + 1], fed).numpy()[:, 0]
        best = logits.argmax(-1).tolist()
        assert best[: len(symbols)] == symbols
        assert len(symbols) == 6 or best[len(symbols)] == END


@pytest.mark.parametrize("attention", ["additive", None])
def test_a_beams_log_p_is_what_teacher_forcing_adds_up(attention: str | None) -> None:
    net = model(attention=attention)
    rows = net.beam(SOURCE, BEGIN, END, LENGTHS, width=4, max_steps=5)
    greedy = net.greedy(SOURCE, BEGIN, END, LENGTHS, max_steps=5)
    for row, found in enumerate(rows):
        assert 1 <= len(found) <= 4
        for symbols, log_p in found:
            fed = np.array([[BEGIN, *symbols]]).T
            n = LENGTHS[row]
            p = mg.log_softmax(net(SOURCE[:n, row : row + 1], fed), axis=-1).numpy()[:, 0]
            said = [*symbols, END][: len(p)]
            assert log_p == pytest.approx(sum(p[t, s] for t, s in enumerate(said)))
        (one,) = net.beam(SOURCE[:, row : row + 1], BEGIN, END, LENGTHS[row : row + 1], 1, 5)[0]
        if len(one.symbols) == len(greedy[row]) < 5:
            assert one.symbols == greedy[row]


def test_alignments_are_weights_over_the_real_source() -> None:
    weights = model().alignment(SOURCE, TARGET, LENGTHS)
    assert weights.shape == (3, 2, 4)
    np.testing.assert_allclose(weights.sum(-1), 1.0)
    assert (weights[:, 1, 3] == 0).all()
    with pytest.raises(ValueError, match="without attention there is no alignment"):
        model(attention=None).alignment(SOURCE, TARGET)


@pytest.mark.long
@pytest.mark.slow
def test_it_learns_to_reverse_short_sequences(rng: np.random.Generator) -> None:
    net = nn.EncoderDecoder(6, 6, 24, 12, generator=rng)
    optimizer = mg.optim.Adam(net.parameters(), lr=0.01)
    sequences = [list(s) for s in itertools.product(range(2, 6), repeat=3)]
    source = np.array(sequences).T
    target = np.vstack([np.full((1, len(sequences)), BEGIN), source[::-1]])
    wanted = np.vstack([source[::-1], np.full((1, len(sequences)), END)])
    for _ in range(150):
        loss = nn.cross_entropy(net(source, target), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert net.greedy(source, BEGIN, END, max_steps=5) == [s[::-1] for s in sequences]
    assert [b[0].symbols for b in net.beam(source[:, :5], BEGIN, END, width=3, max_steps=5)] == [
        s[::-1] for s in sequences[:5]
    ]


def test_sources_and_targets_that_do_not_fit_are_named() -> None:
    with pytest.raises(mg.ShapeError, match=r"both are \(steps, B\), with one B"):
        model()(SOURCE, TARGET[:, :1])
    with pytest.raises(mg.ShapeError, match=r"expected source of shape \(steps, B\)"):
        model()(SOURCE[0], TARGET)
