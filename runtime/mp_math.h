// mp_math.h: the functions that element-wise kernels are made of, for float and double, on both machines.
//
// Each op of the table that is lowered to ELEMENTWISE names one of them; fused kernels are sequences of calls.
// On CUDA they are the library's functions. On the host the float versions of exp, tanh and erf are polynomials
// without branches, calls or table look-ups, so that g++ vectorises a loop around them; the double versions are
// libm's, because double on the host is the oracle that tests compare with.
//
// Largest errors of the host's float versions, measured by tests/templates/test_math.cu: mp_exp 1.1 ulp,
// mp_tanh 1.3 ulp, mp_erf 1.5 ulp. The constants come from tests/templates/fit_math.py. They are written without
// fused multiply-add, so their bits do not depend on the processor.
#ifndef MP_MATH_H
#define MP_MATH_H

#include "mp_bf16.h"

#include <math.h>
#include <string.h>

#ifdef __CUDACC__
#define MP_DEVICE static __device__ __forceinline__
#else
#define MP_DEVICE static inline __attribute__((always_inline))
#endif

// ---------------------------------------------------------------------------------------------------------
// exp, log, tanh, erf, |x|, square root. NaN gives NaN; exp overflows to infinity and underflows through subnormals to 0.

MP_DEVICE double mp_exp(double x) { return exp(x); }
MP_DEVICE double mp_log(double x) { return log(x); }
MP_DEVICE double mp_tanh(double x) { return tanh(x); }
MP_DEVICE double mp_erf(double x) { return erf(x); }
MP_DEVICE float mp_log(float x) { return logf(x); }
MP_DEVICE double mp_abs(double x) { return fabs(x); }
MP_DEVICE float mp_abs(float x) { return fabsf(x); }
MP_DEVICE double mp_sqrt(double x) { return sqrt(x); }
MP_DEVICE float mp_sqrt(float x) { return sqrtf(x); }

// a * b + c. On a GPU in one instruction that rounds once: kernels are built without contraction, except where it is written.
MP_DEVICE double mp_multiply_add(double a, double b, double c) { return a * b + c; }
#ifdef __CUDACC__
MP_DEVICE float mp_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
#else
MP_DEVICE float mp_multiply_add(float a, float b, float c) { return a * b + c; }
#endif

// Of an angle in double, whose turns are taken off before it becomes a float.
MP_DEVICE void mp_sincos(double angle, double *sine, double *cosine)
{
	*sine = sin(angle);
	*cosine = cos(angle);
}

MP_DEVICE void mp_sincos(double angle, float *sine, float *cosine)
{
	const double turns = rint(angle * 0.15915494309189533577);
	const float rest = (float)(angle - turns * 6.28318530717958647693);
	*sine = sinf(rest);
	*cosine = cosf(rest);
}

#ifdef __CUDACC__

MP_DEVICE float mp_exp(float x) { return expf(x); }
MP_DEVICE float mp_tanh(float x) { return tanhf(x); }
MP_DEVICE float mp_erf(float x) { return erff(x); }

#else

MP_DEVICE float mp_float_of_bits(unsigned bits)
{
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

MP_DEVICE unsigned mp_bits_of_float(float value)
{
	unsigned bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

// e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2.
MP_DEVICE float mp_exp(float x)
{
	const float round_to_int = 12582912.0f; // 1.5 * 2^23: adding it leaves the rounded value in the low bits
	const float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f; // n * ln2_high is exact
	x = x < -105.0f ? -105.0f : x; // beyond these the result is 0 or infinity anyway; NaN passes
	x = x > 89.0f ? 89.0f : x;
	float shifted = x * 1.44269504f + round_to_int;
	float n = shifted - round_to_int;
	float r = (x - n * ln2_high) - n * ln2_low;
	float tail = 0.001392618359f;
	tail = tail * r + 0.008363179053f;
	tail = tail * r + 0.04166655462f;
	tail = tail * r + 0.1666657699f;
	tail = tail * r + 0.5f;
	float power = (tail * (r * r) + r) + 1.0f;
	// 2^n in two factors, because n runs from -152 to 128.
	int exponent = (int)(mp_bits_of_float(shifted) - mp_bits_of_float(round_to_int));
	int half = exponent >> 1;
	float first = mp_float_of_bits((unsigned)(half + 127) << 23);
	float second = mp_float_of_bits((unsigned)(exponent - half + 127) << 23);
	return power * first * second;
}

MP_DEVICE float mp_tanh(float x)
{
	float size = fabsf(x), s = x * x;
	float near = -0.006096714166f;
	near = near * s + 0.020997179f;
	near = near * s + -0.05385090958f;
	near = near * s + 0.1333276974f;
	near = near * s + -0.3333332894f;
	near = near * s * x + x;
	float far = copysignf(1.0f - 2.0f / (mp_exp(2.0f * size) + 1.0f), x);
	return size < 0.625f ? near : far;
}

// Near 0: x + x Q(x^2). Far: 1 - e^(t P(t)), where t P(t) approximates log(erfc(t)).
MP_DEVICE float mp_erf(float x)
{
	float size = fabsf(x), s = x * x;
	float near = -0.0005933305735f;
	near = near * s + 0.004982215102f;
	near = near * s + -0.02675944067f;
	near = near * s + 0.1128162943f;
	near = near * s + -0.3761247732f;
	near = near * s + 0.1283791474f;
	near = near * x + x;
	float t = size > 3.95f ? 3.95f : size; // erfc(3.95) is below half an ulp of 1
	float far = 1.037065627e-6f;
	far = far * t + -3.427965144e-5f;
	far = far * t + 0.0004984060246f;
	far = far * t + -0.004303696271f;
	far = far * t + 0.02514305461f;
	far = far * t + -0.1078653794f;
	far = far * t + -0.6341376286f;
	far = far * t + -1.128906942f;
	far = copysignf(1.0f - mp_exp(far * t), x);
	return size < 0.9375f ? near : far;
}

#endif

// e^x of exponents that are not above 0, in sums of such: on a GPU errors grow with |x|, as e^x falls, to 0 where it is below 2^-126.
MP_DEVICE double mp_exp_below(double x) { return mp_exp(x); }
MP_DEVICE float mp_exp_below(float x)
{
#ifdef __CUDA_ARCH__
	float power;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 1.442695041f)); // log2(e)
	return power;
#else
	return mp_exp(x);
#endif
}

