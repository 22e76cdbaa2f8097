"""Layers without a state: Linear, Embedding, LayerNorm, Dropout, and Sequential to chain them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import checks, ops
from ..border import plain
from ..errors import DTypeError, ShapeError, TraceError, describe
from ..random import default_generator, drawn
from ..tape import state
from ..tensors import Tensor, as_tensor
from . import init
from .module import Module, Parameter


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b: (..., I) with W (O, I) and b (O,) -> (..., O)."""
    y = x @ weight.T
    return y if bias is None else y + bias


class Linear(Module):
    """y = x W^T + b, with W (out_features, in_features): (..., in) -> (..., out).

    Starts uniform in +-1/sqrt(in_features), as in torch.nn.

    >>> Linear(3, 2)(np.ones((4, 3), np.float32)).shape
    (4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        in_features = checks.size("Linear: in_features", in_features)
        out_features = checks.size("Linear: out_features", out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.zeros((out_features, in_features)), dtype)
        self.bias = Parameter(np.zeros(out_features), dtype) if bias else None
        for p in self.parameters():
            init.uniform_(p, 1.0 / math.sqrt(in_features), generator)

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x, "Linear")
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"Linear: expected (..., {self.in_features}), got {describe(x)}; "
                f"in_features is the size of the last axis."
            )
        if self.bias is None:
            return linear(x, self.weight)
        return ops.linear(x, self.weight, self.bias)

    def describe(self) -> str:
        bias = "" if self.bias is not None else ", bias=False"
        return f"{self.in_features}, {self.out_features}{bias}"


class Embedding(Module):
    """y = W[indices]: integers (...) -> (..., embedding_dim).

    W is `weight`, (num_embeddings, embedding_dim).
    padding_idx: a row that starts at zero and receives no gradient.
    Starts N(0, 1), as in torch.nn. Raises ShapeError for an index out of range, DTypeError for
    indices that are no integers.

    >>> Embedding(10, 4)([[1, 2, 3]]).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        num_embeddings = checks.size("Embedding: num_embeddings", num_embeddings)
        embedding_dim = checks.size("Embedding: embedding_dim", embedding_dim)
        if padding_idx is not None:
            padding_idx = checks.size("Embedding: padding_idx", padding_idx, least=0)
        if padding_idx is not None and padding_idx >= num_embeddings:
            raise ShapeError(
                f"Embedding: padding_idx={padding_idx} is no row of {num_embeddings} embeddings."
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx
        self.weight = Parameter(np.zeros((num_embeddings, embedding_dim)), dtype)
        init.normal_(self.weight, generator=generator)
        if padding_idx is not None:
            self.weight.data[padding_idx] = 0.0

    def forward(self, indices: Any) -> Tensor:
        index = check_indices("Embedding", indices, self.num_embeddings)
        rows = ops.take(self.weight, index)
        if self.padding_idx is None:
            return rows
        real = ops.not_equal(index, self.padding_idx)
        return ops.where(real.reshape((*real.shape, 1)), rows, rows.detach())

    def describe(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


def check_indices(who: str, indices: Any, n: int) -> Any:
    """Integers as an array. Raises DTypeError or ShapeError unless all are in 0 .. n - 1."""
    if getattr(indices, "_trace", None) is not None:  # of a step that is being compiled
        check_indices(who, indices.all_steps(), n)
        return indices
    index = plain(indices)
    if index.dtype.kind not in "iu":
        raise DTypeError(f"{who}: expected integers, got {describe(index)}.")
    if state.jit is not None:
        state.jit.checks(who, index, partial(_check_range, who, n), below=n)
    else:
        _check_range(who, n, index)
    return index


def _check_range(who: str, n: int, index: np.ndarray) -> None:
    if index.size and not _all_below(index, n):
        raise ShapeError(
            f"{who}: expected integers from 0 to {n - 1}, got some from {index.min()} to "
            f"{index.max()}."
        )


def _all_below(index: Any, n: int) -> bool:
    """Whether all are in 0 .. n - 1."""
    if index.dtype == np.int64:  # in one pass: read without its sign, -1 is very large
        return bool(np.maximum.reduce(index.view(np.uint64), None) < n)
    return bool(index.min() >= 0 and index.max() < n)


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, over the last axes (Ba et al. 2016).

    normalized_shape: the size of the last axis, or a list or tuple of the sizes of the last axes.
    bias=False leaves the shift out; elementwise_affine=False the scale too.

    >>> y = LayerNorm(3)(np.array([[1, 2, 6]], np.float32)); float(abs(y.numpy().mean())) < 1e-6
    True
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ):
        several = isinstance(normalized_shape, (Sequence, np.ndarray))
        sizes: Any = normalized_shape if several else (normalized_shape,)
        shape = tuple(checks.size("LayerNorm: normalized_shape", n) for n in sizes)
        if not shape:
            raise ShapeError("LayerNorm: normalized_shape is empty; expected one size or more.")
        self.normalized_shape, self.eps = shape, checks.at_least_0("LayerNorm: eps", eps)
        self.weight = Parameter(np.ones(shape), dtype) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape), dtype) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x, "LayerNorm")
        n = len(self.normalized_shape)
        if x.shape[x.ndim - n :] != self.normalized_shape:
            raise ShapeError(
                f"LayerNorm: expected the last axes {list(self.normalized_shape)}, got "
                f"{describe(x)}."
            )
        axes = tuple(range(-n, 0))
        deviation = x - ops.mean(x, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(deviation), axis=axes, keepdims=True)
        y = deviation / ops.sqrt(variance + self.eps)
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias

    def describe(self) -> str:
        return f"{', '.join(map(str, self.normalized_shape))}, eps={self.eps}"


