"""exp, log, tanh, sigmoid and their kin, in float32 and float64, as LLVM can vectorise them.

    from minigrad.kernels.vectormath import exp, tanh    # in a kernel: exp(x), x a number

Each is a function of one number without a branch, so that a loop over them runs at full vector
width. The polynomials are our own, fitted by Remez's algorithm (tools/minimax.py prints them):
Numba's wheels have no vector maths library. The largest errors that tools/ulp.py finds are 2.7 ulp,
4.3 of sech2 and sigmoid_slope, 6.1 of ndtr, over the whole domain, denormals included; signs of
zero, Inf and NaN are exact. tests/kernels/test_vectormath.py looks at a sample, against mpmath.

Denormal numbers are kept, never flushed to zero: a gradient must be seen to vanish gradually. On
Zen 4 a loop over nothing but denormals takes at most twice as long; other CPUs may pay more.

Under NUMBA_DISABLE_JIT=1 they take NumPy arrays, too; what NumPy has is NumPy's then.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import math

import numpy as np
from numba import njit

from minigrad.kernels import intrinsics
from minigrad.kernels.intrinsics import (
    absolute,
    bits,
    copysign,
    floats,
    floor,
    fma,
    inner,
    like,
    pick,
    polynomial,
    select,
    sqrt,
)

LN2 = math.log(2.0)
# In two parts, the first with so few bits that a product with an exponent is exact.
_HIGH_32, _LOW_32 = 0.693359375, LN2 - 0.693359375
_HIGH_64, _LOW_64 = 0.6931471803691238, 1.9082149292705877e-10

# Coefficients for float32 and float64, of the highest power first.
# fmt: off
_EXPM1_32 = (
    0.0013882512025679714, 0.008366580386276157, 0.04166720174032215, 0.1666654317751298,
    0.49999998144269686,
)
_EXPM1_64 = (
    2.5053777822556483e-08, 2.762616143810987e-07, 2.7557407861378856e-06, 2.4801504978855425e-05,
    0.00019841269718345075, 0.0013888888931795004, 0.008333333333389958, 0.04166666666657611,
    0.16666666666666588, 0.5000000000000006,
)
_LOG_32 = (0.2989879263361977, 0.39976607509625844, 0.6666678325891201)
_LOG_64 = (
    0.14827310684916833, 0.15311056990791116, 0.18183675405319238, 0.22222196559499313,
    0.2857142876069345, 0.39999999999338925, 0.6666666666666745,
)
_ERF_32 = (
    7.853863997977767e-05, -0.000801019450809437, 0.005188327794925485, -0.026853811996999606,
    0.1128358515020673, -0.3761262582439496, 1.1283791657267361,
)
_ERF_64 = (
    5.945259709841783e-11, -1.1365664789836198e-09, 1.4657879550716294e-08, -1.6350025181737444e-07,
    1.6460972813491038e-06, -1.4925593506699284e-05, 0.00012055331036893466, -0.0008548326978742109,
    0.005223977624780867, -0.026866170645072896, 0.11283791670954857, -0.3761263890318375,
    1.1283791670955126,
)
_ERFC_32 = (
    0.00721045566675455, 0.0037279360204019716, -0.07898743627894421, 0.24165721314436908,
    -0.4271858541817868, 0.25539567803256485,
)
_ERFC_64 = (
    -1.2622092701682753e-05, -2.65870224209979e-05, 2.7630887760857083e-05, 0.00017428770270823526,
    4.353531340347886e-05, -0.0009819765842504515, -0.0008471425725375562, 0.0069974617900869,
    0.0037328923985912106, -0.07897858101645579, 0.24165819424246693, -0.42718584741395677,
    0.25539567631050575,
)
# Of the normal distribution's tail, see ndtr; fitted at Chebyshev's points.
_TAIL_32 = (
    -5.1556593298561416e-05, -0.0002317986783423407, 0.00017105461158686258, 0.001645219297359636,
    -0.003489317276115056, -0.00754526826571505, 0.06039753308782922, -0.18652128140252128,
    0.3871373679985599, -0.6078966590908522, 0.7552851306230107,
)
_TAIL_64 = (
    -3.81618035300424e-10, -1.160886448380309e-09, 2.220848621773149e-09, 1.0797345335746256e-08,
    -8.555696628254633e-09, -7.014220631960926e-08, 4.0177962891473734e-08, 4.362925568222539e-07,
    -3.345738518771817e-07, -2.7707204135122383e-06, 3.97980489932909e-06, 1.6681639595174005e-05,
    -4.976245616870157e-05, -5.9375807358891235e-05, 0.0005448989927584027, -0.0007978693892958589,
    -0.002993376761868743, 0.020795066799260343, -0.06911863870687814, 0.16502036617040713,
    -0.31353315667128745, 0.4953056159699761, -0.6653825028900568, 0.769193049750063,
)
# fmt: on

scalar = njit(**inner)

_expm1_polynomial = polynomial(_EXPM1_32, _EXPM1_64)
_log_polynomial = polynomial(_LOG_32, _LOG_64)
_erf_polynomial = polynomial(_ERF_32, _ERF_64)
_erfc_polynomial = polynomial(_ERFC_32, _ERFC_64)
_tail_polynomial = polynomial(_TAIL_32, _TAIL_64)


@scalar
def isnan(x):
    """True where x is NaN."""
    return x != x


@scalar
def sign(x):
    """-1, 0 or 1; NaN of NaN."""
    zero, one = like(x, 0.0), like(x, 1.0)
    return select(x > zero, one, select(x < zero, -one, select(x == zero, zero, x)))


@scalar
def maximum(x, y):
    """The larger one; NaN if either is."""
    return select((x > y) | (x != x), x, y)


@scalar
def minimum(x, y):
    """The smaller one; NaN if either is."""
    return select((x < y) | (x != x), x, y)


@scalar
def _clamped(x, low, high):
    """x between two numbers; NaN stays NaN."""
    x = select(x > high, high, x)
    return select(x < low, low, x)


@scalar
def _power(k):
    """2**k, for integers k in the range of normal exponents."""
    return floats(like(k, (k + pick(k, 127, 1023)) << pick(k, 23, 52)))


@scalar
def _scaled(y, k):
    """y * 2**k for integers k, in two steps: 2**k alone may overflow or lose a denormal's bits."""
    half = like(k, k >> 1)
    return y * _power(half) * _power(like(k, k - half))


