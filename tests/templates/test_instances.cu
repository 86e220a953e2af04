// g++ -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -Iruntime/host -Iruntime tests/templates/test_instances.cu -o T && T
// nvcc -std=c++17 -O3 -fmad=false -arch=sm_90 -Iruntime tests/templates/test_instances.cu -o T && T      (on a GPU)
//
// What test_expand.c expects of expansion is source that computes the right thing: the expected files of element-wise
// ops, as an emitter would ask for them, against loops in double.
#include "harness.h"

#include "expected/bias_relu.h"
#include "expected/expand_mul.h"
#include "expected/gelu_two.h"
#include "expected/mul_scalar.h"
#include "expected/row_sum.h"
#include "expected/update.h"
#include "expected/widen.h"

#include "expected/bias_relu.cu"
#include "expected/expand_mul.cu"
#include "expected/gelu_two.cu"
#include "expected/mul_scalar.cu"
#include "expected/row_sum.cu"
#include "expected/update.cu"
#include "expected/widen.cu"

static double exact_gelu_erf_grad(double dy, double x)
{
	return dy * (0.5 * erfc(-x / sqrt(2)) + x * exp(-x * x / 2) * 0.39894228040143267794);
}

static double exact_gelu_tanh(double x)
{
	return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static void test_shape(long outer, long n, long columns)
{
	long rows = outer * n, count = rows * columns;
	const char *shape = shape_text(outer, n, columns);
	Buffer<float> x(count), y(count), z(count), bias(columns), row_value(rows), outer_value(outer * columns), scalar(1);
	for (Buffer<float> *buffer : {&x, &y, &bias, &row_value, &outer_value, &scalar})
		fill_random(*buffer, 2);
	std::vector<double> biased(count), scaled(count), expanded(count), slope(count), gelu(count);
	for (long i = 0; i < count; i++) {
		long row = i / columns, column = i % columns;
		biased[i] = fmax((double)x[i] + bias[column], 0);
		scaled[i] = (double)x[i] * scalar[0];
		expanded[i] = (double)y[i] * outer_value[row / n * columns + column];
		slope[i] = exact_gelu_erf_grad(row_value[row] * 0.25, x[i]);
		gelu[i] = exact_gelu_tanh(x[i]);
	}
	bias_relu(z.at(), x.at(), bias.at(), rows, columns, 0);
	expect(z, biased, 1, 1, shape);
	mul_scalar(z.at(), x.at(), scalar.at(), count, 0);
	expect(z, scaled, 1, 0, shape);
	expand_mul(y.at(), outer_value.at(), n, rows, columns, 0);
	expect(y, expanded, 1, 0, shape);
	Buffer<mp_bf16> narrow(count);
	fill_random(narrow, 2);
	std::vector<double> sum(count);
	for (long i = 0; i < count; i++)
		sum[i] = (double)(float)narrow[i] + x[i];
	widen(z.at(), narrow.at(), x.at(), count, 0);
	expect(z, sum, 1, 1, shape);
	gelu_two(y.at(), z.at(), x.at(), row_value.at(), rows, columns, 0);
	expect(y, slope, 4, 1, shape);
	expect(z, gelu, 4, 1, shape);
}

int main()
{
	start_group("instances");
	for (long outer : {1, 3, 40})
		for (long n : {1, 2, 7})
			for (long columns : {1, 10, 33, 128, 1000, 5000})
				test_shape(outer, n, columns);
	start_group(NULL);
	return group.failed_groups > 0;
}
