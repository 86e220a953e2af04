// generate.c: text from a prompt: a window of tokens through the model, a token drawn from the logits of its last
// position, the window moved on.
//
// The whole window is computed for every token: no keys and values are kept. A window holds the last tokens there
// are, at most the context, from its first position on; what follows them is padding, which causal attention does not
// look at. The program runs whole batches, so up to a batch of continuations is generated at once.
//
// Any mesh: every rank keeps the ids of all samples and fills its replica's windows from them; of the ranks that have
// a sample's logits the first draws, and all learn what was drawn. What is drawn depends on the seed, the sample and the
// position alone (and on the logits).
#include "data_files.h"
#include "random.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTE_IDS = 256 };

struct mp_generation {
	long context, samples;
	long count, capacity;           // ids of each sample: so far, and in the end
	int32_t *ids;                   // [samples][capacity], the prompt first
	int32_t *drawn;                 // one for each sample
	const struct mp_output *logits; // NULL: another rank has them
	void *values;                   // host memory that the program writes them to
	double *row, *sorted;           // the logits of one position
	uint64_t key;
};

// ---------------------------------------------------------------------------------------------------------
// The prompt

static bool is_bytes(const struct mp_model *m) { return m->vocabulary <= BYTE_IDS; }

static void check_id(const struct mp_model *m, unsigned long id)
{
	if (id >= (unsigned long)m->vocabulary)
		mp_fail(MP_BAD_INPUT, "--prompt: %s %lu is outside of the spec's vocabulary of %ld", is_bytes(m) ? "byte" : "id", id,
		        m->vocabulary);
}

static int32_t *bytes_of(const struct mp_model *m, const char *text, long *count)
{
	*count = (long)strlen(text);
	int32_t *ids = mp_allocate((size_t)*count * sizeof *ids);
	for (long i = 0; i < *count; i++) {
		ids[i] = (unsigned char)text[i];
		check_id(m, (unsigned long)ids[i]);
	}
	return ids;
}

// "15496, 995", also as lists are printed: "[15496, 995]".
static int32_t *ids_of(const struct mp_model *m, const char *text, long *count)
{
	int32_t *ids = mp_allocate((strlen(text) + 1) * sizeof *ids);
	*count = 0;
	for (const char *at = text; ; ) {
		at += strspn(at, " ,\t\r\n[]");
		if (!*at)
			break;
		char *end;
		errno = 0;
		unsigned long id = strtoul(at, &end, 10);
		if (!isdigit((unsigned char)*at) || errno)
			mp_fail(MP_BAD_INPUT, "--prompt: there is no file %s, and \"%.20s\" is no id: with a vocabulary of %ld a prompt is a "
			        "file of ids or ids such as \"15496, 995\"", text, at, m->vocabulary);
		check_id(m, id);
		ids[(*count)++] = (int32_t)id;
		at = end;
	}
	return ids;
}

int32_t *mp_prompt_read(const struct mp_model *m, const char *prompt, long *count)
{
	int32_t *ids;
	if (mp_exists(prompt) && !mp_is_folder(prompt)) {
		struct mp_dataset *d = mp_dataset_open(m, prompt, false);
		*count = mp_dataset_ids(d, NULL);
		ids = mp_allocate((size_t)*count * sizeof *ids);
		mp_dataset_ids(d, ids);
		mp_dataset_close(d);
	} else {
		ids = is_bytes(m) ? bytes_of(m, prompt, count) : ids_of(m, prompt, count);
	}
	if (*count == 0)
		mp_fail(MP_BAD_INPUT, "--prompt holds no tokens: at least one is needed to go on from");
	return ids;
}

// ---------------------------------------------------------------------------------------------------------
// Windows

// Bytes as they are; ids with a space behind each.
static void print_ids(const struct mp_model *m, const int32_t *ids, long count)
{
	for (long i = 0; i < count; i++)
		if (is_bytes(m))
			putchar(ids[i]);
		else
			printf("%d ", (int)ids[i]);
	fflush(stdout);
}

