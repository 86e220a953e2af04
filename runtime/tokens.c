// tokens.c: text as token ids, of which samples are windows.
//
// Token data are one long run of ids, not a table of samples: a sample is a window of `context` ids and, as labels, the
// ids that follow each of them. So a window takes context + 1 ids, and windows that follow one another share one. A
// window at the end of what is evaluated may be short: its tokens go on with 0 and its labels with -1, so that every id
// but the first is a label exactly once.
//
// Training reads windows at random places by default, as nanoGPT does: the place is a function of the seed and of the
// sample's number (step * batch + its place in the batch) alone, so it depends on no mesh and a run goes on where it
// stopped without reading what came before. --order shuffled takes each of the windows that lie side by side once an
// epoch, --order file takes them in their order.
//
// Files may be larger than memory, so they are mapped; token_files.c knows their formats. Ids are checked against the
// spec's vocabulary when they are read; of files that are not huge all are read once before the first step, so that no
// long run ends at a wrong one.
#include "data.h"
#include "random.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const size_t checked_bytes = (size_t)1 << 30;

static long context_of(const struct mp_dataset *d)
{
	const char *const name[] = {"tokens", "labels"};
	for (int i = 0; i < 2; i++) {
		int input = mp_input_index(d->model, name[i]);
		if (input >= 0)
			return d->model->inputs[input].shape[0];
	}
	mp_fail(MP_BUG, "the program %s reads token data but neither tokens nor labels", d->model->name);
}

// Id at a place of the part that is used.
static int32_t id_at(const struct mp_dataset *d, long place)
{
	const struct mp_tokens *t = d->tokens;
	long i = t->first + place;
	uint32_t id = t->bytes == 1 ? ((const uint8_t *)t->ids)[i] : t->bytes == 2 ? ((const uint16_t *)t->ids)[i] :
	              ((const uint32_t *)t->ids)[i];
	if (id >= (unsigned long)d->model->vocabulary)
		mp_fail(MP_BAD_INPUT, "%s: token %ld is %lu, but the spec's vocabulary is %ld", t->path, i, (unsigned long)id,
		        d->model->vocabulary);
	return (int32_t)id;
}

// Training leaves the end that fills no window, evaluation and inference keep it.
static void count_windows(struct mp_dataset *d)
{
	const struct mp_tokens *t = d->tokens;
	if (!t->keep_tail && t->count <= d->stride)
		mp_fail(MP_BAD_INPUT, "%s holds %ld token%s%s, but a sample, with its labels, takes %ld", t->path, t->count,
		        t->count == 1 ? "" : "s", t->part, d->stride + 1);
	d->samples = (t->count - 1 + (t->keep_tail ? d->stride - 1 : 0)) / d->stride;
}

void mp_tokens_take(struct mp_dataset *d, struct mp_tokens tokens, bool keep_tail)
{
	d->tokens = mp_allocate(sizeof *d->tokens);
	*d->tokens = tokens;
	d->tokens->keep_tail = keep_tail;
	d->tokens->part = "";
	d->stride = context_of(d);
	count_windows(d);
	if ((size_t)tokens.count * (size_t)tokens.bytes <= checked_bytes)
		for (long i = 0; i < tokens.count; i++)
			id_at(d, i);
}

void mp_dataset_split(struct mp_dataset *d, double split)
{
	struct mp_tokens *t = d->tokens;
	if (!t)
		mp_fail(MP_BAD_INPUT, "--split: %s holds samples, not tokens; give the data to evaluate on with --eval", d->path);
	long first = (long)(split * (double)t->count);
	t->first += t->keep_tail ? first : 0;
	t->count = t->keep_tail ? t->count - first : first;
	t->part = t->keep_tail ? " behind the split" : " before the split";
	count_windows(d);
}

long mp_tokens_draw(const struct mp_dataset *d, uint64_t key, long sample)
{
	uint32_t x[4];
	mp_random_block(key, 0, (uint64_t)sample, x);
	return (long)(((uint64_t)x[0] << 32 | x[1]) % (uint64_t)(d->tokens->count - d->stride));
}

void mp_tokens_gather(const struct mp_dataset *d, const struct mp_input *in, const long *start, long count, int32_t *out)
{
	bool labels = !strcmp(in->name, "labels");
	for (long k = 0; k < count; k++)
		for (long i = 0; i < d->stride; i++) {
			long place = start[k] + i + labels;
			bool padding = start[k] < 0 || place >= d->tokens->count;
			*out++ = !padding ? id_at(d, place) : labels ? -1 : 0;
		}
}

long mp_dataset_ids(const struct mp_dataset *d, int32_t *ids)
{
	if (!d->tokens)
		mp_fail(MP_BAD_INPUT, "%s holds samples, not a text", d->path);
	for (long i = 0; ids && i < d->tokens->count; i++)
		ids[i] = id_at(d, i);
	return d->tokens->count;
}

void mp_tokens_close(struct mp_tokens *t)
{
	if (t->map)
		munmap(t->map, t->map_bytes);
	else
		free((void *)t->ids);
	free(t->path);
	free(t);
}
