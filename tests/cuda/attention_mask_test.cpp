// The kernels of runtime/cuda/attention_mask.cu on the CPU, against the numbers of tests/host/attention_cases.h.
//   c++ -std=c++17 -O1 -g -fsanitize=address -Iruntime/host -Iruntime -Itests/host -Itests/cuda tests/cuda/attention_mask_test.cpp
#include "emulated.h"

enum { cudaFuncAttributeMaxDynamicSharedMemorySize };
static cudaError_t cudaFuncSetAttribute(const void *, int, int) { return cudaSuccess; }

#include "../../runtime/cuda/attention_mask.cu"

static job launched;
static void *scaling[6];                        // the arguments of scale_rows()

static cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t, cudaStream_t)
{
	if (kernel == (const void *)draw) {
		launched = *(job *)arguments[0];
		emulate(grid, block, [] { draw(launched); });
		return cudaSuccess;
	}
	memcpy(scaling, arguments, sizeof scaling);
	emulate(grid, block, [] {
		scale_rows(*(eight **)scaling[0], *(const eight **)scaling[1], *(size_t *)scaling[2], *(int *)scaling[3], *(size_t *)scaling[4],
		           *(float *)scaling[5]);
	});
	return cudaSuccess;
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

// Each slice of the units, dense: [tokens, units, queries, size].
static void check_scaled(const int shape[5], int slice)
{
	struct mp_attention a = attention_of(shape, true, MP_BF16, 0.3);
	size_t unit = (size_t)a.queries * a.size, all = (size_t)a.batch * a.groups;
	mp_bf16 *o = (mp_bf16 *)random_elements(MP_BF16, count_o(&a), 1);
	for (size_t first = 0; first < all; first += (size_t)slice) {
		size_t units = all - first < (size_t)slice ? all - first : (size_t)slice, count = a.tokens * units * unit;
		std::vector<eight> scaled(count / 8 + 1);
		const mp_bf16 *is = scaled[0].at;
		memset(scaled.data(), 0xff, scaled.size() * sizeof(eight));
		mp_attention_scale(&a, o, (int)first, (int)units, 0.7f, scaled.data(), NULL);
		for (size_t i = 0; i < count; i++) {
			mp_bf16 expected(0.7f * float(o[i / (units * unit) * all * unit + first * unit + i % (units * unit)]));
			CHECK(float(is[i]) == float(expected), "tokens %d unit %zu: element %zu is %g, not %g", a.tokens, first, i, float(is[i]), float(expected));
		}
		CHECK(float(is[count]) != float(is[count]), "tokens %d: written behind the end", a.tokens);
	}
	free(o);
}

int main()
{
	mp_attention_mask_prepare();
	for (int s = 0; s < ATTENTION_SHAPES; s++) {
		check_scaled(attention_shapes[s], 100);
		check_scaled(attention_shapes[s], 2);
		for (bool all : {false, true}) {
			check_mask(attention_shapes[s], 100, all);
			check_mask(attention_shapes[s], 2, all);
		}
	}
	return 0;
}
