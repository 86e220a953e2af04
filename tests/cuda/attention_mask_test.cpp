// The kernel of runtime/cuda/attention_mask.cu on the CPU, against the numbers of tests/host/attention_cases.h.
//   c++ -std=c++17 -O1 -g -fsanitize=address -Iruntime/host -Iruntime -Itests/host -Itests/cuda tests/cuda/attention_mask_test.cpp
#include "emulate.h"

#include "mp.h"

#define CHECK(condition, ...) do { if (!(condition)) { \
	fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
	fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); exit(1); } } while (0)

enum { cudaFuncAttributeMaxDynamicSharedMemorySize };
static cudaError_t cudaFuncSetAttribute(const void *, int, int) { return cudaSuccess; }
static cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes, cudaStream_t stream);

#include "../../runtime/cuda/attention_mask.cu"

static job launched;

static cudaError_t cudaLaunchKernel(const void *, dim3 grid, dim3 block, void **arguments, size_t, cudaStream_t)
{
	launched = *(job *)arguments[0];
	emulate(grid, block, [] { draw(launched); });
	return cudaSuccess;
}

extern "C" void mp_cuda_failed(cudaError_t, const char *call, const char *, int)
{
	fprintf(stderr, "failed: %s\n", call);
	exit(1);
}

#include "attention_cases.h"

// Slices of the units, whose masks begin anew.
static void check_mask(const int shape[5], int slice, bool all)
{
	struct mp_attention a = attention_of(shape, false, MP_BF16, 0.3);
	int t = a.tokens, columns = (t + 7) / 8 * 8;
	for (int first = 0; first < a.batch * a.groups; first += slice) {
		int units = a.batch * a.groups - first < slice ? a.batch * a.groups - first : slice;
		size_t count = (size_t)units * a.queries * t * columns;
		std::vector<keys> mask(count / 8 + 1, keys{{~0u, ~0u, ~0u, ~0u}});
		const uint16_t *is = (const uint16_t *)mask.data();
		mp_attention_mask(&a, dropped_of(&a, attention_key), first, units, all, mask.data(), NULL);
		for (size_t i = 0; i < count; i++) {
			int s = (int)(i % columns), query = (int)(i / columns % t), head = (int)(i / columns / t % a.queries);
			int unit = first + (int)(i / columns / t / a.queries);
			bool kept = s <= query && (all || kept_share(&a, unit, head, query, s) > 0);
			CHECK(is[i] == (kept ? 0x3f80 : 0), "tokens %d unit %d head %d query %d key %d: %#x", t, unit, head, query, s, is[i]);
		}
		CHECK(is[count] == 0xffff, "tokens %d: written behind the end", t);
	}
}

int main()
{
	mp_attention_mask_prepare();
	for (int s = 0; s < ATTENTION_SHAPES; s++)
		for (bool all : {false, true}) {
			check_mask(attention_shapes[s], 100, all);
			check_mask(attention_shapes[s], 2, all);
		}
	return 0;
}
