// The kernels of runtime/cuda/attention_sm90.cu on the CPU, against plain loops: each thread by itself, Hopper's instructions by
// sm90_emulated.h.
//   c++ -std=c++17 -O1 -g -fsanitize=address -Wno-unknown-pragmas -Iruntime/host -Iruntime -Itests/host -Itests/cuda tests/cuda/attention_sm90_test.cpp
#define __shared__ static
#include "emulated.h"
#include "sm90_emulated.h"

// ---- the parts of CUDA that the file uses

enum { cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor, cudaDevAttrMultiProcessorCount, cudaFuncAttributeMaxDynamicSharedMemorySize,
       cudaEnableDefault };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess };

static int multiprocessors = 1;

static cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int)
{
	*value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : attribute == cudaDevAttrComputeCapabilityMinor ? 0 : multiprocessors;
	return cudaSuccess;
}

static cudaError_t cudaFuncSetAttribute(const void *, int, int) { return cudaSuccess; }

static cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **function, unsigned, int, cudaDriverEntryPointQueryResult *)
{
	*function = (void *)sm90_encode;
	return cudaSuccess;
}

extern "C" cudaError_t cudaGetDevice(int *device)
{
	*device = 0;
	return cudaSuccess;
}

#include "../../runtime/cuda/attention_sm90.cu"

static int group_size;                          // 0: the one that the file chooses
static void **launched;

static cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t bytes, cudaStream_t)
{
	launched = arguments;
	((job *)arguments[0])->group = group_size ? group_size : ((job *)arguments[0])->group;
	if (kernel == (const void *)attention_grad) {
		CHECK(bytes == sizeof(memory), "%zu bytes of shared memory", bytes);
		memset(sm90_memory, 0xff, sizeof sm90_memory); // NaN
		sm90_products.clear();
		emulate_together(grid, block, [] { attention_grad(*(job *)launched[0], *(CUtensorMap *)launched[1], *(CUtensorMap *)launched[2]); });
		for (const auto &products : sm90_products)
			CHECK(products.empty(), "products that nothing waits for");
	} else {
		emulate(grid, block, [] {
			prepare(*(job *)launched[0], *(float **)launched[1], *(const mp_bf16 **)launched[2], *(const mp_bf16 **)launched[3], *(const float **)launched[4],
			        *(size_t *)launched[5]);
		});
	}
	return cudaSuccess;
}

#include "attention_cases.h"

// ---------------------------------------------------------------------------------------------------------

// slice: units at once, whose workspace is used again.
static void check_gradient(const int shape[5], int slice)
{
	struct mp_attention a = attention_of(shape, true, MP_BF16, 0);
	size_t n = count_qkv(&a), m = count_o(&a), l = count_lse(&a), bytes = mp_attention_sm90_bytes(&a, slice);
	void *qkv = random_elements(MP_BF16, n, 1), *d_o = random_elements(MP_BF16, m, 2);
	struct attention_result expected = expect_attention(&a, qkv, d_o);
	std::vector<uint16_t> o(m);
	std::vector<float> lse(l);
	uint4 *dqkv = (uint4 *)aligned_alloc(16, (n * 2 + 15) / 16 * 16), *workspace = (uint4 *)aligned_alloc(16, (bytes + 15) / 16 * 16);

	CHECK(mp_attention_sm90_takes(&a), "heads of %d", shape[4]);
	for (size_t i = 0; i < m; i++)
		put_element(o.data(), MP_BF16, i, expected.o[i]);
	for (size_t i = 0; i < l; i++)
		lse[i] = (float)expected.lse[i];
	memset(dqkv, 0xff, n * 2);
	memset(workspace, 0xff, bytes);
	for (int first = 0, units = a.batch * a.groups; first < units; first += slice)
		mp_attention_sm90_grad(&a, first, first + slice < units ? slice : units - first, d_o, qkv, o.data(), lse.data(), dqkv, workspace, NULL);
	check_elements(&a, "dqkv", expected.dqkv, dqkv, MP_BF16, n, 1.6e-2);
	free(dqkv);
	free(workspace);
	free(qkv);
	free(d_o);
	free_attention(&expected);
}

int main()
{
	static const int shapes[][5] = {{1, 1, 2, 1, 64}, {64, 3, 1, 1, 64}, {128, 1, 2, 2, 64}, {200, 2, 1, 1, 64}, {385, 1, 3, 2, 64}};
	struct mp_attention other = attention_of(shapes[0], true, MP_BF16, 0.1);
	CHECK(!mp_attention_sm90_takes(&other), "dropout");
	for (const int *shape : shapes)
		for (int group : {0, 1, 2}) {
			group_size = group;
			check_gradient(shape, shape[1] * shape[2]);
			if (!group && shape[1] * shape[2] > 2)
				check_gradient(shape, 2);
		}
	for (unsigned seed = 1; seed <= 24; seed++) { // several blocks, and any warp far ahead of others
		emulated_seed = seed;
		group_size = 1 + seed % 3;
		multiprocessors = 1 + seed / 2 % SM90_BLOCKS;
		check_gradient(shapes[3 + seed % 2], 3);
	}
	return 0;
}