// The output "logits" of a program: [context, vocabulary or more] for each sample. NULL: it has none.
static const struct mp_output *find_logits(const struct mp_program *p, long context, long vocabulary)
{
	for (int i = 0; i < p->output_count; i++) {
		const struct mp_output *o = &p->outputs[i];
		if (strcmp(o->name, "logits"))
			continue;
		if (o->dims != 2 || o->shape[0] != context || o->shape[1] < vocabulary || o->type == MP_I32)
			mp_fail(MP_BAD_INPUT, "--prompt: the output logits must be [batch, context, vocabulary], that is [%ld, %ld] for each "
			        "sample", context, vocabulary);
		return o;
	}
	return NULL;
}

static void check_logits(const struct mp_model *m, long context)
{
	for (int stage = 0; stage < m->axis[MP_PP]; stage++)
		if (find_logits(m->program(stage), context, m->vocabulary))
			return;
	mp_fail(MP_BAD_INPUT, "--prompt: the spec's forward must return outputs = { logits = … }, [batch, context, vocabulary]");
}

static void make_inputs(struct mp_rank *r)
{
	const struct mp_model *m = r->model;
	size_t samples = (size_t)(m->batch / m->axis[MP_DP]);
	for (int i = 0; i < r->program->input_count; i++) {
		size_t bytes = samples * (size_t)r->program->inputs[i].shape[0] * sizeof(int32_t);
		CUDA(cudaMallocHost(&r->input[i], bytes));
		memset(r->input[i], 0xFF, bytes);       // labels stay so: ignored
	}
}

struct mp_generation *mp_generation_new(struct mp_rank *r)
{
	const struct mp_model *m = r->model;
	const struct mp_options *o = r->options;
	struct mp_generation *g = mp_allocate(sizeof *g);
	g->context = m->inputs[0].shape[0];
	g->samples = o->samples;
	g->count = r->session->prompt_count;
	g->capacity = g->count + o->tokens;
	g->key = mp_random_key(o->seed, "generation");
	g->ids = mp_allocate((size_t)(g->samples * g->capacity) * sizeof *g->ids);
	g->drawn = mp_allocate((size_t)g->samples * sizeof *g->drawn);
	for (long k = 0; k < g->samples; k++)
		memcpy(g->ids + k * g->capacity, r->session->prompt, (size_t)g->count * sizeof *g->ids);
	check_logits(m, g->context);
	if (r->tp == 0)
		g->logits = find_logits(r->program, g->context, m->vocabulary);
	if (g->logits) {
		g->values = r->output[g->logits - r->program->outputs];
		g->row = mp_allocate((size_t)m->vocabulary * sizeof *g->row);
		g->sorted = mp_allocate((size_t)m->vocabulary * sizeof *g->sorted);
	}
	make_inputs(r);
	if (r->rank == 0 && g->samples == 1)
		print_ids(m, g->ids, g->count);
	return g;
}

// The sample of the global batch that this rank computes as its k-th.
static long sample_of(const struct mp_rank *r, long k)
{
	const struct mp_model *m = r->model;
	long logical = m->batch / m->microbatches, local = logical / m->axis[MP_DP];
	return k / local * logical + r->dp * local + k % local;
}

static long window_start(const struct mp_generation *g) { return g->count > g->context ? g->count - g->context : 0; }

void mp_generation_window(struct mp_generation *g, struct mp_rank *r)
{
	long start = window_start(g), filled = g->count - start;
	for (int i = 0; i < r->program->input_count; i++) {
		int32_t *out = r->input[i];
		if (strcmp(r->program->inputs[i].name, "tokens"))
			continue;
		for (long k = 0; k < r->model->batch / r->model->axis[MP_DP]; k++, out += g->context) {
			long sample = sample_of(r, k);  // nobody reads what the others compute
			const int32_t *ids = g->ids + (sample < g->samples ? sample : 0) * g->capacity;
			memcpy(out, ids + start, (size_t)filled * sizeof *out);
			memset(out + filled, 0, (size_t)(g->context - filled) * sizeof *out);
		}
	}
}

// ---------------------------------------------------------------------------------------------------------
// Drawing

