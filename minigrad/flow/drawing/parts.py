"""One step of a cell as its equations: traced on a small example, then tidied up.

What the paper's equations do not show is folded away: views (slices, transposes) are arrows,
expressions of weights alone become text in the part that uses them, and a product with a weight
takes its bias
along: `W_ih xₜ + b_ih + b_hh`. A value that the cell tapped keeps its name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ...nn.module import Module
from ...tape import Node, Tape, listen, no_grad
from ...tensors import Tensor
from ...tree import map_leaves, named_leaves

SYMBOLS = {
    "add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "negative": "−", "sigmoid": "σ",
    "sum": "Σ", "sqrt": "√", "sech2": "tanh′", "sigmoid_slope": "σ′",
}  # fmt: skip
ARITHMETIC = {"add", "subtract", "multiply", "divide", "negative", "maximum", "minimum", "where"}
WORDS = (("weight_", "W_"), ("bias_", "b_"))  # how papers write torch.nn's weight_ih, bias_ih


@dataclass(eq=False)
class Part:
    """A node of the graph.

    kind: state, input (of the step), product (with weights), squash, pointwise, other, output.
    text: its sign or formula. sources: where its arrows come from. tap: the name the cell gave it.
    """

    kind: str
    text: str
    sources: list[Part] = field(default_factory=list)
    tap: str = ""


def equations(cell: Any, state: Any, x: Any) -> list[Part]:
    """The parts of `cell(state, x) -> (state, y)`, inputs first, outputs last."""
    # Copies, so that a component that is passed on untouched, or given twice, can be told apart.
    state, x = map_leaves(Tensor, state), Tensor(x)
    taps: dict[int, str] = {}

    def heard(name: str, tensor: Tensor, scope: str) -> None:
        taps[id(tensor._node or tensor)] = name

    with no_grad(), Tape() as tape, listen(heard):
        after, y = cell(state, x)

    inputs = [(t, Part("state", f"{name or 'h'}ₜ₋₁")) for name, t in named_leaves(state)]
    inputs.append((x, Part("input", "xₜ")))
    weights = cell.named_parameters() if isinstance(cell, Module) else ()
    folding = _Folding(tape, {id(p): _short(name) for name, p in weights}, taps)
    folding.stand_for.update((id(t), part) for t, part in inputs)
    for node in tape.nodes:
        folding.visit(node)

    outputs = [(f"{name or 'h'}ₜ", t) for name, t in named_leaves(after)]
    if not any((y._node or y) is (t._node or t) for _, t in outputs):
        outputs.append(("yₜ", y))
    ends = [Part("output", name, folding.parts_of([t._node or t])) for name, t in outputs]
    return [part for _, part in inputs] + folding.parts + ends


class _Folding:
    """From the operations of a tape to parts: each value stands for a Part, or for a text."""

    def __init__(self, tape: Tape, weights: dict[int, str], taps: dict[int, str]):
        self.parts: list[Part] = []
        self.taps = taps
        self.users = Counter(id(source) for node in tape.nodes for source in node.inputs)
        self.stand_for: dict[int, Part | str] = {
            id(leaf): weights.get(id(leaf)) or leaf.name or _constant(leaf) for leaf in tape.leaves
        }

    def parts_of(self, sources: list[Any]) -> list[Part]:
        found = (self.stand_for.get(id(source)) for source in sources)
        return [part for part in found if isinstance(part, Part)]

    def visit(self, node: Node) -> None:
        given = [
            f"{s:g}" if isinstance(s, (int, float)) else self.stand_for[id(s)] for s in node.inputs
        ]
        parts = [g for g in given if isinstance(g, Part)]
        texts = [g for g in given if isinstance(g, str)]
        if not parts:
            value: Part | str = _expression(node, texts)
        elif node.op.kind == "view" and len(given) == 1:
            value = parts[0]
        elif node.op.name == "add" and texts and self._takes_bias(parts[0], node):
            value = parts[0]
            value.text += f" + {texts[0]}"
        else:
            value = Part(_kind(node, texts), _formula(node, given), parts)
            self.parts.append(value)
        self.stand_for[id(node)] = value
        if id(node) in self.taps and isinstance(value, Part):
            value.tap = self.taps[id(node)]

    def _takes_bias(self, part: Part, node: Node) -> bool:
        """Whether this addition of a text is the only use of a product."""
        (source,) = (s for s in node.inputs if self.stand_for.get(id(s)) is part)
        return part.kind == "product" and self.users[id(source)] == 1


def _kind(node: Node, texts: list[str]) -> str:
    op = node.op
    if op.kind == "matmul" and texts:
        return "product"
    if op.kind != "elementwise":
        return "pointwise" if op.kind == "matmul" else "other"
    return "pointwise" if op.name in ARITHMETIC else "squash"


def _formula(node: Node, given: list[Part | str]) -> str:
    """`W_ih xₜ` for a product with weights, `1 −` with a number, else the sign alone."""
    sign = SYMBOLS.get(node.op.name, node.op.name)
    if node.op.name == "linear":
        x, weight, bias = (g if isinstance(g, str) else _name(g) for g in given)
        return f"{weight} {x} + {bias}"
    if not any(isinstance(g, str) for g in given) or len(given) != 2:
        return sign
    shown = [g if isinstance(g, str) else _name(g) for g in given]
    if node.op.kind != "matmul":
        return " ".join([shown[0], sign] if isinstance(given[0], str) else [sign, shown[1]])
    if shown[1].endswith("ᵀ"):  # x Wᵀ on rows is W x in the paper
        shown = [shown[1][:-1], shown[0]]
    return " ".join(shown)


def _name(part: Part) -> str:
    return part.text if part.kind in ("state", "input") else part.tap or "·"


def _expression(node: Node, texts: list[str]) -> str:
    """An expression of weights and numbers alone."""
    name = node.op.name
    if name in ("transpose", "swapaxes"):
        return f"{texts[0]}ᵀ"
    if name == "getitem":
        inner, turned = texts[0].removesuffix("ᵀ"), texts[0].endswith("ᵀ")
        return f"{inner}[…]" + "ᵀ" * turned
    if node.op.kind == "view" and len(texts) == 1:
        return texts[0]
    if name in ARITHMETIC and len(texts) == 2:
        return f" {SYMBOLS.get(name, name)} ".join(texts)
    return f"{SYMBOLS.get(name, name)}({', '.join(texts)})"


def _constant(leaf: Tensor) -> str:
    return f"{leaf.item():g}" if leaf.size == 1 else "const"


def _short(name: str) -> str:
    for long, short in WORDS:
        name = name.replace(long, short)
    return name
