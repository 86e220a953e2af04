// mp_gemm on GPUs: cuBLASLt. Everything that takes time or choice happens once, at start: descriptors and the first
// algorithm of the heuristic for each GEMM of the program. The choice depends on shape, type, epilogue and the fixed
// workspace alone (the table promises the alignment of pointers), so that every rank makes the same one: replicated
// values must not drift apart.
//
// cuBLASLt thinks in columns. A row-major matrix is the transpose of the column-major one with the same bytes, so
// C = op(A) op(B) is asked for as C^T = op(B)^T op(A)^T: the operands change places, and a bias of n elements is added
// along the rows of C^T, as cuBLASLt's bias epilogue does.
#include "mp_run.h"

#include <cublasLt.h>
#include <stdlib.h>

struct choice {
	cublasLtMatmulDesc_t operation;
	cublasLtMatrixLayout_t first, second, result;   // of B, A and C
	cublasLtMatmulAlgo_t algorithm;
	size_t workspace;
};

struct mp_gemm_plan {
	cublasLtHandle_t library;
	struct choice *choices;                         // one for each of program->gemms
};

static cudaDataType_t data_type(enum mp_type type)
{
	return type == MP_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

#define LT(call) do { cublasStatus_t status_ = (call); \
	if (status_ != CUBLAS_STATUS_SUCCESS) lt_failed(status_, #call, __LINE__); } while (0)

MP_NORETURN static void lt_failed(cublasStatus_t status, const char *call, int line)
{
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %s", __FILE__, line, call, cublasLtGetStatusString(status));
}

static bool has_bias(const struct mp_gemm *g)
{
	return g->epilogue == MP_BIAS || g->epilogue == MP_BIAS_RELU || g->epilogue == MP_BIAS_GELU || g->epilogue == MP_BIAS_GELU_AUX;
}

// Whether there is a tensor beside the result: what its activation reads.
static bool has_aux(const struct mp_gemm *g)
{
	return g->epilogue == MP_GELU_AUX || g->epilogue == MP_BIAS_GELU_AUX || g->epilogue == MP_GELU_GRAD;
}

static cublasLtMatmulDesc_t describe(const struct mp_gemm *g, const void *some_pointer)
{
	static const cublasLtEpilogue_t epilogues[] = {
		[MP_NO_EPILOGUE] = CUBLASLT_EPILOGUE_DEFAULT, [MP_BIAS] = CUBLASLT_EPILOGUE_BIAS,
		[MP_RELU] = CUBLASLT_EPILOGUE_RELU, [MP_BIAS_RELU] = CUBLASLT_EPILOGUE_RELU_BIAS,
		[MP_GELU] = CUBLASLT_EPILOGUE_GELU, [MP_BIAS_GELU] = CUBLASLT_EPILOGUE_GELU_BIAS,
		[MP_GELU_AUX] = CUBLASLT_EPILOGUE_GELU_AUX, [MP_BIAS_GELU_AUX] = CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
		[MP_GELU_GRAD] = CUBLASLT_EPILOGUE_DGELU,
	};
	cublasLtEpilogue_t epilogue = epilogues[g->epilogue];
	cublasOperation_t first = g->transpose == MP_NT ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasOperation_t second = g->transpose == MP_TN ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasLtMatmulDesc_t d;

	LT(cublasLtMatmulDescCreate(&d, g->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
	LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
	LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
	LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
	int32_t type = data_type(g->out);
	if (has_bias(g)) { // before the heuristic, which looks at its alignment
		LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
		LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &some_pointer, sizeof some_pointer));
	}
	if (has_aux(g)) {
		int64_t row = g->n;
		LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, &type, sizeof type));
		LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &row, sizeof row));
		LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &some_pointer, sizeof some_pointer));
	}
	return d;
}

// A row-major matrix rows x columns, in cuBLASLt's eyes.
static cublasLtMatrixLayout_t layout(enum mp_type type, int rows, int columns)
{
	cublasLtMatrixLayout_t l;
	LT(cublasLtMatrixLayoutCreate(&l, data_type(type), (uint64_t)columns, (uint64_t)rows, columns));
	return l;
}

static cublasLtMatmulPreference_t preference(const struct mp_gemm *g, size_t workspace)
{
	static const cublasLtMatmulPreferenceAttributes_t pointers[] = {
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
	};
	uint32_t alignment = (uint32_t)g->alignment, reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
	cublasLtMatmulPreference_t p;

	LT(cublasLtMatmulPreferenceCreate(&p));
	if (g->type == MP_BF16) // parts of a long sum meet in f32, not in the type of the result
		LT(cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction));
	LT(cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
	for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
		LT(cublasLtMatmulPreferenceSetAttribute(p, pointers[i], &alignment, sizeof alignment));
	return p;
}

