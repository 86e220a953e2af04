// g++ -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -Iruntime/host -Iruntime tests/templates/bench_kernels.cu -o B && B
// nvcc -std=c++17 -O3 -fmad=false -arch=sm_90 -Iruntime tests/templates/bench_kernels.cu -o B && B       (on a GPU)
//
// Bandwidth of the f32 kernels as a ratio to a copy of the same size: element-wise work and reductions are bound by
// memory, so what is far below 1 is worth a look. Bytes are those that must move once. Nothing here is asserted.
#include "harness.h"

#include <chrono>

#include "all_templates.h"
#include "expected/gelu_two.h"
#include "expected/gelu_two.cu"

static void wait_for_kernels()
{
#ifdef __CUDACC__
	cudaDeviceSynchronize();
#endif
}

// Seconds of one call, the best of 5 runs.
template <class Call> static double seconds_of(Call call)
{
	const int calls = 20;
	double best = 1e9;
	for (int run = 0; run < 5; run++) {
		wait_for_kernels();
		auto start = std::chrono::steady_clock::now();
		for (int i = 0; i < calls; i++)
			call();
		wait_for_kernels();
		best = fmin(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls);
	}
	return best;
}

static double copy_rate; // bytes read and written, a second

template <class Call> static void report(const char *what, double bytes, Call call)
{
	double rate = bytes / seconds_of(call);
	if (!copy_rate)
		copy_rate = rate;
	printf("%-44s %9.1f us %8.1f GB/s  %5.2f of a copy\n", what, bytes / rate * 1e6, rate / 1e9, rate / copy_rate);
}

int main()
{
#ifdef __CUDACC__
	const long n = 1 << 26;
#else
	const long n = 1 << 22;
#endif
	const double f = sizeof(float);
	Buffer<float> x(n), y(n), z(n), rate(1);
	Buffer<int> label(n / 8);
	fill_random(x, 3);
	fill_labels(label, 8);
	for (long i = 0; i < label.count; i++)
		label[i] = label[i] < 0 ? -1 : label[i] % 8;
	label.upload();
	report("copy", 2 * f * (double)n, [&] { tmpl_keep_first(y.at(), x.at(), n, true, 0); });
	report("elementwise relu(a + b)", 3 * f * (double)n, [&] { tmpl_elementwise(y.at(), x.at(), z.at(), n, 0); });
	report("accumulate", 3 * f * (double)n, [&] { tmpl_accumulate(y.at(), x.at(), n, false, 0); });
	report("sgd with momentum", 5 * f * (double)n,
	       [&] { tmpl_sgd(z.at(), y.at(), x.at(), rate.at(), n, 0.9f, 0.0f, 0); });
	for (long columns : {10, 768, 1000, 50304}) {
		long rows = n / columns;
		double moved = f * (double)(rows * columns);
		char name[9][60];
		auto named = [&](int i, const char *what) {
			snprintf(name[i], sizeof name[i], "%s [%ld,%ld]", what, rows, columns);
			return name[i];
		};
		report(named(0, "bias + relu"), 2 * moved,
		       [&] { tmpl_elementwise_rows(y.at(), x.at(), z.at(), rows, columns, 0); });
		report(named(1, "gelu gradient and gelu"), 3 * moved,
		       [&] { gelu_two(y.at(), z.at(), x.at(), x.at(), rows, columns, 0); });
		report(named(2, "bias gradient"), moved, [&] { tmpl_sum(y.at(), x.at(), 1, rows, columns, 1, false, 0); });
		report(named(3, "row sums"), moved, [&] { tmpl_sum(y.at(), x.at(), rows, columns, 1, 1, false, 0); });
		report(named(4, "softmax"), 2 * moved, [&] { tmpl_softmax(y.at(), x.at(), rows, columns, 0); });
		report(named(5, "softmax gradient"), 3 * moved,
		       [&] { tmpl_softmax_grad(z.at(), y.at(), x.at(), rows, columns, 0); });
		report(named(6, "cross entropy"), moved,
		       [&] { tmpl_cross_entropy(y.at(), z.at(), x.at(), label.at(), rows, columns, 0); });
		report(named(7, "cross entropy gradient"), 2 * moved,
		       [&] { tmpl_cross_entropy_grad(y.at(), x.at(), label.at(), x.at(), x.at(), rows, columns, 0); });
		report(named(8, "correct"), moved, [&] { tmpl_correct(y.at(), x.at(), label.at(), rows, columns, 0); });
	}
	report("bias gradient [8192,768]", f * 8192 * 768, [&] { tmpl_sum(y.at(), x.at(), 1, 8192, 768, 1, false, 0); });
	report("bias gradient [64,1000]", f * 64000, [&] { tmpl_sum(y.at(), x.at(), 1, 64, 1000, 1, false, 0); });
	report("sum to a scalar [1000000]", f * 1e6, [&] { tmpl_sum(y.at(), x.at(), 1, 1000000, 1, 1, false, 0); });
	report("bias + relu [64,1000]", 2 * f * 64000, [&] { tmpl_elementwise_rows(y.at(), x.at(), z.at(), 64, 1000, 0); });
	return 0;
}
