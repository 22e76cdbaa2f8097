"""Gradients by whichever library Keras 3 runs on."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .base import ConversionError

Mark = Callable[[Any], Any]
Function = Callable[[Mark], tuple[Any, Any]]


def gradients(keras: Any, function: Function) -> tuple[list[Any], Any]:
    """(dL/d(each marked tensor), None where there is none; what else the function found).

    function(mark) -> (loss, a tree of tensors) passes what it asks about through `mark`. It may be
    called twice. Raises ConversionError where Keras runs on a backend that has no gradients.
    """
    backend = keras.backend.backend()
    by = {"jax": _jax, "torch": _torch, "tensorflow": _tensorflow}.get(backend)
    if by is None:
        raise ConversionError(
            f"record_keras: Keras runs on {backend}, which computes no gradients; set the "
            f"environment variable KERAS_BACKEND to jax, torch or tensorflow before importing it."
        )
    return by(function)


def _jax(function: Function) -> tuple[list[Any], Any]:
    jax: Any = import_module("jax")

    seen: list[Any] = []

    def look(t: Any) -> Any:
        seen.append((t.shape, t.dtype))
        return t

    def nudged(zeros: list[Any]) -> tuple[Any, Any]:
        rest = iter(zeros)
        return function(lambda t: t + next(rest))

    jax.eval_shape(lambda: function(look))
    zeros = [jax.numpy.zeros(*known) for known in seen]
    # as a whole: op by op, each would be compiled by itself
    found, rest = jax.jit(jax.grad(nudged, has_aux=True))(zeros)
    return list(found), rest


def _torch(function: Function) -> tuple[list[Any], Any]:
    torch: Any = import_module("torch")

    zeros: list[Any] = []

    def mark(t: Any) -> Any:
        zeros.append(torch.zeros_like(t, requires_grad=True))
        return t + zeros[-1]

    with torch.enable_grad():
        loss, found = function(mark)
    if not (zeros and loss.requires_grad):
        return [None] * len(zeros), found
    return list(torch.autograd.grad(loss, zeros, allow_unused=True)), found


def _tensorflow(function: Function) -> tuple[list[Any], Any]:
    tf: Any = import_module("tensorflow")

    zeros: list[Any] = []

    with tf.GradientTape() as tape:

        def mark(t: Any) -> Any:
            zeros.append(tf.zeros_like(t))
            tape.watch(zeros[-1])
            return t + zeros[-1]

        loss, found = function(mark)
    return tape.gradient(loss, zeros), found
