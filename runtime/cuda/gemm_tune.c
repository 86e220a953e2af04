// gemm_tune.c: --tune on GPUs: the algorithm of each matrix product from a file, or, where there is no file, the fastest of the
// heuristic's candidates, timed once for each distinct product, and kept in the file.
//
// Every rank must take the same algorithms, or replicated values drift apart. So only rank 0 touches the file, and hands its
// text to the others; and each product is timed by one rank, the first of the first stage that has it, whose choice all take.
// Stages time theirs side by side. A file is used as a whole or, where it is of another library or device, not at all: then, as
// without --tune, everyone takes the heuristic's first.
#include "gemm.h"
#include "../tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 24, ROUNDS = 3, MOST_RUNS = 20, ALIGN = 256 };
static const double ROUND_MS = 0.2;             // a round repeats a product for so long, so that starting it does not count
static const double FASTER = 0.995;             // than an earlier candidate: less is chance

_Static_assert(sizeof(cublasLtMatmulAlgo_t) == MP_ALGORITHM_BYTES, "an algorithm is kept as its bytes");

// All distinct products of the model, those of one stage behind those of the one before.
struct products {
	struct mp_tune_file file;
	int *first;                             // by stage: its first row; a product belongs to the first stage that has it
};

static struct products all_products(const struct mp_rank *r)
{
	int stages = r->model->axis[MP_PP], most = 0;
	struct products all = {.first = mp_allocate((size_t)(stages + 1) * sizeof *all.first)};

	for (int s = 0; s < stages; s++)
		most += r->model->program(s)->gemm_count;
	all.file.rows = mp_allocate((size_t)most * sizeof *all.file.rows + 1);
	for (int s = 0; s < stages; s++) {
		const struct mp_program *p = r->model->program(s);
		all.first[s] = all.file.count;
		for (int i = 0; i < p->gemm_count; i++) {
			struct mp_tune_key key = mp_tune_key_of(&p->gemms[i]);
			if (!mp_tune_find(&all.file, &key))
				all.file.rows[all.file.count++].key = key;
		}
	}
	all.first[stages] = all.file.count;
	return all;
}

static void name_library_and_device(struct mp_tune_file *file)
{
	struct cudaDeviceProp device;
	int number;

	CUDA(cudaGetDevice(&number));
	CUDA(cudaGetDeviceProperties(&device, number));
	snprintf(file->library, sizeof file->library, "cuBLASLt %zu", cublasLtGetVersion());
	snprintf(file->device, sizeof file->device, "%.*s", MP_TUNE_NAME - 1, device.name);
}

static void take(struct mp_rank *r, const struct mp_tune_file *file)
{
	for (int i = 0; i < r->program->gemm_count; i++) {
		struct mp_gemm_choice *c = &r->gemm_plans->choices[i];
		struct mp_tune_key key = mp_tune_key_of(&r->program->gemms[i]);
		const struct mp_tune_row *row = mp_tune_find(file, &key);
		if (!row)
			continue;
		memcpy(&c->algorithm, row->algorithm, sizeof c->algorithm);
		c->workspace = row->workspace;
		mp_gemm_run_once(r, &r->program->gemms[i]);
	}
}

// ---- From a file

// Rank 0's file on every rank; NULL: there is none.
static char *share_text(struct mp_rank *r)
{
	char *text = NULL;
	uint64_t bytes = 0;

	if (r->rank == 0 && (text = mp_tune_read(r->options->tune))) {
		free(mp_tune_parse(r->options->tune, text).rows); // a mistake is told once
		bytes = strlen(text) + 1;
	}
	mp_broadcast(r, &bytes, sizeof bytes, 0);
	if (bytes && r->rank != 0)
		text = mp_allocate(bytes);
	if (bytes)
		mp_broadcast(r, text, bytes, 0);
	return text;
}

