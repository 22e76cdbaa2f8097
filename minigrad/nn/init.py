"""Initial weights: functions that fill a Parameter in place.

What is random comes from `generator`, or from the generator that `mg.seed` restarts.

The weights of a gated cell are several matrices stacked on the first axis, (gates * H, columns). An
orthogonal matrix, or one whose scale depends on its height, must be drawn for each gate by itself:
`gates=4` does that, and `each_gate_` finds the number by itself in all layers and directions:

    init.each_gate_(lstm, "weight_hh", init.orthogonal_)
    init.each_gate_(lstm, "weight_ih", init.xavier_uniform_)
    init.forget_bias_(lstm, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..errors import ShapeError, describe
from ..othernames import INIT, absent
from ..random import default_generator

if TYPE_CHECKING:
    from .module import Module, Parameter


def constant_(p: Parameter, value: float = 0.0) -> None:
    """w = value, every element of a parameter of any shape."""
    p.data = np.full(p.shape, checks.number("constant_: value", value))


def uniform_(p: Parameter, bound: float, generator: np.random.Generator | None = None) -> None:
    """w ~ U(-bound, bound), of any shape; torch.nn's recurrent layers use bound = 1 / sqrt(H)."""
    checks.at_least_0("uniform_(p, bound), in (-bound, bound): bound", bound)
    p.data = default_generator(generator).uniform(-bound, bound, p.shape)


def normal_(p: Parameter, std: float = 1.0, generator: np.random.Generator | None = None) -> None:
    """w ~ N(0, std^2), of any shape."""
    checks.at_least_0("normal_: std", std)
    p.data = default_generator(generator).normal(0.0, std, p.shape)


def xavier_uniform_(
    p: Parameter, gain: float = 1.0, gates: int = 1, generator: np.random.Generator | None = None
) -> None:
    """Uniform, var w = 2 gain^2 / (O + I), w (gates * O, I), for tanh (Glorot, Bengio 2010)."""
    rows, columns = _matrix(p, gates)
    uniform_(p, checks.number("init: gain", gain) * math.sqrt(6.0 / (rows + columns)), generator)


def xavier_normal_(
    p: Parameter, gain: float = 1.0, gates: int = 1, generator: np.random.Generator | None = None
) -> None:
    """Normal, var w = 2 gain^2 / (O + I), w (gates * O, I) (Glorot and Bengio 2010)."""
    rows, columns = _matrix(p, gates)
    normal_(p, checks.number("init: gain", gain) * math.sqrt(2.0 / (rows + columns)), generator)


def he_uniform_(
    p: Parameter,
    gain: float = math.sqrt(2.0),
    gates: int = 1,
    generator: np.random.Generator | None = None,
) -> None:
    """Uniform, var w = gain^2 / I, w (gates * O, I); by default relu's gain (He et al. 2015)."""
    _, columns = _matrix(p, gates)
    uniform_(p, checks.number("init: gain", gain) * math.sqrt(3.0 / columns), generator)


def he_normal_(
    p: Parameter,
    gain: float = math.sqrt(2.0),
    gates: int = 1,
    generator: np.random.Generator | None = None,
) -> None:
    """Normal, var w = gain^2 / I, w (gates * O, I); by default relu's gain (He et al. 2015)."""
    _, columns = _matrix(p, gates)
    normal_(p, checks.number("init: gain", gain) / math.sqrt(columns), generator)


def orthogonal_(
    p: Parameter, gain: float = 1.0, gates: int = 1, generator: np.random.Generator | None = None
) -> None:
    """W W^T = gain^2 I (W^T W, if tall) of each gate, w (gates * O, I) (Saxe et al. 2014)."""
    rows, columns = _matrix(p, gates)
    draw = default_generator(generator)
    blocks = []
    for _ in range(gates):
        q, r = np.linalg.qr(draw.normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))  # without this, QR's choice of signs makes some rotations rarer
        blocks.append(q if rows >= columns else q.T)
    p.data = checks.number("orthogonal_: gain", gain) * np.concatenate(blocks)


