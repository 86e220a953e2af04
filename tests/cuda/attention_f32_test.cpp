// The kernels of runtime/cuda/attention_f32.cu on the CPU, against plain loops.
//   c++ -std=c++17 -O1 -g -fsanitize=address -Iruntime/host -Iruntime -Itests/host -Itests/cuda tests/cuda/attention_f32_test.cpp
#include "emulated.h"

// ---- the parts of CUDA and of the runtime that the file uses

static int most_shared;
enum { cudaDevAttrMaxSharedMemoryPerBlockOptin, cudaFuncAttributeMaxDynamicSharedMemorySize };

static cudaError_t cudaDeviceGetAttribute(int *value, int, int)
{
	*value = most_shared;
	return cudaSuccess;
}

static cudaError_t cudaFuncSetAttribute(const void *, int, int bytes)
{
	CHECK(bytes <= most_shared, "%d bytes of shared memory", bytes);
	return cudaSuccess;
}

#include "../../runtime/cuda/attention_f32.cu"

static struct {
	void (*kernel)(job);
	job argument;
} launched;

static cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t bytes, cudaStream_t)
{
	launched.kernel = (void (*)(job))kernel;
	launched.argument = *(job *)arguments[0];
	CHECK(bytes <= (size_t)most_shared && bytes <= sizeof shared, "%zu bytes of shared memory", bytes);
	emulate(grid, block, [] { launched.kernel(launched.argument); });
	return cudaSuccess;
}

extern "C" cudaError_t cudaGetDevice(int *device)
{
	*device = 0;
	return cudaSuccess;
}

#include "attention_cases.h"

// ---------------------------------------------------------------------------------------------------------

static void check_attention(const int shape[5], double dropout)
{
	struct mp_attention table[] = {attention_of(shape, false, MP_F32, dropout), attention_of(shape, true, MP_F32, dropout)}, *a = table;
	struct mp_program program = {};
	struct mp_rank rank = {};
	size_t n = count_qkv(a), m = count_o(a), l = count_lse(a);
	float *qkv = (float *)random_elements(MP_F32, n, 1), *d_o = (float *)random_elements(MP_F32, m, 2);
	std::vector<float> o(m, NAN), lse(l, NAN), dqkv(n, NAN), workspace(l, NAN);
	struct attention_result expected = expect_attention(a, qkv, d_o);

	program.attentions = table;
	program.attention_count = 2;
	program.workspace_bytes = l * sizeof(float);
	rank.program = &program;
	rank.arena = (char *)workspace.data();
	mp_attention_prepare(&rank);
	mp_attention(&rank, &table[0], qkv, o.data(), lse.data(), dropped_of(a, attention_key), NULL);
	mp_attention_grad(&rank, &table[1], d_o, qkv, o.data(), lse.data(), dqkv.data(), dropped_of(a, attention_key), NULL);
	check_elements(a, "o", expected.o, o.data(), MP_F32, m, 3e-6);
	check_elements(a, "lse", expected.lse, lse.data(), MP_F32, l, 3e-6);
	check_elements(a, "dqkv", expected.dqkv, dqkv.data(), MP_F32, n, 3e-6);
	mp_attention_release(&rank);
	free(qkv);
	free(d_o);
	free_attention(&expected);
}

int main()
{
	static const int larger[][5] = {{70, 1, 2, 2, 200}, {40, 1, 1, 1, 256}};
	for (int bytes : {227 * 1024, 163 * 1024}) { // an H100 and an A100
		most_shared = bytes;
		for (double dropout : {0.0, 0.3}) {
			for (int s = 0; s < ATTENTION_SHAPES; s++)
				check_attention(attention_shapes[s], dropout);
			for (const int *shape : larger)
				check_attention(shape, dropout);
		}
	}
	return 0;
}
