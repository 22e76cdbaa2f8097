"""How far does the gradient of each cell reach at its first weights? The table of reach.md.

    python tools/reach.py                 all of it: some minutes, most of them compiling
    python tools/reach.py lstm slstm      rows whose names contain a word
    python tools/reach.py --quick         small and short: under a minute without JIT
    python tools/reach.py --write         all of it, into the docs

One layer of each cell of mg.nn, with the weights that it starts with, reads noise; a loss <w, y_T>
with random w sends a gradient back, and `rec.verdict` says how far that of all that is carried over
reaches. Of several nets that with the median reach is shown. What is said beneath the table is
counted from it.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.flow.tables import reach as words
from minigrad.flow.verdict import Verdict

PAGE = Path(__file__).resolve().parent / "docs" / "source" / "reach.md"
DESIGNED = "coRNN", "LEM", "antisymmetric", "IndRNN", "sLSTM", "CfC"


@dataclass(frozen=True)
class Size:
    """Of the nets and sequences: features, units, steps, rows, nets of each cell."""

    inputs: int = 16
    hidden: int = 64
    steps: int = 500
    rows: int = 8
    nets: int = 5


Make = Callable[[Size, np.random.Generator], Any]


def of(kind: Any, then: Callable[[Any, Size], None] | None = None, **options: Any) -> Make:
    def make(size: Size, rng: np.random.Generator) -> Any:
        given = {k: v(size) if callable(v) else v for k, v in options.items()}
        cell = kind(size.inputs, size.hidden, dtype=np.float64, generator=rng, **given).eval()
        if then:
            then(cell, size)
        return cell

    return make


def remember(cell: Any, size: Size) -> None:
    cell.attend(np.random.default_rng(0).normal(size=(size.rows, 10, size.inputs)))


CELLS: dict[str, Make] = {
    "RNN, tanh": of(nn.RNNCell),
    "RNN, relu": of(nn.RNNCell, nonlinearity="relu"),
    "IRNN": of(nn.IRNNCell),
    "Elman": of(nn.ElmanCell),
    "Jordan": of(nn.JordanCell),
    "LSTM": of(nn.LSTMCell),
    "LSTM, forget bias 1": of(nn.LSTMCell, lambda cell, size: nn.init.forget_bias_(cell)),
    "LSTM, chrono": of(
        nn.LSTMCell,
        lambda cell, size: nn.init.chrono_(cell, size.steps, np.random.default_rng(0)),
    ),
    "peephole LSTM": of(nn.PeepholeLSTMCell),
    "coupled LSTM": of(nn.CoupledLSTMCell),
    "layer-normalised LSTM": of(nn.LayerNormLSTMCell),
    "zoneout LSTM, eval": of(nn.ZoneoutLSTMCell),
    "attention LSTM": of(nn.AttentionLSTMCell, remember, memory_size=lambda size: size.inputs),
    "GRU": of(nn.GRUCell),
    "minimal gated unit": of(nn.MinimalGatedCell),
    "minGRU": of(nn.MinGRUCell),
    "unitary": of(nn.UnitaryCell),
    "LRU": of(nn.LRUCell),
    "IndRNN": of(nn.IndRNNCell),
    "coRNN": of(nn.CoRNNCell),
    "coRNN, gamma 2.7, epsilon 4.7": of(nn.CoRNNCell, gamma=2.7, epsilon=4.7),
    "LEM": of(nn.LEMCell),
    "antisymmetric": of(nn.AntisymmetricRNNCell),
    "antisymmetric, gated": of(nn.AntisymmetricRNNCell, gated=True),
    "CfC": of(nn.CfCCell),
    "sLSTM": of(nn.SLSTMCell),
    "sLSTM, forget exp": of(nn.SLSTMCell, forget="exp"),
}


def verdict_of(make: Make, size: Size, seed: int) -> Verdict:
    """On the gradient of <w, y_T> in one layer of the cell."""
    rng = np.random.default_rng([seed, 1])
    cell = make(size, rng)
    layer = nn.Recurrent(lambda _: cell, size.inputs)
    xs = rng.normal(size=(size.steps, size.rows, size.inputs))
    with mg.flow.record() as recording:
        last = layer(xs)[0][-1]
        mg.grad((last * rng.normal(size=last.shape)).sum(), list(layer.parameters()))
    return recording.verdict


def middle(verdicts: Sequence[Verdict]) -> Verdict:
    """That with the median reach; one that cannot be told is the last."""
    return sorted(verdicts, key=lambda v: (math.isnan(v.reach), v.reach))[len(verdicts) // 2]


def table(found: dict[str, list[Verdict]], size: Size) -> list[str]:
    lines = [
        f"| cell | reach | least and most of {size.nets} | left after {size.steps - 1} steps | "
        f"verdict | carried by |",
        "|---|---|---|---|---|---|",
    ]
    for name, verdicts in found.items():
        v = middle(verdicts)
        ends = sorted(verdicts, key=lambda v: (math.isnan(v.reach), v.reach))
        path = ", ".join(f"{s} {share:.0%}" for s, share in v.path.items() if len(v.path) > 1)
        lines.append(
            f"| {name} | {words(v)} | {words(ends[0])} to {words(ends[-1])} | {v.ratio:.1e} | "
            f"{v.kind} | {path or '-'} |"
        )
    return lines


def sentences(found: dict[str, list[Verdict]], size: Size) -> list[str]:
    """What the table says, counted from it."""
    median = {name: middle(verdicts) for name, verdicts in found.items()}
    far = [n for n, v in median.items() if v.reach > size.steps]
    near = [n for n, v in median.items() if v.reach <= 20]
    loud = [n for n, v in median.items() if v.ratio >= 1e3]
    lines = [
        _listed(far, f"Beyond the {size.steps} steps that were run reach"),
        _listed(near, "A thousandth or less is left after 20 steps in"),
        _listed(loud, "A gradient grows by 1000 or more in"),
    ]
    designed = [n for n in median if n.split(",")[0] in DESIGNED]
    if designed and "LSTM" in median:
        more = [n for n in designed if median[n].reach > median["LSTM"].reach]
        less = [n for n in designed if n not in more]
        lines += [
            _listed(more, "Farther than the LSTM reach, of the cells designed for gradient flow"),
            _listed(less, "No farther than the LSTM reach, of these"),
        ]
    return lines


def _listed(names: list[str], head: str) -> str:
    return f"- {head}: {'; '.join(names) if names else 'none'}."


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="of the names of cells")
    parser.add_argument("--quick", action="store_true", help="small nets, short sequences")
    parser.add_argument("--write", action="store_true", help="all of the table into the docs")
    given = parser.parse_args(argv)
    if given.write and (given.quick or given.words):
        parser.error("--write is for the whole table")
    size = Size(3, 8, 60, 2, 3) if given.quick else Size()
    chosen = [
        n for n in CELLS if not given.words or any(w.lower() in n.lower() for w in given.words)
    ]
    if not chosen:
        parser.error(f"no cell is called like that; there are {', '.join(CELLS)}")
    found = {}
    for name in chosen:
        print(name, end=" " * 20 + "\r", file=sys.stderr, flush=True)
        found[name] = [verdict_of(CELLS[name], size, seed) for seed in range(size.nets)]
    text = "\n".join([*table(found, size), "", *sentences(found, size)])
    print(text)
    if given.write:
        page = PAGE.read_text("utf-8")
        new = f"<!-- table -->\n\n{text}\n\n<!-- end -->"
        PAGE.write_text(re.sub(r"<!-- table -->.*<!-- end -->", lambda _: new, page, flags=re.S))
    return 0


if __name__ == "__main__":
    sys.exit(main())
