// checkpoint_check.c: the names in files against those of the model.
//
// A file of weights that does not fit must not be loaded half: a layer that silently keeps its initial values ruins a
// result and no message tells. So every tensor of the model has to be there in its shape, and every tensor of the file
// has to be used, unless the user allows otherwise. Files of one kind of model differ in three ways that mean nothing,
// which the spec declares: a prefix of all names, tensors that hold no weights, and a tied tensor that is written twice.
#include "checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Name without the model's prefix.
static const char *without_prefix(const struct mp_model *m, const char *name)
{
	const char *prefix = m->files && m->files->prefix ? m->files->prefix : "";
	size_t n = strlen(prefix);
	return strncmp(name, prefix, n) ? name : name + n;
}

static const struct mp_tensor *find(const struct mp_model *m, const struct mp_tensors *set, const char *name)
{
	const struct mp_tensor *t = mp_tensors_find(set, name);
	const char *prefix = m->files ? m->files->prefix : NULL, *bare = without_prefix(m, name);
	if (t || !prefix)
		return t;
	if (bare != name)
		return mp_tensors_find(set, bare);
	char *whole = mp_text("%s%s", prefix, name);
	t = mp_tensors_find(set, whole);
	free(whole);
	return t;
}

// By its name or else by that which it is tied to.
static const struct mp_tensor *find_piece(const struct mp_model *m, const struct mp_tensors *set, const struct mp_piece *piece)
{
	const struct mp_tensor *t = find(m, set, piece->name);
	return t || !piece->tied ? t : find(m, set, piece->tied);
}

static bool fits(const struct mp_state *s, const struct mp_piece *piece, const struct mp_tensor *t)
{
	bool same = piece->dims == t->dims && mp_file_type_fits(t->type, s->type);
	for (int d = 0; same && d < piece->dims; d++)
		same = piece->shape[d] == t->shape[d];
	return same;
}

const struct mp_tensor *mp_checkpoint_tensor(const struct mp_model *m, const struct mp_tensors *set, const struct mp_state *s,
                                             const struct mp_piece *piece)
{
	const struct mp_tensor *t = find_piece(m, set, piece);
	return t && fits(s, piece, t) ? t : NULL;
}

// Whether a name matches a pattern, in which * stands for any text.
static bool matches(const char *pattern, const char *name)
{
	for (; *pattern != '*'; pattern++, name++)
		if (*pattern != *name || !*name)
			return *pattern == *name;
	for (pattern++; !matches(pattern, name); name++)
		if (!*name)
			return false;
	return true;
}

static bool is_ignored(const struct mp_model *m, const char *name)
{
	// PyTorch's batch_norm counts its updates in a tensor that nothing computes with: a model may do without it.
	bool ignored = matches("*.num_batches_tracked", name);
	for (int i = 0; m->files && i < m->files->ignored_count; i++)
		ignored |= matches(m->files->ignored[i], name) || matches(m->files->ignored[i], without_prefix(m, name));
	return ignored;
}

// The comparison of one file: lists of names, and which tensors something uses.
struct check {
	const struct mp_model *m;
	struct mp_tensors *set;         // NULL: no file
	struct mp_names missing, unused, mismatched;
	bool *used;
};

static bool same_content(struct mp_tensors *set, const struct mp_tensor *a, const struct mp_tensor *b)
{
	bool same = a->type == b->type && a->dims == b->dims && a->bytes == b->bytes;
	for (int d = 0; same && d < a->dims; d++)
		same = a->shape[d] == b->shape[d];
	return same && (a->bytes == 0 || !memcmp(mp_tensors_map(set, a), mp_tensors_map(set, b), a->bytes));
}

static void check_piece(struct check *c, const struct mp_state *s, const struct mp_piece *piece)
{
	const struct mp_tensor *t = c->set ? find_piece(c->m, c->set, piece) : NULL;
	const struct mp_tensor *tied = c->set && piece->tied ? find(c->m, c->set, piece->tied) : NULL;
	char have[MP_SHAPE_TEXT], want[MP_SHAPE_TEXT];
	if (!t) {
		mp_names_add(&c->missing, "%s", piece->name);
		return;
	}
	c->used[t - c->set->tensors] = true;
	if (!fits(s, piece, t))
		mp_names_add(&c->mismatched, "tensor %s is %s, but the model's is %s", t->name,
		             mp_shape_text(have, mp_file_type_name(t->type), t->dims, t->shape),
		             mp_shape_text(want, mp_file_type_name(mp_checkpoint_type(s)), piece->dims, piece->shape));
	if (!tied || tied == t)
		return;
	c->used[tied - c->set->tensors] = true;
	if (!same_content(c->set, t, tied))
		mp_names_add(&c->mismatched, "tensor %s differs from %s, but the model has one for both", tied->name, t->name);
}

static void report(struct mp_names *names, const char *path, const char *what, const char *option, bool allow)
{
	if (names->count == 0)
		return;
	mp_names_end(names);
	if (!allow)
		mp_fail(MP_BAD_INPUT, "%s%s%s (--allow-%s accepts that)", path, what, names->text, option);
	fprintf(stderr, "%s%s%s\n", path, what, names->text);
	free(names->text);
}

void mp_checkpoint_check(const struct mp_model *m, struct mp_tensors *set, int file, const char *path, unsigned allow)
{
	struct check c = {.m = m, .set = set, .used = mp_allocate(set && set->count ? (size_t)set->count : 1)};
	for (int stage = 0; stage < m->axis[MP_PP]; stage++) {
		const struct mp_program *p = m->program(stage);
		for (int i = 0; i < p->state_count; i++) {
			struct mp_piece own;
			int pieces;
			const struct mp_piece *piece = mp_pieces_of(&p->states[i], &own, &pieces);
			for (int k = 0; k < pieces && p->states[i].owned && mp_checkpoint_file_of(&p->states[i]) == file; k++)
				check_piece(&c, &p->states[i], &piece[k]);
		}
	}
	for (long i = 0; set && i < set->count; i++)
		if (!c.used[i] && !is_ignored(m, set->tensors[i].name))
			mp_names_add(&c.unused, "%s", set->tensors[i].name);
	path = set ? set->path : path;
	report(&c.mismatched, path, ": ", "mismatched", allow & MP_ALLOW_MISMATCHED);
	report(&c.missing, path, " lacks tensors of the model: ", "missing", allow & MP_ALLOW_MISSING);
	report(&c.unused, path, " holds tensors that the model does not use: ", "unused", allow & MP_ALLOW_UNUSED);
	free(c.used);
}
