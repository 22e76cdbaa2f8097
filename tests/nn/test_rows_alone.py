"""A row alone has the bits that it has in a batch of any size, with any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from compile.agree import PLAIN, small_parts
from modes import each_mode

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves, map_leaves

pytestmark = pytest.mark.skipif(PLAIN, reason="the products of NumPy, which run then, do not")

SIZES = (1, 2, 3, 7, 48, 65)
HIDDEN = {"LSTM": 33, "GRU": 7, "RNN": 129, "own": 13}  # each of them compiles for a second
STEPS, INPUTS = 5, 3


class Own(nn.Module):
    """Leaky units behind a softmax over themselves: a reduction in a row, and two products."""

    def __init__(self, inputs: int, hidden: int, dtype: Any, generator: Any):
        self.hidden_size = hidden
        self.u = nn.Parameter(generator.normal(size=(inputs, hidden)).astype(dtype))
        self.w = nn.Parameter(0.3 * generator.normal(size=(hidden, hidden)).astype(dtype))

    def init_state(self, batch: int) -> mg.Tensor:
        return mg.tensor(np.zeros((batch, self.hidden_size), self.w.dtype))

    def forward(self, h: Any, x: Any) -> tuple[Any, Any]:
        h = h * mg.softmax(h @ self.w, axis=-1) + mg.tanh(x @ self.u)
        return h, h * h.mean(axis=-1, keepdims=True)


def make(kind: str, hidden: int, dtype: Any) -> Any:
    cells = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell, "own": Own}
    return cells[kind](INPUTS, hidden, dtype=dtype, generator=np.random.default_rng(0))


def results(cell: Any, rows: slice | list[int], mode: str) -> list[np.ndarray]:
    """What these rows of 65 get: the last state, ys, and the gradients of x and the first state."""
    rng = np.random.default_rng(1)
    dtype = next(p.dtype for p in cell.parameters())

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype)

    x, cotangents = drawn(STEPS, max(SIZES), INPUTS), drawn(STEPS, max(SIZES), cell.hidden_size)
    whole = map_leaves(lambda s: drawn(*s.shape), cell.init_state(max(SIZES)))
    xs = mg.tensor(x[:, rows], requires_grad=True)
    init = map_leaves(lambda s: mg.tensor(s[rows], requires_grad=True), whole)
    final, ys = mg.scan(cell, init, xs, mode=mode)
    loss = (ys * cotangents[:, rows]).sum()
    for part in leaves(final):
        loss = loss + (part * cotangents[0, rows]).sum()
    found = [ys, *leaves(final), *mg.grad(loss, [xs, *leaves(init)])]
    return [np.moveaxis(t.numpy(), 1, 0) if t.ndim == 3 else t.numpy() for t in found]


def differing(cell: Any, mode: str) -> Iterator[str]:
    """Where a row comes out otherwise in a smaller batch than among all 65."""
    every = results(cell, slice(0, max(SIZES)), mode)
    rows: list[Any] = [slice(0, size) for size in SIZES] + [[64], [17, 3], slice(30, 37)]
    for some in rows:
        for k, (a, b) in enumerate(zip(results(cell, some, mode), every, strict=True)):
            if not np.array_equal(a.view(f"u{a.itemsize}"), b[some].view(f"u{b.itemsize}")):
                yield f"result {k} of rows {some}"


@each_mode
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "own"])
def test_a_row_alone_has_the_bits_that_it_has_in_any_batch(
    kind: str, dtype: Any, mode: str
) -> None:
    for hidden in (1, 7, 33, 129) if mode == "tape" else [HIDDEN[kind]]:
        assert list(differing(make(kind, hidden, dtype), mode)) == []


@pytest.mark.parametrize("kind", ["LSTM", "own"])
def test_a_row_alone_has_its_bits_on_any_number_of_threads(kind: str) -> None:
    cell = make(kind, HIDDEN[kind], np.float32)
    want = results(cell, slice(0, max(SIZES)), "fused")
    for threads in (1, 2, 3):
        for rows in (1, 48):  # of one product
            with small_parts(rows, threads):
                assert list(differing(cell, "fused")) == []
                again = results(cell, slice(0, max(SIZES)), "fused")
                for a, b in zip(again, want, strict=True):
                    np.testing.assert_array_equal(a, b)


def test_layers_of_both_directions_have_it_too() -> None:
    x = np.random.default_rng(0).normal(size=(9, 65, 3)).astype(np.float32)
    for layer in (nn.LSTM, nn.GRU):
        net = layer(3, 5, num_layers=2, bidirectional=True, generator=np.random.default_rng(1))
        whole = net(x)[0].numpy()
        for row in (0, 1, 64):
            np.testing.assert_array_equal(net(x[:, row : row + 1])[0].numpy()[:, 0], whole[:, row])


@each_mode
@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_padded_row_has_the_bits_that_it_has_alone_without_padding(layer: Any, mode: str) -> None:
    rng = np.random.default_rng(3)
    lengths = np.array([7, 3, 5, 1, 6])
    net = layer(3, 5, mode=mode, bidirectional=True, generator=np.random.default_rng(1))
    data = [rng.normal(size=(7, 5, n)).astype(np.float32) for n in (3, 10)]

    def ran(x: Any, cotangents: Any, **options: Any) -> tuple[Any, Any]:
        xs = mg.tensor(x, requires_grad=True)
        ys, _ = net(xs, **options)
        return ys.numpy(), mg.grad((ys * cotangents).sum(), xs).numpy()

    whole = ran(*data, lengths=lengths)
    for row, n in enumerate(lengths):
        alone = ran(*(a[:n, row : row + 1] for a in data))
        for a, b in zip(alone, whole, strict=True):
            np.testing.assert_array_equal(a[:, 0], b[:n, row])


def test_the_comparison_finds_a_single_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = make("RNN", 7, np.float32)
    true = mg.scan

    def nudged(*args: Any, **options: Any) -> Any:
        final, ys = true(*args, **options)
        return final, ys * np.float32(1 + 2**-23) if ys.shape[1] == 3 else ys

    monkeypatch.setattr(mg, "scan", nudged)
    assert "result 0 of rows slice(0, 3, None)" in list(differing(cell, "tape"))
