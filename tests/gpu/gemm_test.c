// mp_gemm and its kin against plain loops: transposes, types, epilogues, accumulation; then the same by the algorithms that --tune
// finds, and by those of the file that it wrote, which must give the same bits; a file of another library is not used. Says how far
// GELU is from the truth. --large: products that take so long that --tune tries variants of candidates, those in bf16 that programs have, each
// compared at some thousand places. tests/gpu/run builds it and runs both on a GPU:
//   cc -std=c11 -O2 -Iruntime -I$cuda/include tests/gpu/gemm_test.c runtime/cuda/gemm.c runtime/cuda/gemm_tune.c runtime/cuda/gemm_time.c runtime/tune.c
//      -o gemm_test -L$cuda/lib64 -lcublasLt -lcudart -lm
// and tests/cuda on a stand-in for the library (tests/cuda/fake).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../runtime/alone.h"

#define CHECK(condition, ...) do { if (!(condition)) { \
	fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
	fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); exit(1); } } while (0)

enum { OPERANDS = 5, GEMMS = 64 };
static int M = 56, N = 48, K = 72, step = 1; // every so many-th element is compared
static size_t operand = 1 << 20;             // bytes, of one of the arena's

// ---------------------------------------------------------------------------------------------------------
// What the runtime has elsewhere

double mp_seconds(void) { return 0; }
bool mp_any(struct mp_rank *r, bool flag) { (void)r; return flag; }
void mp_broadcast(struct mp_rank *r, void *bytes, size_t n, int root) { (void)r, (void)bytes, (void)n, (void)root; }

void mp_arena_clear(struct mp_rank *r)
{
	CUDA(cudaMemsetAsync(r->arena, 0, r->program->arena_bytes, r->compute));
	CUDA(cudaStreamSynchronize(r->compute));
}

// ---------------------------------------------------------------------------------------------------------
// A program of nothing but products

static struct mp_gemm gemms[GEMMS];
static struct mp_program program = {.name = "program_0", .gemms = gemms};

static const struct mp_program *program_of(int stage)
{
	CHECK(stage == 0, "there is one stage");
	return &program;
}

static void list_gemms(bool large)
{
	static const enum mp_type types[][2] = {{MP_F32, MP_F32}, {MP_BF16, MP_BF16}, {MP_BF16, MP_F32}};
	if (large) {
		M = 2048, N = 4096, K = 3072, step = 997;
		operand = (size_t)K * (size_t)N * sizeof(float);
	}
	program.workspace_offset = OPERANDS * operand;
	program.workspace_bytes = 32 << 20;
	program.arena_bytes = program.workspace_offset + program.workspace_bytes;
	for (int t = large; t < 3; t++)
		for (int transpose = MP_NN; transpose <= MP_TN; transpose++)
			for (int e = MP_NO_EPILOGUE; e <= MP_GELU_GRAD; e++) {
				bool activation = e >= MP_GELU, emitted = e == MP_NO_EPILOGUE || transpose == (e == MP_GELU_GRAD ? MP_NN : MP_NT);
				if (!emitted || (activation && t == 2) || (large && t == 2 && transpose != MP_TN))
					continue;
				gemms[program.gemm_count++] = (struct mp_gemm){"product", M, N, K, (enum mp_transpose)transpose, (enum mp_epilogue)e, types[t][0],
				                                               types[t][1], false, 16};
			}
}

static void open_rank(struct mp_rank *r, const char *tune)
{
	static struct mp_model model = {.name = "gemm_test", .axis = {1, 1, 1}, .program = program_of};
	static struct mp_options options;
	void *memory;
	options = (struct mp_options){.tune = tune};
	*r = (struct mp_rank){.program = &program, .model = &model, .options = &options};
	CUDA(cudaMalloc(&memory, program.arena_bytes));
	r->arena = memory;
	CUDA(cudaStreamCreateWithFlags(&r->compute, cudaStreamNonBlocking));
	mp_arena_clear(r);
	mp_gemm_prepare(r);
	if (tune)
		mp_gemm_tune(r);
	CUDA(cudaStreamSynchronize(r->compute));
}

static void close_rank(struct mp_rank *r)
{
	mp_gemm_release(r);
	CUDA(cudaStreamDestroy(r->compute));
	CUDA(cudaFree(r->arena));
}

// ---------------------------------------------------------------------------------------------------------
// Numbers

static double at(const void *x, enum mp_type type, size_t i)
{
	uint32_t bits;
	float value;
	if (type == MP_F32)
		return (double)((const float *)x)[i];
	bits = (uint32_t)((const uint16_t *)x)[i] << 16;
	memcpy(&value, &bits, sizeof value);
	return (double)value;
}