def identity_(
    p: Parameter, scale: float = 1.0, gates: int = 1, generator: np.random.Generator | None = None
) -> None:
    """W = scale * I of each gate, w (gates * O, I); with relu and no biases the IRNN (Le 2015)."""
    rows, columns = _matrix(p, gates)
    checks.number("identity_: scale", scale)
    p.data = np.tile(scale * np.eye(rows, columns), (gates, 1))


def each_gate_(module: Module, name: str, fill: Callable[..., None], **options: Any) -> None:
    """W_g ~ fill for each gate g of the parameter `name`, (gates * H, ...), of every cell.

    module: a cell, a recurrent layer (all its layers and directions), or a network of such.
    name: "weight_ih" or "weight_hh", as the cell calls it.
    fill: a function of this file that takes `gates`; `options` go to it.
    Raises ValueError if there is no such cell.
    """
    for cell in _cells(module, name):
        fill(getattr(cell, name), gates=len(cell.gates), **options)


def forget_bias_(module: Module, value: float = 1.0) -> None:
    """b_f = value, (H,), so that f = sigmoid(value) at first, of every LSTM cell (Jozefowicz 2015).

    There are two biases and they add up: the forget part of bias_ih becomes `value` and that of
    bias_hh 0. Raises ValueError if there is no cell with biases and a gate f that keeps the state.
    """
    for cell in _cells(module, "bias_ih", gate="f", signs=(+1,)):
        _set_gate_bias(cell, "f", np.full(cell.hidden_size, value))


def chrono_(module: Module, t_max: float, generator: np.random.Generator | None = None) -> None:
    """b_f = ln u, (H,): memories that last from 1 to t_max steps (Tallec and Ollivier 2018).

    LSTM: b_f = ln u, b_i = -b_f. GRU: b_z = ln u where z keeps the state, -ln u where it writes.
    Other cells alike, by what `cell.keeps` says of their gates. u is uniform in (1, t_max - 1) for
    each unit. Set in bias_ih; the same part of bias_hh becomes 0, as the two add up.
    Raises ValueError if t_max < 2 or there is no such cell with biases.
    """
    if not checks.number("chrono_: t_max", t_max) >= 2:
        raise ValueError(f"chrono_: t_max is the longest dependency in steps, >= 2; got {t_max}.")
    draw = default_generator(generator)
    for cell in _cells(module, "bias_ih", signs=(+1, -1)):
        memory = np.log(draw.uniform(1.0, t_max - 1.0, cell.hidden_size))
        for gate, sign in cell.keeps.items():
            _set_gate_bias(cell, gate, sign * memory)


def _set_gate_bias(cell: Any, gate: str, values: np.ndarray) -> None:
    start = cell.gates.index(gate) * cell.hidden_size
    cell.bias_ih.data[start : start + cell.hidden_size] = values
    if getattr(cell, "bias_hh", None) is not None:
        cell.bias_hh.data[start : start + cell.hidden_size] = 0.0


def _cells(module: Module, name: str, gate: str = "", signs: tuple[int, ...] = ()) -> Iterator[Any]:
    """The cells in `module` that have the parameter `name`, and a gate that keeps the state.

    signs: what `cell.keeps` may say of that gate; where empty, no gate is asked for. gate: its
        name, any if left out.
    """

    def keeps(m: Any) -> bool:
        found = getattr(m, "keeps", {})
        return any(found[g] in signs for g in found if gate in ("", g))

    found = [
        m
        for m in module.modules()
        if hasattr(m, "gates") and getattr(m, name, None) is not None and (not signs or keeps(m))
    ]
    if not found:
        asked = f" and a gate {gate or 'that keeps the state'}" if signs else ""
        raise ValueError(f"init: {type(module).__name__} has no cell with {name}{asked}.")
    return iter(found)


def _matrix(p: Parameter, gates: int) -> tuple[int, int]:
    """Rows and columns of one gate's matrix."""
    gates = checks.size("init: gates", gates)
    if p.ndim != 2 or not p.size or p.shape[0] % gates:
        raise ShapeError(f"init: expected a matrix of {gates} gates stacked, got {describe(p)}.")
    return p.shape[0] // gates, p.shape[1]


_NAMES = [name for name in globals() if name.endswith("_") and not name.startswith("_")]
__getattr__ = absent("minigrad.nn.init", _NAMES, INIT)
