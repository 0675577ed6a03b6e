"""Our own transcendental functions, as loop-IR expressions: one text for every language, the same bits everywhere.

Branch-free (both sides of a ``Select`` are computed), in + - * / fma and integer operations only, without libm, so
that they vectorize and so that AVX2, AVX-512, a Cortex-M and ``loop.evaluate`` in NumPy give equal bits.
Errors, stated and measured over all float32: docs/numerics.md. Range: ``sin`` and ``cos`` reduce by Cody-Waite, as
stated to |x| < 1e5 (float32) and 8e5 (float64), gracefully worse to 2^22 and 2^52, where they take x for 0. ``pow`` of
float32 computes in float64.

Sources: fdlibm (Sun Microsystems, 1993): log, log1p, tanh, erf, atan, double sin/cos; Cephes (Moshier): float sin/cos.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, inf

from shohin.compiler import half
from shohin.compiler.flat import Raw
from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.loop import (
    Cast,
    Const,
    Expr,
    Fma,
    Name,
    Operand,
    Un,
    clip,
    const,
    equal,
    maximum,
    minimum,
    not_equal,
    select,
)

F32, F64 = dtypes.float32, dtypes.float64


def poly(x: Expr, *coefficients: float) -> Expr:
    """Horner, lowest degree first."""
    result: Expr = const(coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        result = mad(result, x, const(c, x.dtype))
    return result


def mad(a: Expr, b: Expr, c: Expr) -> Expr:
    """``a * b + c``, rounded once in float32; in float64 twice, since NumPy could not say what one rounding gives."""
    return Fma(a, b, c) if c.dtype == F32 else a * b + c


class _Bits:
    """Integer views of a float type."""

    def __init__(self, dtype: DType):
        self.dtype, self.double = dtype, dtype == F64
        self.uint = dtypes.uint64 if self.double else dtypes.uint32
        self.int = dtypes.int64 if self.double else dtypes.int32
        self.mantissa, self.bias = (52, 1023) if self.double else (23, 127)

    def bits(self, x: Expr) -> Expr:
        return Un("bitcast_u64" if self.double else "bitcast_u32", x)

    def value(self, u: Expr) -> Expr:
        return Un("bitcast_f64" if self.double else "bitcast_f32", u)

    def u(self, value: int) -> Const:
        return Const(value, self.uint)

    def pow2(self, n: Expr) -> Expr:
        """2^n for an integer ``n`` in the normal range."""
        return self.value(Cast((n + self.bias) << self.mantissa, self.uint))

    def signed(self, x: Expr, sign_of: Expr) -> Expr:
        """``x`` (not negative) with the sign of another."""
        top = self.u(1 << (63 if self.double else 31))
        return self.value(self.bits(x) | (self.bits(sign_of) & top))

    def abs(self, x: Expr) -> Expr:
        return self.value(self.bits(x) & self.u(2**63 - 1 if self.double else 2**31 - 1))


_LN2 = {F32: (0.693359375, -2.12194440e-4), F64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
_LOG = {
    F32: (0xAAAAAA / 2**24, 0xCCCE13 / 2**25, 0x91E9EE / 2**25, 0xF89E26 / 2**26),
    F64: (6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
          1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01),
}  # fmt: skip
_LN2_LOG = {F32: (6.9313812256e-01, 9.0580006145e-06), F64: _LN2[F64]}


def _exp_parts(x: Expr, lo: float, hi: float) -> tuple[Expr, Expr, Expr]:
    """n (integer, as float), r = x - n ln2, and (exp(r) - 1 - r)."""
    double = x.dtype == F64
    inside = clip(x, lo, hi)  # NaN becomes lo here; the caller puts it back
    n = Un("rint", inside * 1.4426950408889634)
    high, low = _LN2[x.dtype]
    r = mad(n, const(-low, x.dtype), mad(n, const(-high, x.dtype), inside))
    terms = [1 / factorial(k) for k in range(2, 15 if double else 9)]
    return n, r, (r * r) * poly(r, *terms)


def exp(x: Expr) -> Expr:
    b = _Bits(x.dtype)
    n, r, tail = _exp_parts(x, *((-746.0, 710.0) if b.double else (-104.0, 89.0)))
    k = Raw(n, b.int)
    half = k >> 1
    value = (((r + tail) + 1) * b.pow2(half)) * b.pow2(k - half)
    return select(equal(x, x), value, x)


def expm1(x: Expr) -> Expr:
    b = _Bits(x.dtype)
    n, r, tail = _exp_parts(x, *((-40.0, 710.0) if b.double else (-20.0, 89.0)))
    k = Raw(n, b.int)
    scale = b.pow2(k - 1)
    p = r + tail
    value = select(equal(n, 0), p, (scale * p + (scale - 0.5)) * 2)
    return select(equal(x, x) & not_equal(x, 0), value, x)


def _log_split(x: Expr) -> tuple[Expr, Expr]:
    """k and m of x = m 2^k, m in [sqrt(1/2), sqrt(2)), for positive normal x."""
    b = _Bits(x.dtype)
    root = b.u(0x3FE6A09E667F3BCD if b.double else 0x3F3504F3)
    shifted = b.bits(x) + (b.u(b.bias << b.mantissa) - root)
    k = Cast(shifted >> b.u(b.mantissa), b.int) - b.bias
    return k, b.value((shifted & b.u((1 << b.mantissa) - 1)) + root)


def _log_sum(f: Expr, dk: Expr, correction: Operand) -> Expr:
    coefficients = _LOG[f.dtype]
    s = f / (f + 2)
    z = s * s
    series = z * poly(z, *coefficients)
    half = f * f * 0.5
    high, low = _LN2_LOG[f.dtype]
    return dk * high - ((half - (s * (half + series) + (dk * low + correction))) - f)


def log(x: Expr) -> Expr:
    b = _Bits(x.dtype)
    small = const(2.2250738585072014e-308 if b.double else 1.1754943508222875e-38, x.dtype)
    tiny = x < small
    up = 54 if b.double else 25
    k, m = _log_split(select(tiny, x * float(2**up), x))
    dk = Cast(k - select(tiny, Const(up, b.int), 0), x.dtype)
    value = _log_sum(m - 1, dk, 0)
    value = select(x < inf, value, x)
    return select(
        x > 0, value, select(equal(x, 0), const(-inf, x.dtype), select(equal(x, x), const(float("nan"), x.dtype), x))
    )


def log1p(x: Expr) -> Expr:
    b = _Bits(x.dtype)
    near = (x > -0.29289) & (x < 0.41421)
    u = x + 1
    safe = select(u > 0, u, 1)
    k, m = _log_split(safe)
    lost = select(k >= 2, const(1, x.dtype) - (u - x), x - (u - 1))
    correction = select((k < (54 if b.double else 25)) & (x > -1), lost / safe, 0)
    zero = const(0, x.dtype)
    f = select(near, x, m - 1)
    value = _log_sum(f, select(near, zero, Cast(k, x.dtype)), select(near, zero, correction))
    value = select(x < inf, value, x)
    outside = select(equal(x, -1), const(-inf, x.dtype), const(float("nan"), x.dtype))
    return select(equal(x, 0), x, select(x > -1, value, select(equal(x, x), outside, x)))


_SIN = {
    F32: (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4),
    F64: (-1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
          2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10),
}  # fmt: skip
_COS = {
    F32: (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5),
    F64: (4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
          -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11),
}  # fmt: skip
# pi/2 in parts short enough that n * part is exact (float32: that of a half of n's bits with 12)
_HALF_PI = {
    F32: (1.5703125, 4.837512969970703125e-4, 7.549533620476722717e-8, 2.5632829192545614e-12, 6.123234262925839e-17),
    F64: (
        1.57079632673412561417e00,
        6.07710050630396597660e-11,
        2.02226624871116645580e-21,
        8.47842766036889956997e-32,
    ),
}


def _sincos(x: Expr, quarter: int) -> Expr:
    b = _Bits(x.dtype)
    limit = const(2.0**22 if not b.double else 2.0**52, x.dtype)  # beyond, float32 lie half a radian apart
    inside = select(b.abs(x) < limit, x, 0)
    n = Un("rint", inside * 0.6366197723675814)
    upper = n if b.double else Un("rint", n * 2.0**-11) * 2.0**11
    r: Expr = inside
    for part in _HALF_PI[x.dtype]:
        r = r - upper * part if b.double else (r - upper * part) - (n - upper) * part
    q = Raw(n, b.int) + quarter
    z = r * r
    sine = r + r * (z * poly(z, *_SIN[x.dtype]))
    half = z * 0.5
    w = const(1, x.dtype) - half
    cosine = w + (((const(1, x.dtype) - w) - half) + (z * z) * poly(z, *_COS[x.dtype]))
    value = select(equal(q & 1, 0), sine, cosine)
    value = select(equal(q & 2, 0), value, -value)
    if not quarter:
        value = select(equal(x, 0), x, value)
    return select(b.abs(x) < inf, value, const(float("nan"), x.dtype))


def tanh(x: Expr) -> Expr:
    b = _Bits(x.dtype)
    a = b.abs(x)
    a = select(a > (22.0 if b.double else 10.0), const(22.0 if b.double else 10.0, x.dtype), a)
    small, big = a < 0.2554, a > 0.5493
    t = Un("expm1", select(small, a * -2, a * 2))
    quotient = select(big, const(2, x.dtype), select(small, -t, t)) / (t + 2)
    value = select(big, const(1, x.dtype) - quotient, quotient)
    return select(equal(x, x) & not_equal(x, 0), b.signed(value, x), x)


_ERF = {
    "pp": (
        1.28379167095512558561e-01,
        -3.25042107247001499370e-01,
        -2.84817495755985104766e-02,
        -5.77027029648944159157e-03,
        -2.37630166566501626084e-05,
    ),
    "qq": (
        1.0,
        3.97917223959155352819e-01,
        6.50222499887672944485e-02,
        5.08130628187576562776e-03,
        1.32494738004321644526e-04,
        -3.96022827877536812320e-06,
    ),
    "pa": (
        -2.36211856075265944077e-03,
        4.14856118683748331666e-01,
        -3.72207876035701323847e-01,
        3.18346619901161753674e-01,
        -1.10894694282396677476e-01,
        3.54783043256182359371e-02,
        -2.16637559486879084300e-03,
    ),
    "qa": (
        1.0,
        1.06420880400844228286e-01,
        5.40397917702171048937e-01,
        7.18286544141962662868e-02,
        1.26171219808761642112e-01,
        1.36370839120290507362e-02,
        1.19844998467991074170e-02,
    ),
    "ra": (
        -9.86494403484714822705e-03,
        -6.93858572707181764372e-01,
        -1.05586262253232909814e01,
        -6.23753324503260060396e01,
        -1.62396669462573470355e02,
        -1.84605092906711035994e02,
        -8.12874355063065934246e01,
        -9.81432934416914548592e00,
    ),
    "sa": (
        1.0,
        1.96512716674392571292e01,
        1.37657754143519042600e02,
        4.34565877475229228821e02,
        6.45387271733267880336e02,
        4.29008140027567833386e02,
        1.08635005541779435134e02,
        6.57024977031928170135e00,
        -6.04244152148580987438e-02,
    ),
    "rb": (
        -9.86494292470009928597e-03,
        -7.99283237680523006574e-01,
        -1.77579549177547519889e01,
        -1.60636384855821916062e02,
        -6.37566443368389627722e02,
        -1.02509513161107724954e03,
        -4.83519191608651397019e02,
    ),
    "sb": (
        1.0,
        3.03380607434824582924e01,
        3.25792512996573918826e02,
        1.53672958608443695994e03,
        3.19985821950859553908e03,
        2.55305040643316442583e03,
        4.74528541206955367215e02,
        -2.24409524465858183362e01,
    ),
}


def _erf_float(x: Expr) -> Expr:
    """Two polynomials in float32 (N. Juffa's, public domain): near zero in x, beyond in log(1 - erf)."""
    b = _Bits(F32)
    a = b.abs(x)
    z = x * x
    near = poly(z, 1.28379166e-1, -3.76125336e-1, 1.12819925e-1, -2.67681349e-2, 4.99119423e-3, -5.96761703e-4) * x + x
    t = select(a < 4, a, 4)
    far = poly(
        t, 1.28717512e-1, 6.34846687e-1, 1.06777877e-1, -2.42546219e-2, 3.88396438e-3, -3.83197126e-4, 1.72853470e-5
    )
    far = const(1, F32) - Un("exp", -(far * t) - t)
    return select(a < 0.927734375, near, select(equal(x, x), b.signed(far, x), x))


def erf(x: Expr) -> Expr:
    if x.dtype == F32:
        return _erf_float(x)
    b = _Bits(x.dtype)
    a = b.abs(x)
    a = select(a < 6, a, 6)
    low = select(a < 0.84375, a, 0)
    z = low * low
    first = low + low * (poly(z, *_ERF["pp"]) / poly(z, *_ERF["qq"]))
    s = a - 1
    second = (poly(s, *_ERF["pa"]) / poly(s, *_ERF["qa"])) + 8.45062911510467529297e-01
    high = select(a > 1.25, a, 1.25)
    inverse = const(1, x.dtype) / (high * high)
    near = high < 1 / 0.35
    ratio = select(near, poly(inverse, *_ERF["ra"]), poly(inverse, *_ERF["rb"]))
    ratio = ratio / select(near, poly(inverse, *_ERF["sa"]), poly(inverse, *_ERF["sb"]))
    cut = b.value(b.bits(high) & b.u(0xFFFFFFFF00000000 if b.double else 0xFFFFF000))
    e = Un("exp", -(cut * cut) - 0.5625) * Un("exp", (cut - high) * (cut + high) + ratio)
    third = const(1, x.dtype) - e / high
    value = select(a < 0.84375, first, select(a < 1.25, second, third))
    return select(equal(x, x), b.signed(value, x), x)


_ATAN = (
    3.33333333333329318027e-01,
    -1.99999999998764832476e-01,
    1.42857142725034663711e-01,
    -1.11111104054623557880e-01,
    9.09088713343650656196e-02,
    -7.69187620504482999495e-02,
    6.66107313738753120669e-02,
    -5.83357013379057348645e-02,
    4.97687799461593236017e-02,
    -3.65315727442169155270e-02,
    1.62858201153657823623e-02,
)


def atan2(y: Expr, x: Expr) -> Expr:
    b = _Bits(x.dtype)
    t = x.dtype
    ay, ax = b.abs(y), b.abs(x)
    finite = maximum(ay, ax) < inf
    both = equal(ay, inf) & equal(ax, inf)
    ay = select(finite, ay, select(both, const(1, t), select(equal(ay, inf), const(1, t), 0)))
    ax = select(finite, ax, select(both, const(1, t), select(equal(b.abs(x), inf), const(1, t), 0)))
    top, low = maximum(ay, ax), minimum(ay, ax)
    huge, tiny = (2.0**1020, 2.0**-900) if b.double else (2.0**124, 2.0**-90)
    scale = select(top > huge, const(2.0**-8, t), select(top < tiny, const(2.0**70 if b.double else 2.0**30, t), 1))
    top, low = top * scale, low * scale
    middle, upper = low * 16 > top * 7, low * 16 > top * 11
    num = select(upper, low - top, select(middle, low * 2 - top, low))
    den = select(upper, low + top, select(middle, top * 2 + low, top))
    q = num / select(equal(den, 0), const(1, t), den)
    z = q * q
    series = q * (z * poly(z, *(_ATAN if b.double else _ATAN[:8])))
    base = select(upper, const(0.7853981633974483, t), select(middle, const(0.4636476090008061, t), 0))
    rest = select(upper, const(3.061616997868383e-17 if b.double else -2.1855695e-08, t),
                  select(middle, const(2.2698777452961687e-17 if b.double else 5.01215788e-09, t), 0))  # fmt: skip
    angle = base - ((series - rest) - q)
    pi, more = (3.141592653589793, 1.2246467991473532e-16) if b.double else (3.1415927, -8.7422777e-08)
    angle = select(ay > ax, const(pi / 2, t) - (angle - const(more / 2, t)), angle)
    negative = not_equal(b.bits(x) >> b.u(63 if b.double else 31), 0)
    angle = select(negative, const(pi, t) - (angle - const(more, t)), angle)
    value = b.signed(angle, y)
    return select(equal(x, x) & equal(y, y), value, x + y)


def _split(a: Expr) -> tuple[Expr, Expr]:
    """Veltkamp: the upper 26 bits and the rest."""
    c = a * 134217729.0
    high = c - (c - a)
    return high, a - high


def _two_product(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Dekker: a * b as a sum of two doubles."""
    p = a * b
    (ah, al), (bh, bl) = _split(a), _split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def _two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _pow_double(a: Expr, y: Expr) -> Expr:
    """a^y for a > 0 with log(a) in double-double."""
    b = _Bits(F64)
    tiny = a < 2.2250738585072014e-308
    positive = select((a > 0) & (a < inf), a, 1)
    k, m = _log_split(select(tiny & (a > 0), positive * float(2**54), positive))
    dk = Cast(k - select(tiny, Const(54, b.int), 0), F64)
    f, g = m - 1, m + 1
    s = f / g
    p, e = _two_product(s, g)
    glow = m - (g - 1)  # what m + 1 lost
    slow = (((f - p) - e) - s * glow) / g
    z = s * s
    series = (s * z) * poly(z, *_LOG[F64])
    lead, r1 = _two_sum(dk * _LN2[F64][0], s * 2)
    low = r1 + (slow * 2 + (series + dk * _LN2[F64][1]))
    high, low = _two_sum(lead, low)
    y = select(y > 1e30, const(1e30, F64), select(y < -1e30, const(-1e30, F64), y))  # 0, 1 or inf either way
    product, error = _two_product(high, y)
    near = b.abs(product) < 800
    error = select(near, error + low * y, 0)
    e0 = Un("exp", product)
    value = select(near & (e0 < inf), e0 + e0 * error, e0)
    value = select(equal(a, 0), select(y > 0, const(0, F64), select(y < 0, const(inf, F64), 1)), value)
    return select(equal(a, inf), select(y > 0, const(inf, F64), select(y < 0, const(0, F64), 1)), value)


def pow(x: Expr, y: Expr) -> Expr:
    t = x.dtype
    b = _Bits(t)
    a = b.abs(x)
    if t == F64:
        size = _pow_double(a, y)
    else:
        wide = Cast(y, F64) * Un("log", Cast(a, F64))
        size = Cast(Un("exp", wide), F32)
    whole = equal(Un("rint", y), y)
    half = y * 0.5
    odd = whole & not_equal(Un("rint", half), half)
    negative = not_equal(b.bits(x) >> b.u(63 if b.double else 31), 0)
    value = select(negative & odd, -size, size)
    value = select((x < 0) & (x > -inf) & (whole ^ const(True, dtypes.bool_)), const(float("nan"), t), value)
    value = select(equal(a, 1) & equal(b.abs(y), inf), const(1, t), value)
    value = select(equal(x, x) & equal(y, y), value, x + y)
    return select(equal(x, 1) | equal(y, 0), const(1, t), value)


# ---------------------------------------------------------------------------------------------- the table


def _unary(body: Callable[[Expr], Expr]) -> Callable[[DType], tuple[tuple[Name, ...], Expr]]:
    def make(t: DType) -> tuple[tuple[Name, ...], Expr]:
        x = Name("x", t)
        return (x,), body(x)

    return make


def _binary(body: Callable[[Expr, Expr], Expr]) -> Callable[[DType], tuple[tuple[Name, ...], Expr]]:
    def make(t: DType) -> tuple[tuple[Name, ...], Expr]:
        x, y = Name("x", t), Name("y", t)
        return (x, y), body(x, y)

    return make


def _uint(body: Callable[[Expr], Expr], source: DType) -> Callable[[DType], tuple[tuple[Name, ...], Expr]]:
    def make(_: DType) -> tuple[tuple[Name, ...], Expr]:
        x = Name("x", source)
        return (x,), body(x)

    return make


FUNCTIONS: dict[str, Callable[[DType], tuple[tuple[Name, ...], Expr]]] = {
    "exp": _unary(exp), "log": _unary(log), "expm1": _unary(expm1), "log1p": _unary(log1p),
    "sin": _unary(lambda x: _sincos(x, 0)), "cos": _unary(lambda x: _sincos(x, 1)), "tanh": _unary(tanh),
    "erf": _unary(erf), "pow": _binary(pow), "atan2": _binary(atan2),
    "f16_bits": _uint(lambda x: half.bits(x, dtypes.float16), F32),
    "bf16_bits": _uint(lambda x: half.bits(x, dtypes.bfloat16), F32),
    "f16_value": _uint(lambda x: half.value(x, dtypes.float16), dtypes.uint32),
    "bf16_value": _uint(lambda x: half.value(x, dtypes.bfloat16), dtypes.uint32),
}  # fmt: skip
"""Name -> (dtype -> parameters and body)."""
