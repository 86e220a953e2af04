// mp_gemm on GPUs: cuBLASLt. Everything that takes time or choice happens once, at start: descriptors and the
// algorithm for each GEMM of the program, which is the heuristic's first, or what a file of --tune says (gemm_tune.c). The
// first depends on shape, type, epilogue and the fixed workspace alone (the table promises the alignment of pointers), so
// that every rank makes the same choice: replicated values must not drift apart.
//
// cuBLASLt thinks in columns. A row-major matrix is the transpose of the column-major one with the same bytes, so
// C = op(A) op(B) is asked for as C^T = op(B)^T op(A)^T: the operands change places, and a bias of n elements is added
// along the rows of C^T, as cuBLASLt's bias epilogue does.
#include "gemm.h"

#include <stdlib.h>

static cudaDataType_t data_type(enum mp_type type)
{
	return type == MP_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

void mp_lt_failed(cublasStatus_t status, const char *call, const char *file, int line)
{
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %s", file, line, call, cublasLtGetStatusString(status));
}

bool mp_gemm_has_bias(const struct mp_gemm *g)
{
	return g->epilogue == MP_BIAS || g->epilogue == MP_BIAS_RELU || g->epilogue == MP_BIAS_GELU || g->epilogue == MP_BIAS_GELU_AUX;
}

// Whether there is a tensor beside the result: what its activation reads.
bool mp_gemm_has_aux(const struct mp_gemm *g)
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
	if (mp_gemm_has_bias(g)) { // before the heuristic, which looks at its alignment
		LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
		LT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &some_pointer, sizeof some_pointer));
	}
	if (mp_gemm_has_aux(g)) {
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

static void describe_choice(struct mp_rank *r, const struct mp_gemm *g, struct mp_gemm_choice *c)
{
	if (g->type == MP_F64)
		mp_fail(MP_USAGE, "gemm %s is in f64, which exists on the host only: generate for f32, or build the target host",
		        g->name);
	c->operation = describe(g, r->arena);
	c->first = g->transpose == MP_NT ? layout(g->type, g->n, g->k) : layout(g->type, g->k, g->n);
	c->second = g->transpose == MP_TN ? layout(g->type, g->k, g->m) : layout(g->type, g->m, g->k);
	c->result = layout(g->out, g->m, g->n);
}

static struct mp_gemm_choice *choice_of(const struct mp_rank *r, const struct mp_gemm *g)
{
	return &r->gemm_plans->choices[g - r->program->gemms];
}

int mp_gemm_candidates(struct mp_rank *r, const struct mp_gemm *g, int wanted, cublasLtMatmulHeuristicResult_t *found)
{
	static const char *const transposes[] = {[MP_NN] = "NN", [MP_NT] = "NT", [MP_TN] = "TN"};
	const struct mp_gemm_choice *c = choice_of(r, g);
	cublasLtMatmulPreference_t p = preference(g, r->program->workspace_bytes);
	int count = 0;

	cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(r->gemm_plans->library, c->operation, c->first, c->second,
	                                                       c->result, c->result, p, wanted, found, &count);
	if (status != CUBLAS_STATUS_SUCCESS || count == 0)
		mp_fail(MP_DEVICE_FAILED, "cuBLASLt has no algorithm for gemm %s (%s, m %d, n %d, k %d, %s, epilogue %d) within a "
		        "workspace of %zu bytes: %s", g->name, transposes[g->transpose], g->m, g->n, g->k,
		        g->out == MP_BF16 ? "bf16" : g->type == MP_BF16 ? "bf16 into f32" : g->tf32 ? "f32 as tf32" : "f32",
		        g->epilogue, r->program->workspace_bytes, cublasLtGetStatusString(status));
	LT(cublasLtMatmulPreferenceDestroy(p));
	return count;
}

bool mp_gemm_takes(const struct mp_rank *r, const struct mp_gemm *g, const cublasLtMatmulAlgo_t *algorithm, size_t *workspace)
{
	const struct mp_gemm_choice *c = choice_of(r, g);
	cublasLtMatmulHeuristicResult_t result;

	if (cublasLtMatmulAlgoCheck(r->gemm_plans->library, c->operation, c->first, c->second, c->result, c->result, algorithm, &result) != CUBLAS_STATUS_SUCCESS)
		return false;
	*workspace = result.workspaceSize;
	return true;
}

cublasStatus_t mp_gemm_try(struct mp_rank *r, const struct mp_gemm *g, const struct mp_gemm_operands *o, bool accumulate, cudaStream_t stream)
{
	const struct mp_gemm_choice *c = choice_of(r, g);
	const float one = 1, beta = accumulate;
	uintptr_t addresses = (uintptr_t)o->a | (uintptr_t)o->b | (uintptr_t)o->bias | (uintptr_t)o->before | (uintptr_t)o->c;

	if (addresses % (uintptr_t)g->alignment)
		mp_fail(MP_BUG, "gemm %s: an operand is not aligned to %d bytes", g->name, g->alignment);
	if (stream != r->compute && stream != r->side && c->workspace)
		mp_fail(MP_BUG, "gemm %s: there are workspaces for the compute stream and the side stream only", g->name);
	if (mp_gemm_has_bias(g))
		LT(cublasLtMatmulDescSetAttribute(c->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o->bias, sizeof o->bias));
	if (mp_gemm_has_aux(g))
		LT(cublasLtMatmulDescSetAttribute(c->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &o->before, sizeof o->before));
	return cublasLtMatmul(r->gemm_plans->library, c->operation, &one, o->b, c->first, o->a, c->second, &beta, o->c, c->result,
	                      o->c, c->result, &c->algorithm, r->arena + r->program->workspace_offset + (stream == r->side ? r->program->workspace_bytes : 0), c->workspace, stream);
}

void mp_gemm_multiply(struct mp_rank *r, const struct mp_gemm *g, const struct mp_gemm_operands *o, bool accumulate, cudaStream_t stream)
{
	cublasStatus_t status = mp_gemm_try(r, g, o, accumulate, stream);
	if (status != CUBLAS_STATUS_SUCCESS)
		mp_fail(MP_DEVICE_FAILED, "cublasLtMatmul for gemm %s: %s", g->name, cublasLtGetStatusString(status));
}

size_t mp_gemm_operand_bytes(const struct mp_gemm *g, bool second)
{
	return (size_t)(second ? g->n : g->m) * (size_t)g->k * mp_type_bytes(g->type);
}

size_t mp_gemm_result_bytes(const struct mp_gemm *g)
{
	return (size_t)g->m * (size_t)g->n * mp_type_bytes(g->out);
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

void mp_gemm_run_once(struct mp_rank *r, const struct mp_gemm *g)
{
	const struct mp_program *p = r->program;
	size_t bytes = larger(mp_gemm_result_bytes(g), larger(mp_gemm_operand_bytes(g, false), mp_gemm_operand_bytes(g, true)));
	char *zeros = bytes <= p->workspace_offset ? r->arena : r->arena + p->workspace_offset + p->workspace_bytes;
	struct mp_gemm_operands operands = {zeros, zeros, mp_gemm_has_bias(g) ? zeros : NULL, mp_gemm_has_aux(g) ? zeros : NULL, zeros};
	mp_gemm_multiply(r, g, &operands, false, r->compute);
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
		struct mp_gemm_choice *c = &r->gemm_plans->choices[i];
		cublasLtMatmulHeuristicResult_t first;
		describe_choice(r, &p->gemms[i], c);
		mp_gemm_candidates(r, &p->gemms[i], 1, &first);
		c->algorithm = first.algo;
		c->workspace = first.workspaceSize;
		mp_gemm_run_once(r, &p->gemms[i]);
	}
}

void mp_gemm_release(struct mp_rank *r)
{
	for (int i = 0; i < r->program->gemm_count; i++) {
		struct mp_gemm_choice *c = &r->gemm_plans->choices[i];
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
	mp_gemm_multiply(r, gemm, &(struct mp_gemm_operands){a, b, bias, NULL, c}, accumulate, stream);
}

void mp_gemm_keep(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *bias, void *before,
                  void *c, cudaStream_t stream)
{
	mp_gemm_multiply(r, gemm, &(struct mp_gemm_operands){a, b, bias, before, c}, false, stream);
}

void mp_gemm_grad(struct mp_rank *r, const struct mp_gemm *gemm, const void *a, const void *b, const void *before, void *c,
                  cudaStream_t stream)
{
	mp_gemm_multiply(r, gemm, &(struct mp_gemm_operands){a, b, NULL, before, c}, false, stream);
}
