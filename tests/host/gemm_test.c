// The host's mp_gemm against three loops: all transposes, epilogues, types, with accumulation and on a stream.
//   cc -std=c11 -Wall -Wextra -Werror -g -O2 -Iruntime/host -Iruntime tests/host/gemm_test.c tests/host/test.c
//      runtime/host/{device,event,memory,trace,errors,comm,group,collective,reduce,gemm}.c
//      -lopenblas -lm -lpthread -o gemm_test
#include "test.h"
#undef CUDA     // mp.h has its own, which need the runtime
#undef NCCL
#include "mp.h"

#include <math.h>

#undef CUDA
#define CUDA(call) CHECK((call) == cudaSuccess, "CUDA")

void mp_gemm_prepare(struct mp_rank *r);
void mp_gemm_release(struct mp_rank *r);

static double at(const void *x, enum mp_type type, size_t i)
{
	return type == MP_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static void put(void *x, enum mp_type type, size_t i, double value)
{
	if (type == MP_F64)
		((double *)x)[i] = value;
	else
		((float *)x)[i] = (float)value;
}

static void fill(void *x, enum mp_type type, size_t count, unsigned seed)
{
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525 + 1013904223;
		put(x, type, i, (double)(seed >> 8) / (1 << 23) - 1);
	}
}

static double expected(const struct mp_gemm *g, const void *a, const void *b, const void *bias, double before,
                       bool accumulate, int i, int j)
{
	double sum = accumulate ? before : 0;
	for (int p = 0; p < g->k; p++) {
		size_t ia = g->transpose == MP_TN ? (size_t)p * g->m + i : (size_t)i * g->k + p;
		size_t ib = g->transpose == MP_NT ? (size_t)j * g->k + p : (size_t)p * g->n + j;
		sum += at(a, g->type, ia) * at(b, g->type, ib);
	}
	if (!accumulate && (g->epilogue == MP_BIAS || g->epilogue == MP_BIAS_RELU))
		sum += at(bias, g->type, j);
	if (!accumulate && (g->epilogue == MP_RELU || g->epilogue == MP_BIAS_RELU))
		sum = sum > 0 ? sum : 0;
	return sum;
}

static void check_gemm(const struct mp_gemm *g, bool accumulate)
{
	size_t bytes = g->type == MP_F64 ? 8 : 4, count = (size_t)g->m * g->n;
	struct mp_rank rank = {0};
	mp_gemm_prepare(&rank);
	void *a = device_memory((size_t)g->m * g->k * bytes), *b = device_memory((size_t)g->k * g->n * bytes);
	void *c = device_memory(count * bytes), *bias = device_memory(g->n * bytes);
	void *before = malloc(count * bytes);
	cudaStream_t stream = new_stream();
	fill(a, g->type, (size_t)g->m * g->k, 1);
	fill(b, g->type, (size_t)g->k * g->n, 2);
	fill(bias, g->type, g->n, 3);
	fill(c, g->type, count, 4);
	if (!accumulate)
		put(c, g->type, 0, NAN); // what was there must not matter
	memcpy(before, c, count * bytes);
	mp_gemm(&rank, g, a, b, bias, c, accumulate, stream);
	CUDA(cudaStreamSynchronize(stream));
	double limit = (g->type == MP_F64 ? 1e-13 : 1e-5) * (g->k + 1);
	for (int i = 0; i < g->m; i++)
		for (int j = 0; j < g->n; j++) {
			size_t ij = (size_t)i * g->n + j;
			double want = expected(g, a, b, bias, at(before, g->type, ij), accumulate, i, j);
			double got = at(c, g->type, ij);
			CHECK(fabs(got - want) <= limit, "%dx%dx%d transpose %d epilogue %d type %d: [%d,%d] %g, expected %g",
			      g->m, g->n, g->k, g->transpose, g->epilogue, g->type, i, j, got, want);
		}
	mp_gemm_release(&rank);
	CUDA(cudaStreamDestroy(stream));
	free(before);
	CUDA(cudaFree(a));
	CUDA(cudaFree(b));
	CUDA(cudaFree(c));
	CUDA(cudaFree(bias));
}

static void gemm(void)
{
	static const int shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {16, 33, 20}, {65, 10, 130}, {4, 6, 0}};
	static const enum mp_type types[] = {MP_F32, MP_F64};
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (int t = 0; t < 2; t++)
			for (int transpose = MP_NN; transpose <= MP_TN; transpose++) {
				struct mp_gemm g = {"gemm", shapes[s][0], shapes[s][1], shapes[s][2], (enum mp_transpose)transpose,
				                    MP_NO_EPILOGUE, types[t], false, 16};
				check_gemm(&g, true);
				for (int e = MP_NO_EPILOGUE; e <= MP_BIAS_RELU; e++) {
					g.epilogue = (enum mp_epilogue)e;
					check_gemm(&g, false);
				}
			}
}

int main(void)
{
	run_case("gemm", gemm);
	return 0;
}
