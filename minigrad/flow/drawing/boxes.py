"""A Program as a few boxes: what it takes to read the step of an LSTM at a glance.

Views (slices, reshapes) are arrows. Sums of sums are one box, and so are products of products. In a
backward step, the slope of an op is an expression of one value that the forward step stored; it
stands as text in the box that multiplies by it: `× 2 cₜ`. Slopes of saturating functions, `tanh′`
and `σ′`, are ops and have boxes of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...compile.program import AFTER, BEFORE, STEP, Program, Value
from .parts import ARITHMETIC, SYMBOLS

CHAINED = ("add", "multiply")  # a + (b + c) is one box
EVEN = {*CHAINED, "maximum", "minimum", "equal", "not_equal", "logical_and", "logical_or"}
_PLACES = {  # of operands in which an op is not symmetric
    "subtract": {"a": "", "b": "−"},
    "divide": {"a": "", "b": "÷"},
    "where": {"condition": "if", "a": "then", "b": "else"},
}
LONGEST = 22  # characters of an expression that still stands in the box that reads it


@dataclass(eq=False)
class Box:
    """One op of the picture, or several that were folded into one; `value` is its result.

    kind: product, squash, pointwise or other. note: what stands below its text. sources: where its
    arrows come from, each with a word to stand at it.
    """

    value: Value
    kind: str
    text: str
    note: str = ""
    texts: list[str] = field(default_factory=list)  # operands that are text
    sources: list[tuple[Value, str]] = field(default_factory=list)


class Boxes:
    """The boxes of a program, in order.

    pinned: values that keep a box of their own. loops: the loop that computes a value; what is
    folded together is computed together. name: what a value is called in an expression.
    """

    def __init__(
        self,
        program: Program,
        pinned: Collection[Value],
        loops: Mapping[Value, int],
        name: Callable[[Value], str],
    ):
        self.loops, self.name = loops, name
        self.pinned = {*pinned, *program.results}
        reads = [i for v in program.body for i in v.inputs if type(i) is Value]
        self.uses = Counter([*reads, *program.results])
        self.stored = set(stored_reads(program))
        self.stands: dict[Value, tuple[Value, str]] = {}  # a view -> (of what, how it looks at it)
        self.formulas: dict[Value, tuple[str, Value]] = {}  # (text, the stored value it is of)
        self.found: dict[Value, Box] = {}
        for v in program.body:
            self._visit(v)

    def __iter__(self) -> Any:
        return iter(self.found.values())

    def root(self, v: Value) -> tuple[Value, str]:
        """The value whose box an arrow from v starts at, and what to write at the arrow."""
        root, look = self.stands.get(v, (v, ""))
        if root in self.formulas and root not in self.found:  # read by what has no room for it
            text, source = self.formulas[root]
            self.found[root] = Box(root, "pointwise", text, sources=[(source, "")])
        return root, look

    def _visit(self, v: Value) -> None:
        op = v.op
        assert op is not None
        if op.kind == "view" and len(v.inputs) == 1 and op.name not in ("pad", "scatter"):
            root, before = self.root(v.inputs[0])
            self.stands[v] = root, " ".join(filter(None, (before, look_of(v))))
            return
        formula = self._formula(v)
        if formula is not None and v not in self.pinned:
            self.formulas[v] = formula
            return
        box = Box(v, _kind(v), *_words(v))
        values = sum(type(i) is Value for i in v.inputs)
        names = [""] * len(v.inputs) if op.variadic or op.kind == "matmul" else op.inputs
        for name, i in zip(names, v.inputs, strict=False):
            name = "" if op.name in EVEN else _PLACES.get(op.name, {}).get(name, name)
            self._operand(box, i, name, values)
        if op.name in CHAINED and box.texts:
            sign = SYMBOLS[op.name]
            box.text = f"{sign} " + f" {sign} ".join(box.texts)
        elif box.texts:
            first = type(v.inputs[0]) is not Value and len(v.inputs) == 2
            box.text = " ".join([*box.texts, box.text] if first else [box.text, *box.texts])
        if v.name and v.role == "op":
            box.text += f"  {self.name(v)}"
        self.found[v] = box

    def _operand(self, box: Box, i: Any, name: str, values: int) -> None:
        op = box.value.op
        assert op is not None
        if type(i) is not Value:
            box.texts.append(f"{name} {i:g}" if name and len(box.value.inputs) > 2 else f"{i:g}")
            return
        if op.name in CHAINED and i in self.found and self._absorbs(box.value, i):
            inner = self.found.pop(i)
            box.texts += inner.texts
            box.sources += [s for s in inner.sources if s not in box.sources]
            return
        if op.name in CHAINED and i in self.formulas:
            text, source = self.formulas[i]
            box.texts.append(f"({text})" if _is_sum(text) else text)
            arrow = source, ""
        else:
            root, look = self.root(i)
            arrow = root, look or (name if values > 1 else "")
            if op.name == "multiply" and root in self.stored and not look:
                box.texts.append(self.name(root))
        if arrow not in box.sources:
            box.sources.append(arrow)

    def _absorbs(self, v: Value, i: Value) -> bool:
        """Whether i, an operand of v, is part of the same sum or product."""
        same = i.op is v.op and i.stage == v.stage and self.loops.get(i) == self.loops.get(v)
        return same and self.uses[i] == 1 and i not in self.pinned and not i.name

    def _formula(self, v: Value) -> tuple[str, Value] | None:
        """v as an expression of numbers and one stored value."""
        op = v.op
        assert op is not None
        if v.stage != STEP or op.name not in ("add", "subtract", "multiply", "negative", "square"):
            return None
        parts, sources = [], set()
        for i in v.inputs:
            if type(i) is not Value:
                parts.append(f"{i:g}")
                continue
            if i in self.formulas:
                text, source = self.formulas[i]
            elif i in self.stored:
                text, source = self.name(i), i
            else:
                return None
            parts.append(text)
            sources.add(source)
        if len(sources) != 1:
            return None
        text = _expression(op.name, parts)
        return (text, sources.pop()) if len(text) <= LONGEST else None


def _expression(name: str, parts: list[str]) -> str:
    tight = [f"({p})" if _is_sum(p) else p for p in parts]
    if name == "square" or (name == "multiply" and parts[0] == parts[1]):
        return f"{tight[0]}²"
    if name == "negative":
        return f"−{tight[0]}"
    if name == "multiply":
        return " ".join(sorted(tight, key=lambda p: p.startswith("(")))
    return f" {SYMBOLS[name]} ".join(tight)


def _is_sum(text: str) -> bool:
    """Whether there is a + or − outside of parentheses."""
    depth = 0
    for k, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth and text[k : k + 3] in (" + ", " − "):
            return True
    return False


def stored_reads(program: Program) -> list[Value]:
    """What a backward step reads of the forward step, beside its inputs, which are there anyway."""
    if program.name != "backward step":
        return []
    return [v for v in program.xs if v.role != "x" or (v.from_x and v.op is not None)]


def look_of(v: Value) -> str:
    """A view as a word at an arrow: `0:16` for a slice of the last axis."""
    assert v.op is not None
    if v.op.name == "getitem":
        index = v.params["index"]
        items = [i for i in (index if isinstance(index, tuple) else (index,)) if i is not Ellipsis]
        cuts = [i for i in items if i != slice(None)]
        return ", ".join(
            f"{i.start or 0}:{i.stop}" if isinstance(i, slice) else str(i) for i in cuts
        )
    return {
        "transpose": "transposed",
        "swapaxes": "transposed",
        "flip": "flip",
        "roll": "roll",
    }.get(v.op.name, "")


def _kind(v: Value) -> str:
    assert v.op is not None
    if v.op.kind == "matmul":
        return "product"
    if v.op.kind != "elementwise":
        return "reduce" if v.op.kind == "reduce" else "other"
    return "pointwise" if v.op.name in ARITHMETIC else "squash"


def _words(v: Value) -> tuple[str, str]:
    """(sign, note) of an op."""
    op = v.op
    assert op is not None
    if op.kind == "matmul":
        a, b = (i.shape for i in v.inputs)
        if v.stage == AFTER:
            return "@", "one product over all t"
        size = f"{b[-2] if len(b) > 1 else b[0]} × {b[-1]}"
        return "@", size if v.stage != BEFORE else f"{a} @ {b}"
    if op.kind == "reduce":
        if v.stage == AFTER:
            return "Σ", "over t" if v.params["axis"] == () else "over t and the rows"
        axes = ", ".join(map(str, v.params["axis"]))
        return SYMBOLS.get(op.name, op.name), f"axis {axes}"
    return {"concatenate": "side by side"}.get(op.name) or SYMBOLS.get(op.name, op.name), ""
