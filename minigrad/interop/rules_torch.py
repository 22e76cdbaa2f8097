"""How the gradient passes a node of PyTorch's graph: one line for each kind, from what it kept.

RULES: name of the node -> (what is kept of it, rule). A rule takes g, the gradient of the output
(of those with many outputs, a list with None where none came), shapes, those of the inputs, None
where an input needs no gradient, and k, which has what was kept. It gives the gradients of the
inputs, in their order, None for those that nobody asks for: weights.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

Rule = Callable[[Any, Sequence[Any], Any], Any]


def _torch() -> Any:
    return sys.modules["torch"]  # whoever has a graph has imported it


def _aten() -> Any:
    return _torch().ops.aten


def _summed(g: Any, shape: Any) -> Any:
    """The gradient of what was broadcast."""
    return None if shape is None else g.sum_to_size(shape)


def _two(a: Any, b: Any, shapes: Sequence[Any]) -> list[Any]:
    return [_summed(a, shapes[0]), _summed(b, shapes[1])]


def _cat(g: Any, shapes: Sequence[Any], k: Any) -> list[Any]:
    sizes = [None if s is None else s[k.dim] for s in shapes]
    if sizes.count(None) > 1:
        raise LookupError("the sizes of the parts are not known")
    rest = g.shape[k.dim] - sum(s for s in sizes if s is not None)
    return list(g.split([rest if s is None else s for s in sizes], k.dim))


def _unbind(gs: Any, shapes: Sequence[Any], k: Any) -> list[Any]:
    some = next(g for g in gs if g is not None)
    whole = [some.new_zeros(some.shape) if g is None else g for g in gs]
    return [_torch().stack(whole, k.dim)]


def _split(gs: Any, shapes: Sequence[Any], k: Any) -> list[Any]:
    some = next(g for g in gs if g is not None)
    found, begin = some.new_zeros(shapes[0]), 0
    for g in gs:
        size = min(k.split_size, shapes[0][k.dim] - begin)
        if g is not None:
            found.narrow(k.dim, begin, size).copy_(g)
        begin += size
    return [found]


def _at_index(g: Any, shapes: Sequence[Any], k: Any) -> list[Any]:
    found = g.new_zeros(shapes[0])
    return [found.index_put_([None if i is None else i for i in k.indices], g, accumulate=True)]


def _permuted(g: Any, shapes: Sequence[Any], k: Any) -> list[Any]:
    back = sorted(range(g.ndim), key=lambda i: int(k.dims[i]) % g.ndim)
    return [g.permute(back)]


def _spread(g: Any, shape: Any, k: Any) -> Any:
    """Of a sum over axes: the same for each element of them."""
    for dim in sorted(int(d) % len(shape) for d in k.dim) if not k.keepdim else ():
        g = g.unsqueeze(dim)
    return g.expand(shape)


def _mean(g: Any, shapes: Sequence[Any], k: Any) -> list[Any]:
    return [_spread(g, shapes[0], k) * (g.numel() / math.prod(shapes[0]))]


def _norm(g: Any, shapes: Sequence[Any], k: Any) -> list[Any]:
    given = k.input, k.normalized_shape, k.result1, k.result2, k.weight, k.bias
    back = _aten().native_layer_norm_backward(g, *given, [True, False, False])
    return [back[0], None, None]


_as_it_is: Rule = lambda g, s, k: [g]  # noqa: E731
_reshaped: Rule = lambda g, s, k: [g.reshape(s[0])]  # noqa: E731

MANY = ("UnbindBackward0", "SplitBackward0")
RULES: dict[str, tuple[tuple[str, ...], Rule]] = {
    # arithmetic
    "AddBackward0": (("alpha",), lambda g, s, k: _two(g, g * k.alpha, s)),
    "SubBackward0": (("alpha",), lambda g, s, k: _two(g, -g * k.alpha, s)),
    "RsubBackward1": (("alpha",), lambda g, s, k: [-g * k.alpha]),
    "NegBackward0": ((), lambda g, s, k: [-g]),
    "MulBackward0": (
        ("self", "other"),
        lambda g, s, k: [
            None if s[0] is None else _summed(g * k.other, s[0]),
            None if s[1] is None else _summed(g * k.self, s[1]),
        ],
    ),
    "DivBackward0": (
        ("self", "other"),
        lambda g, s, k: [
            _summed(g / k.other, s[0]),
            None if s[1] is None else _summed(-g * k.self / k.other**2, s[1]),
        ],
    ),
    "PowBackward0": (
        ("self", "exponent"),
        lambda g, s, k: [g * k.exponent * k.self ** (k.exponent - 1)],
    ),
    "ExpBackward0": (("result",), lambda g, s, k: [g * k.result]),
    "AddmmBackward0": (
        ("mat2", "alpha", "beta"),
        lambda g, s, k: [_summed(g * k.beta, s[0]), g @ k.mat2.t() * k.alpha, None],
    ),
    "MmBackward0": (("mat2",), lambda g, s, k: [g @ k.mat2.t(), None]),
    "BmmBackward0": (
        ("self", "mat2"),
        lambda g, s, k: [
            None if s[0] is None else g @ k.mat2.transpose(1, 2),
            None if s[1] is None else k.self.transpose(1, 2) @ g,
        ],
    ),
    "SumBackward1": (("dim", "keepdim"), lambda g, s, k: [_spread(g, s[0], k)]),
    "MeanBackward1": (("dim", "keepdim"), _mean),
    # activations
    "ReluBackward0": (("result",), lambda g, s, k: [g * (k.result > 0)]),
    "TanhBackward0": (("result",), lambda g, s, k: [g * (1 - k.result**2)]),
    "SigmoidBackward0": (("result",), lambda g, s, k: [g * k.result * (1 - k.result)]),
    "LeakyReluBackward0": (
        ("self", "negative_slope"),
        lambda g, s, k: [g * _torch().where(k.self > 0, 1.0, k.negative_slope)],
    ),
    "GeluBackward0": (
        ("self", "approximate"),
        lambda g, s, k: [_aten().gelu_backward(g, k.self, approximate=k.approximate)],
    ),
    "SiluBackward0": (("self",), lambda g, s, k: [_aten().silu_backward(g, k.self)]),
    "SoftmaxBackward0": (
        ("result", "dim"),
        lambda g, s, k: [k.result * (g - (g * k.result).sum(k.dim, keepdim=True))],
    ),
    "NativeLayerNormBackward0": (
        ("input", "normalized_shape", "result1", "result2", "weight", "bias"),
        _norm,
    ),
    "WhereBackward0": (
        ("condition",),
        lambda g, s, k: _two(g * k.condition, g * ~k.condition, s),
    ),
    "MaskedFillBackward0": (("mask",), lambda g, s, k: [g.masked_fill(k.mask, 0)]),
    # views and copies
    "AliasBackward0": ((), _as_it_is),
    "CloneBackward0": ((), _as_it_is),
    "ToCopyBackward0": ((), _as_it_is),
    "ViewBackward0": ((), _reshaped),
    "UnsafeViewBackward0": ((), _reshaped),
    "ReshapeAliasBackward0": ((), _reshaped),
    "SqueezeBackward0": ((), _reshaped),
    "SqueezeBackward1": ((), _reshaped),
    "UnsqueezeBackward0": ((), _reshaped),
    "ExpandBackward0": ((), lambda g, s, k: [_summed(g, s[0])]),
    "TBackward0": ((), lambda g, s, k: [g.t()]),
    "TransposeBackward0": (("dim0", "dim1"), lambda g, s, k: [g.transpose(k.dim0, k.dim1)]),
    "PermuteBackward0": (("dims",), _permuted),
    "FlipBackward0": (("dims",), lambda g, s, k: [g.flip(k.dims)]),
    "SliceBackward0": (
        ("dim", "start", "end", "step"),
        lambda g, s, k: [_aten().slice_backward(g, s[0], k.dim, k.start, k.end, k.step)],
    ),
    "SelectBackward0": (
        ("dim", "index"),
        lambda g, s, k: [_aten().select_backward(g, s[0], k.dim, k.index)],
    ),
    "IndexBackward0": (("indices",), _at_index),
    "IndexSelectBackward0": (
        ("dim", "index"),
        lambda g, s, k: [g.new_zeros(s[0]).index_add(k.dim, k.index, g)],
    ),
    "StackBackward0": (("dim",), lambda g, s, k: list(g.unbind(k.dim))),
    "CatBackward0": (("dim",), _cat),
    "UnbindBackward0": (("dim",), _unbind),
    "SplitBackward0": (("dim", "split_size"), _split),
    "PackPaddedSequenceBackward0": (
        ("result1", "batch_first"),
        lambda g, s, k: [_aten()._pack_padded_sequence_backward(g, s[0], k.result1, k.batch_first)],
    ),
}
