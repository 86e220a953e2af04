// gemm_tune.c: --tune on GPUs: the algorithm of each matrix product from a file, or, where there is no file, the fastest by the clock
// (gemm_time.c), timed once for each distinct product, and kept in the file.
//
// Every rank must take the same algorithms, or replicated values drift apart. So only rank 0 touches the file, and hands its
// text to the others; and each product is timed by one rank, the first of the first stage that has it, whose choice all take.
// Stages time theirs side by side. A file is used as a whole or, where it is of another library or device, not at all: then, as
// without --tune, everyone takes the heuristic's first.
#include "gemm.h"
#include "../tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
		struct mp_tune_key key = mp_tune_key_of(&r->program->gemms[i]);
		const struct mp_tune_row *row = mp_tune_find(file, &key);
		cublasLtMatmulAlgo_t algorithm;
		size_t workspace;
		if (!row)
			continue;
		memcpy(&algorithm, row->algorithm, sizeof algorithm);
		if (!mp_gemm_takes(r, &r->program->gemms[i], &algorithm, &workspace) || workspace > row->workspace || row->workspace > r->program->workspace_bytes)
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

static void time_stage(struct mp_rank *r, struct products *all)
{
	int first = all->first[r->pp], end = all->first[r->pp + 1];
	if (first == end)
		return;
	struct mp_gemm_timing t = mp_gemm_begin_timing(r);
	for (int i = 0; i < r->program->gemm_count; i++) {
		struct mp_tune_key key = mp_tune_key_of(&r->program->gemms[i]);
		for (int k = first; k < end; k++)
			if (!all->file.rows[k].candidates && mp_tune_same(&all->file.rows[k].key, &key))
				all->file.rows[k] = mp_gemm_time(&t, &r->program->gemms[i]);
	}
	mp_gemm_end_timing(&t);
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
