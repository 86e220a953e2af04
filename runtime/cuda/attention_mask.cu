// Dropout of attention's weights in bf16: cuDNN takes what weights are multiplied with as a tensor of its own, 1 for what is kept and
// 0 for what is dropped, which is drawn here for as many units as are computed at once.
//
// A thread draws for 8 keys, one random number, and stores them at once: 16 bytes. Keys behind the query are 0 and cost nothing but
// their bytes.
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
	size_t blocks = (j.count + THREADS - 1) / THREADS;
	if (blocks > MOST_BLOCKS)
		blocks = MOST_BLOCKS;
	CUDA(cudaLaunchKernel((const void *)draw, dim3((unsigned)blocks), dim3(THREADS), arguments, 0, stream));
}

// Loads the kernel now: at its first launch it would wait for the device, and with it for communication.
extern "C" void mp_attention_mask_prepare(void)
{
	CUDA(cudaFuncSetAttribute((const void *)draw, cudaFuncAttributeMaxDynamicSharedMemorySize, 0));
}
