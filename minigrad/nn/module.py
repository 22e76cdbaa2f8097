"""What a network is made of: Parameters, held by Modules, held by Modules.

    class Tagger(nn.Module):
        def __init__(self, words, tags):
            self.embed = nn.Embedding(words, 32)
            self.lstm = nn.LSTM(32, 64, bidirectional=True)
            self.head = nn.Linear(128, tags)

        def forward(self, words, lengths):
            hs, _ = self.lstm(self.embed(words), lengths=lengths)
            return self.head(hs)

Nothing is registered: the members of a module are its attributes that are Parameters or Modules,
and those in its lists, tuples and dicts, in the order they were set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..dtypes import supported
from ..errors import DTypeError, StateDictError
from ..othernames import of_module
from ..switches import edits
from ..tape import scope
from ..tape import state as switches
from ..tensors import Tensor
from .overview import Summary, summary


class Parameter(Tensor):
    """A leaf Tensor that a Module trains. The dtype follows NumPy's rules unless given.

    >>> Parameter([1.0, 2.0], np.float32)
    tensor([1., 2.], dtype=float32, requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None):
        super().__init__(data, dtype, requires_grad=True)


class LoadReport(NamedTuple):
    """What load_state_dict(strict=False) left alone."""

    missing: list[str]  # names the module has and the state has not
    unexpected: list[str]  # names the state has and the module has not


