"""The numbers of an unrolled drawing, against products of Jacobians that are known."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from picture import read

import minigrad as mg
from minigrad import nn
from minigrad.flow import draw
from minigrad.flow.drawing.recorded import of_recording
from minigrad.flow.drawing.travel import Travel

T, B, H = 6, 2, 3


def at_rest(kind: type, **options: Any) -> Any:
    """A layer whose biases are zero: on x = 0 its states are zero and tanh has slope 1."""
    layer = kind(H, H, dtype=np.float64, generator=np.random.default_rng(0), **options)
    for name, p in layer.named_parameters():
        if name.startswith("bias"):
            p.data = 0.0 * p.numpy()
    return layer


def zeros(steps: int = T) -> np.ndarray:
    return np.zeros((steps, B, H))


G = np.random.default_rng(1).standard_normal((B, H))


def strands(travel: Travel) -> dict[str, Any]:
    return {strand.path: strand for strand in travel.strands}


def by_t(values: dict[int, float]) -> np.ndarray:
    return np.array([values[t] for t in sorted(values)])


def test_a_stack_sends_its_gradient_back_and_down_by_the_product_of_its_weights() -> None:
    rnn = at_rest(nn.RNN, num_layers=2)
    with mg.flow.record() as rec:
        (rnn(zeros())[0][-1] * G).sum().backward()
    W0, W1, down = (getattr(rnn, f"weight_{n}").numpy() for n in ("hh_l0", "hh_l1", "ih_l1"))
    upper, lower, passed = G, np.zeros_like(G), np.zeros(T)
    carried = np.zeros((2, T))
    for t in reversed(range(T)):
        carried[:, t] = np.linalg.norm(lower), np.linalg.norm(upper)
        passed[t] = np.linalg.norm(upper @ down)
        lower, upper = (lower + upper @ down) @ W0, upper @ W1
    travel = of_recording(rec)
    for i in (0, 1):
        found = by_t(strands(travel)[f"rnn/l{i}/fwd"].carried["h"])
        np.testing.assert_allclose(found, carried[i], rtol=1e-12)
    np.testing.assert_allclose(by_t(travel.received["rnn/l0/fwd"]), passed, rtol=1e-12)
    np.testing.assert_allclose(by_t(travel.sent["rnn/l1/fwd"]), passed, rtol=1e-12)
    assert travel.entering == {("rnn/l1/fwd", "h"): {T - 1: pytest.approx(np.linalg.norm(G))}}
    (whole,) = travel.whole
    squares = (carried**2).sum(axis=0)
    np.testing.assert_allclose(by_t(whole.carried["S"]) ** 2, squares, rtol=1e-12)


def test_two_layers_of_two_directions_hand_down_what_both_send() -> None:
    rnn = at_rest(nn.RNN, num_layers=2, bidirectional=True)
    with mg.flow.record() as rec:
        ys, _ = rnn(zeros())
        ((ys[-1, :, :H] + ys[0, :, H:]) * G).sum().backward()
    weight = {name: p.numpy() for name, p in rnn.named_parameters()}
    back, forth = G, G  # dL/dh of the upper layer's directions
    down = np.zeros((T, B, 2 * H))
    for k in range(T):
        down[T - 1 - k] += back @ weight["weight_ih_l1"]
        down[k] += forth @ weight["weight_ih_l1_reverse"]
        back = back @ weight["weight_hh_l1"]
        forth = forth @ weight["weight_hh_l1_reverse"]
    travel = of_recording(rec)
    for way, part in (("fwd", down[..., :H]), ("rev", down[..., H:])):
        norms = np.linalg.norm(part.reshape(T, -1), axis=1)
        np.testing.assert_allclose(by_t(travel.received[f"rnn/l0/{way}"]), norms, rtol=1e-12)
    assert travel.beneath == [("rnn/l1", "rnn/l0")]
    picture = read(draw(rec))
    for t in range(T):
        bar = f"p0_rnn_l0_y_t{t}"
        expected = np.linalg.norm(down[t])
        assert f"{expected:.6g}" in picture.nodes[bar]["tooltip"]
        for way in ("fwd", "rev"):
            assert (f"p0_rnn_l1_{way}_h_t{t}", bar) in picture.edges
            assert (bar, f"p0_rnn_l0_{way}_h_t{t}") in picture.edges
    assert {b for a, b in picture.edges if "loss" in a} == {
        f"p0_rnn_l1_fwd_h_t{T - 1}", "p0_rnn_l1_rev_h_t0",
    }  # fmt: skip


def test_what_comes_to_c_inside_of_a_step_is_told_from_what_is_carried() -> None:
    lstm = at_rest(nn.LSTM)
    with mg.flow.record() as rec:
        (lstm(zeros())[1][0][0] * G).sum().backward()
    travel = of_recording(rec)
    c = by_t(strands(travel)["lstm/l0/fwd"].carried["c"])
    within = by_t(travel.within["lstm/l0/fwd", "c"])
    assert c[-1] == 0
    np.testing.assert_allclose(within[-1], 0.5 * np.linalg.norm(G), rtol=1e-12)  # o = sigma(0)
    np.testing.assert_allclose(c[-2], 0.5 * within[-1], rtol=1e-12)  # f = sigma(0)
    picture = read(draw(rec))
    assert ("p0_lstm_l0_fwd_h_t5", "p0_lstm_l0_fwd_c_t5") in picture.edges


def test_an_arrow_is_as_wide_as_what_travels_along_it() -> None:
    rnn = at_rest(nn.RNN)
    rnn.weight_hh_l0.data = 0.1 * np.eye(H)
    with mg.flow.record() as rec:
        (rnn(zeros())[0][-1] * G).sum().backward()
    for way, pattern in (("gradient", r"h_t(\d) -> \S*h_t(\d)"), ("forward", r"h_t\d -> \S*h_t\d")):
        found = re.findall(rf'{pattern} \[.*penwidth="?([0-9.]+)', draw(rec, way=way).dot)
        widths = sorted(float(match[-1] if way == "gradient" else match) for match in found)
        steps = np.diff(widths[1:-1])  # a tenth is as much everywhere on a log scale
        np.testing.assert_allclose(steps, steps[0], atol=0.011)


def test_a_loss_at_every_step_is_drawn_as_judged_and_with_a_switch_as_its_sum() -> None:
    rnn = at_rest(nn.RNN)
    rnn.weight_hh_l0.data = 0.5 * np.eye(H)
    with mg.flow.record() as rec:
        (rnn(zeros())[0] * G).sum().backward()
    one, every = of_recording(rec), of_recording(rec, summed=True)
    size, halves = np.linalg.norm(G), 0.5 ** np.arange(T)[::-1]
    (last,), (all_,) = one.strands, every.strands
    np.testing.assert_allclose(by_t(last.carried["h"]), size * halves, rtol=1e-12)
    np.testing.assert_allclose(
        by_t(all_.carried["h"]), size * np.cumsum(halves[::-1])[::-1], rtol=1e-12
    )
    assert list(one.entering["rnn/l0/fwd", "h"]) == [T - 1]
    np.testing.assert_allclose(by_t(every.entering["rnn/l0/fwd", "h"]), size, rtol=1e-12)
    assert "what the last one that it reads sends back" in draw(rec).dot
    drawing = draw(rec, summed=True)
    assert "all that it sends back, summed" in drawing.dot
    assert {a for a, _ in read(drawing).edges if "loss" in a} == {f"p0_loss_t{t}" for t in range(T)}


def test_rows_of_a_padded_batch_are_aligned_at_their_own_last_steps() -> None:
    rnn = at_rest(nn.RNN)
    rnn.weight_hh_l0.data = 0.5 * np.eye(H)
    with mg.flow.record() as rec:
        (rnn(zeros(), lengths=[T, 2])[1] * G).sum().backward()
    (strand,) = of_recording(rec).strands
    lags = by_t(strand.carried["h"])[::-1]
    np.testing.assert_allclose(lags[:2], np.linalg.norm(G) * np.array([1.0, 0.5]), rtol=1e-12)
    np.testing.assert_allclose(lags[2:] / lags[1:-1], 0.5, rtol=1e-12)  # as the long row goes on
    assert "aligned at their own last steps" in draw(rec).dot


def test_windows_are_one_row_and_an_encoder_stands_before_its_decoder() -> None:
    rnn = at_rest(nn.RNN)
    with mg.flow.record() as rec:
        state = None
        for _ in range(3):
            ys, state = rnn(zeros(4), state)
        (ys[-1] * G).sum().backward()
    (strand,) = of_recording(rec).strands
    assert strand.steps == set(range(12))
    assert np.all(by_t(strand.carried["h"]) > 0)

    encoder, decoder = at_rest(nn.RNN), at_rest(nn.GRU)
    encoder.scope_name, decoder.scope_name = "encoder", "decoder"
    with mg.flow.record() as rec:
        (decoder(zeros(3), encoder(zeros(5))[1])[0][-1] * G).sum().backward()
    travel = of_recording(rec)
    found = strands(travel)
    assert found["encoder/l0/fwd"].steps == set(range(5))
    assert found["decoder/l0/fwd"].steps == {5, 6, 7}
    (norm,) = travel.behind.values()
    assert norm == pytest.approx(found["encoder/l0/fwd"].carried["h"][4])
    picture = read(draw(rec))
    assert ("p0_decoder_l0_fwd_h_t5", "p0_encoder_l0_fwd_h_t4") in picture.edges
    # of a loss that reads one step the sum is that reading; of many, the way stays and is pale
    assert draw(rec, summed=True).dot == draw(rec).dot
    with mg.flow.record() as rec:
        (decoder(zeros(3), encoder(zeros(5))[1])[0] * G).sum().backward()
    assert list(of_recording(rec, summed=True).behind.values()) == [None]
    picture = read(draw(rec, summed=True))
    assert ("p0_decoder_l0_fwd_h_t5", "p0_encoder_l0_fwd_h_t4") in picture.edges
    assert picture.text("p0_decoder_l0_fwd_h_t5").startswith("h₁")


def test_a_recording_is_drawn_in_the_same_words_again() -> None:
    def once() -> str:
        model = nn.EncoderDecoder(7, 5, 4, 3, generator=np.random.default_rng(0), dtype=np.float64)
        with mg.flow.record() as rec:
            model(np.ones((5, 2), int), np.ones((3, 2), int), [5, 3]).sum().backward()
        return draw(rec).dot

    first = once()
    assert first == once()
    assert "decoder reads encoder/encoder/l0 at every step" in first
    assert re.search(r"l0_rev_h_later -> \S*l0_rev_h_t0", first)
