// mp_attention and its gradient on a GPU against plain loops (tests/host/attention_cases.h): a second run, and a run within a CUDA
// graph, give the same bits; so it is in slices, and with atomics, whose bits may be others. In bf16 with heads of 64 elements the
// deterministic gradient is that of attention_sm90.cu, which takes slices that fit the workspace. Then how fast larger ones are.
// tests/gpu/run builds and runs it, for each type with the file of the runtime that computes it:
//   cc -std=c11 -O2 -DTYPE=MP_BF16 -Iruntime -Itests/host -I$cuda/include tests/gpu/attention_test.c runtime/cuda/{attention,dnn}.c
//      attention_mask.o attention_sm90.o -o attention_bf16 -L$cuda/lib64 -lcudnn -lcudart -lstdc++ -lm
//   $cuda/bin/nvcc -std=c++17 -O3 -arch=native -fmad=false -Iruntime -c runtime/cuda/attention_f32.cu -o attention_f32.o
//   (and so attention_mask.o, and attention_sm90.o with -gencode=arch=compute_90a,code=sm_90a)
//   cc -std=c11 -O2 -DTYPE=MP_F32 -Iruntime -Itests/host -I$cuda/include tests/gpu/attention_test.c attention_f32.o -o attention_f32
//      -L$cuda/lib64 -lcudart -lstdc++ -lm
#include <stdio.h>

#include "mp_data.h"
#include "../runtime/alone.h"

// In functions that return nothing: the other checks go on.
static int failures;
static const char *algorithm = "";
#define CHECK(condition, ...) do { if (!(condition)) { \
	fprintf(stderr, "%s:%d: %s: %s: ", __FILE__, __LINE__, #condition, algorithm); \
	fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); failures++; return; } } while (0)
#include "attention_cases.h"

enum { OPERAND = 512 << 20, OPERANDS = 5 };
static const size_t most_workspace = (size_t)2 << 30;

// ---------------------------------------------------------------------------------------------------------
// What the runtime has elsewhere

void mp_broadcast(struct mp_rank *r, void *bytes, size_t n, int root)
{
	(void)r, (void)bytes, (void)n, (void)root; // there is one rank
}

// ---------------------------------------------------------------------------------------------------------

// Where each operand lies.
struct places {
	char *qkv, *o, *lse, *d_o, *dqkv;
};

static struct places places_of(const struct mp_rank *r)
{
	char *a = r->arena;
	return (struct places){a, a + (size_t)OPERAND, a + 2 * (size_t)OPERAND, a + 3 * (size_t)OPERAND, a + 4 * (size_t)OPERAND};
}

static void open_rank(struct mp_rank *r, struct mp_program *p, const struct mp_attention *table, int count, size_t workspace_bytes)
{
	void *memory;
	*p = (struct mp_program){.workspace_offset = OPERANDS * (size_t)OPERAND, .workspace_bytes = workspace_bytes, .attentions = table,
	                         .attention_count = count, .arena_bytes = OPERANDS * (size_t)OPERAND + workspace_bytes};
	*r = (struct mp_rank){.program = p, .world = 1};
	CUDA(cudaMalloc(&memory, p->arena_bytes));
	r->arena = memory;
	CUDA(cudaMemset(r->arena, 0, p->arena_bytes));
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaStreamCreateWithFlags(&r->compute, cudaStreamNonBlocking));
	mp_attention_prepare(r);
	CUDA(cudaStreamSynchronize(r->compute));
	CUDA(cudaMemset(r->arena, 0xff, p->arena_bytes)); // NaN: nothing is read before it is written
}

static void close_rank(struct mp_rank *r)
{
	mp_attention_release(r);
	CUDA(cudaStreamDestroy(r->compute));
	CUDA(cudaFree(r->arena));
}

// What dropout draws from.
static struct mp_dropped dropped(const struct mp_attention *a)
{
	static int *key;
	void *memory;
	if (!key) {
		CUDA(cudaMalloc(&memory, sizeof attention_key));
		CUDA(cudaMemcpy(memory, attention_key, sizeof attention_key, cudaMemcpyHostToDevice));
		key = memory;
	}
	return dropped_of(a, key);
}

