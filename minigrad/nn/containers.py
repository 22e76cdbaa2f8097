"""Lists and dicts of modules, as torch.nn has them. Plain ones do as well: a Module finds its
members in its lists, tuples and dicts, and calls them `blocks.0.weight`, `parts.encoder.weight`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .module import Module, Parameter


class _Held(Module):
    """What lies in a container, called by its places there."""

    def __init__(self, held: Any):
        self.held = held

    def members(self) -> Iterator[tuple[str, Parameter | Module]]:
        return ((name.partition(".")[2], member) for name, member in super().members())


class _Container:
    """What a container can be asked for by itself; the module that holds it reaches all, too."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), each once: `0.weight` in a list."""
        return _Held(self).named_parameters()

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once, for an optimiser."""
        return _Held(self).parameters()


class ModuleList(_Container, list[Any]):
    """A list of modules, named 0, 1, ... below the attribute that holds it.

    It is a list, with all that lists can: append, slices, len, `for block in self.blocks`.

    >>> from minigrad.nn import Linear
    >>> class Net(Module):
    ...     def __init__(self):
    ...         self.blocks = ModuleList([Linear(2, 2, bias=False) for _ in range(2)])
    >>> list(Net().state_dict())
    ['blocks.0.weight', 'blocks.1.weight']
    """

    def __init__(self, modules: Iterable[Any] = ()):
        super().__init__(modules)


class ModuleDict(_Container, dict[str, Any]):
    """A dict of modules, named by their keys below the attribute that holds it.

    It is a dict, with all that dicts can.

    >>> from minigrad.nn import GRU, Linear
    >>> parts = ModuleDict({"rnn": GRU(2, 3, bias=False), "head": Linear(3, 1)})
    >>> [name for name, _ in parts.named_parameters()]
    ['rnn.weight_ih_l0', 'rnn.weight_hh_l0', 'head.weight', 'head.bias']
    """

    def __init__(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()):
        super().__init__(modules)
