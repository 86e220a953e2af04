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

static const double f = sizeof(float);

// As many pixels as fit n elements.
static void bench_statistics(long n, Buffer<float> &x, Buffer<float> &y, Buffer<float> &z)
{
	for (long channels : {1, 3, 10, 64, 100, 512, 2048})
		for (long chunks : {100, 500}) {
			const long rows = n / channels;
			const double moved = f * (double)(rows * channels);
			char name[3][80];
			snprintf(name[0], sizeof name[0], "channel partials [%ld,%ld] / %ld", rows, channels, chunks);
			snprintf(name[1], sizeof name[1], "normalize sums [%ld,%ld] / %ld", rows, channels, chunks);
			snprintf(name[2], sizeof name[2], "channel statistics [%ld,%ld]", chunks, channels);
			report(name[0], moved, [&] { tmpl_channel_partials(y.at(), z.at(), x.at(), 1, chunks, rows, channels, 0); });
			report(name[1], 2 * moved, [&] {
				tmpl_normalize_sums(z.at(), z.at() + chunks * channels, x.at(), y.at(), x.at(), x.at(), 1, chunks, rows,
				                    channels, 1, 0);
			});
			report(name[2], 2 * f * (double)(chunks * channels), [&] {
				tmpl_channel_statistics(z.at(), z.at() + channels, z.at() + 2 * channels, x.at(), x.at(), x.at(), x.at(), 1,
				                        chunks, rows, channels, 1, false, 0);
			});
		}
}

static void bench_pools(long n, Buffer<float> &x, Buffer<float> &y, Buffer<float> &z)
{
	Buffer<int> at(n / 4);
	for (long c : {1, 3, 10, 64, 256}) {
		const long h = 112, p = 56, images = n / (h * h * c), small = images * p * p * c;
		const double moved = f * (double)(images * h * h * c);
		char name[4][80];
		auto named = [&](int i, const char *what) {
			snprintf(name[i], sizeof name[i], "%s [%ld,%ld,%ld,%ld]", what, images, h, h, c);
			return name[i];
		};
		report(named(0, "max pool 3/2"), moved + 2 * f * (double)small, [&] {
			tmpl_max_pool(y.at(), at.at(), x.at(), images, h, h, c, p, p, 3, 3, 2, 2, 1, 1, 1, 1, 0);
		});
		report(named(1, "max pool 3/2 gradient"), moved + 2 * f * (double)small, [&] {
			tmpl_max_pool_grad(y.at(), x.at(), at.at(), images, h, h, c, p, p, 3, 3, 2, 2, 1, 1, 1, 1, 0);
		});
		report(named(2, "avg pool 2"), moved + f * (double)small,
		       [&] { tmpl_avg_pool(y.at(), x.at(), images, h, h, c, p, p, 2, 2, 2, 2, 0, 0, true, 0); });
		report(named(3, "avg pool 2 gradient"), moved + f * (double)small,
		       [&] { tmpl_avg_pool_grad(z.at(), x.at(), images, h, h, c, p, p, 2, 2, 2, 2, 0, 0, true, 0); });
	}
	for (long h : {7, 56, 112}) {
		const long c = 14336 / h, images = n / (h * h * c);
		const double moved = f * (double)(images * h * h * c);
		char name[2][80];
		snprintf(name[0], sizeof name[0], "adaptive avg pool [%ld,%ld,%ld,%ld] to 1", images, h, h, c);
		snprintf(name[1], sizeof name[1], "adaptive avg pool gradient of the same");
		report(name[0], moved, [&] { tmpl_adaptive_avg_pool(y.at(), x.at(), images, h, h, c, 1, 1, 0); });
		report(name[1], moved, [&] { tmpl_adaptive_avg_pool_grad(y.at(), x.at(), images, h, h, c, 1, 1, 0); });
	}
}

static void bench_copies(long n, Buffer<float> &x, Buffer<float> &y)
{
	Buffer<int> key(4);
	static const long matrices[][2] = {{3, 50176}, {50176, 3}, {64, 3136}, {3136, 64}, {49, 512},
	                                  {512, 49}, {1024, 1024}, {1, 4096}};
	for (auto &matrix : matrices) {
		const long rows = matrix[0], columns = matrix[1], batch = n / rows / columns;
		char name[60];
		snprintf(name, sizeof name, "permute [%ld,%ld,%ld]", batch, rows, columns);
		report(name, 2 * f * (double)(batch * rows * columns), [&] { tmpl_permute(y.at(), x.at(), batch, rows, columns, 0); });
	}
	report("dropout", 2 * f * (double)n,
	       [&] { tmpl_dropout(y.at(), x.at(), key.at(), 1, 1, n, 0, 0, 0, 1, 0.5f, false, 0); });
	report("dropout, half of 64 channels", 2 * f * (double)n,
	       [&] { tmpl_dropout(y.at(), x.at(), key.at(), 1, n / 32, 32, 32, 0, 64, 1, 0.5f, false, 0); });
	report("dropout, 1001 of 3003 columns", 2 * f * (double)(n / 1001 * 1001),
	       [&] { tmpl_dropout(y.at(), x.at(), key.at(), 1, n / 1001, 1001, 1001, 0, 3003, 1, 0.5f, false, 0); });
}

int main()
{
#ifdef __CUDACC__
	const long n = 1 << 26;
#else
	const long n = 1 << 22;
#endif
	Buffer<float> x(n), y(n), z(n);
	Buffer<int> label(n / 8);
	fill_random(x, 3);
	fill_labels(label, 8);
	for (long i = 0; i < label.count; i++)
		label[i] = label[i] < 0 ? -1 : label[i] % 8;
	label.upload();
	report("copy", 2 * f * (double)n, [&] { tmpl_keep_first(y.at(), x.at(), n, true, 0); });
	report("elementwise relu(a + b)", 3 * f * (double)n, [&] { tmpl_elementwise(y.at(), x.at(), z.at(), n, 0); });
	report("accumulate", 3 * f * (double)n, [&] { tmpl_accumulate(y.at(), x.at(), n, false, 0); });
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
		       [&] { tmpl_cross_entropy(y.at(), z.at(), x.at(), label.at(), rows, columns, columns, 0); });
		report(named(7, "cross entropy gradient"), 2 * moved,
		       [&] { tmpl_cross_entropy_grad(y.at(), x.at(), label.at(), x.at(), x.at(), rows, columns, 0, columns, 1, 0); });
		report(named(8, "correct"), moved, [&] { tmpl_correct(y.at(), x.at(), label.at(), rows, columns, columns, 0); });
	}
	report("bias gradient [8192,768]", f * 8192 * 768, [&] { tmpl_sum(y.at(), x.at(), 1, 8192, 768, 1, false, 0); });
	report("bias gradient [64,1000]", f * 64000, [&] { tmpl_sum(y.at(), x.at(), 1, 64, 1000, 1, false, 0); });
	report("sum to a scalar [1000000]", f * 1e6, [&] { tmpl_sum(y.at(), x.at(), 1, 1000000, 1, 1, false, 0); });
	report("bias + relu [64,1000]", 2 * f * 64000, [&] { tmpl_elementwise_rows(y.at(), x.at(), z.at(), 64, 1000, 0); });
	bench_statistics(n, x, y, z);
	bench_pools(n, x, y, z);
	bench_copies(n, x, y);
	return 0;
}
