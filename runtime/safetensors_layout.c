// safetensors_layout.c: the header of a tensor file before its data exists.
//
// Many ranks write one file, each its own slices, at the same time. That takes no messages when all know where every
// tensor lies, so the header is computed from the list of tensors alone: sorted by element size, so that everything
// is aligned, then by name, so that the file does not depend on the mesh. The header is padded with spaces to a
// multiple of 8 bytes, as the format allows.
#define _POSIX_C_SOURCE 200809L
#include "safetensors.h"
#include "data_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mp_layout_add(struct mp_layout *l, const char *name, enum mp_file_type type, int dims, const long *shape)
{
	if (l->count == l->capacity) {
		l->capacity = l->capacity ? 2 * l->capacity : 64;
		l->tensors = realloc(l->tensors, (size_t)l->capacity * sizeof *l->tensors);
		if (!l->tensors)
			mp_fail(MP_IO_FAILED, "no memory for a table of %ld tensors", l->capacity);
	}
	struct mp_layout_tensor *t = &l->tensors[l->count++];
	*t = (struct mp_layout_tensor){.name = name, .type = type, .dims = dims};
	for (int d = 0; d < dims; d++)
		t->shape[d] = shape[d];
}

static int compare_tensors(const void *a, const void *b)
{
	const struct mp_layout_tensor *x = a, *y = b;
	size_t p = mp_file_type_bytes(x->type), q = mp_file_type_bytes(y->type);
	return p != q ? (p < q) - (p > q) : strcmp(x->name, y->name);
}

void mp_print_string(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(f, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(f, "\\u%04x", *text);
		else
			fputc(*text, f);
	}
	fputc('"', f);
}

// Prints the member of t, whose data begins at byte `begin` of the data. Returns where it ends.
static uint64_t print_tensor(FILE *f, const struct mp_layout_tensor *t, uint64_t begin)
{
	uint64_t bytes = mp_file_type_bytes(t->type);
	fputc(',', f);
	mp_print_string(f, t->name);
	fprintf(f, ":{\"dtype\":\"%s\",\"shape\":[", mp_file_type_name(t->type));
	for (int d = 0; d < t->dims; d++) {
		fprintf(f, "%s%ld", d ? "," : "", t->shape[d]);
		bytes *= (uint64_t)t->shape[d];
	}
	fprintf(f, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin, (unsigned long long)(begin + bytes));
	return begin + bytes;
}

void mp_layout_finish(struct mp_layout *l)
{
	size_t n = 0;
	uint64_t end = 0;
	char *text = NULL;
	FILE *f = open_memstream(&text, &n);
	if (!f)
		mp_fail(MP_IO_FAILED, "no memory for the header of a tensor file");
	if (l->count > 1)
		qsort(l->tensors, (size_t)l->count, sizeof *l->tensors, compare_tensors);
	fwrite("\0\0\0\0\0\0\0\0", 1, 8, f);
	fputs("{\"__metadata__\":{\"format\":\"pt\"}", f);        // what libraries of PyTorch models look for
	for (long i = 0; i < l->count; i++) {
		if (i > 0 && !strcmp(l->tensors[i - 1].name, l->tensors[i].name))
			mp_fail(MP_BUG, "two tensors of a file are named %s", l->tensors[i].name);
		l->tensors[i].offset = end;
		end = print_tensor(f, &l->tensors[i], end);
	}
	fputc('}', f);
	while (ftell(f) % 8)
		fputc(' ', f);
	if (fclose(f))
		mp_fail(MP_IO_FAILED, "no memory for the header of a tensor file");
	for (int i = 0; i < 8; i++)
		text[i] = (char)((n - 8) >> 8 * i & 0xFF);
	for (long i = 0; i < l->count; i++)
		l->tensors[i].offset += n;
	l->header = text;
	l->header_bytes = n;
	l->file_bytes = n + end;
}

const struct mp_layout_tensor *mp_layout_find(const struct mp_layout *l, const char *name)
{
	for (long i = 0; i < l->count; i++)
		if (!strcmp(l->tensors[i].name, name))
			return &l->tensors[i];
	return NULL;
}

void mp_layout_free(struct mp_layout *l)
{
	free(l->tensors);
	free(l->header);
	*l = (struct mp_layout){0};
}
