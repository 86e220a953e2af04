// gemm.c: mp_gemm on the CPU.
//
// OpenBLAS computes the product; the epilogue is a loop over rows afterwards. One thread each: ranks are
// threads already, and a fixed number of threads keeps the order of summation, hence the bits, the same on every
// rank. There is nothing to plan: equal shapes take equal paths.
//
// OpenBLAS has no bf16 that every processor can do. Such operands are widened to f32 a tile at a time, the tiles' products
// summed in f32, and each tile of the result rounded once.
#include "activations.h"
#include "bf16.h"
#include "mp.h"
#include "mp_host.h"

#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

void openblas_set_num_threads(int count);

void mp_gemm_prepare(struct mp_rank *r);
void mp_gemm_release(struct mp_rank *r);

enum { TILE = 512, DEEP_TILE = 1024 };  // of rows and columns of the result, and of what is summed

// A rank's thread executes each of its operations to the end, whatever their streams: they can share this.
struct mp_gemm_plan {
	float a[TILE * DEEP_TILE], b[TILE * DEEP_TILE], c[TILE * TILE], before[TILE * TILE], bias[TILE];
};

struct gemm_call {
	const struct mp_gemm *gemm;
	const void *a, *b, *bias;
	void *before, *c;               // before: what the activation reads, written or read; NULL: nothing
	bool accumulate;
	struct mp_gemm_plan *tiles;
};

static pthread_once_t single_thread_once = PTHREAD_ONCE_INIT;

static void use_single_thread(void)
{
	openblas_set_num_threads(1);
}

// What happens to a product behind its sum.
struct epilogue {
	bool bias, relu, gelu, gelu_grad;
};

static struct epilogue epilogue_of(const struct gemm_call *call)
{
	static const struct epilogue epilogues[] = {
		[MP_BIAS] = {.bias = true}, [MP_RELU] = {.relu = true}, [MP_BIAS_RELU] = {.bias = true, .relu = true},
		[MP_GELU] = {.gelu = true}, [MP_BIAS_GELU] = {.bias = true, .gelu = true}, [MP_GELU_AUX] = {.gelu = true},
		[MP_BIAS_GELU_AUX] = {.bias = true, .gelu = true}, [MP_GELU_GRAD] = {.gelu_grad = true},
	};
	return call->accumulate ? epilogues[MP_NO_EPILOGUE] : epilogues[call->gemm->epilogue];
}

// Row after row, so that each is still in a cache. Rows of `before` are as far apart as those of c.
#define EPILOGUE(TYPE) \
	static void finish_row_##TYPE(TYPE *restrict c, const TYPE *bias, TYPE *before, struct epilogue e, int n) \
	{ \
		if (e.bias && e.relu) \
			for (int j = 0; j < n; j++) { \
				TYPE x = c[j] + bias[j]; \
				c[j] = x < 0 ? 0 : x; /* keeps NaN */ \
			} \
		else if (e.bias) \
			for (int j = 0; j < n; j++) \
				c[j] += bias[j]; \
		else if (e.relu) \
			for (int j = 0; j < n; j++) \
				c[j] = c[j] < 0 ? 0 : c[j]; \
		if (e.gelu && before) \
			memcpy(before, c, (size_t)n * sizeof *c); \
		if (e.gelu) \
			mp_gelu_##TYPE(c, (size_t)n); \
		if (e.gelu_grad) \
			mp_gelu_grad_##TYPE(c, before, (size_t)n); \
	} \
	static void finish_##TYPE(TYPE *c, const TYPE *bias, TYPE *before, struct epilogue e, int m, int n) \
	{ \
		if (e.bias || e.relu || e.gelu || e.gelu_grad) \
			for (size_t i = 0, row = (size_t)n; i < (size_t)m * row; i += row) \
				finish_row_##TYPE(c + i, bias, before ? before + i : NULL, e, n); \
	}

EPILOGUE(float)
EPILOGUE(double)

static int smaller(int a, int b)
{
	return a < b ? a : b;
}

// Rows and columns from (row, column) on of a bf16 matrix, side by side in f32.
static void widen(float *tile, const void *matrix, int row, int column, int rows, int columns, int width)
{
	const mp_bf16 *from = (const mp_bf16 *)matrix + (size_t)row * (size_t)width + (size_t)column;
	for (int i = 0; i < rows; i++, tile += columns, from += width)
		mp_bf16_widen(tile, from, (size_t)columns);
}

// Where a tile goes in a matrix of the result's extents, or, with add, is added.
static void put_tile(const struct mp_gemm *g, void *matrix, const float *tile, bool add, int row, int column, int rows, int columns)
{
	for (int i = 0; i < rows; i++, tile += columns) {
		size_t at = (size_t)(row + i) * (size_t)g->n + (size_t)column;
		if (g->out == MP_BF16)
			mp_bf16_round((mp_bf16 *)matrix + at, tile, (size_t)columns);
		else
			for (int j = 0; j < columns; j++)
				((float *)matrix)[at + (size_t)j] = add ? ((float *)matrix)[at + (size_t)j] + tile[j] : tile[j];
	}
}

// Of such a matrix, which has the result's type.
static void take_tile(const struct mp_gemm *g, float *tile, const void *matrix, int row, int column, int rows, int columns)
{
	if (g->out == MP_BF16) {
		widen(tile, matrix, row, column, rows, columns, g->n);
		return;
	}
	for (int i = 0; i < rows; i++, tile += columns)
		memcpy(tile, (const float *)matrix + (size_t)(row + i) * (size_t)g->n + (size_t)column, (size_t)columns * sizeof *tile);
}