class Dropout(Module):
    """y = x * m / (1 - p) in training, with m = 0 at probability p for each element; y = x in eval.

    x: of any shape. generator: where the masks come from; `mg.seed`'s generator by default.

    >>> float(Dropout(0.5).eval()(np.ones(2)).numpy().sum())
    2.0
    """

    def __init__(self, p: float = 0.5, generator: np.random.Generator | None = None):
        self.p, self.generator = checks.probability("Dropout: p", p), generator

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x, "Dropout")
        if not self.training or self.p == 0.0:
            return x
        return drop(x, self.p, self.generator)

    def describe(self) -> str:
        return f"{self.p}"


def drop(x: Tensor, p: float, generator: np.random.Generator | None) -> Tensor:
    """Dropout itself: zeroes at probability p, the rest scaled so that the mean stays."""
    if x._trace is not None:
        raise TraceError(
            "Dropout: it draws anew at every step, and scan traces a step once; draw the masks of "
            "all steps before and pass them in as xs (ZoneoutLSTMCell does), call eval(), or run "
            "this cell with mode='tape'."
        )
    return x * keep_mask(x.shape, p, x.dtype, generator)


def keep_mask(
    shape: tuple[int, ...], p: float, dtype: Any, generator: np.random.Generator | None
) -> np.ndarray:
    """0 at probability p, else 1 / (1 - p)."""
    random = default_generator(generator).random
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    return drawn(lambda: ((random(shape) >= p) * scale).astype(dtype))


class Sequential(Module):
    """y = f_n(... f_2(f_1(x))), the members called 0, 1, ... as in torch.nn.

    >>> Sequential(Linear(3, 8), ops.tanh, Linear(8, 1))(np.ones((4, 3), np.float32)).shape
    (4, 1)
    """

    def __init__(self, *functions: Any):
        self.functions = functions
        for i, function in enumerate(functions):
            if isinstance(function, Module):
                function.scope_name = str(i)

    def members(self) -> Iterator[tuple[str, Parameter | Module]]:
        return ((name.partition(".")[2], member) for name, member in super().members())

    def forward(self, x: Any) -> Any:
        for function in self.functions:
            x = function(x)
        return x

    def __getitem__(self, i: int) -> Any:
        return self.functions[i]

    def __len__(self) -> int:
        return len(self.functions)