static void choose(struct mp_rank *r, const struct mp_gemm *g, struct choice *c)
{
	static const char *const transposes[] = {[MP_NN] = "NN", [MP_NT] = "NT", [MP_TN] = "TN"};
	cublasLtMatmulHeuristicResult_t found;
	int count = 0;

	if (g->type == MP_F64)
		mp_fail(MP_USAGE, "gemm %s is in f64, which exists on the host only: generate for f32, or build the target host",
		        g->name);
	cublasLtMatmulPreference_t wanted = preference(g, r->program->workspace_bytes);
	c->operation = describe(g, r->arena);
	c->first = g->transpose == MP_NT ? layout(g->type, g->n, g->k) : layout(g->type, g->k, g->n);
	c->second = g->transpose == MP_TN ? layout(g->type, g->k, g->m) : layout(g->type, g->m, g->k);
	c->result = layout(g->out, g->m, g->n);
	cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(r->gemm_plans->library, c->operation, c->first, c->second,
	                                                       c->result, c->result, wanted, 1, &found, &count);
	if (status != CUBLAS_STATUS_SUCCESS || count == 0)
		mp_fail(MP_DEVICE_FAILED, "cuBLASLt has no algorithm for gemm %s (%s, m %d, n %d, k %d, %s, epilogue %d) within a "
		        "workspace of %zu bytes: %s", g->name, transposes[g->transpose], g->m, g->n, g->k,
		        g->out == MP_BF16 ? "bf16" : g->type == MP_BF16 ? "bf16 into f32" : g->tf32 ? "f32 as tf32" : "f32",
		        g->epilogue, r->program->workspace_bytes, cublasLtGetStatusString(status));
	c->algorithm = found.algo;
	c->workspace = found.workspaceSize;
	LT(cublasLtMatmulPreferenceDestroy(wanted));
}

struct operands {
	const void *a, *b, *bias;
	const void *before;             // what the activation reads; NULL: nothing is kept
	void *c;
};

static void multiply(struct mp_rank *r, const struct mp_gemm *gemm, const struct operands *o, bool accumulate, cudaStream_t stream)
{
	struct choice *choice = &r->gemm_plans->choices[gemm - r->program->gemms];
	const float one = 1, beta = accumulate;
	uintptr_t addresses = (uintptr_t)o->a | (uintptr_t)o->b | (uintptr_t)o->bias | (uintptr_t)o->before | (uintptr_t)o->c;

	if (addresses % (uintptr_t)gemm->alignment)
		mp_fail(MP_BUG, "gemm %s: an operand is not aligned to %d bytes", gemm->name, gemm->alignment);
	if (stream != r->compute && choice->workspace)
		mp_fail(MP_BUG, "gemm %s: the workspace belongs to the compute stream", gemm->name);
	if (has_bias(gemm))
		LT(cublasLtMatmulDescSetAttribute(choice->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o->bias, sizeof o->bias));
	if (has_aux(gemm))
		LT(cublasLtMatmulDescSetAttribute(choice->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &o->before, sizeof o->before));
	LT(cublasLtMatmul(r->gemm_plans->library, choice->operation, &one, o->b, choice->first, o->a, choice->second, &beta,
	                  o->c, choice->result, o->c, choice->result, &choice->algorithm, r->arena + r->program->workspace_offset,
	                  choice->workspace, stream));
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

// Runs a GEMM once on the zeros of the fresh arena, beside the workspace: its kernel is loaded then. Loaded later, it
// would wait for whatever the device does, which may be communication that waits for this rank.
static void run_once(struct mp_rank *r, const struct mp_gemm *g)
{
	const struct mp_program *p = r->program;
	size_t m = (size_t)g->m, n = (size_t)g->n, k = (size_t)g->k;
	size_t operand = g->type == MP_BF16 ? 2 : sizeof(float), result = g->out == MP_BF16 ? 2 : sizeof(float);
	size_t bytes = larger(m * n * result, larger(m * k, n * k) * operand);
	char *zeros = bytes <= p->workspace_offset ? r->arena : r->arena + p->workspace_offset + p->workspace_bytes;
	multiply(r, g, &(struct operands){zeros, zeros, has_bias(g) ? zeros : NULL, has_aux(g) ? zeros : NULL, zeros}, false, r->compute);
}

void mp_gemm_prepare(struct mp_rank *r)
{
	const struct mp_program *p = r->program;

	r->gemm_plans = mp_allocate(sizeof *r->gemm_plans);
	if (p->gemm_count == 0)
		return;
	LT(cublasLtCreate(&r->gemm_plans->library));
	r->gemm_plans->choices = mp_allocate((size_t)p->gemm_count * sizeof *r->gemm_plans->choices);
	for (int i = 0; i < p->gemm_count; i++) {
		choose(r, &p->gemms[i], &r->gemm_plans->choices[i]);
		run_once(r, &p->gemms[i]);
	}
}

void mp_gemm_release(struct mp_rank *r)
{
	for (int i = 0; i < r->program->gemm_count; i++) {
		struct choice *c = &r->gemm_plans->choices[i];
		LT(cublasLtMatrixLayoutDestroy(c->first));
		LT(cublasLtMatrixLayoutDestroy(c->second));
		LT(cublasLtMatrixLayoutDestroy(c->result));
		LT(cublasLtMatmulDescDestroy(c->operation));
	}
	if (r->gemm_plans->library)
		LT(cublasLtDestroy(r->gemm_plans->library));
	free(r->gemm_plans->choices);
	free(r->gemm_plans);
}

void mp_gemm(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *bias,
             void *c, bool accumulate, cudaStream_t stream)
{
	multiply(r, gemm, &(struct operands){a, b, bias, NULL, c}, accumulate, stream);
}

void mp_gemm_keep(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *bias, void *before,
                  void *c, cudaStream_t stream)
{
	multiply(r, gemm, &(struct operands){a, b, bias, before, c}, false, stream);
}

void mp_gemm_grad(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *before, void *c,
                  cudaStream_t stream)
{
	multiply(r, gemm, &(struct operands){a, b, NULL, before, c}, false, stream);
}
