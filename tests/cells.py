"""Every cell that ships, small, as the tests that hold for all of them want it.

for name, make in CELLS.items():
    cell = make(input_size, hidden_size, np.float64, rng)
    xs = inputs(cell, time, batch, rng)          # with its masks; the cell has its memory
    final, ys = modes.run(cell, random_state(cell, batch, rng), xs, mode=mode)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves, rebuild

Factory = Callable[[int, int, Any, np.random.Generator], Any]
PLACES = 4  # in the memory of an attention cell


def _factory(kind: Any, **options: Any) -> Factory:
    def make(inputs: int, hidden: int, dtype: Any, rng: np.random.Generator) -> Any:
        return scrambled(kind(inputs, hidden, dtype=dtype, generator=rng, **options), rng)

    return make


def _projected(kind: Any, **options: Any) -> Factory:
    """The state that is fed back is smaller than the cell's; at H = 1 it can't be."""

    def make(inputs: int, hidden: int, dtype: Any, rng: np.random.Generator) -> Any:
        return _factory(kind, proj_size=hidden // 2, **options)(inputs, hidden, dtype, rng)

    return make


def _eval(factory: Factory) -> Factory:
    return lambda *args: factory(*args).eval()


_gru = functools.partial(_factory, nn.GRUCell)
_zoneout = functools.partial(_factory, nn.ZoneoutLSTMCell, zoneout_h=0.3, zoneout_c=0.5)
_attention = functools.partial(_factory, nn.AttentionLSTMCell, memory_size=3, attention_size=2)

CELLS: dict[str, Factory] = {
    "rnn-tanh": _factory(nn.RNNCell),
    "rnn-relu": _factory(nn.RNNCell, nonlinearity="relu"),
    "rnn-no-bias": _factory(nn.RNNCell, bias=False),
    "lstm": _factory(nn.LSTMCell),
    "lstm-no-bias": _factory(nn.LSTMCell, bias=False),
    "lstm-projected": _projected(nn.LSTMCell),
    "gru-after-keep": _gru(),
    "gru-after-write": _gru(update="write"),
    "gru-before-keep": _gru(reset_after=False),
    "gru-before-write": _gru(reset_after=False, update="write"),
    "gru-no-bias": _gru(bias=False),
    "gru-before-no-bias": _gru(reset_after=False, bias=False),
    "irnn": _factory(nn.IRNNCell),
    "elman": _factory(nn.ElmanCell, output_size=2),
    "elman-no-bias": _factory(nn.ElmanCell, output_size=2, bias=False),
    "jordan": _factory(nn.JordanCell, output_size=2),
    "jordan-decay": _factory(nn.JordanCell, output_size=2, decay=0.5),
    "peephole": _factory(nn.PeepholeLSTMCell),
    "peephole-projected": _projected(nn.PeepholeLSTMCell, bias=False),
    "coupled": _factory(nn.CoupledLSTMCell),
    "layernorm": _factory(nn.LayerNormLSTMCell),
    "layernorm-no-bias": _factory(nn.LayerNormLSTMCell, bias=False),
    "zoneout": _zoneout(),
    "zoneout-eval": _eval(_zoneout()),
    "minimal": _factory(nn.MinimalGatedCell),
    "mingru": _factory(nn.MinGRUCell),
    "mingru-no-bias": _factory(nn.MinGRUCell, bias=False),
    "unitary": _factory(nn.UnitaryCell),
    "lru": _factory(nn.LRUCell, output_size=2),
    "indrnn": _factory(nn.IndRNNCell),
    "indrnn-tanh": _factory(nn.IndRNNCell, nonlinearity="tanh", bias=False),
    "cornn": _factory(nn.CoRNNCell, dt=0.3, gamma=0.7, epsilon=1.3),
    "cornn-explicit": _factory(nn.CoRNNCell, dt=0.3, gamma=0.7, epsilon=1.3, implicit=False),
    "lem": _factory(nn.LEMCell, dt=0.8),
    "antisymmetric": _factory(nn.AntisymmetricRNNCell, epsilon=0.4, gamma=0.2),
    "antisymmetric-gated": _factory(nn.AntisymmetricRNNCell, gated=True, epsilon=0.4, gamma=0.2),
    "cfc": _factory(nn.CfCCell, backbone_size=3),
    "slstm": _factory(nn.SLSTMCell),
    "slstm-exp": _factory(nn.SLSTMCell, forget="exp", bias=False),
    "attention": _attention(),
    "attention-dot": _attention(score="dot"),
}


def scrambled(cell: Any, rng: np.random.Generator) -> Any:
    """The cell with its parameters moved off the zeros, ones and identities they may start at."""
    for p in cell.parameters():
        p.data = p.data + rng.uniform(-0.3, 0.3, p.shape)
    return cell


def inputs(cell: Any, time: int, batch: int, rng: np.random.Generator) -> Any:
    """xs (T, B, I), with the masks where the cell draws some; gives it a memory if it reads one."""
    dtype = cell.weight_ih.dtype
    if hasattr(cell, "attend"):
        shape = (batch, PLACES, cell.memory_size)
        cell.attend(mg.tensor(rng.normal(size=shape), dtype=dtype, requires_grad=True))
    xs = mg.tensor(rng.normal(size=(time, batch, cell.input_size)), dtype=dtype, requires_grad=True)
    drawn = cell.draw(time, batch) if hasattr(cell, "draw") else None
    return xs if drawn is None else (xs, drawn)


def random_state(cell: Any, batch: int, rng: np.random.Generator) -> Any:
    """A state of normal numbers, each component with a gradient."""
    zeros = cell.init_state(batch)
    options = {"dtype": cell.weight_ih.dtype, "requires_grad": True}
    return rebuild(zeros, [mg.tensor(rng.normal(size=z.shape), **options) for z in leaves(zeros)])


def learned(cell: Any) -> dict[str, Any]:
    """name -> Tensor: all that the cell's gradient flows into, its parameters and its memory."""
    found = dict(cell.named_parameters())
    return found | {"memory": cell.memory} if getattr(cell, "memory", None) is not None else found


def with_values(cell: Any, values: Any, f: Callable[[], Any]) -> Any:
    """f() while the cell's `learned` Tensors are `values`, in the same order."""
    places = []
    for name in learned(cell):
        *path, last = name.split(".")
        places.append((functools.reduce(getattr, path, cell), last))
    kept = [vars(module)[name] for module, name in places]
    try:
        for (module, name), value in zip(places, values, strict=True):
            vars(module)[name] = value
        return f()
    finally:
        for (module, name), value in zip(places, kept, strict=True):
            vars(module)[name] = value


def arrays(cell: Any) -> dict[str, np.ndarray]:
    """name -> array, for the equations written out in NumPy."""
    return {name: np.asarray(value.numpy()) for name, value in learned(cell).items()}
