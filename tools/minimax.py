"""Print the polynomials of minigrad/kernels/vectormath.py, fitted by Remez's algorithm.

    python tools/minimax.py

Each is the polynomial of its degree whose largest weighted error over the interval is smallest;
the weight turns the error of the polynomial into the relative error of the function it serves.
Takes some seconds; needs mpmath.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

Function = Callable[[mp.mpf], mp.mpf]


def remez(
    f: Function, weight: Function, low: float, high: float, degree: int
) -> tuple[list, float]:
    """(coefficients, highest power first; largest weighted error) of the minimax polynomial."""
    middle, half, n = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2, degree + 2
    nodes = [middle - half * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    grid = [middle - half * mp.cos(mp.pi * i / 4000) for i in range(4001)]
    exact = [(f(x), weight(x)) for x in grid]
    for _ in range(12):
        system = mp.matrix([[*(x**j for j in range(n - 1)), (-1) ** i / weight(x)]
                            for i, x in enumerate(nodes)])  # fmt: skip
        *coefficients, level = mp.lu_solve(system, mp.matrix([f(x) for x in nodes]))
        coefficients.reverse()
        errors = [w * (y - mp.polyval(coefficients, x)) for x, (y, w) in zip(grid, exact)]
        worst = max(map(abs, errors))
        peaks = extremes(errors)
        if worst < abs(level) * 1.001 or len(peaks) < n:
            break
        while len(peaks) > n:  # the error must alternate at n points: drop the smaller end
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        nodes = [grid[i] for i in peaks]
    return coefficients, float(worst)


def extremes(errors: list) -> list[int]:
    """Where the error is largest between two changes of its sign."""
    found = [0]
    for i, error in enumerate(errors):
        if error * errors[found[-1]] < 0:
            found.append(i)
        elif abs(error) > abs(errors[found[-1]]):
            found[-1] = i
    return found


def report(
    title: str, f: Function, weight: Function, low: float, high: float, *degrees: int
) -> None:
    for degree in degrees:
        coefficients, error = remez(f, weight, low, high, degree)
        print(f"\n{title}, degree {degree}: error 2**{mp.log(error, 2):.1f}")
        print("\n".join(f"    {float(c)!r}," for c in coefficients))


def main() -> None:
    mp.mp.dps = 50
    tiny = mp.mpf("1e-15")
    half_ln2 = mp.log(2) / 2 * mp.mpf("1.001")
    report(
        "q of e**r - 1 = r + r**2 q(r)",
        lambda r: (mp.expm1(r) - r) / r**2 if abs(r) > tiny else mp.mpf(1) / 2 + r / 6,
        lambda r: abs(r**2 / mp.expm1(r)) if abs(r) > tiny else tiny,
        -half_ln2, half_ln2, 4, 9,
    )  # fmt: skip
    top = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * mp.mpf("1.01")) ** 2
    report(
        "p of ln((1 + s) / (1 - s)) = 2 s + s z p(z), z = s**2",
        lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z
        if z > tiny
        else mp.mpf(2) / 3 + z * 2 / 5,
        lambda z: z / 2,
        0, top, 2, 6,
    )  # fmt: skip

    def inner(z: mp.mpf) -> mp.mpf:
        x = mp.sqrt(z)
        return mp.erf(x) / x if z > tiny**2 else 2 / mp.sqrt(mp.pi) * (1 - z / 3)

    report("p of erf(x) = x p(x**2)", inner, lambda z: 1 / inner(z), 0, 1, 6, 12)
    for top, degree in ((4, 5), (6, 12)):
        report(
            "q of 1 - erf(x) = e**(-x**2) q(t), t = (x - 2) / (x + 2)",
            lambda t: mp.exp(_x(t) ** 2) * mp.erfc(_x(t)),
            lambda t: mp.exp(-(_x(t) ** 2)) / mp.erf(_x(t)),
            -mp.mpf(1) / 3, mp.mpf(top - 2) / (top + 2), degree,
        )  # fmt: skip


def _x(t: mp.mpf) -> mp.mpf:
    return 2 * (1 + t) / (1 - t)


if __name__ == "__main__":
    main()
