// g++ -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -Iruntime/host -Iruntime tests/templates/test_instances.cu -o T && T
// nvcc -std=c++17 -O3 -fmad=false -arch=sm_90 -Iruntime tests/templates/test_instances.cu -o T && T      (on a GPU)
//
// What test_expand.c expects of expansion is source that computes the right thing: the expected files of element-wise
// ops, as an emitter would ask for them, against loops in double.
#include "harness.h"

#include "expected/add_layer_norm.h"
#include "expected/bias_relu.h"
#include "expected/expand_mul.h"
#include "expected/gelu_two.h"
#include "expected/layer_norm_grad_add.h"
#include "expected/mul_scalar.h"
#include "expected/row_sum.h"
#include "expected/update.h"
#include "expected/widen.h"

#include "expected/add_layer_norm.cu"
#include "expected/bias_relu.cu"
#include "expected/expand_mul.cu"
#include "expected/gelu_two.cu"
#include "expected/layer_norm_grad_add.cu"
#include "expected/mul_scalar.cu"
#include "expected/row_sum.cu"
#include "expected/update.cu"
#include "expected/widen.cu"

namespace apart {
#include "../../templates/layer_norm.cu"
#include "../../templates/layer_norm_grad.cu"
}

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

static std::vector<double> values_of(Buffer<float> &buffer)
{
	buffer.download();
	std::vector<double> values(buffer.count);
	for (long i = 0; i < buffer.count; i++)
		values[i] = buffer[i];
	return values;
}

// A norm that makes what it normalises, and its gradient with what follows, do what the kernels do apart: to the bit.
static void test_joined(long rows, long cols, long chunks)
{
	const char *shape = shape_text(rows, cols, chunks);
	Buffer<float> a(rows * cols), b(a.count), x(a.count), y(a.count), dx(a.count), made(a.count), w(cols), bias(cols), mean(rows), rstd(rows);
	Buffer<float> sums(chunks * cols), more(chunks * cols), of_dx(chunks * cols);
	for (Buffer<float> *buffer : {&a, &b, &w, &bias})
		fill_random(*buffer, 2);
	for (long i = 0; i < a.count; i++)
		made[i] = a[i] + b[i];
	made.upload();
	std::vector<double> sum = values_of(made);
	apart::tmpl_layer_norm(y.at(), mean.at(), rstd.at(), made.at(), w.at(), bias.at(), rows, cols, 1e-5f, 0);
	std::vector<double> normal = values_of(y), scale = values_of(rstd);
	add_layer_norm(y.at(), mean.at(), rstd.at(), x.at(), a.at(), b.at(), w.at(), bias.at(), rows, cols, 1e-5f, 0);
	expect(x, sum, 0, 0, shape);
	expect(y, normal, 0, 0, shape);
	expect(rstd, scale, 0, 0, shape);
	apart::tmpl_layer_norm_grad(dx.at(), sums.at(), more.at(), NULL, a.at(), x.at(), mean.at(), rstd.at(), w.at(), rows, cols, chunks, 0);
	std::vector<double> slope = values_of(dx), weight = values_of(sums);
	for (long i = 0; i < a.count; i++)
		slope[i] = (float)slope[i] + b[i];
	std::vector<double> of_chunks(of_dx.count);
	for (long chunk = 0; chunk < chunks; chunk++)
		for (long row = rows * chunk / chunks; row < rows * (chunk + 1) / chunks; row++)
			for (long c = 0; c < cols; c++)
				of_chunks[chunk * cols + c] += slope[row * cols + c];
	for (bool sums_dx : {false, true}) {
		layer_norm_grad_add(dx.at(), sums.at(), more.at(), sums_dx ? of_dx.at() : NULL, a.at(), x.at(), mean.at(), rstd.at(), w.at(), b.at(),
				rows, cols, chunks, 0);
		expect(dx, slope, 0, 0, shape);
		expect(sums, weight, 0, 0, shape);
	}
	expect(of_dx, of_chunks, 8, cols < 3 ? 1e3 : 10, shape);
}

int main()
{
	start_group("instances");
	for (long outer : {1, 3, 40})
		for (long n : {1, 2, 7})
			for (long columns : {1, 10, 33, 128, 1000, 5000})
				test_shape(outer, n, columns);
	for (long cols : {1, 7, 260, 768, 1600, 4099, 20000})
		for (long rows : {1, 5, 70})
			test_joined(rows, cols, rows / 8 + 1);
	start_group(NULL);
	return group.failed_groups > 0;
}
