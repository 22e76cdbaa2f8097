"""Sums of products over named axes: einsum, as transposes and products of matrices."""

from __future__ import annotations

import builtins
import math
import string

import numpy as np

from ..errors import ShapeError
from .index import as_array, getitem
from .matrix import matmul
from .reduce import sum
from .view import astype, reshape, squeeze, transpose


def einsum(subscripts, *operands):
    """y = the sum of products that `subscripts` writes: "bij,bjk->bik", "ii->i", "...i,i".

    As in NumPy: letters name axes, those missing behind the arrow are summed over; without an arrow
    y has the letters that occur once, in alphabetical order. Operands are joined from left to
    right, each time by one matmul.
    Raises ShapeError for axes that do not fit.

    >>> einsum("ij,j->i", np.eye(2), [1.0, 2.0])
    array([1., 2.])
    """
    arrays = [as_array(x) for x in operands]
    floats = [x.dtype for x in arrays if x.dtype.kind == "f"]
    if floats:  # integers and masks are constants of that dtype, as in arithmetic
        dtype = np.result_type(*floats)
        arrays = [x if x.dtype.kind == "f" else astype(x, dtype) for x in arrays]
    terms, out = _read(subscripts, arrays)
    sizes: dict[str, int] = {}
    for term, x in zip(terms, arrays, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            known = sizes.setdefault(letter, n)
            if known == 1:
                sizes[letter] = n
            elif n not in (1, known):
                raise ShapeError(
                    f"einsum: {subscripts!r}: {letter!r} is an axis of {known} and of {n}; the "
                    f"operands are {', '.join(str(list(a.shape)) for a in arrays)}."
                )
    pairs = [_simple(t, x, sizes) for t, x in zip(terms, arrays, strict=True)]
    (have, y), rest = pairs[0], pairs[1:]
    have, y = _summed(have, y, set(out).union(*(t for t, _ in rest)))
    for i, (term, x) in enumerate(rest, 1):
        wanted = set(out).union(*(t for t, _ in rest[i:]))
        term, x = _summed(term, x, wanted | set(have))
        have, y = _joined(have, y, term, x, wanted)
    return _ordered(have, y, out)


def _read(subscripts, arrays):
    """The letters of each operand, and of the result; letters of its own for an ellipsis."""

    def wrong(why):
        return ShapeError(
            f"einsum: {subscripts!r}: {why}; expected letters for each operand, as in 'ij,jk->ik'."
        )

    if not isinstance(subscripts, str):
        raise wrong("is no text")
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(arrays):
        raise wrong(f"has {len(terms)} operands, and {len(arrays)} came")
    free = [c for c in string.ascii_letters if c not in subscripts]
    extra = [
        len(x.shape) - len(t.replace("...", "")) if "..." in t else 0
        for t, x in zip(terms, arrays, strict=True)
    ]
    rest = "".join(free[: builtins.max([0, *extra])])
    spelled = []
    for term, x, n in zip(terms, arrays, extra, strict=True):
        letters = term.replace("...", rest[len(rest) - n :] if n > 0 else "", 1)
        if len(letters) != len(x.shape) or not builtins.all(
            c.isalpha() and c.isascii() for c in letters
        ):
            raise wrong(f"{term!r} does not name the axes of {list(x.shape)}")
        spelled.append(letters)
    if not arrow:
        once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        out = ("..." if rest else "") + "".join(once)
    out = out.replace("...", rest, 1)
    known = set("".join(spelled))
    if len(set(out)) < len(out) or not set(out) <= known:
        raise wrong(f"{out!r} names an axis twice, or one that no operand has")
    return spelled, out


def _simple(term, x, sizes):
    """Without axes of size 1 that broadcast, and with the diagonal of those named twice."""
    narrow = tuple(i for i, c in enumerate(term) if x.shape[i] == 1 != sizes[c])
    if narrow:
        x = squeeze(x, narrow)
        term = "".join(c for i, c in enumerate(term) if i not in narrow)
    for c in set(term):
        while term.count(c) > 1:
            i, j = term.index(c), term.rindex(c)
            order = [k for k in range(len(term)) if k not in (i, j)] + [i, j]
            steps = np.arange(x.shape[i])
            x = getitem(transpose(x, order), (..., steps, steps))
            term = "".join(term[k] for k in order[:-1])
    return term, x


def _summed(term, x, wanted):
    """Summed over the axes that nobody wants."""
    over = tuple(i for i, c in enumerate(term) if c not in wanted)
    return "".join(c for c in term if c in wanted), sum(x, over) if over else x


def _joined(a, x, b, y, wanted):
    """Two operands as one, by one matmul: (both, left, inner) @ (both, inner, right)."""
    both = [c for c in a if c in b and c in wanted]
    inner = [c for c in a if c in b and c not in wanted]
    left, right = [c for c in a if c not in b], [c for c in b if c not in a]
    if not inner and not (left and right):  # element by element
        x = _spread(a, x, both + left + right)
        y = _spread(b, y, both + left + right)
        return "".join(both + left + right), x * y
    size = dict(zip(a, x.shape, strict=True)) | dict(zip(b, y.shape, strict=True))

    def count(letters):
        return math.prod(size[c] for c in letters)

    batch = [size[c] for c in both]
    x = _shaped(_ordered(a, x, both + left + inner), (*batch, count(left), count(inner)))
    y = _shaped(_ordered(b, y, both + inner + right), (*batch, count(inner), count(right)))
    made = both + left + right
    return "".join(made), _shaped(matmul(x, y), tuple(size[c] for c in made))


def _spread(term, x, letters):
    """x with its axes in the order of `letters`, and 1 for those that it lacks."""
    x = _ordered(term, x, [c for c in letters if c in term])
    sizes = iter(x.shape)
    return _shaped(x, tuple(next(sizes) if c in term else 1 for c in letters))


def _ordered(term, x, letters):
    axes = [term.index(c) for c in letters]
    return x if axes == sorted(axes) else transpose(x, axes)


def _shaped(x, shape):
    return x if tuple(x.shape) == shape else reshape(x, shape)
