"""tools/ulp.py measures what it says: references, unit, and the table in the documentation."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "tools" / "docs" / "source" / "accuracy.md"
spec = importlib.util.spec_from_file_location("ulp", ROOT / "tools" / "ulp.py")
assert spec is not None
assert spec.loader is not None
ulp = importlib.util.module_from_spec(spec)
sys.modules["ulp"] = ulp
spec.loader.exec_module(ulp)

wide_enough = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="longdouble is float64 here"
)
EXACT: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "log1p": mpmath.log1p,
    "expm1": mpmath.expm1,
    "erf": mpmath.erf,
    "ndtr": lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "sech2": lambda x: mpmath.sech(x) ** 2,
    "sigmoid_slope": lambda x: mpmath.sech(x / 2) ** 2 / 4,
    "gauss": lambda x: mpmath.exp(-x * x),
    "bell": lambda x: mpmath.exp(-x * x / 2),
}


@pytest.mark.parametrize("name", ulp.FUNCTIONS)
@pytest.mark.parametrize(
    ("wide", "bits"), [(np.float64, 49), pytest.param(np.longdouble, 60, marks=wide_enough)]
)
def test_references_are_right_in_the_wider_format(
    name: str, wide: type, bits: int, rng: np.random.Generator
) -> None:
    function = ulp.FUNCTIONS[name]
    x = np.concatenate([
        rng.uniform(function.low, function.high, 60),
        rng.choice([-1, 1], 60) * 2.0 ** rng.uniform(-40, 5, 60),
    ])  # fmt: skip
    x = {"log": x[x > 0], "log1p": x[x > -1]}.get(name, x)
    with np.errstate(all="ignore"):
        found = function.reference(x.astype(wide))
    with mpmath.workprec(300):
        for a, y in zip(x.tolist(), found):
            exact = EXACT[name](mpmath.mpf(a))
            if 2.0**-1000 < abs(exact) < 2.0**1000:
                high = float(y)
                error = mpmath.mpf(high) + mpmath.mpf(float(y - wide(high))) - exact
                assert abs(error / exact) < 2.0**-bits, f"{name}({a!r})"


@pytest.mark.parametrize(("got", "exact", "error"), [
    (1.0, 1.0, 0.0),
    (1.0 + 2.0**-23, 1.0, 1.0),
    (1.0, 1.0 - 2.0**-25, 0.5),  # below 1 a unit is half as large
    (-2.0, -2.0 - 2.0**-23, 0.5),
    (2.0**-149, 0.0, 1.0),  # denormal numbers have one unit
    (0.0, 2.0**-126, 2.0**23),
    (math.inf, 2.0**128, 0.0),
    (math.inf, 2.0**128 - 2.0**103, 0.5),
    (float(np.finfo(np.float32).max), math.inf, 1.0),
    (-math.inf, -1e300, 0.0),
    (math.nan, math.nan, 0.0),
    (math.nan, 1.0, math.nan),
    (1.0, math.nan, math.nan),
])  # fmt: skip
def test_an_error_is_counted_in_units_of_the_last_place(
    got: float, exact: float, error: float
) -> None:
    for exact_in in (np.float64, np.longdouble):
        found = ulp.errors(np.array([got], np.float32), np.array([exact], exact_in))
        np.testing.assert_array_equal(found, [error])


def test_all_floats_are_all_floats_and_doubles_have_both_signs_and_all_magnitudes() -> None:
    every = np.concatenate(list(ulp.all_floats(1 << 16)))
    assert every.size == 1 << 16
    assert np.isnan(every).sum() == 254
    assert every[1] == np.uint32(1 << 16).view(np.float32)
    x = np.concatenate(list(ulp.many_doubles(ulp.FUNCTIONS["tanh"], 1)))
    positive, negative = x[x > 0], x[x < 0]
    for side in (positive, -negative):
        assert side.min() == 2.0**-1074
        assert side.max() > 2.0**1023
    assert np.isfinite(x).all()
    assert np.mean(np.abs(x) < 20) > 0.4


@pytest.mark.needs_jit  # NumPy's exp is another
def test_a_wrong_value_or_a_lost_nan_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.array([0.25, 0.5, np.nan, 1.0], np.float32)
    assert ulp.worst("exp", [x]).ulp < 1.1
    monkeypatch.setattr(ulp.ops, "exp", lambda x: np.exp(x) + (x == 0.5) * np.float32(1e-5))
    assert ulp.worst("exp", [x[:1], x]).at == 0.5
    monkeypatch.setattr(ulp.ops, "exp", lambda x: np.exp(np.nan_to_num(x)))
    assert math.isnan(ulp.worst("exp", [x]).at)


@pytest.mark.needs_jit  # without JIT NumPy's functions run
@pytest.mark.parametrize("name", ulp.FUNCTIONS)
def test_no_sampled_error_is_larger_than_the_documented_one(name: str) -> None:
    rows = re.findall(rf"^\| `{name}` \| ([\d.]+) \|[^|]*\| ([\d.]+) \|", PAGE.read_text(), re.M)
    ((single, double),) = rows
    assert ulp.worst(name, ulp.all_floats(1 << 13)).ulp <= float(single)
    if np.finfo(np.longdouble).nmant >= 63:
        assert ulp.worst(name, ulp.many_doubles(ulp.FUNCTIONS[name], 1)).ulp <= float(double)