// From -size to size.
static void *numbers(enum mp_type type, size_t count, double size, unsigned seed)
{
	char *x = mp_allocate(count * mp_type_bytes(type));
	for (size_t i = 0; i < count; i++) {
		uint32_t bits;
		seed = seed * 1664525 + 1013904223;
		float value = (float)(size * ((double)(seed >> 8) / (1 << 23) - 1));
		memcpy(&bits, &value, sizeof bits);
		if (type == MP_F32)
			((float *)(void *)x)[i] = value;
		else
			((uint16_t *)(void *)x)[i] = (uint16_t)(bits >> 16);
	}
	return x;
}

static double gelu(double x, bool slope)
{
	double c = sqrt(2 / 3.14159265358979323846), t = tanh(c * (x + 0.044715 * x * x * x));
	return slope ? (1 + t) / 2 + x / 2 * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x) : x / 2 * (1 + t);
}

// Operands on the host, and what the product gives: result, then what it keeps.
struct example {
	const struct mp_gemm *gemm;
	void *a, *b, *bias, *before, *c;
	bool accumulate;
};

static bool has_bias(const struct mp_gemm *g)
{
	return g->epilogue == MP_BIAS || g->epilogue == MP_BIAS_RELU || g->epilogue == MP_BIAS_GELU || g->epilogue == MP_BIAS_GELU_AUX;
}

static bool keeps(const struct mp_gemm *g)
{
	return g->epilogue == MP_GELU_AUX || g->epilogue == MP_BIAS_GELU_AUX;
}

static double sum_at(const struct example *e, int i, int j)
{
	const struct mp_gemm *g = e->gemm;
	double sum = e->accumulate ? at(e->c, g->out, (size_t)i * N + j) : 0;
	for (int k = 0; k < K; k++)
		sum += at(e->a, g->type, g->transpose == MP_TN ? (size_t)k * M + i : (size_t)i * K + k)
		     * at(e->b, g->type, g->transpose == MP_NT ? (size_t)j * K + k : (size_t)k * N + j);
	return has_bias(g) && !e->accumulate ? sum + at(e->bias, g->out, j) : sum;
}

static double result_at(const struct example *e, double sum, int i, int j)
{
	switch (e->accumulate ? MP_NO_EPILOGUE : e->gemm->epilogue) {
	case MP_RELU: case MP_BIAS_RELU: return sum > 0 ? sum : 0;
	case MP_GELU: case MP_BIAS_GELU: case MP_GELU_AUX: case MP_BIAS_GELU_AUX: return gelu(sum, false);
	case MP_GELU_GRAD: return sum * gelu(at(e->before, e->gemm->out, (size_t)i * N + j), true);
	default: return sum;
	}
}

// The result and what is kept, one behind the other, as the device gives them.
static char *run_example(struct mp_rank *r, const struct example *e)
{
	const struct mp_gemm *g = e->gemm;
	size_t in = mp_type_bytes(g->type), out = mp_type_bytes(g->out), bytes = (size_t)M * (size_t)N * out;
	char *a = r->arena, *b = a + operand, *bias = b + operand, *before = bias + operand, *c = before + operand;
	char *result = mp_allocate(2 * bytes);
	const struct { char *to; const void *from; size_t bytes; } copies[] = {
		{a, e->a, (size_t)M * K * in}, {b, e->b, (size_t)N * K * in}, {bias, e->bias, (size_t)N * out}, {before, e->before, bytes}, {c, e->c, bytes},
	};
	for (int i = 0; i < 5; i++)
		CUDA(cudaMemcpyAsync(copies[i].to, copies[i].from, copies[i].bytes, cudaMemcpyHostToDevice, r->compute));
	if (keeps(g) && !e->accumulate)
		mp_gemm_keep(r, g, a, b, bias, before, c, r->compute);
	else if (g->epilogue == MP_GELU_GRAD)
		mp_gemm_grad(r, g, a, b, before, c, r->compute);
	else
		mp_gemm(r, g, a, b, has_bias(g) ? bias : NULL, c, e->accumulate, r->compute);
	CUDA(cudaMemcpyAsync(result, c, bytes, cudaMemcpyDeviceToHost, r->compute));
	CUDA(cudaMemcpyAsync(result + bytes, before, bytes, cudaMemcpyDeviceToHost, r->compute));
	CUDA(cudaStreamSynchronize(r->compute));
	return result;
}

