// gemm.c: mp_gemm on the CPU.
//
// OpenBLAS computes the product; the epilogue is a loop over rows afterwards. One thread each: ranks are
// threads already, and a fixed number of threads keeps the order of summation, hence the bits, the same on every
// rank. There is nothing to plan: equal shapes take equal paths.
#include "mp.h"
#include "mp_host.h"

#include <cblas.h>
#include <pthread.h>

void openblas_set_num_threads(int count);

void mp_gemm_prepare(struct mp_rank *r);
void mp_gemm_release(struct mp_rank *r);

struct gemm_call {
	const struct mp_gemm *gemm;
	const void *a, *b, *bias;
	void *c;
	bool accumulate;
};

static pthread_once_t single_thread_once = PTHREAD_ONCE_INIT;

static void use_single_thread(void)
{
	openblas_set_num_threads(1);
}

#define EPILOGUE(NAME, TYPE) \
	static void NAME(TYPE *c, const TYPE *bias, bool relu, int m, int n) \
	{ \
		for (int i = 0; i < m; i++) { \
			TYPE *restrict row = c + (size_t)i * (size_t)n; \
			if (bias && relu) \
				for (int j = 0; j < n; j++) { \
					TYPE x = row[j] + bias[j]; \
					row[j] = x < 0 ? 0 : x; /* keeps NaN */ \
				} \
			else if (bias) \
				for (int j = 0; j < n; j++) \
					row[j] += bias[j]; \
			else if (relu) \
				for (int j = 0; j < n; j++) \
					row[j] = row[j] < 0 ? 0 : row[j]; \
		} \
	}

EPILOGUE(epilogue_float, float)
EPILOGUE(epilogue_double, double)

static void run_gemm(void *closure)
{
	const struct gemm_call *call = closure;
	const struct mp_gemm *g = call->gemm;
	CBLAS_TRANSPOSE ta = g->transpose == MP_TN ? CblasTrans : CblasNoTrans;
	CBLAS_TRANSPOSE tb = g->transpose == MP_NT ? CblasTrans : CblasNoTrans;
	int lda = g->transpose == MP_TN ? g->m : g->k, ldb = g->transpose == MP_NT ? g->k : g->n;
	bool relu = !call->accumulate && (g->epilogue == MP_RELU || g->epilogue == MP_BIAS_RELU);
	bool bias = !call->accumulate && (g->epilogue == MP_BIAS || g->epilogue == MP_BIAS_RELU);
	if (g->m == 0 || g->n == 0)
		return;
	// BLAS wants leading dimensions of at least 1 even where nothing is summed.
	lda = lda > 0 ? lda : 1;
	ldb = ldb > 0 ? ldb : 1;
	if (g->type == MP_F64) {
		cblas_dgemm(CblasRowMajor, ta, tb, g->m, g->n, g->k, 1, call->a, lda, call->b, ldb, call->accumulate,
		            call->c, g->n);
		epilogue_double(call->c, bias ? call->bias : NULL, relu, g->m, g->n);
	} else {
		cblas_sgemm(CblasRowMajor, ta, tb, g->m, g->n, g->k, 1, call->a, lda, call->b, ldb, call->accumulate,
		            call->c, g->n);
		epilogue_float(call->c, bias ? call->bias : NULL, relu, g->m, g->n);
	}
}

void mp_gemm(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *bias,
             void *c, bool accumulate, cudaStream_t stream)
{
	struct gemm_call call = {gemm, a, b, bias, c, accumulate};
	(void)r;
	mp_host_enqueue(stream, gemm->name, run_gemm, &call, sizeof call);
}

void mp_gemm_prepare(struct mp_rank *r)
{
	r->gemm_plans = NULL;
	pthread_once(&single_thread_once, use_single_thread);
}

void mp_gemm_release(struct mp_rank *r)
{
	(void)r;
}
