// The host's mp_attention and its gradient against plain loops: all types, heads in groups, with dropout and without, on a stream.
//   cc -std=c11 -Wall -Wextra -Werror -g -O2 -Iruntime/host -Iruntime tests/host/attention_test.c tests/host/test.c
//      runtime/host/{device,event,memory,trace,errors,comm,group,collective,reduce,gemm,attention}.c
//      -lopenblas -lm -lpthread -o attention_test
#include "test.h"
#undef CUDA     // mp.h has its own, which need the runtime
#undef NCCL
#include "attention_cases.h"

#undef CUDA
#define CUDA(call) CHECK((call) == cudaSuccess, "CUDA")

void mp_gemm_prepare(struct mp_rank *r);
void mp_attention_prepare(struct mp_rank *r);
void mp_attention_release(struct mp_rank *r);

// Random bytes on the device where what is there must not matter.
static void *nonsense(size_t bytes)
{
	void *at = device_memory(bytes);
	memset(at, 0xff, bytes); // NaN in every type
	return at;
}

static void *on_device(const void *from, size_t bytes)
{
	void *at = device_memory(bytes);
	memcpy(at, from, bytes);
	return at;
}

static void check_attention(const int shape[5], enum mp_type type, double dropout)
{
	static const double shares[] = {[MP_F32] = 3e-6, [MP_F64] = 1e-14, [MP_BF16] = 6e-3};
	const double share = shares[type] / (1 - dropout); // o, whose rounding the gradient sees, is as much larger
	struct mp_attention table[] = {attention_of(shape, false, type, dropout), attention_of(shape, true, type, dropout)}, *a = table;
	struct mp_program program = {.attentions = table, .attention_count = 2};
	struct mp_rank rank = {.program = &program};
	enum mp_type full = type == MP_F64 ? MP_F64 : MP_F32;
	size_t bytes = attention_bytes(type), n = count_qkv(a), m = count_o(a);
	void *host_qkv = random_elements(type, n, 1), *host_d_o = random_elements(type, m, 2);
	void *qkv = on_device(host_qkv, n * bytes), *d_o = on_device(host_d_o, m * bytes), *o = nonsense(m * bytes);
	void *lse = nonsense(count_lse(a) * attention_bytes(full)), *dqkv = nonsense(n * bytes);
	cudaStream_t stream = new_stream();
	struct attention_result expected = expect_attention(a, host_qkv, host_d_o);

	mp_gemm_prepare(&rank);
	mp_attention_prepare(&rank);
	mp_attention(&rank, &table[0], qkv, o, lse, dropped_of(a, attention_key), stream);
	mp_attention_grad(&rank, &table[1], d_o, qkv, o, lse, dqkv, dropped_of(a, attention_key), stream);
	CUDA(cudaStreamSynchronize(stream));
	check_elements(a, "o", expected.o, o, type, m, share);
	check_elements(a, "lse", expected.lse, lse, full, count_lse(a), shares[full]);
	check_elements(a, "dqkv", expected.dqkv, dqkv, type, n, share);
	mp_attention_release(&rank);
	CUDA(cudaStreamDestroy(stream));
	void *const device[] = {qkv, d_o, o, lse, dqkv};
	for (size_t i = 0; i < sizeof device / sizeof *device; i++)
		CUDA(cudaFree(device[i]));
	free(host_qkv);
	free(host_d_o);
	free_attention(&expected);
}

static void attention(void)
{
	static const enum mp_type types[] = {MP_F32, MP_F64, MP_BF16};
	for (int s = 0; s < ATTENTION_SHAPES; s++)
		for (int t = 0; t < 3; t++)
			for (int drops = 0; drops < 2; drops++)
				check_attention(attention_shapes[s], types[t], 0.3 * drops);
}

int main(void)
{
	run_case("attention", attention);
	return 0;
}
