// files.c: how weights lie in files: the `files` of mp.parameter, and files and config of mp.program.
//
// A parameter whose name, order of dims or extent is not that of published weights says of what tensors of files it
// consists. Each is a part of the parameter (a range of one dim, or all of it), with its dims in the order of the file,
// where several may be written as one. What none covers is padding, which stays zero. Overlaps and names that two
// parameters claim are refused here, so that a file never depends on which of them is written last.
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

enum { DEEPEST_CONFIG = 20 };

// The order of dims on top of the stack, such as {2, 1}.
static void read_order(lua_State *L, const char *what, const Tensor *t, Piece *piece)
{
	bool seen[MAX_DIMS] = {false};
	if (!lua_istable(L, -1) || lua_rawlen(L, -1) != (lua_Unsigned)t->dims)
		spec_error(L, "%s: order must list the %d dims of %s %s in the order of the file, such as {2, 1}, not %s", what, t->dims, t->name,
		           shape_text(session_of(L)->arena, t), describe(L, -1));
	for (int i = 0; i < t->dims; i++) {
		lua_rawgeti(L, -1, i + 1);
		int dim = take_dim(L, -1, arena_printf(session_of(L)->arena, "%s: order", what), t);
		if (seen[dim])
			spec_error(L, "%s: order has dim %d twice", what, dim + 1);
		seen[dim] = true;
		piece->order[i] = dim;
		lua_pop(L, 1);
	}
}

// dim =, from =, to =: the range of one dim, both ends included.
static void read_range(lua_State *L, int table, const char *what, const Tensor *t, Piece *piece)
{
	for (int d = 0; d < t->dims; d++)
		piece->extent[d] = t->shape[d];
	if (lua_getfield(L, table, "dim") == LUA_TNIL) {
		if (lua_getfield(L, table, "from") != LUA_TNIL || lua_getfield(L, table, "to") != LUA_TNIL)
			spec_error(L, "%s: from and to need dim: which dim they are of", what);
		return;
	}
	int dim = take_dim(L, -1, arena_printf(session_of(L)->arena, "%s: dim", what), t);
	long from = field_integer(L, table, what, "from", 1, 1), to = field_integer(L, table, what, "to", 1, t->shape[dim]);
	if (from > to || to > t->shape[dim])
		spec_error(L, "%s: from %ld to %ld is no range of dim %d of %s %s", what, from, to, dim + 1, t->name,
		           shape_text(session_of(L)->arena, t));
	piece->from[dim] = from - 1;
	piece->extent[dim] = to - from + 1;
}

static void read_file_shape(lua_State *L, int table, const char *what, const Tensor *t, Piece *piece)
{
	long elements = 1, wanted = 1;
	for (int d = 0; d < t->dims; d++)
		wanted *= piece->extent[d];
	if (lua_getfield(L, table, "shape") == LUA_TNIL) {
		piece->dims = t->dims;
		for (int d = 0; d < t->dims; d++)
			piece->shape[d] = piece->extent[piece->order[d]];
		return;
	}
	piece->dims = take_shape(L, lua_gettop(L), arena_printf(session_of(L)->arena, "%s: shape", what), 1, piece->shape);
	for (int d = 0; d < piece->dims; d++)
		elements *= piece->shape[d];
	if (elements != wanted)
		spec_error(L, "%s: the shape has %ld elements, but this part of %s %s has %ld", what, elements, t->name,
		           shape_text(session_of(L)->arena, t), wanted);
}

static bool overlap(const Piece *a, const Piece *b, int dims)
{
	for (int d = 0; d < dims; d++)
		if (a->from[d] >= b->from[d] + b->extent[d] || b->from[d] >= a->from[d] + a->extent[d])
			return false;
	return true;
}

// One piece: the table on top of the stack.
static void read_piece(lua_State *L, Parameter *parameter)
{
	static const char *const known[] = {"name", "dim", "from", "to", "order", "shape", "tied", NULL};
	Session *session = session_of(L);
	const Tensor *t = parameter->tensor;
	const char *what = arena_printf(session->arena, "mp.parameter: files of '%s'", parameter->name);
	int table = lua_gettop(L);
	check_fields(L, table, what, known);
	Piece piece = {0};
	lua_getfield(L, table, "name");
	piece.name = arena_strdup(session->arena, scoped(session, take_name(L, -1, arena_printf(session->arena, "%s: name", what))));
	if (lua_getfield(L, table, "tied") != LUA_TNIL)
		piece.tied = arena_strdup(session->arena, take_name(L, -1, arena_printf(session->arena, "%s: tied", what)));
	read_range(L, table, what, t, &piece);
	for (int d = 0; d < t->dims; d++)
		piece.order[d] = d;
	if (lua_getfield(L, table, "order") != LUA_TNIL)
		read_order(L, what, t, &piece);
	read_file_shape(L, table, what, t, &piece);
	for (int i = 0; i < parameter->pieces.count; i++)
		if (overlap(&parameter->pieces.at[i], &piece, t->dims))
			spec_error(L, "%s: %s and %s are of the same elements of %s", what, parameter->pieces.at[i].name, piece.name,
			           shape_text(session->arena, t));
	list_add(session->arena, &parameter->pieces, piece);
	lua_settop(L, table);
}

void read_pieces(lua_State *L, Parameter *parameter)
{
	int table = lua_gettop(L);
	if (!lua_istable(L, table) || !lua_rawlen(L, table))
		spec_error(L, "mp.parameter: files must be a list of tables such as { { name = \"weight\", order = {2, 1} } }, not %s",
		           describe(L, table));
	for (int i = 1, count = (int)lua_rawlen(L, table); i <= count; i++) {
		lua_rawgeti(L, table, i);
		read_piece(L, parameter);
		lua_settop(L, table);
	}
}

