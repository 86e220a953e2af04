// g++ -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -Iruntime/host -Iruntime tests/templates/test_math.cu -o T && T
// nvcc -std=c++17 -O3 -fmad=false -arch=sm_90 -Iruntime tests/templates/test_math.cu -o T && T           (on a GPU)
//
// The functions of mp_math.h against long double, over ranges and at special values. Errors of exp, tanh and erf are in
// units in the last place of the result; those of GELU and of slopes relative to max(|x|, |dy|, 1), since 1 + erf cancels
// far below 0.
#include "harness.h"

#define KERNEL(function) \
	template <class real> static __global__ void function##_kernel(real *y, const real *x, long n) \
	{ \
		for (long i = mp_first(); i < n; i += mp_stride()) \
			y[i] = function(x[i]); \
	} \
	static void run_##function(float *y, const float *x, long n) \
	{ \
		MP_LAUNCH(function##_kernel<float>, mp_blocks(n), MP_THREADS, 0, y, x, n); \
	} \
	static void run_##function(double *y, const double *x, long n) \
	{ \
		MP_LAUNCH(function##_kernel<double>, mp_blocks(n), MP_THREADS, 0, y, x, n); \
	}

template <class real> MP_DEVICE real gelu_erf_slope(real x) { return mp_gelu_erf_grad((real)0.75, x); }
template <class real> MP_DEVICE real gelu_tanh_slope(real x) { return mp_gelu_tanh_grad((real)0.75, x); }
template <class real> MP_DEVICE real relu_slope(real x) { return mp_relu_grad((real)0.75, x); }
template <class real> MP_DEVICE real silu_slope(real x) { return mp_silu_grad((real)0.75, x); }
template <class real> MP_DEVICE real sigmoid_slope(real y) { return mp_sigmoid_grad((real)0.75, y); }
template <class real> MP_DEVICE real tanh_slope(real y) { return mp_tanh_grad((real)0.75, y); }
template <class real> MP_DEVICE real rstd(real variance) { return mp_rstd(variance, (real)0.125); }
template <class real> MP_DEVICE real normalized(real x)
{
	return mp_normalize(x, (real)0.25, (real)1.5, (real)-0.5, (real)0.125);
}
template <class real> MP_DEVICE real normalized_slope(real x)
{
	return mp_normalize_grad((real)0.75, x, (real)0.25, (real)1.5, (real)-0.5, (real)3, (real)-5, (real)0.0625);
}

KERNEL(mp_exp)
KERNEL(mp_log)
KERNEL(mp_tanh)
KERNEL(mp_erf)
KERNEL(mp_relu)
KERNEL(mp_gelu_erf)
KERNEL(mp_gelu_tanh)
KERNEL(gelu_erf_slope)
KERNEL(gelu_tanh_slope)
KERNEL(relu_slope)
KERNEL(mp_sigmoid)
KERNEL(mp_silu)
KERNEL(silu_slope)
KERNEL(sigmoid_slope)
KERNEL(tanh_slope)
KERNEL(rstd)
KERNEL(normalized)
KERNEL(normalized_slope)

static const long double PI = 3.14159265358979323846264338327950288L;

static long double exact_relu(long double x) { return x < 0 ? 0 : x; }
static long double exact_relu_slope(long double x) { return x > 0 ? 0.75L : 0; }
static long double exact_gelu_erf(long double x) { return x * 0.5L * erfcl(-x / sqrtl(2)); }
static long double exact_gelu_erf_slope(long double x)
{
	return 0.75L * (0.5L * erfcl(-x / sqrtl(2)) + x * expl(-x * x / 2) / sqrtl(2 * PI));
}
static long double exact_gelu_tanh(long double x)
{
	return 0.5L * x * (1 + tanhl(sqrtl(2 / PI) * (x + 0.044715L * x * x * x)));
}
static long double exact_gelu_tanh_slope(long double x)
{
	long double t = tanhl(sqrtl(2 / PI) * (x + 0.044715L * x * x * x));
	long double inner = sqrtl(2 / PI) * (1 + 3 * 0.044715L * x * x);
	return 0.75L * (0.5L * (1 + t) + 0.5L * x * (1 - t * t) * inner);
}

static long double exact_sigmoid(long double x) { return 1 / (1 + expl(-x)); }
static long double exact_silu(long double x) { return x / (1 + expl(-x)); }
static long double exact_silu_slope(long double x)
{
	long double s = 1 / (1 + expl(-x));
	return 0.75L * (s + x * s / (1 + expl(x)));
}
static long double exact_sigmoid_slope(long double y) { return 0.75L * y * (1 - y); }
static long double exact_tanh_slope(long double y) { return 0.75L * (1 - y * y); }
static long double exact_rstd(long double variance) { return 1 / sqrtl(variance + 0.125L); }
static long double exact_normalized(long double x) { return (x - 0.25L) * 1.5L * -0.5L + 0.125L; }
static long double exact_normalized_slope(long double x)
{
	return 1.5L * -0.5L * (0.75L - 3 / 16.0L - (x - 0.25L) * 1.5L * (-5 / 16.0L));
}

// The distance of neighbours of type real near x.
template <class real> static long double ulp(long double x)
{
	const int digits = sizeof(real) == 4 ? 24 : 53, lowest = sizeof(real) == 4 ? -149 : -1074;
	int exponent;
	frexpl(x, &exponent);
	return ldexpl(1, exponent - digits < lowest ? lowest : exponent - digits);
}

struct Row {
	const char *name;
	void (*in_float)(float *, const float *, long);
	void (*in_double)(double *, const double *, long);
	long double (*exact)(long double);
	double low, high;
	double float_limit, double_limit;
	bool relative;          // to max(|x|, 1), in units of the type's epsilon, instead of ulps of the result
};

static const Row rows[] = {
	{"mp_exp", run_mp_exp, run_mp_exp, expl, -104, 88.7, 2, 2, false},
	{"mp_exp near 0", run_mp_exp, run_mp_exp, expl, -1, 1, 2, 2, false},
	{"mp_log", run_mp_log, run_mp_log, logl, 1e-30, 1e6, 2, 2, false},
	{"mp_tanh", run_mp_tanh, run_mp_tanh, tanhl, -12, 12, 2.5, 3, false},
	{"mp_tanh near 0", run_mp_tanh, run_mp_tanh, tanhl, -0.01, 0.01, 2.5, 3, false},
	{"mp_erf", run_mp_erf, run_mp_erf, erfl, -6, 6, 2, 2, false},
	{"mp_erf near 0", run_mp_erf, run_mp_erf, erfl, -0.01, 0.01, 2, 2, false},
	{"mp_relu", run_mp_relu, run_mp_relu, exact_relu, -3, 3, 0, 0, false},
	{"mp_relu_grad", run_relu_slope, run_relu_slope, exact_relu_slope, -3, 3, 0, 0, false},
	{"mp_gelu_erf", run_mp_gelu_erf, run_mp_gelu_erf, exact_gelu_erf, -12, 12, 2, 3, true},
	{"mp_gelu_erf_grad", run_gelu_erf_slope, run_gelu_erf_slope, exact_gelu_erf_slope, -12, 12, 3, 3, true},
	{"mp_gelu_tanh", run_mp_gelu_tanh, run_mp_gelu_tanh, exact_gelu_tanh, -12, 12, 2, 3, true},
	{"mp_gelu_tanh_grad", run_gelu_tanh_slope, run_gelu_tanh_slope, exact_gelu_tanh_slope, -12, 12, 4, 4, true},
	{"mp_sigmoid", run_mp_sigmoid, run_mp_sigmoid, exact_sigmoid, -87, 40, 3, 3, false},
	{"mp_sigmoid near 0", run_mp_sigmoid, run_mp_sigmoid, exact_sigmoid, -1, 1, 3, 3, false},
	{"mp_silu", run_mp_silu, run_mp_silu, exact_silu, -87, 40, 4, 4, false},
	{"mp_silu_grad", run_silu_slope, run_silu_slope, exact_silu_slope, -40, 40, 4, 4, true},
	{"mp_sigmoid_grad", run_sigmoid_slope, run_sigmoid_slope, exact_sigmoid_slope, 0, 1, 2, 2, false},
	{"mp_tanh_grad", run_tanh_slope, run_tanh_slope, exact_tanh_slope, -1, 1, 2, 2, true},
	{"mp_rstd", run_rstd, run_rstd, exact_rstd, 0, 30, 2, 2, false},
	{"mp_normalize", run_normalized, run_normalized, exact_normalized, -9, 9, 3, 3, true},
	{"mp_normalize_grad", run_normalized_slope, run_normalized_slope, exact_normalized_slope, -9, 9, 4, 4, true},
};

template <class real>
static bool test_range(const Row &row, void (*run)(real *, const real *, long), double limit)
{
	const long n = 400001;
	Buffer<real> x(n), y(n);
	for (long i = 0; i < n; i++)
		x[i] = (real)(row.low + (row.high - row.low) * (double)i / (double)(n - 1) * (1 - 1e-9 * (double)(i % 7)));
	x.upload();
	run(y.at(), x.at(), n);
	y.download();
	long double worst = 0;
	double worst_at = 0;
	for (long i = 0; i < n; i++) {
		long double want = row.exact(x[i]);
		long double unit = row.relative ? fmaxl(fabsl(x[i]), 1) * (sizeof(real) == 4 ? 0x1p-24L : 0x1p-53L)
			: ulp<real>(want);
		long double error = fabsl(y[i] - want) / unit;
		if (!(error <= worst)) {
			worst = error;
			worst_at = (double)x[i];
		}
	}
	bool ok = worst <= limit;
	printf("%-18s %s  largest error %5.2Lf %s at %-12.6g limit %g  %s\n", row.name, sizeof(real) == 4 ? "f32" : "f64",
	       worst, row.relative ? "eps" : "ulp", worst_at, limit, ok ? "ok" : "FAILED");
	return ok;
}

template <class real>
static bool test_special(const char *name, void (*run)(real *, const real *, long), const std::vector<real> &at,
                         const std::vector<real> &want)
{
	Buffer<real> x((long)at.size()), y((long)at.size());
	for (long i = 0; i < x.count; i++)
		x[i] = at[i];
	x.upload();
	run(y.at(), x.at(), x.count);
	y.download();
	bool ok = true;
	for (long i = 0; i < x.count; i++)
		if (!(y[i] == want[i] || (y[i] != y[i] && want[i] != want[i]))) {
			fprintf(stderr, "%s(%g) is %.9g, expected %.9g\n", name, (double)at[i], (double)y[i], (double)want[i]);
			ok = false;
		}
	printf("%-18s %s  special values  %s\n", name, sizeof(real) == 4 ? "f32" : "f64", ok ? "ok" : "FAILED");
	return ok;
}

template <class real> static bool test_all_special()
{
	const real inf = (real)INFINITY, nan = (real)NAN;
	bool ok = test_special<real>("mp_exp", run_mp_exp, {0, inf, -inf, nan, 1e30f, -1e30f, -800}, {1, inf, 0, nan, inf, 0, 0});
	ok &= test_special<real>("mp_tanh", run_mp_tanh, {0, inf, -inf, nan, 1e30f, -1e30f}, {0, 1, -1, nan, 1, -1});
	ok &= test_special<real>("mp_erf", run_mp_erf, {0, inf, -inf, nan, 1e30f, -1e30f}, {0, 1, -1, nan, 1, -1});
	ok &= test_special<real>("mp_sigmoid", run_mp_sigmoid, {0, inf, -inf, nan, 1e30f, -1e30f},
	                         {0.5, 1, 0, nan, 1, 0});
	ok &= test_special<real>("mp_silu", run_mp_silu, {0, inf, nan, 1e30f, -1e30f}, {0, inf, nan, 1e30f, 0});
	ok &= test_special<real>("mp_rstd", run_rstd, {0.125, inf, nan}, {2, 0, nan});
	ok &= test_special<real>("mp_relu", run_mp_relu, {0, inf, -inf, nan}, {0, inf, 0, nan});
	return ok;
}

int main()
{
	bool ok = true;
	for (const Row &row : rows) {
		ok &= test_range<float>(row, row.in_float, row.float_limit);
		ok &= test_range<double>(row, row.in_double, row.double_limit);
	}
	ok &= test_all_special<float>();
	ok &= test_all_special<double>();
	return !ok;
}