class Module:
    """A part of a network: attributes that are Parameters and Modules, and a `forward`.

    `module(x)` runs `forward(x)` in a scope named after the attribute that holds the module.
    """

    training: bool = True
    scope_name: str = ""  # set by the module that holds this one; names its cluster in a drawing

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"{type(self).__name__} defines no forward(); a Module needs one to be called."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if switches.jit is not None:
            taken = switches.jit.entered(self, args, kwargs)
            if taken is not None:
                return taken
        if switches.listeners or switches.tape is not None:
            return self._watched(args, kwargs)
        if not self.scope_name:
            return self.forward(*args, **kwargs)
        before = switches.scope  # as `with scope(...)` does, in fewer steps
        switches.scope = f"{before}/{self.scope_name}" if before else self.scope_name
        try:
            return self.forward(*args, **kwargs)
        finally:
            switches.scope = before

    def _watched(self, args: Any, kwargs: Any) -> Any:
        """The call where a Tape or a listener sees it: `entered` may give it a name of its own,
        `returned` is told what came of it.
        """
        self.name_members()
        name = self.scope_name
        with ExitStack() as stack:
            for listener in switches.listeners:
                name = stack.enter_context(listener.entered(self, name))
            if name:
                stack.enter_context(scope(name))
            result = self.forward(*args, **kwargs)
            for listener in switches.listeners:
                listener.returned(self, args, kwargs, result)
            return result

    def name_members(self) -> None:
        """What lies in lists, tuples and dicts learns what it is called: `blocks.0`.

        Not when it is put there, which a module is not told of; but before anybody looks.
        """
        for name, member in self.members():
            if isinstance(member, Module) and "scope_name" not in vars(member):
                member.scope_name = name
            elif isinstance(member, Parameter) and not member.name:
                member.name = name

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (np.ndarray, list, float)) and self._holds_parameter(name):
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter; write .{name}.data = value to fill "
                f"it, or assign an nn.Parameter (that of another module ties the two)."
            )
        # A member learns what it is called, for print(tape) and for drawings.
        if isinstance(value, Module) and "scope_name" not in vars(value):
            value.scope_name = name
        elif isinstance(value, Parameter) and not value.name:
            value.name = name
        edits.count += 1
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # where it would allow every name

        def __getattr__(self, name: str) -> Any:
            raise of_module(self, name)

    def _holds_parameter(self, name: str) -> bool:
        return isinstance(vars(self).get(name), Parameter)

    # -- members -----------------------------------------------------------------------------------

    def members(self) -> Iterator[tuple[str, Parameter | Module]]:
        """(name, member) for the Parameters and Modules held here; `blocks.0` is in a list."""
        found: list[tuple[str, Parameter | Module]] = []
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Module)):
                found.append((name, value))
            elif isinstance(value, (list, tuple, dict)):
                found += _held(name, value)
        return iter(found)

    def joined(self, name: str, below: str) -> str:
        """The full name of what the member `name` calls `below`."""
        return f"{name}.{below}"

    def all_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) with shared ones as often as they are named; see named_parameters.

        A module that holds itself, or one that holds it (`child.parent = self`), is not entered
        again: what it has is named from above.
        """
        return iter(_parameters_below(self, ()))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of this module and all below, each parameter once."""
        seen: set[int] = set()
        for name, parameter in self.all_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once, for an optimiser."""
        return iter([*{id(p): p for _, p in self.all_parameters()}.values()])

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        seen: set[int] = set()
        stack: list[Module] = [self]
        while stack:
            module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                below = [m for _, m in module.members() if isinstance(m, Module)]
                stack += reversed(below)

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Calls function(module) on this module and all below; returns this module."""
        for module in self.modules():
            function(module)
        return self

    # -- switches ----------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Switches dropout on (or off), here and below; returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switches dropout off, here and below; returns the module."""
        return self.train(False)

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            if switches.jit is not None:
                switches.jit.sets_gradient(parameter)
            parameter._grad = None

    def to(self, dtype: Any) -> Module:
        """Makes every parameter float32 or float64 and drops gradients; returns the module."""
        if str(dtype).partition(":")[0] in ("cpu", "cuda", "mps"):
            raise DTypeError(f"Module.to: there are no devices here; leave .to({dtype!r}) out.")
        dtype = supported("Module.to", dtype)
        if dtype not in (np.float32, np.float64):
            raise DTypeError(f"Module.to: expected float32 or float64, got {dtype}.")
        for parameter in self.parameters():
            parameter._array = parameter._array.astype(dtype)
            parameter.grad = None
        return self

    # -- state -------------------------------------------------------------------------------------

    def _by_name(self) -> dict[str, Parameter]:
        """name -> parameter, a shared one under each name; StateDictError for a name of two."""
        found: dict[str, Parameter] = {}
        for name, p in self.all_parameters():
            if found.setdefault(name, p) is not p:
                raise StateDictError(
                    f"{type(self).__name__}: two parameters are called {name!r}; rename a key of "
                    f"the dict, or an attribute, so that each has a name of its own."
                )
        return found

    def state_dict(self) -> dict[str, np.ndarray]:
        """name -> a copy of the parameter's array: `np.savez(path, **module.state_dict())`.

        One that is shared (`head.weight = embed.weight`) is there under each of its names.
        """
        return {name: p.numpy().copy() for name, p in self._by_name().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadReport:
        """Copies arrays into the parameters of the same names, converting to their dtype.

        state: name -> anything NumPy reads as an array; a PyTorch state_dict will do. Of a shared
        parameter one name is enough; if there are more, they have to say the same.
        strict: names must match exactly; otherwise what matches is loaded and the rest reported.
        Raises StateDictError, before anything is written, naming each missing, unexpected (strict)
        or mis-shaped (always) entry.
        """
        mine = self._by_name()
        arrays = {name: np.asarray(state[name]) for name in mine if name in state}
        there = {id(mine[name]) for name in arrays}
        missing = [name for name, p in mine.items() if id(p) not in there]
        unexpected = [name for name in state if name not in mine]
        wrong = [
            f"{name!r} is {list(array.shape)}, expected {list(mine[name].shape)}"
            for name, array in arrays.items()
            if array.shape != mine[name].shape
        ]
        no_numbers = [
            f"{name!r} is {array.dtype}, expected floats"
            for name, array in arrays.items()
            if array.dtype.kind not in "fiub"
        ]
        problems = [
            ("mis-shaped", wrong),
            ("no numbers", no_numbers),
            ("shared here, and not the same there", _unequal(mine, arrays)),
        ]
        always = any(names for _, names in problems)
        if strict:
            problems += [
                ("missing", [repr(name) for name in missing]),
                ("unexpected", [repr(name) for name in unexpected]),
            ]
        said = [f"{what}: {', '.join(names)}" for what, names in problems if names]
        if said:
            hint = "" if always else " Pass strict=False to load what matches."
            hint = _below(mine, state) or hint
            raise StateDictError(f"{type(self).__name__}.load_state_dict: {'; '.join(said)}.{hint}")
        if mine and state and not arrays:
            raise StateDictError(
                f"{type(self).__name__}.load_state_dict: no name matches, so nothing would be "
                f"loaded; the module has {', '.join(map(repr, list(mine)[:3]))}, the state "
                f"{', '.join(repr(name) for name in list(state)[:3])}.{_below(mine, state)}"
            )
        ready = {name: array.astype(mine[name].dtype) for name, array in arrays.items()}
        for name, array in ready.items():  # nothing can fail any more
            mine[name].data = array
        return LoadReport(missing, unexpected)

    # -- printing ----------------------------------------------------------------------------------

    def summary(self, *inputs: Any, **options: Any) -> Summary:
        """A table to print: each module, the shapes of what it returns, how many parameters.

        inputs, options: as for a call, which is made without dropout and gradients; without them
        there are no shapes.

        >>> from minigrad.nn import Dropout, Linear, Sequential
        >>> net = Sequential(Linear(3, 8), Dropout(0.1), Linear(8, 1))
        >>> print(net.summary(np.ones((4, 3), np.float32)))
        module                   output  parameters
        (the net)  Sequential()  (4, 1)  41
          0        Linear(3, 8)  (4, 8)  32
          1        Dropout(0.1)  (4, 8)  0
          2        Linear(8, 1)  (4, 1)  9
        41 parameters of float32, 164 bytes
        """
        return summary(self, inputs, options)

    def describe(self) -> str:
        """The arguments shown in repr(module)."""
        return ""

    def __repr__(self) -> str:
        return _text(self, ())


def _unequal(mine: Mapping[str, Parameter], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of one parameter for which the arrays differ."""
    first: dict[int, str] = {}
    found = []
    for name, array in arrays.items():
        other = first.setdefault(id(mine[name]), name)
        if other != name and not np.array_equal(array, arrays[other], array.dtype.kind == "f"):
            found.append(f"{other!r} and {name!r}")
    return found


def _below(mine: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """What to write if the module's names are all there, but below a prefix, or several."""
    first = next(iter(mine), "")
    ends = [str(name) for name in state if str(name).endswith(f".{first}")] if first else []
    prefixes = [name.removesuffix(first) for name in ends]
    fits = [prefix for prefix in prefixes if all(prefix + name in state for name in mine)]
    if not fits:
        return ""
    alike = [
        prefix
        for prefix in fits
        if all(np.shape(state[prefix + name]) == p.shape for name, p in mine.items())
    ]
    best = (alike or fits)[0]
    also = [prefix for prefix in alike or fits if prefix != best][:5]
    more = f" (and below {', '.join(map(repr, also))})" if also else ""
    return (
        f" The names are there below {best!r}{more}: give prefix={best!r} to "
        f"mg.interop.load_torch, or leave it off them."
    )


def _text(module: Module, above: tuple[Module, ...]) -> str:
    above = (*above, module)
    lines = [f"{type(module).__name__}({module.describe()})"]
    for name, member in module.members():
        if isinstance(member, Module):
            if any(member is m for m in above):
                text = f"{type(member).__name__}(...)"
            else:
                plain = type(member).__repr__ is Module.__repr__
                text = _text(member, above) if plain else repr(member)
            lines.append(f"({name}): {text}".replace("\n", "\n  "))
    return "\n  ".join(lines)


def _parameters_below(module: Module, above: tuple[int, ...]) -> list[tuple[str, Parameter]]:
    above = (*above, id(module))
    found: list[tuple[str, Parameter]] = []  # no generators: an LSTM's step asks for them each time
    for name, member in module.members():
        if isinstance(member, Parameter):
            found.append((name, member))
        elif id(member) not in above:
            for below, parameter in _parameters_below(member, above):
                found.append((module.joined(name, below), parameter))
    return found


def _held(
    name: str, value: Any, inside: tuple[Any, ...] = ()
) -> Iterator[tuple[str, Parameter | Module]]:
    """The members in an attribute's value, looking into containers (not again into one itself)."""
    if isinstance(value, (Parameter, Module)):
        yield name, value
    elif isinstance(value, (list, tuple, dict)) and not any(value is c for c in inside):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _held(f"{name}.{key}", item, (*inside, value))
