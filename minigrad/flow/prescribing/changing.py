"""Remedies that change the net: its first weights, its cells, what is around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...nn import init
from ...nn.cells import GRUCell, LSTMCell, RNNCell
from ...nn.zoo import IRNNCell, LayerNormLSTMCell
from .case import Case, cells_of, exchange
from .remedy import Remedy
from .wrappers import Residual, Standardised

if TYPE_CHECKING:
    from .fork import Run

SHORT = 3.0  # steps that a forget bias of 1 remembers
OPEN = 0.9  # a forget bias from here on is one of 1 that has been trained
NEARLY = 0.25  # singular values that differ by less from 1 are those of a trained orthogonal matrix
LARGE, SMALL = 4.0, 0.05  # size of a feature, spread of all, beyond which inputs are scaled


class ForgetBias(Remedy):
    """Gers et al. 2000; Jozefowicz et al. 2015."""

    name = "forget bias"

    def missing(self, case: Case) -> str:
        found = [cell for cell in case.cells if _keeps(cell).get("f") == +1]
        if not found:
            return "no cell has a forget gate with a bias"
        if min(float(_bias(cell, "f").mean()) for cell in found) >= OPEN:
            return "the forget bias is 1 or more already"
        return ""

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        for cell in cells_of(run.model):
            if _keeps(cell).get("f") == +1:
                init.forget_bias_(cell, 1.0)

    def code(self, case: Case) -> str:
        return "mg.nn.init.forget_bias_(layer, 1.0)"


class Chrono(Remedy):
    """Tallec and Ollivier 2018."""

    name = "chrono"

    def missing(self, case: Case) -> str:
        found = [cell for cell in case.cells if _keeps(cell)]
        if not found:
            return "no cell has a gate with a bias that keeps its state"
        if case.steps < 4:
            return f"{case.steps} steps are too few"
        if min(map(_memory, found)) >= max(case.steps / 8, SHORT):
            return "the biases of its gates remember for as long already"
        return ""

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        for cell in cells_of(run.model):
            if _keeps(cell):
                init.chrono_(cell, case.steps, rng)

    def code(self, case: Case) -> str:
        return f"mg.nn.init.chrono_(layer, {case.steps})"


class Orthogonal(Remedy):
    """Saxe, McClelland, Ganguli 2014."""

    name = "orthogonal"

    def missing(self, case: Case) -> str:
        found = [gate for cell in case.cells for gate in _squares(cell)]
        if not found:
            return "no cell has a square weight_hh"
        if all(_is_orthogonal(W) for W in found):
            return "weight_hh is orthogonal already"
        return ""

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        for cell in cells_of(run.model):
            if list(_squares(cell)):
                init.orthogonal_(cell.weight_hh, gates=len(cell.gates), generator=rng)

    def code(self, case: Case) -> str:
        return 'mg.nn.init.each_gate_(layer, "weight_hh", mg.nn.init.orthogonal_)'


class Exchange(Remedy):
    """Another cell in the place of each one of a kind."""

    old: ClassVar[tuple[type[Any], ...]]
    lacking: ClassVar[str]

    def missing(self, case: Case) -> str:
        return "" if any(type(cell) in self.old for cell in case.cells) else self.lacking

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        found = [cell for cell in cells_of(run.model) if type(cell) in self.old]
        exchange(run.model, {id(cell): self.another(cell, rng) for cell in found})

    def another(self, cell: Any, rng: np.random.Generator) -> Any:
        raise TypeError(f"{type(self).__name__} defines no another().")


class Gated(Exchange):
    """Cho et al. 2014. A GRU carries one h, as an RNN does, so that the model need not change."""

    name, old = "gated cell", (RNNCell, IRNNCell)
    lacking = "no cell is a plain RNN's"

    def another(self, cell: Any, rng: np.random.Generator) -> GRUCell:
        bias, dtype = cell.bias_ih is not None, cell.weight_ih.dtype
        return GRUCell(cell.input_size, cell.hidden_size, bias, dtype=dtype, generator=rng)

    def code(self, case: Case) -> str:
        return "mg.nn.GRU in place of mg.nn.RNN"


class LayerNorm(Exchange):
    """Ba, Kiros, Hinton 2016. The LSTM's own weights go on."""

    name, old = "layer norm", (LSTMCell,)
    lacking = "only an LSTM has a variant with layer norm"

    def another(self, cell: Any, rng: np.random.Generator) -> LayerNormLSTMCell:
        size = 0 if cell.weight_hr is None else cell.output_size
        made = LayerNormLSTMCell(
            cell.input_size, cell.hidden_size, cell.bias_ih is not None, size,
            dtype=cell.weight_ih.dtype, generator=rng,
        )  # fmt: skip
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"):
            setattr(made, name, getattr(cell, name))
        return made

    def code(self, case: Case) -> str:
        H = next(cell.hidden_size for cell in case.cells if type(cell) in self.old)
        I = next(cell.input_size for cell in case.cells if type(cell) in self.old)
        return f"mg.nn.Recurrent(lambda size: mg.nn.LayerNormLSTMCell(size, {H}), {I})"


