"""Keras's layers without a state, as functions of values and masks: `LAYERS`, and `made`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn, ops
from ..nn.module import Module, Parameter
from ..tensors import Tensor
from .base import Array, ConversionError
from .keras_cells import ACTIVATIONS, activation_named

Mask = Any  # None, or bool (B, T): which steps are real


class KerasLayer(Module):
    """function(x), and the mask of what comes out: that of x, or none.

    function: of one value, or of a list of them where Keras's layer takes a list.
    """

    def __init__(self, function: Callable[..., Any], keeps_mask: bool = True):
        self.function, self.keeps_mask = function, keeps_mask

    def forward(self, x: Any, mask: Mask = None) -> Any:
        return self.function(x)

    def mask_after(self, x: Any, mask: Mask) -> Mask:
        if not isinstance(mask, list):
            return mask if self.keeps_mask else None
        if any(m is None for m in mask) or not self.keeps_mask:
            return None
        return np.logical_and.reduce(mask)


class KerasEmbedding(KerasLayer):
    """Rows of a matrix; with mask_zero, steps whose index is 0 are none."""

    def __init__(self, embedding: nn.Embedding, mask_zero: bool):
        self.function, self.mask_zero = embedding, mask_zero

    def forward(self, x: Any, mask: Mask = None) -> Tensor:
        return self.function(np.asarray(values(x)).astype(np.int64))

    def mask_after(self, x: Any, mask: Mask) -> Mask:
        return np.asarray(values(x)) != 0 if self.mask_zero else None


class KerasMasking(KerasLayer):
    """Steps whose every feature is mask_value are none, and become 0."""

    def __init__(self, mask_value: float):
        self.mask_value = mask_value

    def forward(self, x: Any, mask: Mask = None) -> Tensor:
        return x * self.mask_after(x, mask)[..., None].astype(x.dtype)

    def mask_after(self, x: Any, mask: Mask) -> Mask:
        return np.any(values(x) != self.mask_value, axis=-1)


class KerasAverage(KerasLayer):
    """GlobalAveragePooling1D: the mean over the steps that are real."""

    def __init__(self, keepdims: bool = False):
        self.keepdims = keepdims

    def forward(self, x: Any, mask: Mask = None) -> Tensor:
        if mask is None:
            return ops.mean(x, axis=1, keepdims=self.keepdims)
        real = mask[..., None].astype(x.dtype)
        return ops.sum(x * real, axis=1, keepdims=self.keepdims) / real.sum(
            1, keepdims=self.keepdims
        )

    def mask_after(self, x: Any, mask: Mask) -> Mask:
        return None


class KerasConcatenate(KerasLayer):
    """The values one after the other, along an axis; their masks too if that is time."""

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Any, mask: Mask = None) -> Tensor:
        return ops.concatenate(list(x), axis=self.axis)

    def mask_after(self, x: Any, mask: Mask) -> Mask:
        if not isinstance(mask, list) or all(m is None for m in mask):
            return None
        filled = [np.ones(v.shape[:2], bool) if m is None else m for v, m in zip(x, mask)]
        if self.axis % x[0].ndim == 1:
            return np.concatenate(filled, axis=1)
        return np.logical_and.reduce(filled)


class FrozenNorm(Module):
    """BatchNormalization as at inference, in training too: (x - mean) / sqrt(var + eps) * g + b."""

    def __init__(self, eps: float, gamma: Array, beta: Array, mean: Array, variance: Array):
        self.eps, self.mean, self.variance = eps, mean, variance
        self.weight, self.bias = Parameter(gamma), Parameter(beta)

    def forward(self, x: Any) -> Tensor:
        scale = 1.0 / np.sqrt(self.variance.astype(np.float64) + self.eps)
        shifted = x - self.mean.astype(x.dtype)
        return shifted * scale.astype(x.dtype) * self.weight + self.bias


def values(x: Any) -> Array:
    """The numbers of a Tensor or an array."""
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


# ------------------------------------------------------------------------------ with weights


def _checked(what: str, arrays: list[Array], *shapes: tuple[Any, ...]) -> list[Array]:
    """The arrays, if they have these shapes; None is any size."""
    given = [np.shape(array) for array in arrays]
    fits = len(given) == len(shapes) and all(
        len(g) == len(s) and all(b is None or a == b for a, b in zip(g, s))
        for g, s in zip(given, shapes)
    )
    if not fits:
        raise ConversionError(
            f"{what}: its configuration asks for weights {[list(s) for s in shapes]}, the file has "
            f"{[list(g) for g in given]}."
        )
    return arrays


def _dense(what: str, config: dict[str, Any], arrays: list[Array], version: Any) -> KerasLayer:
    bias, units = bool(config.get("use_bias", True)), config.get("units")
    arrays = _checked(what, arrays, *[(None, units), (units,)][: 1 + bias])
    kernel = arrays[0]
    inputs, outputs = kernel.shape
    linear = nn.Linear(inputs, outputs, bias=bias, dtype=kernel.dtype)
    linear.load_state_dict(dict(zip(("weight", "bias"), (kernel.T, *arrays[1:]))))
    name = activation_named(what, config.get("activation"), version)
    return KerasLayer(linear if name == "linear" else nn.Sequential(linear, ACTIVATIONS[name]))


def _embedding(what: str, config: dict[str, Any], arrays: list[Array], version: Any) -> KerasLayer:
    (table,) = _checked(what, arrays, (config.get("input_dim"), config.get("output_dim")))
    embedding = nn.Embedding(table.shape[0], table.shape[1], dtype=table.dtype)
    embedding.load_state_dict({"weight": table})
    return KerasEmbedding(embedding, bool(config.get("mask_zero")))


def _layer_norm(what: str, config: dict[str, Any], arrays: list[Array], version: Any) -> KerasLayer:
    gamma, beta, _ = _scaled(what, config, arrays, 0)
    if config.get("rms_scaling"):
        raise ConversionError(f"{what} has rms_scaling, which no layer here has.")
    norm = nn.LayerNorm(gamma.shape[0], float(config.get("epsilon", 1e-3)), dtype=gamma.dtype)
    norm.load_state_dict({"weight": gamma, "bias": beta})
    return KerasLayer(nn.Sequential(_over_last(what, config), norm))


def _batch_norm(what: str, config: dict[str, Any], arrays: list[Array], version: Any) -> KerasLayer:
    gamma, beta, (mean, variance) = _scaled(what, config, arrays, 2)
    norm = FrozenNorm(float(config.get("epsilon", 1e-3)), gamma, beta, mean, variance)
    return KerasLayer(nn.Sequential(_over_last(what, config), norm))


def _scaled(
    what: str, config: dict[str, Any], arrays: list[Array], more: int
) -> tuple[Array, Array, list[Array]]:
    """gamma and beta, ones and zeros where the layer has none, and what else it has."""
    has = [bool(config.get(name, True)) for name in ("scale", "center")]
    size = np.shape(arrays[0])[:1] if arrays else (None,)
    left = list(_checked(what, arrays, *[size] * (sum(has) + more)))
    if not left:
        raise ConversionError(f"{what} has neither scale nor center, so its size cannot be told.")
    gamma = left.pop(0) if has[0] else np.ones_like(left[0])
    beta = left.pop(0) if has[1] else np.zeros_like(gamma)
    return gamma, beta, left


def _over_last(what: str, config: dict[str, Any]) -> Callable[[Any], Any]:
    """x itself, if the axis that Keras counts, from either end, is its last."""
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis

    def checked(x: Any) -> Any:
        if axis not in (-1, x.ndim - 1):
            raise ConversionError(f"{what} normalises axis {axis}; computed is the last one.")
        return x

    return checked


# --------------------------------------------------------------------------- without weights


def _reshaped(config: dict[str, Any]) -> Callable[[Any], Any]:
    shape = tuple(config["target_shape"])
    return lambda x: ops.reshape(x, (x.shape[0], *shape))


def _permuted(config: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda x: ops.transpose(x, (0, *config["dims"]))


def _folded(f: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    def folded(x: Any) -> Any:
        y = x[0]
        for other in x[1:]:
            y = f(y, other)
        return y

    return folded


def _average(x: Any) -> Any:
    return _folded(ops.add)(x) * (1.0 / len(x))


def _relu(config: dict[str, Any]) -> Callable[[Any], Any]:
    most = math.inf if config.get("max_value") is None else config["max_value"]
    slope, threshold = config.get("negative_slope") or 0.0, config.get("threshold") or 0.0
    if threshold:
        raise ConversionError(f"ReLU has threshold={threshold}; read is 0.")
    return lambda x: ops.minimum(ops.leaky_relu(x, float(slope)), most)


def _leaky(config: dict[str, Any]) -> Callable[[Any], Any]:
    slope = float(config.get("negative_slope", config.get("alpha", 0.3)))
    return lambda x: ops.leaky_relu(x, slope)


def _softmax(config: dict[str, Any]) -> Callable[[Any], Any]:
    axis = config.get("axis", -1)
    return lambda x: ops.softmax(x, axis)


def _pooled(config: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda x: ops.max(x, axis=1, keepdims=bool(config.get("keepdims")))


def _dropout(config: dict[str, Any]) -> Any:
    return nn.Dropout(float(config.get("rate", 0.0)))


SHAPES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Dropout": _dropout,
    "ELU": lambda config: lambda x: ops.elu(x, float(config.get("alpha", 1.0))),
    "Flatten": lambda config: lambda x: ops.reshape(x, (x.shape[0], -1)),
    "GlobalMaxPooling1D": _pooled,
    "LeakyReLU": _leaky,
    "Permute": _permuted,
    "ReLU": _relu,
    "RepeatVector": lambda config: lambda x: ops.stack([x] * int(config["n"]), axis=1),
    "Reshape": _reshaped,
    "Softmax": _softmax,
    "Add": lambda config: _folded(ops.add),
    "Average": lambda config: _average,
    "Maximum": lambda config: _folded(ops.maximum),
    "Minimum": lambda config: _folded(ops.minimum),
    "Multiply": lambda config: _folded(ops.multiply),
    "Subtract": lambda config: _folded(ops.subtract),
}
NO_MASK = {"Flatten", "GlobalMaxPooling1D", "Permute", "RepeatVector", "Reshape"}
IN_TRAINING = {"ActivityRegularization", "GaussianDropout", "GaussianNoise", "SpatialDropout1D"}
WEIGHTED: dict[str, Callable[..., KerasLayer]] = {
    "BatchNormalization": _batch_norm,
    "Dense": _dense,
    "Embedding": _embedding,
    "LayerNormalization": _layer_norm,
}
OTHERS = {"Activation", "Concatenate", "GlobalAveragePooling1D", "Masking"}
LAYERS = sorted({*WEIGHTED, *SHAPES, *IN_TRAINING, *OTHERS})


def made(
    what: str, cls: str, config: dict[str, Any], arrays: list[Array], version: tuple[int, ...]
) -> KerasLayer | None:
    """The layer of a configuration, with its weights; None for a class that is not in LAYERS."""
    if cls in WEIGHTED:
        return WEIGHTED[cls](what, config, arrays, version)
    if cls in SHAPES:
        return KerasLayer(SHAPES[cls](config), cls not in NO_MASK)
    if cls in IN_TRAINING:  # nothing else ever happens there
        return KerasLayer(lambda x: x)
    if cls == "Activation":
        return KerasLayer(ACTIVATIONS[activation_named(what, config.get("activation"), version)])
    if cls == "Concatenate":
        return KerasConcatenate(int(config.get("axis", -1)))
    if cls == "GlobalAveragePooling1D":
        return KerasAverage(bool(config.get("keepdims")))
    return KerasMasking(float(config.get("mask_value", 0.0))) if cls == "Masking" else None
