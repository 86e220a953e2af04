// The folder DIR of bf16 templates as in test_norms.cu, then
// g++ -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -Iruntime/host -Iruntime -IDIR tests/templates/bench_norms.cu -o B && B
// nvcc -std=c++17 -O3 -fmad=false -arch=sm_90 -Iruntime -IDIR tests/templates/bench_norms.cu -o B && B       (on a GPU)
//
// Bandwidth of the kernels of language models as a ratio to a copy, for bf16 and f32: bytes are those that must move once.
// Nothing here is asserted.
#include "harness.h"

#include <chrono>

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

namespace f32 {
#include "../../templates/adamw.cu"
#include "../../templates/column_sums.cu"
#include "../../templates/cross_entropy.cu"
#include "../../templates/cross_entropy_and_grad.cu"
#include "../../templates/cross_entropy_grad.cu"
#include "../../templates/elementwise.cu"
#include "../../templates/elementwise_rows.cu"
#include "../../templates/embedding_grad.cu"
#include "../../templates/keep_first.cu"
#include "../../templates/layer_norm.cu"
#include "../../templates/layer_norm_grad.cu"
#include "../../templates/rms_norm.cu"
#include "../../templates/rms_norm_grad.cu"
#include "../../templates/rope.cu"
#include "../../templates/sgd.cu"
#include "../../templates/squared_norms.cu"
#include "../../templates/swiglu.cu"
#include "../../templates/sum.cu"
#include "../../templates/swiglu_grad.cu"
#include "bench_norms.h"
#include "bench_sums.h"
#include "bench_updates.h"
}

namespace bf16 {
#include "bf16_adamw.cu"
#include "bf16_column_sums.cu"
#include "bf16_cross_entropy.cu"
#include "bf16_cross_entropy_and_grad.cu"
#include "bf16_cross_entropy_grad.cu"
#include "bf16_elementwise.cu"
#include "bf16_elementwise_rows.cu"
#include "bf16_embedding_grad.cu"
#include "bf16_layer_norm.cu"
#include "bf16_layer_norm_grad.cu"
#include "bf16_rms_norm.cu"
#include "bf16_rms_norm_grad.cu"
#include "bf16_rope.cu"
#include "bf16_sgd.cu"
#include "bf16_squared_norms.cu"
#include "bf16_swiglu.cu"
#include "bf16_sum.cu"
#include "bf16_swiglu_grad.cu"
#include "bench_norms.h"
#include "bench_sums.h"
#include "bench_updates.h"
}

int main()
{
#ifdef __CUDACC__
	const long n = 1 << 26;
#else
	const long n = 1 << 20;
#endif
	{
		Buffer<float> x(n), y(n);
		report("copy", 8.0 * (double)n, [&] { f32::tmpl_keep_first(y.at(), x.at(), n, true, 0); });
	}
	bf16::bench_updates("bf16", n > 1 << 20);
	f32::bench_updates("f32", n > 1 << 20);
	bf16::bench("bf16", n);
	bf16::bench_sums("bf16", n / 65536);
	f32::bench("f32", n / 2);
	f32::bench_sums("f32", n / 65536);
	return 0;
}
