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

struct job {
	const float *x;
	float *both, *highs;
	size_t rows, channels, width;
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
	const size_t strips = j.rows * j.channels / STRIP;
	for (size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x; i < strips; i += (size_t)gridDim.x * THREADS) {
		const size_t row = i * STRIP / j.channels, channel = i * STRIP % j.channels;
		const strip x = *(const strip *)(j.x + i * STRIP);
		strip high, low;
		for (int k = 0; k < STRIP; k++) {
			high.at[k] = nearest(x.at[k]);
			low.at[k] = high.at[k] == x.at[k] || x.at[k] != x.at[k] ? 0 : nearest(x.at[k] - high.at[k]);
		}
		float *both = j.both + row * 2 * j.channels + channel;
		*(strip *)(both + (j.high_first ? 0 : j.channels)) = high;
		*(strip *)(both + (j.high_first ? j.channels : 0)) = low;
		*(strip *)(j.highs + (channel / j.width * j.rows + row) * j.width + channel % j.width) = high;
	}
}

extern "C" void mp_conv_parts(const float *x, size_t rows, size_t channels, size_t width, bool high_first, float *both, float *highs,
                              cudaStream_t stream)
{
	job j = {x, both, highs, rows, channels, width, high_first};
	const size_t blocks = (rows * channels / STRIP + THREADS - 1) / THREADS, most = MOST_BLOCKS;
	void *arguments[] = {&j};

	CUDA(cudaLaunchKernel((const void *)split, dim3((unsigned)(blocks < most ? blocks : most)), dim3(THREADS), arguments, 0, stream));
}