static double value_at(const struct mp_output *o, const void *values, long i)
{
	if (o->type == MP_F64)
		return ((const double *)values)[i];
	if (o->type == MP_F32)
		return ((const float *)values)[i];
	uint32_t bits = (uint32_t)((const uint16_t *)values)[i] << 16;
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

static int descending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x < y) - (x > y);
}

// The smallest logit that may be drawn: the k-th largest.
static double least_of_top(struct mp_generation *g, long n, long k)
{
	if (k == 0 || k >= n)
		return -INFINITY;
	memcpy(g->sorted, g->row, (size_t)n * sizeof *g->sorted);
	qsort(g->sorted, (size_t)n, sizeof *g->sorted, descending);
	return g->sorted[k - 1];
}

// An id with probability exp(logit / temperature) / sum, u in (0, 1).
static int32_t draw(struct mp_generation *g, const struct mp_model *m, const struct mp_options *o, double u)
{
	long n = m->vocabulary, best = 0;
	double sum = 0;
	for (long i = 0; i < n; i++) {
		if (isnan(g->row[i]))
			mp_fail(MP_NOT_FINITE, "the logits are not finite after %ld tokens", g->count);
		best = g->row[i] > g->row[best] ? i : best;
	}
	if (o->temperature == 0)
		return (int32_t)best;
	double top = g->row[best], least = least_of_top(g, n, o->top_k);
	for (long i = 0; i < n; i++) {
		g->row[i] = g->row[i] < least ? 0 : exp((g->row[i] - top) / o->temperature);
		sum += g->row[i];
	}
	double left = u * sum;
	for (long i = 0; i < n; i++) {
		if (g->row[i] > 0 && left < g->row[i])
			return (int32_t)i;
		left -= g->row[i];
	}
	return (int32_t)best; // u * sum rounded up
}

// Draws for the samples whose logits are here; the others become -1.
static void draw_here(struct mp_generation *g, const struct mp_rank *r)
{
	for (long k = 0; k < g->samples; k++)
		g->drawn[k] = -1;
	for (long k = 0; g->logits && k < r->model->batch / r->model->axis[MP_DP]; k++) {
		long sample = sample_of(r, k), position = g->count - 1 - window_start(g);
		uint32_t x[4];
		if (sample >= g->samples)
			continue;
		for (long i = 0; i < r->model->vocabulary; i++)
			g->row[i] = value_at(g->logits, g->values, (k * g->context + position) * g->logits->shape[1] + i);
		mp_random_block(g->key, (uint64_t)sample, (uint64_t)g->count, x);
		g->drawn[sample] = draw(g, r->model, r->options, mp_unit(x[0]));
	}
}

// Every rank learns what any drew.
static void share(struct mp_generation *g, struct mp_rank *r)
{
	size_t bytes = (size_t)g->samples * sizeof *g->drawn;
	int32_t *all = r->rank == 0 ? mp_allocate((size_t)r->world * bytes) : NULL;
	mp_gather(r, g->drawn, bytes, all);
	for (long i = 0; all && i < r->world * g->samples; i++)
		if (all[i] >= 0)
			g->drawn[i % g->samples] = all[i];
	mp_broadcast(r, g->drawn, bytes, 0);
	free(all);
}

void mp_generation_draw(struct mp_generation *g, struct mp_rank *r)
{
	draw_here(g, r);
	share(g, r);
	for (long k = 0; k < g->samples; k++)
		g->ids[k * g->capacity + g->count] = g->drawn[k];
	g->count++;
	if (r->rank == 0 && g->samples == 1)
		print_ids(r->model, g->drawn, 1);
}

void mp_generation_free(struct mp_generation *g, struct mp_rank *r)
{
	for (long k = 0; r->rank == 0 && g->samples > 1 && k < g->samples; k++) {
		printf("--- sample %ld of %ld ---\n", k + 1, g->samples);
		print_ids(r->model, g->ids + k * g->capacity, g->count);
		putchar('\n');
	}
	if (r->rank == 0 && g->samples == 1)
		putchar('\n');
	for (int i = 0; i < r->program->input_count; i++)
		CUDA(cudaFreeHost(r->input[i]));
	free(g->sorted);
	free(g->row);
	free(g->drawn);
	free(g->ids);
	free(g);
}
