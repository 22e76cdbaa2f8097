"""model.summary(): a row for each module, shapes of what it returned, parameters once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


class Net(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(7, 4)
        self.drop = nn.Dropout(0.5)
        self.blocks = [nn.GRU(4, 4, bidirectional=True, merge="sum", mode="tape")]
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embed.weight

    def forward(self, x: Any, lengths: Any = None) -> Any:
        y, _ = self.blocks[0](self.drop(self.embed(x)), lengths=lengths)
        return self.head(self.drop(y))


def test_rows_have_names_shapes_and_counts() -> None:
    net = Net()
    found = net.summary(np.ones((3, 2), int), lengths=[3, 1])
    gru = 2 * (12 * 4 + 12 * 4 + 12 + 12)
    assert [(r.name, r.output, r.calls, r.parameters, r.shared) for r in found.rows] == [
        ("", "(3, 2, 7)", 1, 28 + gru + 7, 0),
        ("embed", "(3, 2, 4)", 1, 28, 0),
        ("drop", "(3, 2, 4)", 2, 0, 0),
        ("blocks.0", "(3, 2, 4), (2, 2, 4)", 1, gru, 0),
        ("blocks.0.l0", "", 0, gru // 2, 0),
        ("blocks.0.l0_reverse", "", 0, gru // 2, 0),
        ("head", "(3, 2, 7)", 1, 35, 28),
    ]
    assert found.parameters == sum(p.size for p in net.parameters())
    assert found.bytes == 4 * found.parameters
    text = str(found).splitlines()
    assert "(3, 2, 4)  x2" in text[3]
    assert text[-1] == f"{28 + gru + 7} parameters of float32, {4 * (28 + gru + 7):,} bytes"
    assert "35 (28 shared)" in text[-2]


def test_a_summary_draws_nothing_and_leaves_the_net_as_it_was() -> None:
    net = Net()
    net.head.eval()
    before = [dict(vars(m)) for m in net.modules()]
    mg.seed(0)
    first = mg.random.default_generator(None).random()
    mg.seed(0)
    net.summary(np.ones((3, 2), int))
    assert mg.random.default_generator(None).random() == first
    assert [dict(vars(m)) for m in net.modules()] == before
    assert (net.training, net.head.training) == (True, False)
    with pytest.raises(mg.ShapeError):
        net.summary(np.full((3, 2), 9))
    assert "forward" not in vars(net)


def test_without_inputs_there_are_no_shapes_and_frozen_parameters_are_named() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    text = str(layer.summary())
    assert "output" not in text
    assert text.endswith("8 parameters of float32, 32 bytes; 2 need no gradient")
    assert str(nn.Dropout(0.5).summary()).endswith("0 parameters, 0 bytes")


def test_modules_in_the_cell_of_a_scan_show_no_shape_of_a_step() -> None:
    class Own(nn.Module):
        def __init__(self, size: int) -> None:
            self.inner = nn.Linear(size, size)

        def init_state(self, batch: int) -> Any:
            return mg.tensor(np.zeros((batch, 2), np.float32))

        def forward(self, state: Any, x: Any) -> Any:
            h = mg.tanh(self.inner(state) + x)
            return h, h

    found = nn.Recurrent(Own, 2).summary(np.ones((4, 3, 2), np.float32))
    assert [r.output for r in found.rows] == ["(4, 3, 2), (1, 3, 2)", "", ""]
