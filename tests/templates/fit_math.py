#!/usr/bin/env python3
# python3 tests/templates/fit_math.py      (needs mpmath; prints the constants of runtime/mp_math.h)
#
# The float helpers of the host are polynomials so that a compiler can vectorise them. Each is fitted here, in 60
# digits, by interpolation at Chebyshev nodes, which is within a few per cent of the best polynomial; the
# interpolated function is divided by its leading behaviour first, so that the error is relative.
import mpmath as mp

mp.mp.dps = 60


def fit(name, function, low, high, degree):
    low, high = mp.mpf(low), mp.mpf(high)
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2))
             for k in range(degree + 1)]
    matrix = mp.matrix(degree + 1, degree + 1)
    values = mp.matrix(degree + 1, 1)
    for row, node in enumerate(nodes):
        values[row] = function(node)
        for power in range(degree + 1):
            matrix[row, power] = node ** power
    coefficients = mp.lu_solve(matrix, values)
    worst = max(abs(mp.polyval(list(reversed(list(coefficients))), x) - function(x))
                for x in (low + (high - low) * k / mp.mpf(499) for k in range(1, 499)))
    print(f"{name}: degree {degree} on [{mp.nstr(low, 6)}, {mp.nstr(high, 6)}], largest error {mp.nstr(worst, 3)}")
    for power in reversed(range(degree + 1)):
        print(f"    x^{power}  {mp.nstr(coefficients[power], 10)}f")


def tail_of_exp(r):
    return (mp.exp(r) - 1 - r) / r ** 2 if abs(r) > mp.mpf("1e-20") else mp.mpf(1) / 2


def small_erf(s):
    return mp.erf(mp.sqrt(s)) / mp.sqrt(s) - 1


def small_tanh(s):
    return (mp.tanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s


half_ln2 = mp.log(2) / 2 * mp.mpf("1.0001")
fit("exp: (e^r - 1 - r) / r^2", tail_of_exp, -half_ln2, half_ln2, 4)
fit("tanh: (tanh(x) / x - 1) / s, s = x^2", small_tanh, "1e-12", mp.mpf("0.625") ** 2, 4)
fit("erf near 0: erf(x) / x - 1, s = x^2", small_erf, "1e-12", mp.mpf("0.9375") ** 2, 5)
fit("erf far: log(erfc(t)) / t", lambda t: mp.log(mp.erfc(t)) / t, "0.9375", "3.95", 7)
