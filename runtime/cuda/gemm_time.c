// gemm_time.c: which algorithm of cuBLASLt computes a matrix product fastest, by the clock.
//
// The library's heuristic proposes candidates. What it sets in one, another option or another cluster of blocks, may suit the product
// better: these are its variants. All take turns in short rounds. But a GPU that goes on computing lowers its clock to what its power
// allows, less for an algorithm that moves less: so of a product that takes long, the fastest variant of each candidate runs until the
// clock has settled, and that time counts, as it does in a training step.
#include "gemm.h"
#include "../tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 24, OPTIONS = 8, ROUNDS = 3, MOST_RUNS = 20, ALIGN = 256 };
static const uint16_t clusters[] = {CUBLASLT_CLUSTER_SHAPE_1x1x1, CUBLASLT_CLUSTER_SHAPE_2x1x1, CUBLASLT_CLUSTER_SHAPE_1x2x1,
                                    CUBLASLT_CLUSTER_SHAPE_2x2x1, CUBLASLT_CLUSTER_SHAPE_4x1x1, CUBLASLT_CLUSTER_SHAPE_1x4x1};
enum { CLUSTERS = sizeof clusters / sizeof *clusters, MOST = CANDIDATES * (1 + OPTIONS * CLUSTERS) };
static const double ROUND_MS = 0.2;             // a round repeats a product for so long, so that starting it does not count
static const double LONG_MS = 0.05;             // a product that takes longer has variants, and runs until the clock has settled:
static const double SETTLE_MS = 40;             // for so long, and then for as long again by the clock
static const double SLOW = 1.25;                // times as long as the fastest: the settled clock does not change that
static const double FASTER = 0.995;             // than one before it: less is chance

// What can be taken for a product.
struct algorithm {
	cublasLtMatmulAlgo_t bytes;
	size_t workspace;
	int candidate;                          // the heuristic's that it is or is a variant of
	double ms;                              // of one product; infinite where the library refuses it
};

// ---- The arena as operands

// Fills the area with numbers from -1 to 1, two of bf16 or one of f32 in a word: products of zeros take less power, hence less time.
static void fill(const struct mp_gemm_timing *t)
{
	enum { WORDS = 1 << 18 };
	uint32_t *words = mp_allocate(WORDS * sizeof *words), state = 1;
	size_t done = WORDS * sizeof *words;

	for (int i = 0; i < 2 * WORDS; i++) {
		uint32_t bits;
		state = state * 1664525 + 1013904223;
		float value = (float)(state >> 8) / (1 << 23) - 1;
		memcpy(&bits, &value, sizeof bits);
		words[i / 2] |= bits >> 16 << (i % 2 * 16);
	}
	done = done < t->bytes ? done : t->bytes;
	CUDA(cudaMemcpyAsync(t->area, words, done, cudaMemcpyHostToDevice, t->r->compute));
	for (size_t more; done < t->bytes; done += more) {
		more = done < t->bytes - done ? done : t->bytes - done;
		CUDA(cudaMemcpyAsync(t->area + done, t->area, more, cudaMemcpyDeviceToDevice, t->r->compute));
	}
	CUDA(cudaStreamSynchronize(t->r->compute));
	free(words);
}

struct mp_gemm_timing mp_gemm_begin_timing(struct mp_rank *r)
{
	const struct mp_program *p = r->program;
	size_t after = p->workspace_offset + p->workspace_bytes;
	bool before = p->workspace_offset >= p->arena_bytes - after;
	struct mp_gemm_timing t = {r, before ? r->arena : r->arena + after, before ? p->workspace_offset : p->arena_bytes - after, NULL, NULL};

	CUDA(cudaEventCreate(&t.begin));
	CUDA(cudaEventCreate(&t.end));
	fill(&t);
	return t;
}