@scalar
def _reduced(x):
    """(k, r) with x = k ln 2 + r, k an integer, |r| <= ln(2) / 2.

    Adding 1.5 * 2**23 (2**52) rounds to a whole number and leaves it in the lowest bits, which
    saves the conversion, and is harmless for NaN, whose conversion would be undefined.
    """
    magic = pick(x, 1.5 * 2.0**23, 1.5 * 2.0**52)
    shifted = fma(x, 1.0 / LN2, magic)
    k = shifted - magic
    r = fma(k, -pick(x, _HIGH_32, _HIGH_64), x)
    r = fma(k, -pick(x, _LOW_32, _LOW_64), r)
    whole = bits(shifted)
    return like(whole, whole - bits(magic)), r


@scalar
def _expm1_reduced(r):
    """e**r - 1 for |r| <= ln(2) / 2: r + r**2 q(r), relative error 2**-26 (2**-55)."""
    return fma(r * r, _expm1_polynomial(r), r)


@scalar
def exp(x):
    """e**x: Inf above 88.7 (709.8), denormal below -87.3 (-708.4), 0 below -104 (-746)."""
    k, r = _reduced(_clamped(x, pick(x, -105.0, -750.0), pick(x, 89.0, 710.0)))
    return _scaled(_expm1_reduced(r) + like(x, 1.0), k)


@scalar
def expm1(x):
    """e**x - 1, accurate near 0."""
    k, r = _reduced(_clamped(x, pick(x, -30.0, -50.0), pick(x, 89.0, 710.0)))
    power = _power(like(k, k - 1))  # half of 2**k, which may overflow where the result does not
    y = fma(power, _expm1_reduced(r), power - like(x, 0.5)) * like(x, 2.0)
    return select(absolute(x) < pick(x, 2.0**-26, 2.0**-55), x, y)


@scalar
def log(x):
    """ln x: -Inf at 0, NaN below."""
    zero = like(x, 0.0)
    tiny = x < pick(x, 2.0**-126, 2.0**-1022)
    normal = select(tiny, x * pick(x, 2.0**24, 2.0**54), x)
    shift = select(tiny, pick(x, -24.0, -54.0), zero)
    y = _log_normal(normal, shift)
    y = select(x == like(x, math.inf), x, y)
    y = select(x == zero, like(x, -math.inf), y)
    return select((x < zero) | (x != x), like(x, math.nan), y)


@scalar
def _log_normal(x, shift):
    """ln(x * 2**shift) for normal x > 0.

    x = 2**k (1 + f), 1 + f within sqrt(1/2) ... sqrt(2), and with s = f / (2 + f)
    ln(1 + f) = 2 s + s z p(z), z = s**2, relative error of p: 2**-30 (2**-59).
    """
    root = bits(like(x, math.sqrt(0.5)))
    whole = bits(x)
    power = pick(whole, 23, 52)
    steps = like(whole, like(whole, whole - root) >> power)
    f = floats(like(whole, whole - (steps << power))) - like(x, 1.0)
    k = like(x, steps) + shift
    s = f / (f + like(x, 2.0))
    z = s * s
    p = z * _log_polynomial(z)
    half = f * f * like(x, 0.5)
    small = fma(s, half + p, k * pick(x, _LOW_32, _LOW_64))
    return fma(k, pick(x, _HIGH_32, _HIGH_64), f - (half - small))


