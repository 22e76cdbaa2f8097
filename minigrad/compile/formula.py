"""Formulas: what a loop computes at one point, as lines of Python like those of a paper.

    f = sigmoid(f_pre)
    c = f * c_in[j] + i * g

What has a name of its own, or is used twice, gets a line; the rest stands where it is used. No
operation moves: brackets keep the order in which the program computes, and so every bit.
"""

from __future__ import annotations

import itertools
import keyword
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..expr import Expr

# sign and strength of an operator; a call or a name binds strongest
_INFIX = {
    "or": ("|", 3), "and": ("&", 4), "add": ("+", 5), "sub": ("-", 5), "mul": ("*", 6),
    "div": ("/", 6), "lt": ("<", 2), "le": ("<=", 2), "gt": (">", 2), "ge": (">=", 2),
    "eq": ("==", 2), "ne": ("!=", 2),
}  # fmt: skip
_NOT, _MINUS, _ATOM = 1, 7, 9
_MOST = 6  # operations in a formula: longer ones are cut in two


class Names:
    """Names that are not taken yet. given: those that came from here, in order."""

    def __init__(self, taken: Iterable[str], given: dict[str, None] | None = None):
        self.taken = {*taken, *keyword.kwlist}
        self.given = {} if given is None else given

    def unique(self, wish: str) -> str:
        """The wished name, or with a number: `h`, `h2`, `h3`."""
        name, k = wish, 2
        while name in self.taken:
            name, k = f"{wish}_{k}" if wish[-1].isdigit() else f"{wish}{k}", k + 1
        self.taken.add(name)
        self.given[name] = None
        return name


def identifier(label: str) -> str:
    """A label as a name in Python; "" where it makes none.

    >>> identifier("h"), identifier("weight_hh.T"), identifier("bias_ih + bias_hh")
    ('h', 'weight_hh_T', 'bias')
    """
    words = re.findall(r"\b[A-Za-z]\w*", label, re.ASCII)
    if not re.fullmatch(r"[\w./#]+", label):
        same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*words))
        words = ["".join(letters[0] for letters in same).rstrip("_")]
    name = "_".join(words)
    return name if name.isidentifier() and len(name) <= 24 else ""


@dataclass
class Node:
    """One value: fn of other values, or what `text` says. `wish` is a name of its own."""

    fn: str
    args: tuple[int, ...] = ()
    text: str = ""
    strength: int = _ATOM
    size: int = 0  # operations in the text
    uses: int = 0
    wish: str = ""  # it gets a line of this name
    spare: str = ""  # what it is called if it gets a line anyway
    comment: str = ""
    reached: bool = False
    written: bool = False


class Formulas:
    """Expr -> lines. Equal expressions are one value.

    lines: where they go. number: the text of a constant.
    """

    def __init__(self, lines: Callable[[str], None], names: Names, number: Callable[[float], str]):
        self.lines, self.names, self.number = lines, names, number
        self.nodes: list[Node] = []
        self.known: dict[tuple[object, ...], int] = {}
        self.seen: dict[int, int] = {}  # id of an Expr -> its node
        self.kept: list[Expr] = []  # so that ids stay their own

    def node(self, e: Expr) -> Node:
        """The value of an expression."""
        waiting = [e]  # no recursion: a step may be a chain of thousands of ops
        while waiting:
            here = waiting[-1]
            part = next((a for a in here.args if id(a) not in self.seen), None)
            if part is not None:
                waiting.append(part)
                continue
            waiting.pop()
            if id(here) not in self.seen:
                self.seen[id(here)] = self._node(here)
                self.kept.append(here)
        return self.nodes[self.seen[id(e)]]

    def _node(self, e: Expr) -> int:
        args = tuple([self.seen[id(a)] for a in e.args])
        key = (e.fn, args, e.value if e.fn == "input" else repr(e.value))
        if key not in self.known:
            text = ""
            if e.fn == "input":
                text = str(e.value)
            elif e.fn == "const":
                text = str(e.value) if e.is_bool else self.number(e.value)
            written = bool(text)
            strength = _MINUS if text.startswith("-") else _ATOM
            self.nodes.append(Node(e.fn, args, text, strength, written=written))
            self.known[key] = len(self.nodes) - 1
        return self.known[key]

    def use(self, node: Node, times: int = 1) -> None:
        """Says how many lines will read this value, before any is written."""
        node.uses += times
        waiting = [node]
        while waiting:
            here = waiting.pop()
            if here.reached:
                continue
            here.reached = True
            for k in here.args:
                self.nodes[k].uses += 1
                waiting.append(self.nodes[k])

    def write(self, node: Node) -> str:
        """The text that stands for a value, behind the lines that it needs."""
        needed, waiting = set(), [node]
        while waiting:
            here = waiting.pop()
            for k in here.args if not here.written else ():
                if k not in needed:
                    needed.add(k)
                    waiting.append(self.nodes[k])
        for part in [*(self.nodes[k] for k in sorted(needed)), node]:
            if not part.written:
                self._write(part)
        return node.text

    def _write(self, node: Node) -> None:
        node.text, node.strength = self._format(node)
        node.size = 1 + sum(self.nodes[k].size for k in node.args)
        node.written = True
        if node.wish or node.uses > 1 or node.size > _MOST:
            name = self.names.unique(node.wish or node.spare or "v")
            self.lines(f"{name} = {node.text}" + (f"  # {node.comment}" if node.comment else ""))
            node.text, node.strength, node.size = name, _ATOM, 0

    def _format(self, node: Node) -> tuple[str, int]:
        args = [self.nodes[k] for k in node.args]
        if node.fn in _INFIX:
            sign, strength = _INFIX[node.fn]
            left, right = args
            # Chains of comparisons mean something else in Python.
            a = _bracketed(left, strength + (strength == 2))
            return f"{a} {sign} {_bracketed(right, strength + 1)}", strength
        if node.fn == "neg":
            return f"-{_bracketed(args[0], _MINUS + 1)}", _MINUS
        if node.fn == "not":
            return f"not {_bracketed(args[0], _NOT + 1)}", _NOT
        return f"{node.fn}({', '.join(a.text for a in args)})", _ATOM


def _bracketed(node: Node, strength: int) -> str:
    return node.text if node.strength >= strength else f"({node.text})"


def literal(value: float, real: str) -> str:
    """A number in the text of a kernel of this dtype: to Numba, 0.5 alone is a float64."""
    text = repr(value) if math.isfinite(value) else str(value)
    return text if real == "float64" else f"F({text})"
