// data.c: data sets of any kind, as the loader sees them.
//
// The readers leave each input's samples as they came, as bytes of a file's type in memory (or mapped), because that is
// the smallest form: Fashion-MNIST is 47 MB as bytes and 188 MB as floats. Samples become values of the program's type
// when a batch is filled, on the loader's thread, where the time does not count.
#include "data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

long mp_input_elements(const struct mp_input *in)
{
	long n = 1;
	for (int d = 0; d < in->dims; d++)
		n *= in->shape[d];
	return n;
}

// Copies the dims whose extent is not 1 and returns how many there are.
static int squeeze(int dims, const long *shape, long *out)
{
	int n = 0;
	for (int d = 0; d < dims; d++)
		if (shape[d] != 1)
			out[n++] = shape[d];
	return n;
}

bool mp_input_fits(const struct mp_input *in, int dims, const long *shape)
{
	long a[MP_DIMS], b[MP_FILE_DIMS], product = 1;
	int n = squeeze(in->dims, in->shape, a), k = squeeze(dims, shape, b);
	for (int d = 0; d < k; d++)
		if (b[d] == 0 || __builtin_mul_overflow(product, b[d], &product))
			return false;
	if (n <= 1 || k <= 1)
		return product == mp_input_elements(in);
	return n == k && !memcmp(a, b, (size_t)n * sizeof a[0]);
}

static bool is_label(const struct mp_input *in) { return in->type == MP_I32 && in->limit > 0; }

bool mp_input_optional(const struct mp_model *m, const struct mp_input *in) { return !m->training && is_label(in); }

int mp_input_index(const struct mp_model *m, const char *name)
{
	for (int i = 0; i < m->input_count; i++)
		if (!strcmp(m->inputs[i].name, name))
			return i;
	return -1;
}

void mp_column_check(const struct mp_model *m, const struct mp_input *in, const struct mp_column *c, long samples,
                     const char *file)
{
	bool ids = m->data == MP_DATA_TOKENS && !is_label(in);
	long limit = ids ? m->vocabulary : in->limit, least = ids ? 0 : -1;
	long elements = mp_input_elements(in);
	size_t size = mp_file_type_bytes(c->type);
	int32_t value;
	for (long i = 0; in->type == MP_I32 && i < samples * elements; i++) {
		if (mp_file_convert(c->type, (const char *)c->values + (size_t)i * size, 1, MP_I32, &value) >= 0)
			mp_fail(MP_BAD_INPUT, "%s: %s of sample %ld does not fit into 32 bits", file, in->name, i / elements);
		if (limit > 0 && (value < least || value >= limit))
			mp_fail(MP_BAD_INPUT, "%s: %s of sample %ld is %d, but the spec allows 0 to %ld%s", file, in->name,
			        i / elements, (int)value, limit - 1, ids ? "" : " (and -1: ignored)");
	}
}

// ---------------------------------------------------------------------------------------------------------
// Values

static void fill_padding(const struct mp_input *in, long elements, void *out)
{
	memset(out, is_label(in) ? 0xFF : 0, (size_t)elements * mp_type_bytes(in->type));
}

// byte / 255 as the nearest value of the type; divided once for each of the 256.
static void scale_bytes(const unsigned char *bytes, long n, enum mp_type type, void *out)
{
	if (type == MP_F64) {
		double value[256];
		for (int k = 0; k < 256; k++)
			value[k] = k / 255.0;
		for (long i = 0; i < n; i++)
			((double *)out)[i] = value[bytes[i]];
	} else {
		float value[256];
		for (int k = 0; k < 256; k++)
			value[k] = (float)k / 255.0f;
		for (long i = 0; i < n; i++)
			((float *)out)[i] = value[bytes[i]];
	}
}

void mp_column_gather(const struct mp_input *in, const struct mp_column *c, const long *index, long count, void *out)
{
	long elements = mp_input_elements(in);
	size_t from = (size_t)elements * mp_file_type_bytes(c->type), to = (size_t)elements * mp_type_bytes(in->type);
	char *at = out;
	for (long k = 0; k < count; k++, at += to) {
		const char *sample = c->values && index[k] >= 0 ? (const char *)c->values + (size_t)index[k] * from : NULL;
		if (!sample)
			fill_padding(in, elements, at);
		else if (c->scaled)
			scale_bytes((const unsigned char *)sample, elements, in->type, at);
		else
			mp_file_convert(c->type, sample, elements, in->type, at);
	}
}

// ---------------------------------------------------------------------------------------------------------
// Opening

// "synthetic" or "synthetic:SEED".
static bool is_synthetic(const char *path, uint64_t *seed)
{
	static const char name[] = "synthetic";
	size_t n = sizeof name - 1;
	char *end = NULL;
	*seed = 0;
	if (strncmp(path, name, n) || (path[n] && path[n] != ':'))
		return false;
	if (path[n] == 0)
		return true;
	errno = 0;
	*seed = strtoull(path + n + 1, &end, 10);
	return path[n + 1] >= '0' && path[n + 1] <= '9' && *end == 0 && errno == 0;
}

static bool is_tensors(const char *path)
{
	static const char *const ends[] = {".safetensors", ".safetensors.index.json"};
	size_t n = strlen(path);
	for (int i = 0; i < 2; i++)
		if (n > strlen(ends[i]) && !strcmp(path + n - strlen(ends[i]), ends[i]))
			return true;
	return false;
}

struct mp_dataset *mp_dataset_open(const struct mp_model *m, const char *path, bool evaluation)
{
	struct mp_dataset *d = mp_allocate(sizeof *d);
	uint64_t seed;
	bool tokens = m->data == MP_DATA_TOKENS;
	d->model = m;
	d->stride = 1;
	d->path = mp_text("%s", path);
	d->columns = mp_allocate((size_t)m->input_count * sizeof *d->columns);
	d->memory = mp_allocate((size_t)m->input_count * sizeof *d->memory);
	if (is_synthetic(path, &seed) && tokens)
		mp_synthetic_tokens_open(d, seed, evaluation);
	else if (is_synthetic(path, &seed))
		mp_synthetic_open(d, seed, evaluation);
	else if (tokens && !is_tensors(path))
		mp_token_files_open(d, evaluation);
	else if (mp_is_folder(path))
		mp_idx_open(d, evaluation);
	else
		mp_tensors_dataset_open(d);
	return d;
}

long mp_dataset_samples(const struct mp_dataset *d) { return d->samples; }

bool mp_dataset_has(const struct mp_dataset *d, const char *input)
{
	int i = mp_input_index(d->model, input);
	return i >= 0 && (d->tokens || d->columns[i].values);
}

void mp_dataset_close(struct mp_dataset *d)
{
	for (int i = 0; i < d->model->input_count; i++)
		free(d->memory[i]);
	if (d->tensors)
		mp_tensors_close(d->tensors);
	if (d->tokens)
		mp_tokens_close(d->tokens);
	free(d->memory);
	free(d->columns);
	free(d->path);
	free(d);
}
