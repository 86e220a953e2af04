// The host's mp_gemm against three loops: all transposes, epilogues, types, with accumulation and on a stream.
//   cc -std=c11 -Wall -Wextra -Werror -g -O2 -Iruntime/host -Iruntime tests/host/gemm_test.c tests/host/test.c
//      runtime/host/{device,event,memory,trace,errors,comm,group,collective,reduce,gemm}.c activations.o
//      -lopenblas -lm -lpthread -lstdc++ -o gemm_test
#include "test.h"
#undef CUDA     // mp.h has its own, which need the runtime
#undef NCCL
#include "mp.h"

#include <math.h>

#undef CUDA
#define CUDA(call) CHECK((call) == cudaSuccess, "CUDA")

void mp_gemm_prepare(struct mp_rank *r);
void mp_gemm_release(struct mp_rank *r);

static size_t bytes_of(enum mp_type type)
{
	return type == MP_F64 ? 8 : type == MP_F32 ? 4 : 2;
}

static double at(const void *x, enum mp_type type, size_t i)
{
	if (type == MP_F64)
		return ((const double *)x)[i];
	if (type == MP_F32)
		return (double)((const float *)x)[i];
	uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
	float value;
	memcpy(&value, &bits, sizeof value);
	return (double)value;
}

static void put(void *x, enum mp_type type, size_t i, double value)
{
	float small = (float)value;
	uint32_t bits;
	memcpy(&bits, &small, sizeof bits);
	if (type == MP_F64)
		((double *)x)[i] = value;
	else if (type == MP_F32)
		((float *)x)[i] = small;
	else
		((uint16_t *)x)[i] = (uint16_t)(bits >> 16);
}

static void fill(void *x, enum mp_type type, size_t count, unsigned seed)
{
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525 + 1013904223;
		put(x, type, i, (double)(seed >> 8) / (1 << 23) - 1);
	}
}

static bool has_bias(const struct mp_gemm *g)
{
	return g->epilogue == MP_BIAS || g->epilogue == MP_BIAS_RELU || g->epilogue == MP_BIAS_GELU || g->epilogue == MP_BIAS_GELU_AUX;
}

static bool keeps(const struct mp_gemm *g)
{
	return g->epilogue == MP_GELU_AUX || g->epilogue == MP_BIAS_GELU_AUX;
}