// One tile of the result of bf16 operands. A result in bf16 that accumulates starts from what is there.
static void multiply_tile(const struct gemm_call *call, int row, int column, int rows, int columns)
{
	const struct mp_gemm *g = call->gemm;
	struct mp_gemm_plan *t = call->tiles;
	bool ta = g->transpose == MP_TN, tb = g->transpose == MP_NT, add = call->accumulate && g->out == MP_BF16;
	if (add)
		widen(t->c, call->c, row, column, rows, columns, g->n);
	else
		memset(t->c, 0, (size_t)rows * (size_t)columns * sizeof *t->c);
	for (int k = 0; k < g->k; k += DEEP_TILE) {
		int deep = smaller(g->k - k, DEEP_TILE);
		if (ta)
			widen(t->a, call->a, k, row, deep, rows, g->m);
		else
			widen(t->a, call->a, row, k, rows, deep, g->k);
		if (tb)
			widen(t->b, call->b, column, k, columns, deep, g->k);
		else
			widen(t->b, call->b, k, column, deep, columns, g->n);
		cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, rows, columns, deep, 1,
		            t->a, ta ? rows : deep, t->b, tb ? deep : columns, 1, t->c, columns);
	}
}

static void multiply_bf16(const struct gemm_call *call, struct epilogue e)
{
	const struct mp_gemm *g = call->gemm;
	struct mp_gemm_plan *t = call->tiles;
	for (int column = 0; column < g->n; column += TILE) {
		int columns = smaller(g->n - column, TILE);
		if (e.bias)
			take_tile(g, t->bias, call->bias, 0, column, 1, columns);
		for (int row = 0; row < g->m; row += TILE) {
			int rows = smaller(g->m - row, TILE);
			multiply_tile(call, row, column, rows, columns);
			if (e.gelu_grad)
				take_tile(g, t->before, call->before, row, column, rows, columns);
			finish_float(t->c, t->bias, call->before ? t->before : NULL, e, rows, columns);
			if (e.gelu && call->before)
				put_tile(g, call->before, t->before, false, row, column, rows, columns);
			put_tile(g, call->c, t->c, call->accumulate, row, column, rows, columns);
		}
	}
}

static void run_gemm(void *closure)
{
	const struct gemm_call *call = closure;
	const struct mp_gemm *g = call->gemm;
	CBLAS_TRANSPOSE ta = g->transpose == MP_TN ? CblasTrans : CblasNoTrans;
	CBLAS_TRANSPOSE tb = g->transpose == MP_NT ? CblasTrans : CblasNoTrans;
	int lda = g->transpose == MP_TN ? g->m : g->k, ldb = g->transpose == MP_NT ? g->k : g->n;
	struct epilogue e = epilogue_of(call);
	if (g->m == 0 || g->n == 0)
		return;
	if (g->type == MP_BF16) {
		multiply_bf16(call, e);
		return;
	}
	// BLAS wants leading dimensions of at least 1 even where nothing is summed.
	lda = lda > 0 ? lda : 1;
	ldb = ldb > 0 ? ldb : 1;
	if (g->type == MP_F64) {
		cblas_dgemm(CblasRowMajor, ta, tb, g->m, g->n, g->k, 1, call->a, lda, call->b, ldb, call->accumulate,
		            call->c, g->n);
		finish_double(call->c, call->bias, call->before, e, g->m, g->n);
	} else {
		cblas_sgemm(CblasRowMajor, ta, tb, g->m, g->n, g->k, 1, call->a, lda, call->b, ldb, call->accumulate,
		            call->c, g->n);
		finish_float(call->c, call->bias, call->before, e, g->m, g->n);
	}
}

void mp_gemm(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *bias,
             void *c, bool accumulate, cudaStream_t stream)
{
	struct gemm_call call = {gemm, a, b, bias, NULL, c, accumulate, r->gemm_plans};
	mp_host_enqueue(stream, gemm->name, run_gemm, &call, sizeof call);
}

void mp_gemm_keep(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *bias, void *before,
                  void *c, cudaStream_t stream)
{
	struct gemm_call call = {gemm, a, b, bias, before, c, false, r->gemm_plans};
	mp_host_enqueue(stream, gemm->name, run_gemm, &call, sizeof call);
}

void mp_gemm_grad(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *before, void *c,
                  cudaStream_t stream)
{
	struct gemm_call call = {gemm, a, b, NULL, (void *)before, c, false, r->gemm_plans}; // reads `before` only
	mp_host_enqueue(stream, gemm->name, run_gemm, &call, sizeof call);
}

void mp_gemm_prepare(struct mp_rank *r)
{
	bool bf16 = false;
	for (int i = 0; i < r->program->gemm_count; i++)
		bf16 |= r->program->gemms[i].type == MP_BF16;
	r->gemm_plans = bf16 ? malloc(sizeof *r->gemm_plans) : NULL;
	if (bf16 && !r->gemm_plans) {
		fprintf(stderr, "mp_host: no memory for %zu bytes of tiles of a matrix product\n", sizeof *r->gemm_plans);
		abort();
	}
	pthread_once(&single_thread_once, use_single_thread);
}

void mp_gemm_release(struct mp_rank *r)
{
	free(r->gemm_plans);
}