// Forward and backward, table[0] and table[1].
static void run_both(struct mp_rank *r, const struct mp_attention *table)
{
	struct places at = places_of(r);
	mp_attention(r, &table[0], at.qkv, at.o, at.lse, dropped(table), r->compute);
	mp_attention_grad(r, &table[1], at.d_o, at.qkv, at.o, at.lse, at.dqkv, dropped(table), r->compute);
}

static void run_captured(struct mp_rank *r, const struct mp_attention *table)
{
	cudaGraph_t graph;
	cudaGraphExec_t runnable;
	CUDA(cudaStreamBeginCapture(r->compute, cudaStreamCaptureModeThreadLocal));
	run_both(r, table);
	CUDA(cudaStreamEndCapture(r->compute, &graph));
	CUDA(cudaGraphInstantiate(&runnable, graph, 0));
	CUDA(cudaGraphLaunch(runnable, r->compute));
	CUDA(cudaStreamSynchronize(r->compute));
	CUDA(cudaGraphExecDestroy(runnable));
	CUDA(cudaGraphDestroy(graph));
}

// What a run gives, on the host: o, lse and the gradient one behind the other.
static char *run_on(struct mp_rank *r, const struct mp_attention *table, const void *qkv, const void *d_o, bool captured)
{
	struct places at = places_of(r);
	size_t bytes = attention_bytes(TYPE), o = count_o(table) * bytes, lse = count_lse(table) * sizeof(float), n = count_qkv(table) * bytes;
	char *result = malloc(o + lse + n);
	CUDA(cudaMemset(at.o, 0xff, o));
	CUDA(cudaMemset(at.lse, 0xff, lse));
	CUDA(cudaMemset(at.dqkv, 0xff, n));
	CUDA(cudaMemcpy(at.qkv, qkv, n, cudaMemcpyHostToDevice));
	CUDA(cudaMemcpy(at.d_o, d_o, o, cudaMemcpyHostToDevice));
	CUDA(cudaDeviceSynchronize());
	if (captured)
		run_captured(r, table);
	else
		run_both(r, table);
	CUDA(cudaStreamSynchronize(r->compute));
	CUDA(cudaMemcpy(result, at.o, o, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(result + o, at.lse, lse, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(result + o + lse, at.dqkv, n, cudaMemcpyDeviceToHost));
	return result;
}

static void compare(const struct mp_attention *a, const struct attention_result *expected, const char *result)
{
	double share = (TYPE == MP_BF16 ? 1.6e-2 : 3e-6) / (1 - a->dropout);
	size_t bytes = attention_bytes(TYPE), o = count_o(a) * bytes, lse = count_lse(a) * sizeof(float);
	check_elements(a, "o", expected->o, result, TYPE, count_o(a), share);
	check_elements(a, "lse", expected->lse, result + o, MP_F32, count_lse(a), TYPE == MP_BF16 ? 1e-4 : 3e-6);
	check_elements(a, "dqkv", expected->dqkv, result + o + lse, TYPE, count_qkv(a), share);
}

static void check_attention(const int shape[5], double dropout)
{
	struct mp_attention table[4] = {attention_of(shape, false, TYPE, dropout), attention_of(shape, true, TYPE, dropout)};
	struct mp_program program;
	struct mp_rank rank;
	size_t bytes = attention_bytes(TYPE), size = count_o(table) * bytes + count_lse(table) * sizeof(float) + count_qkv(table) * bytes;
	void *qkv = random_elements(TYPE, count_qkv(table), 1), *d_o = random_elements(TYPE, count_o(table), 2);
	struct attention_result expected = expect_attention(table, qkv, d_o);

	table[2] = table[0]; // in slices: two units at a time, of three or more perhaps one at the end
	table[3] = table[1];
	table[2].slice = table[3].slice = table[0].slice > 2 ? 2 : 1;
	open_rank(&rank, &program, table, 4, most_workspace);
	char *first = run_on(&rank, table, qkv, d_o, false);
	for (int slices = 0; slices < 2; slices++) {
		algorithm = slices ? "in slices" : "all at once";
		char *before = slices ? run_on(&rank, table + 2, qkv, d_o, false) : first;
		compare(table, &expected, before);
		for (int captured = 0; captured < 2; captured++) {
			char *again = run_on(&rank, table + 2 * slices, qkv, d_o, captured);
			CHECK(!memcmp(before, again, size), "tokens %d batch %d groups %d queries %d size %d: a %s run gives other bits", shape[0], shape[1],
			      shape[2], shape[3], shape[4], captured ? "captured" : "second");
			free(again);
		}
		if (slices)
			free(before);
	}
	if (TYPE == MP_BF16 && shape[4] == 64 && dropout == 0) {
		algorithm = "in slices of its own"; // which the workspace has room for, as gen/plan/attention.c counts: two units
		size_t rows = (size_t)(shape[0] + 127) / 128 * 128 * (size_t)shape[3], two = 2 * rows * (66 * sizeof(float) + 1);
		close_rank(&rank);
		open_rank(&rank, &program, table, 2, two);
		char *again = run_on(&rank, table, qkv, d_o, false);
		CHECK(!memcmp(first, again, size), "tokens %d batch %d groups %d queries %d: other bits", shape[0], shape[1], shape[2], shape[3]);
		free(again);
	}
	algorithm = "in any order";
	table[0].any_order = table[1].any_order = TYPE == MP_BF16; // the fastest engines, and the algorithm without an order
	close_rank(&rank);
	open_rank(&rank, &program, table, 2, most_workspace);
	char *unordered = run_on(&rank, table, qkv, d_o, false);
	compare(table, &expected, unordered);
	close_rank(&rank);
	free(unordered);
	free(first);
	free(qkv);
	free(d_o);
	free_attention(&expected);
}

// Larger gradients, of more items than there are multiprocessors, give the same bits again and again.
static void check_again(const int shape[5])
{
	const int runs = TYPE == MP_BF16 ? 100 : 3;
	struct mp_attention table[2] = {attention_of(shape, false, TYPE, 0), attention_of(shape, true, TYPE, 0)};
	struct mp_program program;
	struct mp_rank rank;
	size_t bytes = attention_bytes(TYPE), n = count_qkv(table) * bytes, size = count_o(table) * bytes + count_lse(table) * sizeof(float) + n;
	void *qkv = random_elements(TYPE, count_qkv(table), 1), *d_o = random_elements(TYPE, count_o(table), 2);
	open_rank(&rank, &program, table, 2, most_workspace);
	char *first = run_on(&rank, table, qkv, d_o, false), *gradient = first + size - n, *again = malloc(n);
	algorithm = "again";
	for (int run = 0; run < runs; run++) {
		run_both(&rank, table);
		CUDA(cudaStreamSynchronize(rank.compute));
		CUDA(cudaMemcpy(again, places_of(&rank).dqkv, n, cudaMemcpyDeviceToHost));
		CHECK(!memcmp(gradient, again, n), "tokens %d batch %d groups %d queries %d: other bits in run %d", shape[0], shape[1], shape[2], shape[3], run);
	}
	close_rank(&rank);
	free(again);
	free(first);
	free(qkv);
	free(d_o);
}

// ---------------------------------------------------------------------------------------------------------

static double seconds(struct mp_rank *r, const struct mp_attention *table, bool gradient)
{
	struct places at = places_of(r);
	enum { RUNS = 20 };
	cudaEvent_t begin, end;
	float ms;
	CUDA(cudaEventCreate(&begin));
	CUDA(cudaEventCreate(&end));
	for (int run = -3; run < RUNS; run++) {
		if (run == 0)
			CUDA(cudaEventRecord(begin, r->compute));
		if (gradient)
			mp_attention_grad(r, &table[1], at.d_o, at.qkv, at.o, at.lse, at.dqkv, dropped(table), r->compute);
		else
			mp_attention(r, &table[0], at.qkv, at.o, at.lse, dropped(table), r->compute);
	}
	CUDA(cudaEventRecord(end, r->compute));
	CUDA(cudaEventSynchronize(end));
	CUDA(cudaEventElapsedTime(&ms, begin, end));
	CUDA(cudaEventDestroy(begin));
	CUDA(cudaEventDestroy(end));
	return ms / 1e3 / RUNS;
}

// Half of the scores count, as in the papers.
static void measure(const int shape[5], int slice, bool atomics, double dropout)
{
	struct mp_attention table[2] = {attention_of(shape, false, TYPE, dropout), attention_of(shape, true, TYPE, dropout)};
	struct mp_program program;
	struct mp_rank rank;
	double product = (double)count_o(table) * shape[0]; // operations of one, half of the scores counted
	table[1].slice = slice ? slice : table[1].slice;
	table[0].slice = dropout > 0 ? table[1].slice : table[0].slice;
	table[0].any_order = table[1].any_order = atomics; // and the fastest engines
	open_rank(&rank, &program, table, 2, most_workspace);
	struct places at = places_of(&rank);
	void *qkv = random_elements(TYPE, count_qkv(table), 1);
	CHECK(count_qkv(table) * attention_bytes(TYPE) <= OPERAND, "the arena is too small");
	CUDA(cudaMemcpy(at.qkv, qkv, count_qkv(table) * attention_bytes(TYPE), cudaMemcpyHostToDevice));
	CUDA(cudaMemcpy(at.d_o, qkv, count_o(table) * attention_bytes(TYPE), cudaMemcpyHostToDevice));
	double forward = seconds(&rank, table, false), gradient = seconds(&rank, table, true);
	printf("tokens %5d batch %2d groups %2d queries %d size %3d: forward %8.3f ms %6.1f TFLOP/s, gradient%s%s of %3d units at once %8.3f ms "
	       "%6.1f TFLOP/s\n", shape[0], shape[1], shape[2], shape[3], shape[4], forward * 1e3, 2 * product / forward / 1e12,
	       atomics ? " with atomics" : "", dropout > 0 ? " and dropout" : "", table[1].slice, gradient * 1e3, 5 * product / gradient / 1e12);
	fflush(stdout);
	close_rank(&rank);
	free(qkv);
}

int main(void)
{
	static const int many[][5] = {{1024, 8, 25, 1, 64}, {2048, 4, 8, 4, 64}, {384, 30, 10, 1, 64}};
	static const int fast[][5] = {{1024, 16, 12, 1, 64}, {1024, 8, 25, 1, 64}, {2048, 4, 8, 4, 128}, {4096, 2, 8, 4, 128}, {2048, 8, 16, 1, 128}};
	for (int s = 0; s < ATTENTION_SHAPES; s++)
		for (int drops = 0; drops < 2; drops++)
			check_attention(attention_shapes[s], 0.3 * drops);
	for (size_t s = 0; s < sizeof many / sizeof *many; s++)
		check_again(many[s]);
	printf("attention in %s: %d shapes, %d failures\n", TYPE == MP_BF16 ? "bf16" : "f32", ATTENTION_SHAPES, failures);
	fflush(stdout);
	for (size_t s = 0; s < sizeof fast / sizeof *fast; s++) {
		measure(fast[s], 0, false, 0);
		size_t of_unit = 2 * (size_t)fast[s][3] * (size_t)fast[s][0] * (size_t)fast[s][0], fit = ((size_t)256 << 20) / of_unit;
		if (TYPE != MP_BF16)
			continue;
		if (fit < (size_t)fast[s][1] * (size_t)fast[s][2])
			measure(fast[s], fit ? (int)fit : 1, false, 0);
		measure(fast[s], 0, true, 0);
		measure(fast[s], fit > 2 ? (int)fit / 2 : 1, true, 0.1);
	}
	return failures > 0;
}
