"""What ran in a forward pass, and what read what: scans, and modules that called no other.

Every operation leaves a node that knows its inputs. So where a call has read something, its nodes
lead back to those of the calls it was computed by, whatever stands in between: a slice, a tanh, a
sum with something else (behind.py).
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..compile.padding import unwrapped
from ..compile.result import Call
from ..errors import describe
from ..nn.module import Module
from ..nn.recurrent import Recurrent
from ..tape import Node, tick
from ..tape import state as switches
from ..tensors import Tensor
from .behind import Behind, Words
from .places import at_step, both_directions, join
from .weakly import Weakly

FIRST, ALWAYS = "first state", "at every step"


@dataclass(eq=False)
class Part:
    """A part of a model: the cell of a scan, or a module.

    path: the scope it ran in first. about: its class and sizes. size: its number of parameters.
    merge: how this direction and the other one become one output, "" if there is no other. inside:
    the modules that it ran in, itself included.
    """

    path: str
    about: str
    size: int
    scan: bool
    reverse: bool = False
    merge: str = ""
    inside: Weakly[bool] = field(default_factory=Weakly)


@dataclass(frozen=True)
class Data:
    """An array that came from outside, by the name of the argument it was given as."""

    name: str
    text: str
    where: int = 0  # in memory


Reads = dict[tuple["Ran | Data", Words], None]  # what, and what happened to it on the way; ordered


@dataclass(eq=False)
class Ran:
    """One call of a part, between two times on the tape's clock.

    run: the run of a recording that this is, None if there is none or it is gone: who holds these
    calls holds neither the recording nor the model. steps: of a scan. path: of the run in a
    recording that was loaded, which has no runs.
    """

    part: Part
    began: int
    ended: int
    reads: Reads
    run_: weakref.ref[Any] | None = None
    steps: int = 1
    path: str | None = None

    @property
    def run(self) -> Any:
        return None if self.run_ is None else self.run_()


_heard: Weakly[Calls] = Weakly()  # by module, where it was heard last


class Calls:
    """The calls of one forward pass or of many, in order; hears modules and scans.

    Calls under no_grad are left out, as their operations leave no nodes (but under a Tape). In a
    recording, what was computed without a gradient counts as data.
    """

    def __init__(self) -> None:
        self._behind: Behind[Ran] = Behind()
        self._parts: Weakly[dict[str, Part]] = Weakly()
        self._running: list[tuple[Module, int]] = []
        self._arguments: dict[int, str] = {}  # address -> its name in the outermost call

    # -- listening

    @contextmanager
    def entered(self, module: Module) -> Iterator[None]:
        self._running.append((module, tick()))
        _heard[module] = self
        try:
            yield
        finally:
            self._running.pop()

    def returned(self, module: Module, args: Any, kwargs: Any, result: Any) -> None:
        """The innermost module has returned: a call of its own if it called no other."""
        began = self._running[-1][1]
        given = list(_named(module, args, kwargs))
        if len(self._running) == 1:
            self._arguments |= {_address(a): name for name, a in given}
        within = self._behind.since(began)
        if isinstance(module, Recurrent) and given:  # its scans read a copy of what it was given
            for ran in self.ran[within:]:
                ran.reads = {(_data(*given[0]) if isinstance(r, Data) else r, w): None
                             for r, w in ran.reads}  # fmt: skip
        is_cell = hasattr(module, "init_state")
        if _unseen() or (within < len(self.ran) and not is_cell):
            return
        self._behind.forget(within)  # a cell is one part, with all that it calls
        part = self._part(module, "", _scope(type(module).__name__.lower()), module, scan=False)
        outputs = _nodes(_arrays(result))
        reads: Reads = dict.fromkeys(self._behind.read(outputs, began).items())
        for name, a in given[-1:] if is_cell else given:  # a state that begins is no data
            if not any(map(self._behind.of, _nodes([a]))):
                reads[_data(name, a), ()] = None
        self._behind.add(Ran(part, began, tick(), reads), outputs)

    def scanned(self, path: str, call: Call, run: Any = None) -> None:
        """A scan has run in the scope `path`."""
        if _unseen():
            return
        self._behind.forget(self._behind.since(call.began))  # what its cell called, step by step
        cell = unwrapped(call.cell).own
        own = isinstance(cell, Module)
        key = cell if own else getattr(cell, "__code__", type(cell))
        part = self._part(key, "" if own else path, at_step(path)[0], cell, scan=True)
        if not part.scan:  # its cell has been called step by step
            part.path, part.scan = at_step(path)[0], True
        part.reverse = call.reverse
        lasts, outputs = _nodes(_arrays(call.final)), _nodes(_arrays(call.ys))
        xs, init = list(_arrays(call.xs)), list(_arrays(call.init))
        reads: Reads = dict.fromkeys(self._behind.read(_nodes(xs), call.began).items())
        if not reads:
            reads[_data("x", xs[0]), ()] = None
        for source, words in self._behind.read(_nodes(init), call.began).items():
            reads[source, (*words, FIRST)] = None
        there = {source for source, _ in reads}
        for source, words in self._behind.read([*lasts, *outputs], call.began).items():
            if source not in there:
                reads[source, (*words, ALWAYS)] = None
        ran = Ran(part, call.began, tick(), reads, run and weakref.ref(run), call.steps)
        self._behind.add(ran, [*lasts, *outputs], lasts)

    def _part(self, key: Any, below: str, path: str, what: Any, scan: bool) -> Part:
        parts = self._parts.get(key)
        if parts is None:
            parts = self._parts[key] = {}
        if below not in parts:
            part = parts[below] = Part(path, _about(what), _size(what), scan)
            around = self._running[-1][0] if self._running else None
            if scan and isinstance(around, Recurrent) and around.bidirectional:
                last = path.rpartition("/")[0].endswith(f"l{around.num_layers - 1}")
                part.merge = around.merge if last else "concat"
        for module in [module for module, _ in self._running] + [what] * isinstance(what, Module):
            parts[below].inside[module] = True
        return parts[below]

    # -- reading

    @property
    def ran(self) -> list[Ran]:
        """All calls, in order."""
        return self._behind.calls

    @classmethod
    def of(cls, ran: Iterable[Ran]) -> Calls:
        """Of calls that were told of elsewhere."""
        found = cls()
        found.ran.extend(ran)
        return found

    def paths(self, layers: Mapping[str, Any]) -> dict[Ran, str]:
        """What the runs among them are called in a recording of these layers."""
        of = {id(layer.replay): path for path, layer in layers.items() if layer.replay is not None}
        found = {}
        for ran in self.ran:
            run, path = ran.run, ran.path
            if run is not None:
                path = run.name if run.replay is None else of.get(id(run.replay))
            if path is not None and path in layers:
                found[ran] = path
        return found

    def within(self, model: Module | None) -> list[Ran]:
        """The calls of a model and of what it is made of, or all calls."""
        if model is None:
            return self.ran
        own = list(model.modules())
        return [ran for ran in self.ran if any(ran.part.inside.get(module) for module in own)]

    def always(self) -> list[tuple[str, str]]:
        """(reader, source) of scans that read all outputs of another one at every step."""
        found = {
            (ran.part.path, both_directions(source.part.path)): None
            for ran in self.ran
            for source, words in ran.reads
            if isinstance(source, Ran) and ALWAYS in words and ran.part.scan and source.part.scan
        }
        return list(found)

    def named(self, data: Data) -> Data:
        """The same, by the name that it had where the outermost module was given it."""
        return Data(self._arguments.get(data.where, data.name), data.text)


def last_calls(model: Module) -> Calls | None:
    """Those of the last recording, or `trace`, that heard this module; None if there was none."""
    return _heard.get(model)


def _unseen() -> bool:
    return not switches.recording and switches.tape is None


def _scope(otherwise: str) -> str:
    around, _, below = at_step(switches.scope)
    return join(around, below) or otherwise


def _named(module: Module, args: Any, kwargs: Any) -> Iterator[tuple[str, Any]]:
    """(name of the argument, array) for everything that a module was given."""
    names = [*_parameters(type(module).forward), *["x"] * len(args)]
    for name, value in [*zip(names, args, strict=False), *kwargs.items()]:
        for array in _arrays(value):
            if array.ndim:
                yield name, array


_argument_names: Weakly[list[str]] = Weakly()  # of each forward that was asked for once


def _parameters(forward: Callable[..., Any]) -> list[str]:
    """The names of its positional arguments, without self."""
    names = _argument_names.get(forward)
    if names is None:
        names = []
        with suppress(TypeError, ValueError):  # not written in Python
            known = list(inspect.signature(forward).parameters.values())[1:]
            positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
            names = [p.name for p in known if p.kind in positional]
        with suppress(TypeError):  # what cannot be referred to weakly
            _argument_names[forward] = names
    return names


def _arrays(value: Any, depth: int = 8) -> Iterator[Any]:
    """The Tensors and arrays in lists, tuples and dicts, whatever else there is."""
    if isinstance(value, (Tensor, np.ndarray)):
        yield value
    elif isinstance(value, (list, tuple, dict)) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item, depth - 1)


def _data(name: str, array: Any) -> Data:
    return Data(name, describe(array), _address(array))


def _address(a: Any) -> int:
    array = a._array if isinstance(a, Tensor) else a
    return int(array.__array_interface__["data"][0])


def _nodes(values: Iterable[Any]) -> list[Node]:
    return [v._node for v in values if isinstance(v, Tensor) and v._node is not None]


def _about(what: Any) -> str:
    if isinstance(what, Module):
        return f"{type(what).__name__}({what.describe()})"
    return str(getattr(what, "__name__", type(what).__name__))


def _size(what: Any) -> int:
    return sum(p.size for p in what.parameters()) if isinstance(what, Module) else 0