@scalar
def log1p(x):
    """ln(1 + x), accurate near 0: -Inf at -1, NaN below."""
    one = like(x, 1.0)
    u = x + one
    lost = x - (u - one)  # what rounding took from 1 + x
    y = _log_normal(u, like(x, 0.0)) + lost / u
    y = select(absolute(x) < pick(x, 2.0**-25, 2.0**-54), x, y)
    y = select(x == like(x, math.inf), x, y)
    y = select(x == -one, like(x, -math.inf), y)
    return select((x < -one) | (x != x), like(x, math.nan), y)


@scalar
def tanh(x):
    """tanh x = m / (m + 2), m = e**(2|x|) - 1, with the sign of x."""
    t = absolute(x)
    end = pick(x, 10.0, 20.0)
    t = select(t > end, end, t)
    k, r = _reduced(t + t)
    power = _power(k)
    m = fma(power, _expm1_reduced(r), power - like(x, 1.0))
    return copysign(m / (m + like(x, 2.0)), x)


@scalar
def sigmoid(x):
    """1 / (1 + e**-x), written with e**-|x| so that neither side overflows or cancels."""
    e = exp(-absolute(x))
    one = like(x, 1.0)
    return select(x < like(x, 0.0), e, one) / (e + one)


@scalar
def sech2(x):
    """1 - tanh(x)**2 = 4 e / (1 + e)**2, e = e**(-2|x|), the slope of tanh: no difference."""
    t = absolute(x) * like(x, -2.0)
    k, r = _reduced(_clamped(t, pick(x, -110.0, -755.0), like(x, 0.0)))
    one = like(x, 1.0)
    # 4 e is normal where e is a denormal already.
    four = _scaled(_expm1_reduced(r) + one, like(k, k + 2))
    low = fma(four, 0.25, one)
    return four / (low * low)


@scalar
def sigmoid_slope(x):
    """sigmoid(x) sigmoid(-x) = e / (1 + e)**2, e = e**-|x|: exactly even."""
    e = exp(-absolute(x))
    low = e + like(x, 1.0)
    return e / (low * low)


@scalar
def gauss(x):
    """e**(-x**2), the slope of erf but for a factor."""
    return _bell(x, like(x, 1.0), pick(x, 11.0, 28.0))


@scalar
def bell(x):
    """e**(-x**2 / 2), the slope of ndtr but for a factor."""
    return _bell(x, like(x, 0.5), pick(x, 15.0, 40.0))


@scalar
def _bell(x, factor, end):
    """e**(-factor x**2), 0 from |x| = end on; what rounding took from x**2 is made good."""
    t = _clamped(absolute(x), like(x, 0.0), end)
    square = t * t
    lost = fma(t, t, -square)
    e = exp(square * -factor)
    return fma(e, lost * -factor, e)


@scalar
def ndtr(x):
    """(1 + erf(x / sqrt(2))) / 2, the normal distribution, within 6.1 ulp to the end of its tail.

    For z = |x| the tail is e**(-z**2 / 2) p(t) / (z + K), t = (z - K) / (z + K).
    """
    zero = like(x, 0.0)
    middle = pick(x, 4.0, 5.0)
    z = _clamped(absolute(x), zero, pick(x, 15.0, 40.0))
    below = z + middle
    tail = bell(z) * (_tail_polynomial((z - middle) / below) / below)
    return select(x > zero, like(x, 1.0) - tail, tail)


@scalar
def erf(x):
    """erf x: x p(x**2) up to 1; above, 1 - e**(-x**2) q(t), t = (x - 2) / (x + 2)."""
    one, two = like(x, 1.0), like(x, 2.0)
    inside = x * _erf_polynomial(x * x)
    t = _clamped(absolute(x), one, pick(x, 4.0, 6.0))
    tail = _erfc_polynomial((t - two) / (t + two))
    outside = copysign(one - exp(-(t * t)) * tail, x)
    return select(absolute(x) > one, outside, inside)


@scalar
def remainder(x, y):
    """Python's x % y: what x is above the largest multiple of y that is not above it."""
    return x % y


# Of the C library, one number after the other.
sin, cos, pow = intrinsics.sin, intrinsics.cos, intrinsics.pow
abs = absolute

if intrinsics.PLAIN:
    exp, expm1, log, log1p, tanh = np.exp, np.expm1, np.log, np.log1p, np.tanh

__all__ = [
    "abs", "bell", "cos", "erf", "exp", "expm1", "floor", "gauss", "isnan", "log", "log1p",
    "maximum", "minimum", "ndtr", "pow", "remainder", "sech2", "select", "sigmoid", "sigmoid_slope",
    "sign", "sin", "sqrt", "tanh",
]  # fmt: skip