void mp_gemm_end_timing(struct mp_gemm_timing *t)
{
	mp_arena_clear(t->r);
	CUDA(cudaEventDestroy(t->begin));
	CUDA(cudaEventDestroy(t->end));
}

// Each tensor at the next place of the area, or, where it ends, at its beginning, where it costs the others their numbers only.
static const void *place(const struct mp_gemm_timing *t, size_t *used, size_t bytes)
{
	size_t at = *used + bytes <= t->bytes ? *used : 0;
	*used = (at + bytes + ALIGN - 1) / ALIGN * ALIGN;
	return t->area + at;
}

static struct mp_gemm_operands place_operands(const struct mp_gemm_timing *t, const struct mp_gemm *g)
{
	struct mp_gemm_operands o = {NULL};
	size_t used = 0;

	o.a = place(t, &used, mp_gemm_operand_bytes(g, false));
	o.b = place(t, &used, mp_gemm_operand_bytes(g, true));
	if (mp_gemm_has_bias(g))
		o.bias = place(t, &used, (size_t)g->n * mp_type_bytes(g->out));
	if (mp_gemm_has_aux(g))
		o.before = place(t, &used, mp_gemm_result_bytes(g));
	o.c = (void *)place(t, &used, mp_gemm_result_bytes(g));
	return o;
}

// ---- One algorithm

// Milliseconds of one of `runs` products by the choice as it stands; infinite where the library refuses.
static double time_runs(const struct mp_gemm_timing *t, const struct mp_gemm *g, const struct mp_gemm_operands *o, int runs)
{
	float ms = 0;

	CUDA(cudaEventRecord(t->begin, t->r->compute));
	for (int i = 0; i < runs; i++)
		if (mp_gemm_try(t->r, g, o, false, t->r->compute) != CUBLAS_STATUS_SUCCESS)
			return INFINITY;
	CUDA(cudaEventRecord(t->end, t->r->compute));
	CUDA(cudaEventSynchronize(t->end));
	CUDA(cudaEventElapsedTime(&ms, t->begin, t->end));
	return ms / runs;
}

static double time_algorithm(const struct mp_gemm_timing *t, const struct mp_gemm *g, const struct mp_gemm_operands *o,
                             const struct algorithm *a, int runs)
{
	struct mp_gemm_choice *c = &t->r->gemm_plans->choices[g - t->r->program->gemms];
	c->algorithm = a->bytes;
	c->workspace = a->workspace;
	return time_runs(t, g, o, runs);
}

// ---- Candidates and their variants

static int take_candidates(struct mp_rank *r, const struct mp_gemm *g, struct algorithm *all)
{
	cublasLtMatmulHeuristicResult_t found[CANDIDATES];
	int count = mp_gemm_candidates(r, g, CANDIDATES, found);

	for (int i = 0; i < count; i++)
		all[i] = (struct algorithm){found[i].algo, found[i].workspaceSize, i, INFINITY};
	return count;
}

static bool is_known(const struct algorithm *all, int count, const cublasLtMatmulAlgo_t *a)
{
	for (int i = 0; i < count; i++)
		if (!memcmp(&all[i].bytes, a, sizeof *a))
			return true;
	return false;
}

// Adds a candidate with another option and other clusters, where the library has that and it needs no more workspace than there is.
static int add_variants(const struct mp_rank *r, const struct mp_gemm *g, struct algorithm *all, int count, int candidate)
{
	int last = 0;
	size_t written;

	cublasLtMatmulAlgoCapGetAttribute(&all[candidate].bytes, CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX, &last, sizeof last, &written);
	for (int option = 0; option <= last && option < OPTIONS; option++)
		for (int k = 0; k < CLUSTERS; k++) {
			struct algorithm a = all[candidate];
			if (cublasLtMatmulAlgoConfigSetAttribute(&a.bytes, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, &option, sizeof option) == CUBLAS_STATUS_SUCCESS
			    && cublasLtMatmulAlgoConfigSetAttribute(&a.bytes, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, &clusters[k], sizeof clusters[k]) == CUBLAS_STATUS_SUCCESS
			    && !is_known(all, count, &a.bytes) && mp_gemm_takes(r, g, &a.bytes, &a.workspace) && a.workspace <= r->program->workspace_bytes)
				all[count++] = a;
		}
	return count;
}