// Whether the library takes the file's algorithms for this rank's products.
static bool are_taken(const struct mp_rank *r, const struct mp_tune_file *file)
{
	for (int i = 0; i < r->program->gemm_count; i++) {
		const struct mp_gemm_choice *c = &r->gemm_plans->choices[i];
		struct mp_tune_key key = mp_tune_key_of(&r->program->gemms[i]);
		const struct mp_tune_row *row = mp_tune_find(file, &key);
		cublasLtMatmulAlgo_t algorithm;
		cublasLtMatmulHeuristicResult_t result;
		if (!row)
			continue;
		memcpy(&algorithm, row->algorithm, sizeof algorithm);
		cublasStatus_t status = cublasLtMatmulAlgoCheck(r->gemm_plans->library, c->operation, c->first, c->second, c->result,
		                                                c->result, &algorithm, &result);
		if (status != CUBLAS_STATUS_SUCCESS || result.workspaceSize > row->workspace || row->workspace > r->program->workspace_bytes)
			return false;
	}
	return true;
}

static void warn(const struct mp_rank *r, const char *why)
{
	if (r->rank == 0)
		fprintf(stderr, "%s: warning: --tune %s %s: it is ignored; remove it and it is made anew\n", r->model->name, r->options->tune, why);
}

static void take_from_text(struct mp_rank *r, const char *text)
{
	struct mp_tune_file file = mp_tune_parse(r->options->tune, text), here = {.rows = NULL};
	struct products all = all_products(r);
	char why[4 * MP_TUNE_NAME + 64];
	int known = 0;

	name_library_and_device(&here);
	snprintf(why, sizeof why, "is of %s on %s, and a rank has %s on %s", file.library, file.device, here.library, here.device);
	if (mp_any(r, strcmp(file.library, here.library) || strcmp(file.device, here.device))) {
		warn(r, why);
	} else if (mp_any(r, !are_taken(r, &file))) {
		warn(r, "has an algorithm that the library does not take");
	} else {
		take(r, &file);
		for (int i = 0; i < all.file.count; i++)
			known += mp_tune_find(&file, &all.file.rows[i].key) != NULL;
		if (r->rank == 0)
			printf("tune: algorithms of %d of %d matrix products from %s%s\n", known, all.file.count, r->options->tune,
			       known < all.file.count ? "; the others take the library's first (remove the file and it is made anew)" : "");
	}
	free(all.file.rows);
	free(all.first);
	free(file.rows);
}

// ---- By time

struct timing {
	struct mp_rank *r;
	char *area;                             // the larger part of the arena, before or behind the workspace
	size_t bytes;
	cudaEvent_t begin, end;
};

// Fills the area with numbers from -1 to 1, two of bf16 or one of f32 in a word: products of zeros take less power, hence less time.
static void fill(const struct timing *t)
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

static struct timing begin_timing(struct mp_rank *r)
{
	const struct mp_program *p = r->program;
	size_t after = p->workspace_offset + p->workspace_bytes;
	bool before = p->workspace_offset >= p->arena_bytes - after;
	struct timing t = {r, before ? r->arena : r->arena + after, before ? p->workspace_offset : p->arena_bytes - after, NULL, NULL};

	CUDA(cudaEventCreate(&t.begin));
	CUDA(cudaEventCreate(&t.end));
	fill(&t);
	return t;
}

static void end_timing(struct timing *t)
{
	mp_arena_clear(t->r);
	CUDA(cudaEventDestroy(t->begin));
	CUDA(cudaEventDestroy(t->end));
}

// Each tensor at the next place of the area, or, where it ends, at its beginning, where it costs the others their numbers only.
static const void *place(const struct timing *t, size_t *used, size_t bytes)
{
	size_t at = *used + bytes <= t->bytes ? *used : 0;
	*used = (at + bytes + ALIGN - 1) / ALIGN * ALIGN;
	return t->area + at;
}

static struct mp_gemm_operands place_operands(const struct timing *t, const struct mp_gemm *g)
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