// ---- names that must be one parameter's alone

typedef struct {
	const char *name;
	const Parameter *parameter;
} FileName;

static int compare_file_names(const void *a, const void *b)
{
	const FileName *x = a, *y = b;
	int order = strcmp(x->name, y->name);
	return order ? order : (x->parameter->tensor->id > y->parameter->tensor->id) - (x->parameter->tensor->id < y->parameter->tensor->id);
}

void refuse_common_file_names(Session *session)
{
	LIST(FileName) names = {0};
	const Graph *graph = session->graph;
	for (int i = 0; i < graph->parameters.count; i++) {
		const Parameter *parameter = graph->parameters.at[i];
		if (!parameter->pieces.count)
			list_add(session->arena, &names, ((FileName){parameter->name, parameter}));
		for (int k = 0; k < parameter->pieces.count; k++) {
			list_add(session->arena, &names, ((FileName){parameter->pieces.at[k].name, parameter}));
			if (parameter->pieces.at[k].tied)
				list_add(session->arena, &names, ((FileName){parameter->pieces.at[k].tied, parameter}));
		}
	}
	if (names.count)
		qsort(names.at, (size_t)names.count, sizeof *names.at, compare_file_names);
	for (int i = 1; i < names.count; i++) {
		const Parameter *first = names.at[i - 1].parameter, *second = names.at[i].parameter;
		if (!strcmp(names.at[i - 1].name, names.at[i].name))
			fail_at(second->tensor->producer->location, "'%s' and '%s' are both called '%s' in files\nthe first is at %s:%d", first->name,
			        second->name, names.at[i].name, first->tensor->producer->location->file, first->tensor->producer->location->line);
	}
}

// ---- files and config of mp.program

// files = { prefix = "transformer.", ignore = { "*.attn.bias" } }
void read_program_files(lua_State *L, int table, Spec *spec)
{
	static const char *const known[] = {"prefix", "ignore", NULL};
	Session *session = session_of(L);
	table = lua_absindex(L, table);
	check_fields(L, table, "mp.program: files", known);
	if (lua_getfield(L, table, "prefix") != LUA_TNIL)
		spec->prefix = arena_strdup(session->arena, take_string(L, -1, "mp.program: files: prefix"));
	if (lua_getfield(L, table, "ignore") == LUA_TNIL)
		return;
	if (!lua_istable(L, -1))
		spec_error(L, "mp.program: files: ignore must be a list of names such as { \"*.attn.bias\" }, not %s", describe(L, -1));
	for (int i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++, lua_pop(L, 1)) {
		const char *pattern = arena_strdup(session->arena, take_string(L, -1, "mp.program: files: ignore"));
		list_add(session->arena, &spec->ignored, pattern);
	}
}

static void add_value(lua_State *L, Text *out, int depth);

static void add_text(Text *out, const char *text)
{
	text_add(out, "\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			text_add(out, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			text_add(out, "\\u%04x", *text);
		else
			text_add(out, "%c", *text);
	}
	text_add(out, "\"");
}

// A list, where the table has elements 1, 2, …, or an object with its keys in order.
static void add_table(lua_State *L, Text *out, int depth)
{
	int table = lua_gettop(L), count = (int)lua_rawlen(L, table);
	Names names = {0};
	add_sorted_keys(L, table, &names);
	if (depth > DEEPEST_CONFIG || (count && names.count))
		spec_error(L, "mp.program: config: a table is either a list or has named fields, at most %d deep", DEEPEST_CONFIG);
	text_add(out, count ? "[" : "{");
	for (int i = 0; i < (count ? count : names.count); i++) {
		text_add(out, "%s\n%*s", i ? "," : "", 2 * depth + 2, "");
		if (count) {
			lua_rawgeti(L, table, i + 1);
		} else {
			add_text(out, names.at[i]);
			text_add(out, ": ");
			lua_getfield(L, table, names.at[i]);
		}
		add_value(L, out, depth + 1);
		lua_pop(L, 1);
	}
	text_add(out, "\n%*s%s", 2 * depth, "", count ? "]" : "}");
}

// The value on top of the stack as JSON.
static void add_value(lua_State *L, Text *out, int depth)
{
	char digits[40];
	double number = lua_tonumber(L, -1);
	switch (lua_type(L, -1)) {
	case LUA_TBOOLEAN:
		text_add(out, "%s", lua_toboolean(L, -1) ? "true" : "false");
		break;
	case LUA_TSTRING:
		add_text(out, lua_tostring(L, -1));
		break;
	case LUA_TTABLE:
		add_table(L, out, depth);
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, -1)) {
			text_add(out, "%lld", (long long)lua_tointeger(L, -1));
			break;
		}
		for (int precision = 1; precision <= 17; precision++) {
			snprintf(digits, sizeof digits, "%.*g", precision, number);
			if (strtod(digits, NULL) == number)
				break;
		}
		if (isfinite(number)) {
			text_add(out, "%s%s", digits, strpbrk(digits, ".e") ? "" : ".0");
			break;
		}
		// fall through
	default:
		spec_error(L, "mp.program: config: values are strings, finite numbers, true, false and tables of them, not %s", describe(L, -1));
	}
}

const char *read_config(lua_State *L)
{
	Text out = {.arena = session_of(L)->arena};
	if (!lua_istable(L, -1))
		spec_error(L, "mp.program: config must be a table of what config.json is to hold, not %s", describe(L, -1));
	add_table(L, &out, 0);
	text_add(&out, "\n");
	return out.at;
}