class Residuals(Remedy):
    """He et al. 2016; between recurrent layers Wu et al. 2016."""

    name = "residual"

    def missing(self, case: Case) -> str:
        return "" if self._places(case) else "no layer above the first has outputs as its inputs"

    @staticmethod
    def _places(case: Case) -> list[int]:
        return [
            i
            for i in sorted(case.upper)
            if i < len(case.cells)
            and getattr(case.cells[i], "input_size", None)
            == getattr(case.cells[i], "output_size", -1)
        ]

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        cells = list(cells_of(run.model))
        exchange(run.model, {id(cells[i]): Residual(cells[i]) for i in self._places(case)})

    def code(self, case: Case) -> str:
        return "hs = hs + layer(hs)[0] for each layer above the first"


class InputScale(Remedy):
    """Inputs with a mean of 0 and a standard deviation of 1 (LeCun et al. 1998)."""

    name = "input scale"

    def missing(self, case: Case) -> str:
        if not case.lowest:
            return "what the net reads is not known"
        if not self._places(case):
            return "the inputs are of a size of 1 or so already"
        return ""

    @staticmethod
    def _places(case: Case) -> list[int]:
        found = []
        for i in case.lowest:
            xs = case.read[i]
            with np.errstate(all="ignore"):  # of NaN and Inf
                largest = float(np.sqrt(np.mean(xs**2, axis=(0, 1), dtype=np.float64).max()))
                spread = float(np.sqrt(xs.var(axis=(0, 1), dtype=np.float64).sum()))
            if np.isfinite(largest) and (largest > LARGE or 0 < spread < SMALL):
                found.append(i)
        return found

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        cells = list(cells_of(run.model))
        made = {}
        for i in self._places(case):
            xs, dtype = case.read[i], next(cells[i].parameters()).dtype
            mean, std = (f(xs, axis=(0, 1), dtype=np.float64) for f in (np.mean, np.std))
            std = np.maximum(
                std, 0.01 * np.sqrt(np.mean(xs**2, dtype=np.float64))
            )  # of a feature that is constant
            made[id(cells[i])] = Standardised(cells[i], mean.astype(dtype), std.astype(dtype))
        exchange(run.model, made)

    def code(self, case: Case) -> str:
        return "xs = (xs - xs.mean((0, 1))) / xs.std((0, 1)), by the training set's mean and std"


def _keeps(cell: Any) -> dict[str, int]:
    """The gates with a bias that decide how long the state lasts; see GatedCell."""
    biased = getattr(cell, "bias_ih", None) is not None and hasattr(cell, "gates")
    return getattr(cell, "keeps", {}) if biased else {}


def _bias(cell: Any, gate: str) -> np.ndarray:
    H = cell.hidden_size
    start = cell.gates.index(gate) * H
    part = slice(start, start + H)
    found = cell.bias_ih.numpy()[part].astype(np.float64)
    both = getattr(cell, "bias_hh", None)
    return found if both is None else found + both.numpy()[part]


def _memory(cell: Any) -> float:
    """Steps for which the biases alone let the most lasting unit remember: e^b, see chrono_.

    That of the median unit says less: chrono_ draws it from (1, t_max - 1).
    """
    name, sign = next(iter(_keeps(cell).items()))
    return float(np.exp(min((sign * _bias(cell, name)).max(), 50.0)))


def _squares(cell: Any) -> Iterator[np.ndarray]:
    """The matrix of each gate in weight_hh, where those are square."""
    W, gates = getattr(cell, "weight_hh", None), getattr(cell, "gates", ())
    if W is not None and gates and W.ndim == 2 and W.shape[0] == len(gates) * W.shape[1]:
        yield from np.split(W.numpy().astype(np.float64), len(gates))


def _is_orthogonal(W: np.ndarray) -> bool:
    if not np.isfinite(W).all():
        return False
    return bool(np.abs(np.linalg.svd(W, compute_uv=False) - 1).max() < NEARLY)