// Milliseconds of one of `runs` products by the choice as it stands; infinite where the library refuses.
static double time_runs(const struct timing *t, const struct mp_gemm *g, const struct mp_gemm_operands *o, int runs)
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

static double time_candidate(const struct timing *t, const struct mp_gemm *g, const struct mp_gemm_operands *o,
                             const cublasLtMatmulHeuristicResult_t *candidate, int runs)
{
	struct mp_gemm_choice *c = &t->r->gemm_plans->choices[g - t->r->program->gemms];
	c->algorithm = candidate->algo;
	c->workspace = candidate->workspaceSize;
	return time_runs(t, g, o, runs);
}

// Candidates take turns, so that what else the device does meets all of them; the best of its rounds counts for each.
static struct mp_tune_row time_product(const struct timing *t, const struct mp_gemm *g)
{
	cublasLtMatmulHeuristicResult_t found[CANDIDATES];
	struct mp_tune_row row = {.key = mp_tune_key_of(g), .candidates = mp_gemm_candidates(t->r, g, CANDIDATES, found), .candidate = 1};
	struct mp_gemm_operands operands = place_operands(t, g);
	double best[CANDIDATES];

	for (int i = 0; i < row.candidates; i++) // loads its kernel
		best[i] = time_candidate(t, g, &operands, &found[i], 1) < INFINITY ? 1e9 : INFINITY;
	double once = time_candidate(t, g, &operands, &found[0], 1);
	int runs = once * MOST_RUNS <= ROUND_MS ? MOST_RUNS : once >= ROUND_MS ? 1 : (int)(ROUND_MS / once);
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < row.candidates; i++)
			best[i] = best[i] < INFINITY ? fmin(best[i], time_candidate(t, g, &operands, &found[i], runs)) : INFINITY;
	for (int i = 1; i < row.candidates; i++)
		if (best[i] < best[row.candidate - 1] * FASTER)
			row.candidate = i + 1;
	row.ms = best[row.candidate - 1];
	row.first_ms = best[0] < INFINITY ? best[0] : row.ms;
	row.workspace = found[row.candidate - 1].workspaceSize;
	memcpy(row.algorithm, &found[row.candidate - 1].algo, sizeof row.algorithm);
	return row;
}

static void time_stage(struct mp_rank *r, struct products *all)
{
	int first = all->first[r->pp], end = all->first[r->pp + 1];
	if (first == end)
		return;
	struct timing t = begin_timing(r);
	for (int i = 0; i < r->program->gemm_count; i++) {
		struct mp_tune_key key = mp_tune_key_of(&r->program->gemms[i]);
		for (int k = first; k < end; k++)
			if (!all->file.rows[k].candidates && mp_tune_same(&all->file.rows[k].key, &key))
				all->file.rows[k] = time_product(&t, &r->program->gemms[i]);
	}
	end_timing(&t);
}

static void take_by_time(struct mp_rank *r)
{
	struct products all = all_products(r);
	double begin = mp_seconds();

	if (r->dp == 0 && r->tp == 0)
		time_stage(r, &all);
	for (int s = 0; s < r->model->axis[MP_PP]; s++) {
		int rows = all.first[s + 1] - all.first[s];
		if (rows)
			mp_broadcast(r, all.file.rows + all.first[s], (size_t)rows * sizeof *all.file.rows, s * r->model->axis[MP_DP] * r->model->axis[MP_TP]);
	}
	take(r, &all.file);
	if (r->rank == 0) {
		name_library_and_device(&all.file);
		mp_tune_write(r->options->tune, &all.file);
		printf("tune: %d matrix products timed in %.1f s and kept in %s\n", all.file.count, mp_seconds() - begin, r->options->tune);
	}
	free(all.file.rows);
	free(all.first);
}

void mp_gemm_tune(struct mp_rank *r)
{
	char *text = share_text(r);
	if (text)
		take_from_text(r, text);
	else
		take_by_time(r);
	free(text);
}
