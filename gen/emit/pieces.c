// pieces.c: the table of how a role's states lie in files (struct mp_piece), and what the model says of files.
//
// A state that lies there as on the device, under its own name, has no row. Filters that the device keeps channels-last
// have one, with the dims in the order of files; parameters have those that the spec gives. Optimizer state is no other
// program's: it lies as its parameter does here, but without padding, so that files do not depend on how much there is.
#include <string.h>

#include "source.h"

// The device's dim of a dim of the spec.
static int device_dim(const Tensor *t, int dim)
{
	static const int in_last[MAX_DIMS] = {0, 3, 1, 2};
	return t->channels_last ? in_last[dim] : dim;
}

// A piece in the dims of the spec's tensor, as one in those of the device.
static Piece on_device(const Tensor *t, const Piece *piece)
{
	Piece moved = *piece;
	for (int d = 0; d < t->dims; d++) {
		moved.from[device_dim(t, d)] = piece->from[d];
		moved.extent[device_dim(t, d)] = piece->extent[d];
		moved.order[d] = device_dim(t, piece->order[d]);
	}
	return moved;
}

static Piece whole(const Tensor *t)
{
	Piece piece = {.name = t->name, .dims = t->dims};
	for (int d = 0; d < t->dims; d++) {
		piece.extent[d] = piece.shape[d] = t->shape[device_dim(t, d)];
		piece.order[d] = d;
	}
	return piece;
}

// The smallest box that holds all pieces of the parameter. Returns whether it is less than the whole.
static bool clip(Piece *box, const Parameter *parameter)
{
	bool less = false;
	for (int d = 0; d < box->dims && parameter->pieces.count; d++) {
		long low = box->extent[d], high = 0;
		for (int i = 0; i < parameter->pieces.count; i++) {
			const Piece *piece = &parameter->pieces.at[i];
			low = piece->from[d] < low ? piece->from[d] : low;
			high = piece->from[d] + piece->extent[d] > high ? piece->from[d] + piece->extent[d] : high;
		}
		less |= low > 0 || high < box->extent[d];
		box->from[d] = low;
		box->extent[d] = box->shape[d] = high - low;
	}
	return less;
}

static void emit_longs(Text *out, int count, const long *values)
{
	text_add(out, ", {");
	for (int i = 0; i < count || i == 0; i++)
		text_add(out, "%s%ld", i ? ", " : "", count ? values[i] : 0);
	text_add(out, "}");
}

static void emit_piece(Text *out, const Emit *emit, const Tensor *t, const Piece *piece)
{
	text_add(out, "\t{%s, %s", c_string(emit->arena, piece->name), piece->tied ? c_string(emit->arena, piece->tied) : "NULL");
	emit_longs(out, t->dims, piece->from);
	emit_longs(out, t->dims, piece->extent);
	text_add(out, ", {");
	for (int d = 0; d < t->dims || d == 0; d++)
		text_add(out, "%s%d", d ? ", " : "", t->dims ? piece->order[d] : 0);
	text_add(out, "}, %d", piece->dims);
	emit_longs(out, piece->dims, piece->shape);
	text_add(out, "},\n");
}

// The pieces of a PARAMETER or STATE node; writes them when `emitted`. Returns how many there are.
static int list_pieces(Text *out, const Emit *emit, const Node *node, bool emitted)
{
	const Tensor *t = node->out[0];
	const Parameter *parameter = node->op == OP_PARAMETER ? node->attributes.parameter : node->attributes.state->parameter;
	Piece box = whole(t);
	if (node->op == OP_PARAMETER && parameter->pieces.count) {
		for (int i = 0; i < parameter->pieces.count && emitted; i++) {
			Piece piece = on_device(t, &parameter->pieces.at[i]);
			emit_piece(out, emit, t, &piece);
		}
		return parameter->pieces.count;
	}
	bool same = t->dims == parameter->tensor->dims, less = same && clip(&box, parameter);
	if (!less && !t->channels_last)
		return 0;
	box = on_device(t, &box);
	if (emitted)
		emit_piece(out, emit, t, &box);
	return 1;
}

int count_pieces(const Emit *emit, const Node *node)
{
	return list_pieces(NULL, emit, node, false);
}

void emit_pieces(Text *out, const Emit *emit, const Role *role)
{
	bool any = false;
	for (int i = 0; i < role->nodes[PHASE_PROLOGUE].count; i++) {
		const Node *node = role->nodes[PHASE_PROLOGUE].at[i];
		if ((node->op != OP_PARAMETER && node->op != OP_STATE) || !count_pieces(emit, node))
			continue;
		if (!any)
			text_add(out, "// name in files, tied name, first index and extent of the part in each dim, order of dims in files, dims and shape there\n"
			         "static const struct mp_piece pieces[] = {\n");
		any = true;
		list_pieces(out, emit, node, true);
	}
	if (any)
		text_add(out, "};\n\n");
}

// A text of several lines as C strings, one a line.
static void emit_lines(Text *out, Arena *arena, const char *text)
{
	for (const char *line = text, *end; *line && (end = strchr(line, '\n')); line = end + 1) {
		const char *quoted = c_string(arena, arena_printf(arena, "%.*s", (int)(end - line), line));
		text_add(out, "\n\t\t%.*s\\n\"", (int)strlen(quoted) - 1, quoted);
	}
}

bool emit_file_rules(Text *out, const Emit *emit)
{
	const Spec *spec = emit->spec;
	if (!spec->prefix && !spec->ignored.count && !spec->config)
		return false;
	if (spec->ignored.count) {
		text_add(out, "static const char *const ignored[] = {");
		for (int i = 0; i < spec->ignored.count; i++)
			text_add(out, "%s%s", i ? ", " : "", c_string(emit->arena, spec->ignored.at[i]));
		text_add(out, "};\n\n");
	}
	text_add(out, "static const struct mp_files files = {\n");
	if (spec->prefix)
		text_add(out, "\t.prefix = %s,\n", c_string(emit->arena, spec->prefix));
	if (spec->ignored.count)
		text_add(out, "\t.ignored = ignored,\n\t.ignored_count = %d,\n", spec->ignored.count);
	if (spec->config) {
		text_add(out, "\t.config =");
		emit_lines(out, emit->arena, spec->config);
		text_add(out, ",\n");
	}
	text_add(out, "};\n\n");
	return true;
}
