"""How exact are exp, log, tanh, sigmoid and their kin? The largest error of each, and where it is.

    python tools/ulp.py                         # all of it: minutes
    python tools/ulp.py --quick exp tanh        # a sample, seconds

float32: all 2^32 numbers, against float64. float64: 10^8 numbers, half of them spread over all
magnitudes, half random where the function is neither 0 nor constant, against NumPy's longdouble
(64 bits on x86: what it says of float64 is right to 0.01 ulp). Errors are in ulp, units in the last
place of the exact result: 0.5 is what rounding costs at best. Inf counts as the number after the
largest.

The references are the C library's exp, log, expm1, log1p and tanh in the wider format, and closed
forms of exp alone; the normal distribution is a series in the middle and a continued fraction in
its tails. tests/test_ulp.py holds them against mpmath. Measured is `minigrad.ops` on arrays.
Prints the table of tools/docs/source/accuracy.md, errors rounded up.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import ops

Array = np.ndarray
LOCK = threading.Lock()
CHUNK = 1 << 13  # numbers at a time: the temporary arrays stay in the second-level cache
WIDER = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}


class Worst(NamedTuple):
    """The largest error found: in ulp, and the input where it is."""

    ulp: float
    at: Any


# -- references, in the precision of x -------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def sech2(x: Array) -> Array:
    e = np.exp(-2 * np.abs(x))
    return 4 * e / (1 + e) ** 2


def sigmoid_slope(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


def gauss(x: Array, factor: float = 1.0) -> Array:
    """e^(-factor x^2), x = h + l, h having few enough bits for its square to be exact."""
    x = np.clip(x, -64, 64)
    h = x.astype(np.float32).astype(x.dtype)
    low = x - h
    y = np.exp(-factor * h * h)
    return y * np.exp(-factor * (2 * h + low) * low) if low.any() else y


def bell(x: Array) -> Array:
    return gauss(x, 0.5)


def erf(x: Array) -> Array:
    """2/sqrt(pi) e^(-x^2) (x + 2 x^3 / 3 + 4 x^5 / 15 + ...) up to 3, the tail outside."""
    root = np.sqrt(x.dtype.type(2))
    y = either(
        np.clip(np.abs(x), 0, 16),
        3,
        lambda z: 2 / np.sqrt(pi(x)) * gauss(z) * series(z, 2),
        lambda z: 1 - 2 * tail(z * root),
    )
    return np.copysign(y, x)


def ndtr(x: Array) -> Array:
    """1/2 -+ phi(x) (x + x^3 / 3 + x^5 / 15 + ...) up to 1, the tail by itself outside."""
    below = either(
        np.clip(np.abs(x), 0, 64),
        1,
        lambda z: 0.5 - bell(z) / np.sqrt(2 * pi(x)) * series(z, 1),
        tail,
    )
    return np.where(x > 0, 1 - below, below)


def either(
    z: Array, end: float, inner: Callable[[Array], Array], outer: Callable[[Array], Array]
) -> Array:
    """inner(z) up to end, outer(z) above."""
    above = z > end
    if above.all() or not above.any():
        return outer(z) if above.any() else inner(z)
    y = np.empty_like(z)
    y[above], y[~above] = outer(z[above]), inner(z[~above])
    return y


def series(z: Array, factor: int) -> Array:
    """The sum of factor^n z^(2n+1) / (1 3 5 ... (2n+1)); no term is negative."""
    square, term, total, n = factor * z * z, z.copy(), z.copy(), 1
    while (term > total * np.finfo(z.dtype).eps / 8).any():
        n += 2
        term *= square / n
        total += term
    return total


def tail(z: Array) -> Array:
    """phi(z) / (z + 1 / (z + 2 / (z + ...))), what lies above z >= 1 (Laplace)."""
    digits = -math.log(np.finfo(z.dtype).eps) + 3
    t = np.zeros_like(z)
    for n in range(
        math.ceil((digits / (2 * float(np.fmin.reduce(z, initial=64)))) ** 2) + 3, 0, -1
    ):
        t = n / (z + t)
    return bell(z) / np.sqrt(2 * pi(z)) / (z + t)


def pi(x: Array) -> Any:
    return 4 * np.arctan(x.dtype.type(1))


class Function(NamedTuple):
    """Its reference, and the interval outside of which it is 0, constant, Inf or x itself."""

    reference: Callable[[Array], Array]
    low: float
    high: float


FUNCTIONS = {
    "exp": Function(np.exp, -746, 710),
    "log": Function(np.log, 0, 4),
    "tanh": Function(np.tanh, -20, 20),
    "sigmoid": Function(sigmoid, -746, 40),
    "log1p": Function(np.log1p, -1, 4),
    "expm1": Function(np.expm1, -40, 710),
    "erf": Function(erf, -6, 6),
    "ndtr": Function(ndtr, -39, 9),
    "sech2": Function(sech2, -375, 375),
    "sigmoid_slope": Function(sigmoid_slope, -746, 746),
    "gauss": Function(gauss, -28, 28),
    "bell": Function(bell, -39, 39),
}


# -- inputs ----------------------------------------------------------------------------------------


def all_floats(every: int) -> Iterator[Array]:
    """All 2^32 float32 numbers, NaN and Inf among them; or every so many of them."""
    for start in range(0, 1 << 32, CHUNK * every):
        bits = np.arange(start, start + CHUNK * every, every, dtype=np.uint64)
        yield bits.astype(np.uint32).view(np.float32)


def many_doubles(function: Function, total: int) -> Iterator[Array]:
    """Positive, negative, uniform and log-uniform in turn, each in order: neighbours are alike."""
    chunks = max(total // (4 * CHUNK), 1)
    for i in range(chunks):
        rng = np.random.default_rng(i)
        spread = np.exp2(np.linspace(i, i + 1, CHUNK, endpoint=False) / chunks * 2098 - 1074)
        yield spread
        yield -spread
        yield np.sort(rng.uniform(function.low, function.high, CHUNK))
        yield np.sort(np.exp2(rng.uniform(-60, 11, CHUNK)) * rng.choice([-1.0, 1.0], CHUNK))


# -- measuring -------------------------------------------------------------------------------------


def errors(got: Array, exact: Array) -> Array:
    """|got - exact| in units of the last place that the exact value has in got's dtype.

    NaN where one is NaN and the other is not, 0 where both are.
    """
    info = np.finfo(got.dtype)
    top = np.ldexp(exact.dtype.type(1), info.maxexp)
    both = np.isnan(got) & np.isnan(exact)
    exact = np.clip(exact, -top, top)
    last = np.clip(power_of_two(exact), info.smallest_normal, top / 2) * info.eps
    error = np.abs(np.clip(got.astype(exact.dtype), -top, top) - exact) / last
    return np.where(both, 0, error)


def power_of_two(x: Array) -> Array:
    """2^e where 2^e <= |x| < 2^(e + 1); 0 for 0."""
    if x.dtype == np.float64:  # frexp would be most of the work
        return (x.view(np.int64) & (0x7FF << 52)).view(np.float64)
    _, exponent = np.frexp(x)
    return np.ldexp(np.abs(np.sign(x)), exponent - 1)


class Search:
    """The largest error so far; called with more numbers, it looks at those that may exceed it."""

    def __init__(self, name: str):
        self.name, self.worst = name, Worst(0.0, None)

    def __call__(self, x: Array) -> None:
        with np.errstate(all="ignore"):
            exact = FUNCTIONS[self.name].reference(x.astype(WIDER[x.dtype]))
            got = getattr(ops, self.name)(x)
            # a unit is at least eps / 2 of the value: most errors are small without being divided
            small = self.worst.ulp * np.finfo(x.dtype).eps / 2 * np.abs(exact)
            left = np.flatnonzero(~(np.abs(got.astype(exact.dtype) - exact) <= small))
            if left.size:
                self._compare(x[left], errors(got[left], exact[left]))

    def _compare(self, x: Array, ulp: Array) -> None:
        i = int(ulp.argmax())  # the first NaN, if there is one
        found = math.inf if np.isnan(ulp[i]) else float(ulp[i])
        with LOCK:
            if found > self.worst.ulp or self.worst.at is None:
                self.worst = Worst(found, x[i])


def worst(name: str, inputs: Iterable[Array]) -> Worst:
    """The largest error over all arrays, on all cores."""
    search, waiting = Search(name), iter(inputs)

    def work() -> None:
        while True:
            with LOCK:
                x = next(waiting, None)
            if x is None:
                return
            search(x)

    before = mg.get_num_threads()
    mg.set_num_threads(1)  # each core has an array of its own
    try:
        cores = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(cores) as pool:
            for done in [pool.submit(work) for _ in range(cores)]:
                done.result()
    finally:
        mg.set_num_threads(before)
    return search.worst


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("functions", nargs="*", metavar="function", help=", ".join(FUNCTIONS))
    parser.add_argument("--quick", action="store_true", help="a 256th of the inputs")
    given = parser.parse_args(arguments)
    if unknown := set(given.functions) - set(FUNCTIONS):
        parser.error(f"no function {', '.join(unknown)}; there are {', '.join(FUNCTIONS)}")
    if np.finfo(np.longdouble).nmant < 63:
        sys.exit("ulp.py: longdouble has no more bits than float64 here; measure on x86 or Linux.")
    share = 256 if given.quick else 1
    print(f"{cpu()}, NumPy {np.__version__}\n")
    print("| function | float32, ulp | at | float64, ulp | at |\n|---|---|---|---|---|")
    for name in given.functions or FUNCTIONS:
        single = worst(name, all_floats(share))
        double = worst(name, many_doubles(FUNCTIONS[name], 10**8 // share))
        cells = [f"{math.ceil(w.ulp * 100) / 100:.2f} | {w.at!s}" for w in (single, double)]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
