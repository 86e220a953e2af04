// Dropout of attention's weights in bf16: cuDNN takes what weights are multiplied with as a tensor of its own, 1 for what is kept and
// 0 for what is dropped, which is drawn here for as many units as are computed at once.
//
// A thread draws for 8 keys, one random number, and stores them at once: 16 bytes. Keys behind the query are 0 and cost nothing but
// their bytes. The gradient reads the attention's result times the share that is kept: engines of cuDNN 9.14 that take such a mask
// leave out the factor that the description of the gradient has for it.
#include "attention_mask.h"
#include "mp_kept.h"

enum { THREADS = 256, MOST_BLOCKS = 132 * 16, ONE = 0x3f80 }; // 1 in bf16

struct alignas(16) keys {
	uint32_t pair[MP_KEPT_KEYS / 2];
};

struct job {
	keys *mask;
	size_t count;
	int first_unit, tokens, numbers;        // numbers: random ones of a query
	bool all;
	struct mp_kept kept;
};

static unsigned blocks_for(size_t count)
{
	const size_t blocks = (count + THREADS - 1) / THREADS, most = MOST_BLOCKS;
	return (unsigned)(blocks > most ? most : blocks);
}

static __global__ void draw(job j)
{
	for (size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x; i < j.count; i += (size_t)gridDim.x * THREADS) {
		const int key = (int)(i % j.numbers) * MP_KEPT_KEYS;
		const size_t row = i / j.numbers;
		const int query = (int)(row % j.tokens), head = (int)(row / j.tokens % j.kept.queries), unit = (int)(row / j.tokens / j.kept.queries);
		uint32_t word[4][MP_PHILOX_STRIP];
		keys drawn = {};
		if (key <= query && !j.all)
			mp_kept_words(word, &j.kept, mp_kept_number(&j.kept, j.first_unit + unit, head, query) + key / MP_KEPT_KEYS, 1);
		for (int k = 0; k < MP_KEPT_KEYS; k++)
			if (key + k <= query && (j.all || mp_is_kept(&j.kept, word, 0, k)))
				drawn.pair[k / 2] |= (uint32_t)ONE << (16 * (k % 2));
		j.mask[i] = drawn;
	}
}

extern "C" void mp_attention_mask(const struct mp_attention *a, struct mp_dropped dropped, int first_unit, int units, bool all, void *mask,
                                  cudaStream_t stream)
{
	job j = {};
	void *arguments[] = {&j};

	j.mask = (keys *)mask;
	j.first_unit = first_unit;
	j.tokens = a->tokens;
	j.numbers = (a->tokens + MP_KEPT_KEYS - 1) / MP_KEPT_KEYS;
	j.count = (size_t)units * a->queries * a->tokens * j.numbers;
	j.all = all;
	j.kept = mp_kept_of(a, &dropped);
	CUDA(cudaLaunchKernel((const void *)draw, dim3(blocks_for(j.count)), dim3(THREADS), arguments, 0, stream));
}

struct alignas(16) eight {
	mp_bf16 at[8];
};

// Rows of `length` times 16 bytes, `stride` of them from one to the next in o.
static __global__ void scale_rows(eight *scaled, const eight *o, size_t count, int length, size_t stride, float share)
{
	for (size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x; i < count; i += (size_t)gridDim.x * THREADS) {
		eight e = o[i / length * stride + i % length];
		for (int k = 0; k < 8; k++)
			e.at[k] = mp_bf16(float(e.at[k]) * share);
		scaled[i] = e;
	}
}

extern "C" void mp_attention_scale(const struct mp_attention *a, const void *o, int first_unit, int units, float share, void *scaled,
                                   cudaStream_t stream)
{
	const size_t unit = (size_t)a->queries * a->size / 8; // heads are multiples of 8 elements
	const eight *from = (const eight *)o + (size_t)first_unit * unit;
	eight *to = (eight *)scaled;
	size_t count = (size_t)a->tokens * units * unit, stride = (size_t)a->batch * a->groups * unit;
	int length = (int)(units * unit);
	void *arguments[] = {&to, &from, &count, &length, &stride, &share};

	CUDA(cudaLaunchKernel((const void *)scale_rows, dim3(blocks_for(count)), dim3(THREADS), arguments, 0, stream));
}

// Loads the kernels now: at their first launch they would wait for the device, and with it for communication.
extern "C" void mp_attention_mask_prepare(void)
{
	CUDA(cudaFuncSetAttribute((const void *)draw, cudaFuncAttributeMaxDynamicSharedMemorySize, 0));
	CUDA(cudaFuncSetAttribute((const void *)scale_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, 0));
}