// ---------------------------------------------------------------------------------------------------------
// The ops. real is float or double; all arguments of a call have the same type, so constants of a float program
// are written 0.5f.

template <class real> MP_DEVICE real mp_constant(real v) { return v; }
template <class real> MP_DEVICE real mp_copy(real x) { return x; }
template <class real> MP_DEVICE real mp_add(real a, real b) { return a + b; }
template <class real> MP_DEVICE real mp_sub(real a, real b) { return a - b; }
template <class real> MP_DEVICE real mp_mul(real a, real b) { return a * b; }
template <class real> MP_DEVICE real mp_div(real a, real b) { return a / b; }
template <class real> MP_DEVICE real mp_scale(real x, real s) { return x * s; }

// max(x, 0); a NaN stays a NaN. The gradient is taken from the output: dy where y > 0, else 0.
template <class real> MP_DEVICE real mp_relu(real x) { return x < 0 ? 0 : x; }
template <class real> MP_DEVICE real mp_relu_grad(real dy, real y) { return y > 0 ? dy : 0; }

// x Phi(x), Phi the normal distribution (Hendrycks and Gimpel, arXiv:1606.08415; PyTorch's approximate='none').
template <class real> MP_DEVICE real mp_gelu_erf(real x)
{
	return x * (real)0.5 * (1 + mp_erf(x * (real)0.70710678118654752440));
}

template <class real> MP_DEVICE real mp_gelu_erf_grad(real dy, real x)
{
	real below = (real)0.5 * (1 + mp_erf(x * (real)0.70710678118654752440));
	real density = (real)0.39894228040143267794 * mp_exp(x * x * (real)-0.5);
	return dy * (below + x * density);
}

// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 (the same paper; PyTorch's approximate='tanh').
template <class real> MP_DEVICE real mp_gelu_tanh(real x)
{
	real inner = (real)0.79788456080286535588 * (x + (real)0.044715 * x * x * x);
	return (real)0.5 * x * (1 + mp_tanh(inner));
}

template <class real> MP_DEVICE real mp_gelu_tanh_grad(real dy, real x)
{
	real inner = (real)0.79788456080286535588 * (x + (real)0.044715 * x * x * x);
	real slope = (real)0.79788456080286535588 * (1 + (real)(3 * 0.044715) * x * x);
	real t = mp_tanh(inner);
	return dy * ((real)0.5 * (1 + t) + (real)0.5 * x * (1 - t * t) * slope);
}

// 1 - y^2 and y (1 - y): the slopes of tanh and sigmoid, from their results.
template <class real> MP_DEVICE real mp_tanh_grad(real dy, real y) { return dy * (1 - y * y); }
template <class real> MP_DEVICE real mp_sigmoid_grad(real dy, real y) { return dy * (y * (1 - y)); }

// 1 / (1 + e^-x). The exponential of -|x| cannot overflow, and keeps small results exact where 1 + e^-x would not.
template <class real> MP_DEVICE real mp_sigmoid(real x)
{
	real e = mp_exp(-mp_abs(x));
	return (x < 0 ? e : 1) / (1 + e);
}

// x sigmoid(x) (Elfwing, Uchibe, Doya, arXiv:1702.03118; "swish").
template <class real> MP_DEVICE real mp_silu(real x) { return x * mp_sigmoid(x); }
template <class real> MP_DEVICE real mp_silu_grad(real dy, real x)
{
	real s = mp_sigmoid(x);
	return dy * (s * (1 + x * (1 - s)));
}

// Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167), with the mean and variance of each channel. mp_rstd is for a
// value a channel: a square root may set errno, which keeps g++ from vectorising it.
template <class real> MP_DEVICE real mp_rstd(real variance, real eps) { return 1 / mp_sqrt(variance + eps); }
template <class real> MP_DEVICE real mp_normalize(real x, real mean, real rstd, real weight, real bias)
{
	return (x - mean) * rstd * weight + bias;
}

// The gradient of x where mean and rstd are those of the same rows: sum is of dy over the rows and product of
// dy (x - mean) rstd, scale is 1 / rows.
template <class real>
MP_DEVICE real mp_normalize_grad(real dy, real x, real mean, real rstd, real weight, real sum, real product, real scale)
{
	return weight * rstd * (dy - sum * scale - (x - mean) * rstd * (product * scale));
}

// The same behind a ReLU of what was normalised: dy counts where that is positive.
template <class real>
MP_DEVICE real mp_normalize_relu_grad(real dy, real x, real mean, real rstd, real weight, real sum, real product, real bias,
                                      real scale)
{
	real d = mp_normalize(x, mean, rstd, weight, bias) > 0 ? dy : 0;
	return mp_normalize_grad(d, x, mean, rstd, weight, sum, product, scale);
}

#endif
