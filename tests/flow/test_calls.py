"""What ran, and what read what: of models as people write them, not as they declare them."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from picture import read

import minigrad as mg
from minigrad import nn
from minigrad.flow import DrawingError, draw
from minigrad.flow.calls import Calls
from minigrad.flow.tracing import trace

rng = np.random.default_rng(0)
OPTIONS: Any = {"generator": rng, "dtype": np.float64}


class Captioner(nn.Module):
    """Declared in another order than it runs in."""

    def __init__(self, mode: str = "fused"):
        self.eye = nn.Linear(6, 5, **OPTIONS)
        self.head = nn.Linear(5, 9, **OPTIONS)
        self.embed = nn.Embedding(9, 4, **OPTIONS)
        self.gru = nn.GRU(4, 5, mode=mode, **OPTIONS)

    def look(self, image: Any) -> mg.Tensor:
        return mg.expand_dims(mg.tanh(self.eye(image)), 0)

    def forward(self, x: Any, image: Any) -> mg.Tensor:
        return self.head(self.gru(self.embed(x), self.look(image))[0])


def captions(steps: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return np.ones((steps, 2), int), np.ones((2, 6))


def arrows(drawing: mg.flow.Drawing) -> set[tuple[str, str]]:
    """(from, to) by the first words of the boxes, loops left out."""
    picture = read(drawing)
    first = {name: picture.text(name).split(" ")[0] for name in picture.nodes}
    return {(first[a], first[b]) for a, b in picture.edges if a != b}


def edges(calls: Calls) -> set[tuple[str, str, tuple[str, ...]]]:
    return {
        (getattr(source, "part", source).path, ran.part.path, words)
        for ran in calls.ran
        for source, words in ran.reads
        if hasattr(source, "part")
    }


CAPTIONS = {
    ("x", "embed"), ("embed", "gru"), ("image", "eye"), ("eye", "gru"), ("gru", "head"),
    ("head", "y"),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_a_model_is_drawn_as_it_runs_and_not_as_it_is_declared(mode: str) -> None:
    model = Captioner(mode)
    assert arrows(draw(model, *captions())) == CAPTIONS
    with mg.flow.record() as rec:
        model(*captions()).sum().backward()
    assert arrows(draw(model, recording=rec)) == CAPTIONS
    assert arrows(draw(model)) == CAPTIONS  # as it ran last
    assert "tanh\\nfirst state" in draw(model).dot
    assert "farthest" in draw(model, recording=rec).dot


def test_parts_that_are_called_from_outside_are_drawn_too() -> None:
    model = Captioner()
    x, image = captions()
    with mg.flow.record() as rec:
        model.head(model.gru(model.embed(x), model.look(image))[0]).sum().backward()
    found = arrows(draw(model, recording=rec))
    assert found - {("indices", "embed"), ("x", "eye")} == {
        (a, b) for a, b in CAPTIONS if a not in ("x", "image")
    }


def test_a_model_that_never_ran_has_no_arrows_and_says_so() -> None:
    drawing = draw(Captioner())
    assert arrows(drawing) == {("eye", "head"), ("head", "embed"), ("embed", "gru")}
    assert drawing.dot.count("style=invis") == 3  # which put the boxes side by side
    assert "drawn as declared" in drawing.dot
    assert "drawn as declared" not in draw(nn.Sequential(nn.Linear(2, 2), nn.GRU(2, 3))).dot


def test_calling_a_model_to_draw_it_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(3, 3, **OPTIONS), nn.Dropout(0.5))
    model.functions[1].train(False)
    was = [m.training for m in model.modules()]
    draw(model, np.ones((2, 3)))
    assert [m.training for m in model.modules()] == was
    assert all(p.grad is None for p in model.parameters())
    with mg.flow.record() as rec:
        draw(model, np.ones((2, 3)))
    assert rec.calls.ran == []


@pytest.mark.parametrize("mode", ["fused", "tape"])
@pytest.mark.parametrize("attention", [None, "additive"])
def test_an_encoder_and_its_decoder(mode: str, attention: Any) -> None:
    model = nn.EncoderDecoder(7, 5, 4, 3, attention=attention, mode=mode, **OPTIONS)
    calls = trace(model, np.ones((6, 2), int), np.ones((3, 2), int), [6, 4])
    ways = [f"encoder/encoder/l0/{way}" for way in ("fwd", "rev")]
    expected = {
        *(("encoder/embed_source", way, ()) for way in ways),
        *((way, "bridge", ("last state",)) for way in ways),
        *((way, "decoder", ("at every step",)) for way in ways if attention),
        ("bridge", "decoder", ("tanh", "first state")),
        ("embed_target", "decoder", ()),
        ("decoder", "head", ()),
    }
    assert edges(calls) == expected


def test_the_directions_of_a_layer_are_merged_where_both_are_read() -> None:
    model = nn.LSTM(3, 4, num_layers=2, bidirectional=True, merge="sum", **OPTIONS)
    picture = read(draw(model, np.ones((5, 1, 3))))
    stem = "g_lstm_l0", "g_lstm_l1"
    assert [picture.text(key) for key in stem] == ["concat", "sum"]
    for way in ("fwd", "rev"):
        assert (f"r_lstm_l0_{way}", "g_lstm_l0") in picture.edges
        assert ("g_lstm_l0", f"r_lstm_l1_{way}") in picture.edges
        assert (f"r_lstm_l1_{way}", "g_lstm_l1") in picture.edges
    assert ("g_lstm_l1", "end_y") in picture.edges


def test_a_part_that_is_called_twice_is_one_box_of_a_model_and_two_of_a_recording() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            self.gru = nn.GRU(3, 4, **OPTIONS)
            self.head = nn.Linear(4, 1, **OPTIONS)

        def forward(self, a: Any, b: Any) -> mg.Tensor:
            return self.head(mg.abs(self.gru(a)[1][0] - self.gru(b)[1][0]))

    model = Twins()
    with mg.flow.record() as rec:
        model(np.ones((5, 2, 3)), np.zeros((2, 2, 3))).sum().backward()
    assert arrows(draw(model)) == {("a", "gru"), ("b", "gru"), ("gru", "head"), ("head", "y")}
    assert "2 calls" in draw(model, recording=rec).dot
    both = {"gru/l0/fwd", "gru#2/l0/fwd"}
    found = arrows(draw(rec, view="rolled"))
    assert {a for a, b in found if b == "head"} == both


def test_a_cell_that_is_called_step_by_step_is_one_box_with_a_loop() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            self.cell = nn.GRUCell(3, 4, **OPTIONS)
            self.head = nn.Linear(4, 1, **OPTIONS)

        def forward(self, x: Any) -> mg.Tensor:
            h = self.cell.init_state(x.shape[1])
            for x_t in x:
                h, _ = self.cell(h, mg.tensor(x_t))
            return self.head(h)

    drawing = draw(Loop(), np.ones((5, 2, 3)))
    assert arrows(drawing) == {("x", "cell"), ("cell", "head"), ("head", "y")}
    assert "5 calls" in drawing.dot


def test_a_residual_reads_both_ways_and_an_identity_is_a_part() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            self.a, self.drop, self.b = nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 2)

        def forward(self, x: Any) -> mg.Tensor:
            y = self.a(x)
            return self.b(y * 2.0 + self.drop(y))

    found = arrows(draw(Block(), np.ones((2, 3), np.float32)))
    assert {("a", "drop"), ("drop", "b"), ("b", "y")} <= found  # y itself is what drop gave back


def test_a_walk_through_a_loop_written_by_hand_visits_each_operation_once() -> None:
    head, w = nn.Linear(2, 1, **OPTIONS), mg.tensor(np.eye(2), requires_grad=True)
    embed = nn.Linear(2, 2, **OPTIONS)
    with mg.flow.record() as rec:
        h, loss = embed(np.ones((1, 2))), 0.0
        for _ in range(300):
            h = mg.tap("h", mg.tanh(h @ w))
            loss = loss + head(h).sum()
        loss.backward()
    assert {path for path, *_ in edges(rec.calls)} == {"linear"}
    assert len(rec.calls.ran) == 301


def test_under_no_grad_nothing_is_known_and_nothing_is_drawn() -> None:
    model = Captioner()
    with mg.flow.record() as rec:
        with mg.no_grad():
            model(*captions())
        nn.GRU(2, 2, **OPTIONS)(np.ones((3, 1, 2)))[0].sum().backward()
    with pytest.raises(DrawingError, match="this Captioner did not run in the recording"):
        draw(model, recording=rec)


def test_what_cannot_be_called_is_refused() -> None:
    with mg.flow.record() as rec:
        nn.GRU(2, 2, **OPTIONS)(np.ones((3, 1, 2)))[0].sum().backward()
    with pytest.raises(DrawingError, match="called with inputs, or drawn from recording="):
        draw(Captioner(), *captions(), recording=rec)
    with pytest.raises(DrawingError, match="only a model is called with inputs, not a Recording"):
        draw(rec, np.ones(3))
    with pytest.raises(DrawingError, match="way= turns the arrows of an unrolled network, not"):
        draw(Captioner(), way="forward")
    with pytest.raises(DrawingError, match="way is 'gradient' or 'forward', got 'up'"):
        draw(rec, way="up")


def test_a_recording_bears_with_modules_as_people_write_them() -> None:
    @dataclass
    class Odd(nn.Module):
        """Has no hash, takes and gives what is no array, and returns what it was given."""

        name: str = "odd"

        def __post_init__(self) -> None:
            self.head = nn.Linear(2, 1, **OPTIONS)

        def forward(self, x: Any, /, *more: Any, **options: Any) -> Any:
            return {"y": self.head(x), 3: more, "it": object(), "same": x}

    model, loop = Odd(), []
    loop.append(loop)
    with mg.flow.record() as rec:
        y = model(np.ones((3, 2)), {"b": None, 2: "c"}, loop, flag=True)["y"]
        nn.GRU(1, 1, **OPTIONS)(y[:, None])[0].sum().backward()
    found = arrows(draw(rec, view="rolled"))
    assert {("x", "head"), ("head", "gru/l0/fwd"), ("gru/l0/fwd", "y")} <= found
    assert ("head", "y") in arrows(draw(model))


def test_what_was_heard_keeps_no_model_alive() -> None:
    model = Captioner()
    draw(model, *captions())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