// ---- The fastest

// They take turns, so that what else the device does meets all of them; the best of its rounds counts for each.
static void time_in_turns(const struct mp_gemm_timing *t, const struct mp_gemm *g, const struct mp_gemm_operands *o, struct algorithm *all, int count)
{
	for (int i = 0; i < count; i++) // loads its kernel
		all[i].ms = time_algorithm(t, g, o, &all[i], 1) < INFINITY ? 1e9 : INFINITY;
	double once = time_algorithm(t, g, o, &all[0], 1);
	int runs = once * MOST_RUNS <= ROUND_MS ? MOST_RUNS : once >= ROUND_MS ? 1 : (int)(ROUND_MS / once);
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < count; i++)
			all[i].ms = all[i].ms < INFINITY ? fmin(all[i].ms, time_algorithm(t, g, o, &all[i], runs)) : INFINITY;
}

static int fastest(const struct algorithm *all, int count, int candidate)
{
	int best = candidate < 0 ? 0 : candidate;
	for (int i = 0; i < count; i++)
		if ((candidate < 0 || all[i].candidate == candidate) && all[i].ms < all[best].ms * FASTER)
			best = i;
	return best;
}

// The heuristic's first, and of each candidate the fastest variant that is not slow: in this order and then the other way round, so that
// a device that grows warm meets all of them. The time of all others is infinite.
static void time_settled(const struct mp_gemm_timing *t, const struct mp_gemm *g, const struct mp_gemm_operands *o, struct algorithm *all, int count, int candidates)
{
	int finalists[CANDIDATES + 1] = {0}, n = 1;
	double ms[CANDIDATES + 1] = {0}, slow = SLOW * all[fastest(all, count, -1)].ms;

	for (int c = 0; c < candidates; c++) {
		int best = fastest(all, count, c);
		if (best && all[best].ms <= slow)
			finalists[n++] = best;
	}
	for (int turn = 0; turn < 2 * n; turn++) {
		int k = turn < n ? turn : 2 * n - 1 - turn, runs = 1 + (int)(SETTLE_MS / all[finalists[k]].ms);
		time_algorithm(t, g, o, &all[finalists[k]], runs);
		ms[k] += time_algorithm(t, g, o, &all[finalists[k]], runs) / 2;
	}
	for (int i = 0; i < count; i++)
		all[i].ms = INFINITY;
	for (int k = 0; k < n; k++)
		all[finalists[k]].ms = ms[k];
}

struct mp_tune_row mp_gemm_time(const struct mp_gemm_timing *t, const struct mp_gemm *g)
{
	struct mp_gemm_operands operands = place_operands(t, g);
	struct algorithm *all = mp_allocate(MOST * sizeof *all);
	int candidates = take_candidates(t->r, g, all), count = candidates;

	time_in_turns(t, g, &operands, all, count);
	if (all[0].ms >= LONG_MS && all[0].ms < INFINITY) {
		for (int c = 0; c < candidates; c++)
			count = add_variants(t->r, g, all, count, c);
		time_in_turns(t, g, &operands, all, count);
		time_settled(t, g, &operands, all, count, candidates);
	}
	int best = fastest(all, count, -1);
	struct mp_tune_row row = {.key = mp_tune_key_of(g), .ms = all[best].ms, .candidate = best + 1, .candidates = count, .workspace = all[best].workspace,
	                          .first_ms = all[0].ms < INFINITY ? all[0].ms : all[best].ms};
	memcpy(row.algorithm, &all[best].bytes, sizeof row.algorithm);
	free(all);
	return row;
}
