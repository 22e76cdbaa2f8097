"""A model is called once, to hear what runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..listener import Listener
from ..nn.module import Module
from ..tape import Tape, no_grad
from ..tape import state as switches
from .calls import Calls


class _Heard(Listener):
    """Tells Calls of what runs."""

    whole_scans = True

    def __init__(self, calls: Calls):
        self.calls = calls

    @contextmanager
    def entered(self, module: Any, name: str) -> Iterator[str]:
        with self.calls.entered(module):
            yield name

    def returned(self, module: Any, args: Any, kwargs: Any, result: Any) -> None:
        self.calls.returned(module, args, kwargs, result)

    def ran(self, path: str, call: Any) -> None:
        self.calls.scanned(path, call)


def trace(model: Module, *inputs: Any) -> Calls:
    """Runs model(*inputs) once, in eval mode and without gradients, and hears what it calls."""
    calls = Calls()
    training = [(module, module.training) for module in model.modules()]
    listeners, switches.listeners = switches.listeners, (_Heard(calls),)
    try:
        model.eval()
        with Tape(), no_grad():
            model(*inputs)
    finally:
        switches.listeners = listeners
        for module, was in training:
            module.training = was
    return calls