static double gelu(double x)
{
	return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double gelu_slope(double x)
{
	double step = 1e-6;
	return (gelu(x + step) - gelu(x - step)) / (2 * step);
}

// The sum and its bias: what the activation reads.
static double before_activation(const struct mp_gemm *g, const void *a, const void *b, const void *bias, double before,
                                bool accumulate, int i, int j)
{
	double sum = accumulate ? before : 0;
	for (int p = 0; p < g->k; p++) {
		size_t ia = g->transpose == MP_TN ? (size_t)p * g->m + i : (size_t)i * g->k + p;
		size_t ib = g->transpose == MP_NT ? (size_t)j * g->k + p : (size_t)p * g->n + j;
		sum += at(a, g->type, ia) * at(b, g->type, ib);
	}
	return !accumulate && has_bias(g) ? sum + at(bias, g->out, j) : sum;
}

static double activated(const struct mp_gemm *g, double sum, bool accumulate, double slope_at)
{
	if (accumulate)
		return sum;
	switch (g->epilogue) {
	case MP_RELU: case MP_BIAS_RELU: return sum > 0 ? sum : 0;
	case MP_GELU: case MP_BIAS_GELU: case MP_GELU_AUX: case MP_BIAS_GELU_AUX: return gelu(sum);
	case MP_GELU_GRAD: return sum * gelu_slope(slope_at);
	default: return sum;
	}
}

// How far a result may be from the sum: rounding while summing, and once to bf16.
static double limit(const struct mp_gemm *g, double want)
{
	double each = g->type == MP_F64 ? g->epilogue == MP_GELU_GRAD ? 1e-9 : 1e-13 : 1e-5; // the slope comes from a difference
	return each * (g->k + 1) + (g->out == MP_BF16 ? fabs(want) / 256 : 0);
}

struct operands {
	void *a, *b, *bias, *kept, *c;
	void *before;           // copies of c, and where the slope is taken of `kept`, from before the call
	void *slope_at;
};

static void compare(const struct mp_gemm *g, const struct operands *o, bool accumulate)
{
	for (int i = 0; i < g->m; i++)
		for (int j = 0; j < g->n; j++) {
			size_t ij = (size_t)i * g->n + j;
			double sum = before_activation(g, o->a, o->b, o->bias, at(o->before, g->out, ij), accumulate, i, j);
			double want = activated(g, sum, accumulate, at(o->slope_at, g->out, ij)), got = at(o->c, g->out, ij), kept = at(o->kept, g->out, ij);
			CHECK(fabs(got - want) <= limit(g, want), "%dx%dx%d transpose %d epilogue %d type %d out %d: [%d,%d] %g, expected %g",
			      g->m, g->n, g->k, g->transpose, g->epilogue, g->type, g->out, i, j, got, want);
			if (keeps(g))
				CHECK(fabs(kept - sum) <= limit(g, sum), "%dx%dx%d epilogue %d type %d: keeps %g at [%d,%d], expected %g",
				      g->m, g->n, g->k, g->epilogue, g->type, kept, i, j, sum);
			else
				CHECK(kept == at(o->slope_at, g->out, ij), "epilogue %d overwrote what the slope is taken at", g->epilogue);
		}
}

static void *copy_of(const void *bytes, size_t n)
{
	return memcpy(malloc(n ? n : 1), bytes, n);
}

static void check_gemm(const struct mp_gemm *g, bool accumulate)
{
	size_t in = bytes_of(g->type), out = bytes_of(g->out), count = (size_t)g->m * g->n;
	struct mp_program program = {.gemms = g, .gemm_count = 1};
	struct mp_rank rank = {.program = &program};
	mp_gemm_prepare(&rank);
	struct operands o = {device_memory((size_t)g->m * g->k * in), device_memory((size_t)g->k * g->n * in), device_memory(g->n * out),
	                     device_memory(count * out), device_memory(count * out), NULL, NULL};
	cudaStream_t stream = new_stream();
	fill(o.a, g->type, (size_t)g->m * g->k, 1);
	fill(o.b, g->type, (size_t)g->k * g->n, 2);
	fill(o.bias, g->out, g->n, 3);
	fill(o.c, g->out, count, 4);
	fill(o.kept, g->out, count, 5);
	if (!accumulate)
		put(o.c, g->out, 0, NAN); // what was there must not matter
	if (keeps(g))
		put(o.kept, g->out, count - 1, NAN);
	o.before = copy_of(o.c, count * out);
	o.slope_at = copy_of(o.kept, count * out);
	if (keeps(g))
		mp_gemm_keep(&rank, g, o.a, o.b, o.bias, o.kept, o.c, stream);
	else if (g->epilogue == MP_GELU_GRAD)
		mp_gemm_grad(&rank, g, o.a, o.b, o.kept, o.c, stream);
	else
		mp_gemm(&rank, g, o.a, o.b, o.bias, o.c, accumulate, stream);
	CUDA(cudaStreamSynchronize(stream));
	compare(g, &o, accumulate);
	mp_gemm_release(&rank);
	CUDA(cudaStreamDestroy(stream));
	void *device[] = {o.a, o.b, o.bias, o.kept, o.c};
	for (size_t i = 0; i < sizeof device / sizeof *device; i++)
		CUDA(cudaFree(device[i]));
	free(o.before);
	free(o.slope_at);
}

// All transposes and epilogues of a shape.
static void check_shape(const int shape[3], enum mp_type type, enum mp_type out)
{
	for (int transpose = MP_NN; transpose <= MP_TN; transpose++) {
		struct mp_gemm g = {"gemm", shape[0], shape[1], shape[2], (enum mp_transpose)transpose, MP_NO_EPILOGUE, type, out, false, 16};
		check_gemm(&g, true);
		for (int e = MP_NO_EPILOGUE; e <= MP_GELU_GRAD; e++) {
			g.epilogue = (enum mp_epilogue)e;
			check_gemm(&g, false);
		}
	}
}

static void gemm(void)
{
	static const int shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {16, 33, 20}, {65, 10, 130}, {4, 6, 0}};
	static const enum mp_type types[][2] = {{MP_F32, MP_F32}, {MP_F64, MP_F64}, {MP_BF16, MP_BF16}, {MP_BF16, MP_F32}};
	for (size_t t = 0; t < sizeof types / sizeof *types; t++)
		for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
			check_shape(shapes[s], types[t][0], types[t][1]);
}

// Operands of bf16 that are more than one tile.
static void tiles(void)
{
	check_shape((int[]){3, 530, 70}, MP_BF16, MP_BF16);
	check_shape((int[]){530, 3, 70}, MP_BF16, MP_F32);
	check_shape((int[]){5, 6, 2100}, MP_BF16, MP_BF16);
}

int main(void)
{
	run_case("gemm", gemm);
	run_case("tiles", tiles);
	return 0;
}