// The largest error, relative to numbers above 1.
static double compare(const struct example *e, const char *got)
{
	const struct mp_gemm *g = e->gemm;
	double worst = 0;
	for (size_t ij = 0; ij < (size_t)M * (size_t)N; ij += (size_t)step) {
		int i = (int)(ij / (size_t)N), j = (int)(ij % (size_t)N);
		double sum = sum_at(e, i, j), want = result_at(e, sum, i, j);
		double kept = keeps(g) && !e->accumulate ? sum : at(e->before, g->out, ij);
		worst = fmax(worst, fabs(at(got, g->out, ij) - want) / fmax(1, fabs(want)));
		worst = fmax(worst, fabs(at(got, g->out, (size_t)M * (size_t)N + ij) - kept) / fmax(1, fabs(kept)));
	}
	return worst;
}

static char *check(struct mp_rank *r, const struct mp_gemm *g, bool accumulate, double *worst)
{
	size_t m = (size_t)M, n = (size_t)N, k = (size_t)K;
	struct example e = {g, numbers(g->type, m * k, 0.5, 1), numbers(g->type, n * k, 0.5, 2), numbers(g->out, n, 1, 3), numbers(g->out, m * n, 3, 4),
	                    numbers(g->out, m * n, 1, 5), accumulate};
	char *got = run_example(r, &e);
	bool rounds_twice = accumulate || g->epilogue == MP_GELU_GRAD; // the library may add parts up, or multiply by the slope, in bf16
	double limit = g->out == MP_BF16 ? (rounds_twice ? 1.0 / 100 : 1.0 / 200) :
	               g->epilogue >= MP_GELU ? 3e-5 : K > 1024 ? 1e-4 : 1e-5, error = compare(&e, got); // 3072 terms: 4.7e-5 on tensor cores
	CHECK(error <= limit, "transpose %d epilogue %d types %d %d%s: error %.2g of numbers about 1, %.2g is allowed", g->transpose, g->epilogue, g->type,
	      g->out, accumulate ? " accumulating" : "", error, limit);
	if (g->epilogue >= MP_GELU)
		*worst = fmax(*worst, error);
	void *all[] = {e.a, e.b, e.bias, e.before, e.c};
	for (int i = 0; i < 5; i++)
		free(all[i]);
	return got;
}

// What all products give, one behind the other.
static char *check_all(struct mp_rank *r)
{
	size_t each = 2 * (size_t)M * (size_t)N * sizeof(float);
	char *results = mp_allocate(2 * (size_t)program.gemm_count * each);
	double worst[2] = {0, 0};
	for (int i = 0; i < program.gemm_count; i++)
		for (int accumulate = 0; accumulate <= (gemms[i].epilogue == MP_NO_EPILOGUE); accumulate++) {
			char *got = check(r, &gemms[i], accumulate, &worst[gemms[i].out == MP_BF16]);
			memcpy(results + (size_t)(2 * i + accumulate) * each, got, 2 * (size_t)M * (size_t)N * mp_type_bytes(gemms[i].out));
			free(got);
		}
	printf("ok %d products; largest error of GELU and its gradient: f32 %.1e, bf16 %.1e\n", program.gemm_count, worst[0], worst[1]);
	fflush(stdout);
	return results;
}

static char *run_with(const char *tune)
{
	struct mp_rank rank;
	open_rank(&rank, tune);
	char *results = check_all(&rank);
	close_rank(&rank);
	return results;
}

static void change_library(const char *path)
{
	char text[1 << 16] = "";
	FILE *file = fopen(path, "r");
	size_t bytes = fread(text, 1, sizeof text - 1, file);
	fclose(file);
	char *library = strstr(text, "library cuBLASLt ");
	CHECK(library, "%s has no library", path);
	library[strlen("library cuBLASLt ")] = '9';
	file = fopen(path, "w");
	CHECK(fwrite(text, 1, bytes, file) == bytes && !fclose(file), "cannot write %s", path);
}

int main(int count, char **words)
{
	bool large = count > 1 && !strcmp(words[1], "--large");
	const char *path = count > 1 + large ? words[1 + large] : "gemm_test.tune";
	list_gemms(large);
	size_t bytes = 4 * (size_t)program.gemm_count * (size_t)M * (size_t)N * sizeof(float);
	unlink(path);
	char *first = run_with(NULL), *timed = run_with(path), *kept = run_with(path);
	CHECK(!memcmp(timed, kept, bytes), "the file's algorithms do not give the bits of those that were timed");
	printf("ok the file gives the same bits%s\n", memcmp(first, timed, bytes) ? ", which are others than the first candidates'" : "");
	change_library(path);
	char *stale = run_with(path);
	CHECK(!memcmp(first, stale, bytes), "a file of another library was used");
	printf("ok a file of another library is not used\n");
	char *all[] = {first, timed, kept, stale};
	for (int i = 0; i < 4; i++)
		free(all[i]);
	return 0;
}
