// What conv_split.c multiplies: the parts of f32 images and filters. See conv_parts.h.
//
// TF32 has the exponent of f32 and 10 of its 23 bits behind the point. x - high is exact in f32 and has 13 bits at most, of which low
// keeps 11: high + low is x to 2^-22. Where x is infinite, no number or too large to be rounded, high is x and low is zero, so that
// products say so too.
#include "conv_parts.h"

enum { THREADS = 256, MOST_BLOCKS = 132 * 16, STRIP = 4 };

struct alignas(16) strip {
	float at[STRIP];
};

// Counted in strips, for numbers of 32 bits: divisions of longer ones would take longer than the memory.
struct job {
	const strip *x;
	strip *both, *highs;
	unsigned rows, channels, width;
	bool high_first;
};

static __device__ float nearest(float x)
{
	const unsigned infinite = 0x7f800000, half = 0x1000, dropped = 0x1fff;
	unsigned bits;
	memcpy(&bits, &x, sizeof bits);
	const unsigned rounded = (bits + half) & ~dropped;
	if ((bits & infinite) == infinite || (rounded & infinite) == infinite)
		return x;
	memcpy(&x, &rounded, sizeof x);
	return x;
}

static __global__ void split(job j)
{
	const unsigned count = j.rows * j.channels, step = gridDim.x * THREADS;
	for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < count; i += step) {
		const unsigned row = i / j.channels, channel = i - row * j.channels, slice = channel / j.width;
		const strip x = j.x[i];
		strip high, low;
		for (int k = 0; k < STRIP; k++) {
			high.at[k] = nearest(x.at[k]);
			low.at[k] = high.at[k] == x.at[k] || x.at[k] != x.at[k] ? 0 : nearest(x.at[k] - high.at[k]);
		}
		strip *both = j.both + ((size_t)i + (size_t)row * j.channels);
		both[j.high_first ? 0 : j.channels] = high;
		both[j.high_first ? j.channels : 0] = low;
		j.highs[(size_t)(slice * j.rows + row) * j.width + (channel - slice * j.width)] = high;
	}
}

extern "C" void mp_conv_parts(const float *x, size_t rows, size_t channels, size_t width, bool high_first, float *both, float *highs,
                              cudaStream_t stream)
{
	job j = {(const strip *)x, (strip *)both, (strip *)highs, (unsigned)rows, (unsigned)(channels / STRIP), (unsigned)(width / STRIP), high_first};
	const size_t strips = rows * channels / STRIP, blocks = (strips + THREADS - 1) / THREADS, most = MOST_BLOCKS;
	void *arguments[] = {&j};

	if (strips > UINT32_MAX - MOST_BLOCKS * THREADS)
		mp_fail(MP_BUG, "%zu numbers are too many for their parts to be made at once", rows * channels);
	CUDA(cudaLaunchKernel((const void *)split, dim3((unsigned)(blocks < most ? blocks : most)), dim3(THREADS), arguments, 0, stream));
}
