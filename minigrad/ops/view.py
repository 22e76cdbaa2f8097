"""Ops that move values and compute none: shapes, joining, cutting."""

from __future__ import annotations

import math
import operator

import numpy as np

from ..axes import canonical_axis, distinct_axes
from ..dtypes import supported
from ..errors import DTypeError, GradientError, ShapeError, describe
from ..kinds import view
from ..op import sample


def _ints(values, what):
    values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
    try:
        return tuple(map(operator.index, values))
    except TypeError:
        raise ShapeError(f"{what}: expected integers, got {values}.") from None


@view(
    shaped="shape",
    samples=[
        sample((3, 4), shape=(2, -1)),
        sample((6,), shape=(1, 3, 2)),
        sample((1,), shape=()),
        sample((0, 3), shape=(3, 0)),
    ],
    errors=[(sample((3, 4), shape=(5, 2)), "12 elements")],
)
def reshape(x, shape):
    """(T, B, H) -> (T * B, H) for the shape (-1, H): the same values in another shape."""
    return x.reshape(shape)


@reshape.check_params
def _(shapes, shape):
    old, new = shapes[0], _ints(shape, "reshape")
    size = math.prod(old)
    if new.count(-1) == 1:
        known = -math.prod(new)
        if known and size % known == 0:
            new = tuple(size // known if n == -1 else n for n in new)
    if math.prod(new) != size or any(n < 0 for n in new):
        raise ShapeError(f"reshape: {list(old)} has {size} elements, {list(new)} does not.")
    return {"shape": new}


@view(
    notation="{0}.T",
    samples=[sample((3, 4)), sample((2, 3, 5), axes=(1, 2, 0)), sample((2, 3, 5), axes=(-1, 0, 1))],
    errors=[(sample((3, 4), axes=(0, 0)), "no order")],
)
def transpose(x, axes=None):
    """(T, B, H) -> (B, T, H) for axes (1, 0, 2); None reverses the axes."""
    return x.transpose(axes)


@transpose.check_params
def _(shapes, axes):
    n = len(shapes[0])
    if axes is None:
        return {"axes": tuple(reversed(range(n)))}
    order = tuple(canonical_axis(a, n, "transpose: axis") for a in _ints(axes, "transpose"))
    if sorted(order) != list(range(n)):
        raise ShapeError(
            f"transpose: axes {tuple(axes)} is no order of the {n} axes of {list(shapes[0])}."
        )
    return {"axes": order}


@view(
    samples=[sample((2, 3, 5), axis1=0, axis2=-1), sample((1, 3), axis1=1, axis2=1)],
    errors=[(sample((3, 4), axis1=0, axis2=2), "out of range")],
)
def swapaxes(x, axis1, axis2):
    """(T, B, H) -> (B, T, H) for axes 0 and 1."""
    return x.swapaxes(axis1, axis2)


@swapaxes.check_params
def _(shapes, axis1, axis2):
    n = len(shapes[0])
    return {"axis1": canonical_axis(axis1, n), "axis2": canonical_axis(axis2, n)}


@view(
    samples=[sample((3, 4), axis=1), sample((3,), axis=-1), sample((), axis=0)],
    errors=[(sample((3,), axis=3), "out of range")],
)
def expand_dims(x, axis):
    """(T, H) -> (T, 1, H) for axis 1: a new axis of size 1."""
    return np.expand_dims(x, axis)


@expand_dims.check_params
def _(shapes, axis):
    return {"axis": canonical_axis(axis, len(shapes[0]) + 1, "expand_dims: axis")}


@view(
    samples=[sample((1, 3, 1)), sample((1, 3, 1), axis=-1)],
    errors=[(sample((2, 3), axis=0), "size 2, expected 1")],
)
def squeeze(x, axis=None):
    """(T, 1, H) -> (T, H): axes of size 1 dropped, those named or all."""
    return np.squeeze(x, axis)


@squeeze.check_params
def _(shapes, axis):
    shape = shapes[0]
    if axis is None:
        return {"axis": tuple(i for i, n in enumerate(shape) if n == 1)}
    if not shape and axis in (0, -1):  # as NumPy
        return {"axis": ()}
    axes = distinct_axes(_ints(axis, "squeeze"), len(shape), "squeeze: axis")
    for a in axes:
        if shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {list(shape)} has size {shape[a]}, expected 1.")
    return {"axis": axes}


@view(
    broadcasts=True,
    shaped="shape",
    samples=[sample((3, 1), shape=(2, 3, 4)), sample((), shape=(2,)), sample((3,), shape=(3,))],
    errors=[(sample((3,), shape=(4,)), "does not broadcast")],
)
def broadcast_to(x, shape):
    """(H,) -> (B, H): x repeated along new axes and axes of size 1, without copying."""
    # What np.broadcast_to does, less the dozen Python calls it makes on the way there.
    at = np.nditer([x], ["multi_index", "refs_ok", "zerosize_ok"], itershape=shape, order="C")
    return at.itviews[0]


@broadcast_to.check_params
def _(shapes, shape):
    old, new = shapes[0], _ints(shape, "broadcast_to")
    fits = len(old) <= len(new)
    for a, b in zip(old[::-1], new[::-1], strict=False):
        fits = fits and a in (1, b)
    if not fits:
        raise ShapeError(f"broadcast_to: {list(old)} does not broadcast to {list(new)}.")
    return {"shape": new}


@view(
    variadic=True,
    assembles=True,
    notation="[{all}]",
    samples=[sample((2, 3), (1, 3)), sample((2, 3), (2, 1), (2, 4), axis=-1), sample((5,))],
    errors=[
        (sample((2, 3), (2, 4)), "all axes but axis 0 must be equal"),
        (sample((2,), (2,), axis=1), "out of range"),
    ],
)
def concatenate(arrays, axis=0):
    """(B, H), (B, I) -> (B, H + I) for axis 1: arrays joined along an axis they have."""
    return np.concatenate(arrays, axis)


@concatenate.check_params
def _(shapes, axis):
    axis = canonical_axis(axis, len(shapes[0]), "concatenate: axis")
    rest = shapes[0][:axis] + shapes[0][axis + 1 :]
    for i, s in enumerate(shapes):
        if len(s) != len(shapes[0]) or s[:axis] + s[axis + 1 :] != rest:
            raise ShapeError(
                f"concatenate: array {i} is {list(s)}, array 0 is {list(shapes[0])}; "
                f"all axes but axis {axis} must be equal."
            )
    return {"axis": axis}


@view(
    variadic=True,
    assembles=True,
    samples=[sample((2, 3), (2, 3)), sample((3,), (3,), (3,), axis=-1), sample((), ())],
    errors=[(sample((2, 3), (3, 2)), "expected one shape")],
)
def stack(arrays, axis=0):
    """T arrays (B, H) -> (T, B, H) for axis 0: joined along a new axis."""
    return np.stack(arrays, axis)


@stack.check_params
def _(shapes, axis):
    for i, s in enumerate(shapes):
        if s != shapes[0]:
            raise ShapeError(
                f"stack: array {i} is {list(s)}, array 0 is {list(shapes[0])}; expected one shape."
            )
    return {"axis": canonical_axis(axis, len(shapes[0]) + 1, "stack: axis")}


@view(
    samples=[sample((3, 4)), sample((3, 4), axis=0), sample((3, 4, 2), axis=(-1, 0))],
    errors=[(sample((3, 4), axis=2), "out of range")],
)
def flip(x, axis=None):
    """y_t = x_{T-1-t} along `axis` (an int, several, or None for all)."""
    return np.flip(x, axis)


@flip.check_params
def _(shapes, axis):
    n = len(shapes[0])
    axes = range(n) if axis is None else _ints(axis, "flip")
    return {"axis": distinct_axes(axes, n, "flip: axis")}


@view(
    samples=[sample((5,), shift=2, axis=0), sample((3, 4), shift=-7, axis=-1)],
    errors=[(sample((3, 4), shift=0.5, axis=0), "expected integers")],
)
def roll(x, shift, axis):
    """y_t = x_{(t - shift) mod T} along `axis`: what leaves at the end comes back in front."""
    return np.roll(x, shift, axis)


@roll.check_params
def _(shapes, shift, axis):
    return {"shift": _ints(shift, "roll: shift")[0], "axis": canonical_axis(axis, len(shapes[0]))}


@view(
    assembles=True,
    samples=[
        sample((3, 4), pad_width=((1, 2), (0, 3))),
        sample((3,), pad_width=2, value=7.0),
        sample((2, 3), pad_width=(1, 0)),
    ],
    errors=[
        (sample((3, 4), pad_width=((1, 2, 3),)), "does not fit"),
        (sample((3,), pad_width=-1), "expected integers >= 0"),
    ],
)
def pad(x, pad_width, value=0.0):
    """(T,) -> (before + T + after,) with `value` around x.

    pad_width: ((before, after), ...), a pair for each axis, or one pair, or one int.
    """
    if x.dtype.kind != "f" and not (math.isfinite(value) and x.dtype.type(value) == value):
        raise DTypeError(f"pad: {describe(x)} cannot hold value={value}; pad x.astype(np.float64).")
    return np.pad(x, pad_width, constant_values=value) if pad_width else x.copy()


@pad.check_params
def _(shapes, pad_width, value):
    n = len(shapes[0])
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (n, 2))
    except ValueError:
        raise ShapeError(
            f"pad: pad_width {pad_width!r} does not fit {list(shapes[0])}; "
            f"expected one (before, after) for each of {n} axes."
        ) from None
    if widths.dtype.kind not in "iu" or (widths < 0).any():
        raise ShapeError(f"pad: pad_width {pad_width!r}: expected integers >= 0.")
    if getattr(value, "requires_grad", False):
        raise GradientError(
            "pad: value requires a gradient, and none would arrive; pad with 0 and add "
            "mg.where(inside, 0.0, value), or pass value.item()."
        )
    return {"pad_width": tuple((int(a), int(b)) for a, b in widths), "value": float(value)}


@view(samples=[sample((3, 4), dtype=np.float64), sample((2,), dtype="float64")])
def astype(x, dtype):
    """y = x in another dtype; the gradient comes back in that of x."""
    return x.astype(dtype)


@astype.check_params
def _(shapes, dtype):
    return {"dtype": supported("astype", dtype)}
