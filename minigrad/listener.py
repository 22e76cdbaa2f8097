"""Who listens to a forward pass: `mg.listen(listener)` tells it of taps, modules and scans."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tensors import Tensor


class Listener:
    """What may be heard; a listener overrides what it wants to hear.

    whole_scans: whether it is told of a compiled scan as a whole, by `sequence` and `ran`; one that
    is not hears the taps of its steps one by one. states: the taps whose gradients it asks a
    compiled scan for. sums: whether the gradients of weights, sums over all steps, are wanted of
    one; where all who listen do without, they are not computed.
    """

    whole_scans = False
    states: tuple[str, ...] = ()
    sums = True

    def tap(self, name: str, tensor: Tensor, scope: str) -> None:
        """`mg.tap(name, tensor)` was called in a scope."""

    def entered(self, module: Any, name: str) -> AbstractContextManager[str]:
        """A module is called: yields what its scope is to be called, of old `name`."""
        return nullcontext(name)

    def returned(self, module: Any, args: Any, kwargs: Any, result: Any) -> None:
        """A module that was entered has computed its result; its scope is still open."""

    def sequence(
        self, path: str, order: range, record: Any, made_by: dict[str, str], wants: bool
    ) -> Callable[[], None]:
        """A compiled scan in scope `path` has run its steps in this order.

        record: the values of its taps and, once the returned function is called, the norms of
        their gradients. made_by: name -> the op that made it. wants: whether a gradient is needed.
        """
        return lambda: None

    def ran(self, path: str, call: Any) -> None:
        """A scan in scope `path`, compiled or on the tape; call: enough to run it again."""


class EachTap(Listener):
    """Calls a function for each tap."""

    def __init__(self, function: Callable[[str, Any, str], None]):
        self.function = function

    def tap(self, name: str, tensor: Tensor, scope: str) -> None:
        self.function(name, tensor, scope)
