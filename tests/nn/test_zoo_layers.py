"""The cells of the zoo in layers and directions: fused equals tape, with padding and with masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, learned
from compile.agree import assert_agree
from modes import each_mode

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves

T, B = 5, 2


def stacked(kind: str, rng: np.random.Generator) -> tuple[nn.Recurrent, mg.Tensor]:
    """Two layers, two directions, and their x. A cell with attention has a memory.

    x has as many features as two directions put out, and a gradient: all four cells share kernels.
    """

    def make(size: int) -> Any:
        return CELLS[kind](size, 4, np.float64, rng)

    size = 2 * make(1).output_size
    layer = nn.Recurrent(make, size, num_layers=2, bidirectional=True)
    for cell in layer.cells:
        inputs(cell, T, B, rng)
    return layer, mg.tensor(rng.normal(size=(T, B, size)), dtype=np.float64, requires_grad=True)


def seeded(layer: nn.Recurrent, seed: int) -> nn.Recurrent:
    """The layer, about to draw the same masks as after any other call with this seed."""
    generator = np.random.default_rng(seed)
    for cell in layer.cells:
        cell.generator = generator
    return layer


@pytest.mark.parametrize("kind", CELLS)
def test_cells_stack_in_layers_and_directions(kind: str, rng: np.random.Generator) -> None:
    layer, x = stacked(kind, rng)
    learnt = [x, *(t for cell in layer.cells for t in learned(cell).values())]

    def run(mode: str) -> Any:
        layer.mode = mode
        output, final = seeded(layer, 1)(x, lengths=[5, 3])
        assert output.shape == x.shape
        assert {s.shape[:2] for s in leaves(final)} == {(4, 2)}
        return output, final

    assert_agree(run, learnt, np.float64)
    assert all(np.isfinite(t.grad.numpy()).all() for t in learnt)


@pytest.mark.parametrize("kind", [kind for kind in CELLS if kind != "zoneout"])
def test_padding_of_layers_is_not_read(kind: str, rng: np.random.Generator) -> None:
    """But for zoneout in training, which draws masks for the padding too."""
    layer, x = stacked(kind, rng)
    output, _ = layer(x, lengths=[5, 3])
    nothing = np.full((4, *x.shape[1:]), np.nan, np.float64)
    longer = mg.tensor(np.concatenate([x.numpy(), nothing]), requires_grad=True)
    np.testing.assert_allclose(layer(longer, lengths=[5, 3])[0].numpy()[:5], output.numpy(), 1e-5)


@each_mode
def test_layers_with_zoneout_learn_with_other_masks_in_every_pass(mode: str) -> None:
    layer, xs = stacked("zoneout", np.random.default_rng(0))
    layer.mode = mode
    optimizer, losses = mg.optim.Adam(layer.parameters(), lr=0.03), []
    first, again, other = (seeded(layer, s)(xs)[0].numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, layer(xs)[0].numpy())  # the generator has moved on
    for _ in range(30):
        loss = mg.square(layer(xs)[0][-1] - 0.5).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    layer.eval()
    np.testing.assert_array_equal(layer(xs)[0].numpy(), layer(xs)[0].numpy())
