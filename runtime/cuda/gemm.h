// gemm.h: what mp_gemm and the choice of its algorithms share (gemm.c, gemm_tune.c, gemm_time.c).
#ifndef MP_GEMM_H
#define MP_GEMM_H

#include "../mp_run.h"

#include <cublasLt.h>

#define LT(call) do { cublasStatus_t status_ = (call); \
	if (status_ != CUBLAS_STATUS_SUCCESS) mp_lt_failed(status_, #call, __FILE__, __LINE__); } while (0)

MP_NORETURN void mp_lt_failed(cublasStatus_t status, const char *call, const char *file, int line);

struct mp_gemm_choice {
	cublasLtMatmulDesc_t operation;
	cublasLtMatrixLayout_t first, second, result;   // of B, A and C
	cublasLtMatmulAlgo_t algorithm;
	size_t workspace;
};

struct mp_gemm_plan {
	cublasLtHandle_t library;
	struct mp_gemm_choice *choices;                 // one for each of program->gemms
};

struct mp_gemm_operands {
	const void *a, *b, *bias;
	const void *before;             // what the activation reads; NULL: nothing is kept
	void *c;
};

// Enqueues a product of the table by its choice; fails when the library does.
void mp_gemm_multiply(struct mp_rank *r, const struct mp_gemm *g, const struct mp_gemm_operands *o, bool accumulate, cudaStream_t stream);

// The same, handing on what the library says.
cublasStatus_t mp_gemm_try(struct mp_rank *r, const struct mp_gemm *g, const struct mp_gemm_operands *o, bool accumulate, cudaStream_t stream);

// Up to `wanted` algorithms that fit the program's workspace, the likeliest first; fails where there is none.
int mp_gemm_candidates(struct mp_rank *r, const struct mp_gemm *g, int wanted, cublasLtMatmulHeuristicResult_t *found);

// Whether the library computes the product by an algorithm, and the workspace that this needs.
bool mp_gemm_takes(const struct mp_rank *r, const struct mp_gemm *g, const cublasLtMatmulAlgo_t *algorithm, size_t *workspace);

// Runs a product of the table once on zeros beside the workspace: its kernel is loaded then. Loaded later, it would wait
// for whatever the device does, which may be communication that waits for this rank.
void mp_gemm_run_once(struct mp_rank *r, const struct mp_gemm *g);

// Bytes of a product's operands and result (of `before` as of c) and whether it has such.
size_t mp_gemm_operand_bytes(const struct mp_gemm *g, bool second);
size_t mp_gemm_result_bytes(const struct mp_gemm *g);
bool mp_gemm_has_bias(const struct mp_gemm *g);
bool mp_gemm_has_aux(const struct mp_gemm *g);

// ---- gemm_time.c

struct mp_tune_row;

struct mp_gemm_timing {
	struct mp_rank *r;
	char *area;                     // the larger part of the arena, before or behind the workspace
	size_t bytes;
	cudaEvent_t begin, end;
};

// Between these two the arena holds numbers of no meaning; behind, zeros.
struct mp_gemm_timing mp_gemm_begin_timing(struct mp_rank *r);
void mp_gemm_end_timing(struct mp_gemm_timing *t);

// The fastest algorithm of a product of the table, and how long one product takes. It may take a second.
struct mp_tune_row mp_gemm_time(const struct mp_gemm_timing *t, const struct mp_gemm *g);

#endif
