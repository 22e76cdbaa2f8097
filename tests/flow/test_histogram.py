"""Histograms of magnitudes by powers of two."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from minigrad.errors import DTypeError, ShapeError
from minigrad.flow.histogram import BINS, HIGH, LOW, Histogram


def counted(values: list[float]) -> tuple[dict[int, int], Counter[str]]:
    """The same by math.frexp, one number at a time."""
    bins: Counter[int] = Counter()
    tails: Counter[str] = Counter()
    for x in values:
        if math.isnan(x):
            tails["nan"] += 1
        elif math.isinf(x):
            tails["inf"] += 1
        elif x == 0:
            tails["zero"] += 1
        else:
            exponent = math.frexp(abs(x))[1] - 1
            if exponent < LOW:
                tails["under"] += 1
            elif exponent >= HIGH:
                tails["over"] += 1
            else:
                bins[exponent] += 1
    return dict(bins), tails


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (7,), (33, 5), (3, 1, 11)])
def test_every_number_is_counted_where_frexp_puts_it(dtype: type, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) * 2.0 ** rng.integers(-60, 30, size=shape)).astype(dtype)
    h = Histogram.of(x)
    bins, tails = counted([float(v) for v in np.ravel(x)])
    assert {int(e): int(n) for e, n in zip(h.exponents, h.counts, strict=True) if n} == bins
    assert (h.zero, h.under, h.over) == (tails["zero"], tails["under"], tails["over"])
    assert h.total == x.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_edges_of_bins_and_special_numbers_are_counted_right(dtype: type) -> None:
    info = np.finfo(dtype)
    values = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, info.max, -info.max, info.tiny]
    values += [info.smallest_subnormal, 2.0**LOW, 2.0 ** (LOW - 1), 2.0**HIGH, 2.0 ** (HIGH - 1)]
    values += [np.nextafter(dtype(2.0**LOW), dtype(0)), np.nextafter(dtype(1), dtype(0)), 1.0]
    x = np.array(values, dtype)
    bins, tails = counted([float(v) for v in x])
    h = Histogram.of(x)
    assert {int(e): int(n) for e, n in zip(h.exponents, h.counts, strict=True) if n} == bins
    assert {name: getattr(h, name) for name in tails} == dict(tails)
    assert h.nonfinite == 4


def test_the_sum_of_two_histograms_is_that_of_both_arrays() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=31), np.array([np.nan, 0, np.inf, 1e-30, 1e30, 2])
    assert Histogram.of(a) + Histogram.of(b) == Histogram.of(np.concatenate([a, b]))
    assert Histogram.of(a) + Histogram() == Histogram.of(a)


def test_strided_arrays_are_counted_like_their_copies() -> None:
    x = np.random.default_rng(2).normal(size=(9, 8)).astype(np.float32)
    assert Histogram.of(x[::2, ::3].T) == Histogram.of(x[::2, ::3].copy())


def test_a_histogram_survives_json() -> None:
    h = Histogram.of(np.array([1.0, np.nan, 0.0, 1e-20, 3e7]))
    assert Histogram.from_dict(h.to_dict()) == h
    assert h != Histogram()
    assert h != "other"


def test_other_dtypes_and_other_bins_are_refused() -> None:
    with pytest.raises(DTypeError, match=r"expected float32 or float64, got int64\[3\]"):
        Histogram.of(np.arange(3))
    with pytest.raises(ShapeError, match=rf"counts must be \({BINS},\)"):
        Histogram(np.zeros(3, np.int64))
    with pytest.raises(ShapeError, match=r"begin at 2\^-12, expected 2\^-48"):
        Histogram.from_dict(Histogram().to_dict() | {"low": -12})
