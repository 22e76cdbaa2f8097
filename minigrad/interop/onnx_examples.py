"""What export_onnx runs: a model, or a chain of layers, and an example of its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import nn
from ..nn.module import Module
from ..nn.states import stacked
from ..tape import scope
from ..tensors import Tensor
from ..tree import leaves, named_leaves, rebuild
from .base import ConversionError, named

Axes = Mapping[str, Sequence[str | None]]


def called(model: Module, inputs: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A function of named arguments, and an example of them."""
    if isinstance(inputs, Mapping):
        return lambda **given: model(**given), dict(inputs)
    given = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    names: list[str] = []
    for name, p in inspect.signature(model.forward).parameters.items():
        more = range(len(given) - len(names))
        names += [f"{name}{i}" for i in more] if p.kind is p.VAR_POSITIONAL else [name]
    if len(names) < len(given):
        raise ConversionError(
            f"export_onnx: inputs= has {len(given)} values, and the forward of "
            f"{type(model).__name__} takes {', '.join(names) or 'nothing'}."
        )
    return lambda **named: model(*named.values()), dict(zip(names, given, strict=False))


def chain(model: Any, lengths: bool, states: bool) -> tuple[Any, dict[str, Any], Axes]:
    """Layers one after the other: a function of named arguments, an example, names of its axes."""
    if isinstance(model, nn.Sequential):
        layers: list[Any] = list(model.functions)
    else:
        layers = [model] if isinstance(model, Module) else list(model)
    if not layers:
        raise ConversionError("export_onnx: the model has no layer.")
    for i, layer in enumerate(layers):
        if not callable(layer):
            raise ConversionError(f"export_onnx: at {i} is {layer!r}; expected a layer.")
    i, first_one = next(((i, m) for i, m in enumerate(layers) if isinstance(m, Module)), (0, None))
    if not isinstance(first_one, _LAYERS):
        what = "no layer says" if first_one is None else f"{named(str(i), first_one)} does not say"
        raise ConversionError(
            f"export_onnx: {what} what x is: give an example, "
            f"export_onnx(path, model, inputs=(x, ...), axes={{'x': ('T', 'B')}})."
        )
    recurrent = {i: layer for i, layer in enumerate(layers) if isinstance(layer, nn.Recurrent)}
    if not recurrent and (lengths or states):
        raise ConversionError("export_onnx: lengths and states are for recurrent layers.")
    if len({layer.batch_first for layer in recurrent.values()}) > 1:
        raise ConversionError("export_onnx: some layers are batch_first and some are not.")
    first = any(layer.batch_first for layer in recurrent.values())
    batch, names = 2, (["B", "T"] if first else ["T", "B"]) if recurrent else ["B"]
    shape = [batch if name == "B" else 3 for name in names]
    dtype = _dtype(layers)
    if isinstance(layers[0], nn.Embedding):
        x = np.resize(np.arange(layers[0].num_embeddings), shape)
    else:
        x = np.resize(np.linspace(-1, 1, 7).astype(dtype), (*shape, *_features(layers)))
    example: dict[str, Any] = {"x": x}
    axes: dict[str, Sequence[str | None]] = {"x": names}
    if lengths:
        example["lengths"], axes["lengths"] = np.array([3, 2], np.int32), ["B"]
    for i, layer in recurrent.items() if states else ():
        zeros = stacked([cell.init_state(batch) for cell in layer.cells])
        for name, zero in named_leaves(zeros):
            example[f"{i}.{name or 'h'}_0"] = zero
            axes[f"{i}.{name or 'h'}_0"] = [None, "B"] if zero.ndim == 3 else ["B"]

    def run(x: Any, lengths: Any = None, **given: Any) -> dict[str, Any]:
        found = {"y": x}
        for i, layer in enumerate(layers):
            own = f"{i}."
            with scope(str(i)):
                if i not in recurrent:
                    x = _unnamed(layer)(x) if isinstance(layer, Module) else layer(x)
                    continue
                parts = [v for name, v in given.items() if name.startswith(own)]
                zeros = stacked([cell.init_state(1) for cell in layer.cells])
                initial = rebuild(zeros, parts) if parts else None
                x, final, *_ = _unnamed(layer)(x, initial, lengths)
                found |= {f"{own}{n or 'h'}_n": leaf for n, leaf in named_leaves(final)}
        return found | {"y": x}

    return run, example, axes


_LAYERS = (nn.Recurrent, nn.Linear, nn.Embedding, nn.LayerNorm)


def _dtype(layers: list[Any]) -> np.dtype:
    dtypes = {p.dtype for m in layers if isinstance(m, Module) for p in m.parameters()}
    if len(dtypes) > 1:
        raise ConversionError("export_onnx: the layers have different dtypes; use model.to().")
    return dtypes.pop() if dtypes else np.dtype(np.float32)


def _features(layers: list[Any]) -> tuple[int, ...]:
    """The axes of x behind time and batch, as the first layer says that knows."""
    for layer in layers:
        for name in ("input_size", "in_features"):
            if hasattr(layer, name):
                return (getattr(layer, name),)
        if isinstance(layer, nn.LayerNorm):
            return layer.normalized_shape
    return ()


def _unnamed(layer: Module) -> Callable[..., Any]:
    """The layer, called in the scope that is open."""

    def call(*args: Any) -> Any:
        name, layer.scope_name = layer.scope_name, ""
        try:
            return layer(*args)
        finally:
            layer.scope_name = name

    return call


def is_array(value: Any) -> bool:
    """Whether it becomes an input of the file."""
    return isinstance(value, (Tensor, np.ndarray))


def listed(value: Any) -> Any:
    """A list of numbers as an array: tokens, lengths."""
    numbers = isinstance(value, list) and not any(map(is_array, leaves(value)))
    return np.asarray(value) if numbers and leaves(value) else value


def leaves_of(key: str, tree: Any) -> list[tuple[str, Any]]:
    """The arrays and Tensors of an argument, by the names that they have in the file."""
    found = []
    for name, value in named_leaves(tree):
        if is_array(value):
            dot = "" if not name or name.startswith("[") else "."
            found.append((f"{key}{dot}{name}", value))
    return found
