// part_sums.cu: see part_sums.h. Bound by memory: 16 bytes of each part a thread, and few enough blocks that products beside keep
// their multiprocessors for most of the time.
#include "part_sums.h"

enum { THREADS = 512, BLOCKS = 132 };

template <class Real> struct wide { using type = float; };
template <> struct wide<double> { using type = double; };

template <class Real, int Width> struct alignas(Width * sizeof(Real)) pack {
	Real at[Width];
};

template <class Real, int Width> static __global__ void __launch_bounds__(THREADS) add_up(Real *to, mp_parts parts, size_t count)
{
	using Sum = typename wide<Real>::type;
	using Pack = pack<Real, Width>;
	const size_t step = (size_t)gridDim.x * THREADS;

	for (size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x; i < count / Width; i += step) {
		Sum sum[Width] = {};
		for (int part = 0; part < parts.count; part++) {
			const Pack x = ((const Pack *)parts.at[part])[i];
			for (int k = 0; k < Width; k++)
				sum[k] += (Sum)x.at[k];
		}
		Pack y;
		for (int k = 0; k < Width; k++)
			y.at[k] = (Real)sum[k];
		((Pack *)to)[i] = y;
	}
}

template <class Real, int Width> static void launch(Real *to, mp_parts parts, size_t count, cudaStream_t stream)
{
	void *arguments[] = {&to, &parts, &count};
	CUDA(cudaLaunchKernel((const void *)add_up<Real, Width>, dim3(BLOCKS), dim3(THREADS), arguments, 0, stream));
}

template <class Real> static void sum_parts(void *to, const mp_parts &parts, size_t count, cudaStream_t stream)
{
	size_t bits = (size_t)to | count * sizeof(Real);

	for (int i = 0; i < parts.count; i++)
		bits |= (size_t)parts.at[i];
	if (bits % 16 == 0)
		launch<Real, 16 / sizeof(Real)>((Real *)to, parts, count, stream);
	else
		launch<Real, 1>((Real *)to, parts, count, stream);
}

extern "C" void mp_sum_parts(void *to, struct mp_parts parts, size_t bytes, enum mp_type type, cudaStream_t stream)
{
	switch (type) {
	case MP_BF16: sum_parts<mp_bf16>(to, parts, bytes / sizeof(mp_bf16), stream); break;
	case MP_F64: sum_parts<double>(to, parts, bytes / sizeof(double), stream); break;
	case MP_I32: mp_fail(MP_BUG, "no sum of integers is exchanged");
	default: sum_parts<float>(to, parts, bytes / sizeof(float), stream);
	}
}
