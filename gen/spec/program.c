// program.c: mp.program and the data declarations.
//
// Everything is checked where it is written, so that the line of the message is that of the declaration.
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

// "image" = { "f32", 784 }: the table on top of the stack.
static InputDeclaration read_input(lua_State *L, const char *what, const char *name)
{
	Arena *arena = session_of(L)->arena;
	const char *field = arena_printf(arena, "%s: %s", what, name);
	if (!lua_istable(L, -1))
		spec_error(L, "%s must be a table such as { \"f32\", 784 }: type and extents of one sample, not %s", field, describe(L, -1));
	InputDeclaration input = {.name = name};
	lua_rawgeti(L, -1, 1);
	const char *type = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
	input.real = !strcmp(type, "f32");
	if (!input.real && strcmp(type, "i32"))
		spec_error(L, "%s: the type must be \"f32\" (values, in the compute type) or \"i32\" (class numbers), not %s",
		           field, describe(L, -1));
	lua_pop(L, 1);
	lua_Unsigned count = lua_rawlen(L, -1);
	lua_createtable(L, 8, 0);
	for (lua_Unsigned i = 2; i <= count && i < 20; i++) {
		lua_rawgeti(L, -2, (lua_Integer)i);
		lua_rawseti(L, -2, (lua_Integer)i - 1);
	}
	input.dims = take_shape(L, lua_gettop(L), field, 1, input.shape);
	if (input.dims == MAX_DIMS)
		spec_error(L, "%s: a tensor has at most %d dims with the batch", field, MAX_DIMS);
	lua_pop(L, 1);
	return input;
}

static int read_data(lua_State *L, DataKind kind, const char *what)
{
	Session *session = session_of(L);
	if (!lua_istable(L, 1))
		spec_error(L, "%s takes a table of inputs such as { image = { \"f32\", 784 } }, not %s", what, describe(L, 1));
	DataDeclaration *data = arena_alloc(session->arena, sizeof *data);
	data->kind = kind;
	data->location = here(L);
	Names names = {0};
	add_sorted_keys(L, 1, &names);
	for (int i = 0; i < names.count; i++) {
		lua_pushstring(L, names.at[i]);
		take_name(L, -1, arena_printf(session->arena, "%s: the name of an input", what));
		lua_rawget(L, 1);
		InputDeclaration input = read_input(L, what, names.at[i]);
		list_add(session->arena, &data->inputs, input);
		lua_pop(L, 1);
	}
	if (!names.count || lua_rawlen(L, 1))
		spec_error(L, "%s: inputs have names: { image = { \"f32\", 784 } }", what);
	push_handle(L, HANDLE_DATA, data);
	return 1;
}

// mp.idx { image = { "f32", 784 }, label = { "i32" } }
static int idx(lua_State *L)
{
	return read_data(L, DATA_IDX, "mp.idx");
}

// mp.tensors { x = { "f32", 1024 } }
static int tensors(lua_State *L)
{
	return read_data(L, DATA_TENSORS, "mp.tensors");
}

// mp.tokens { context = 1024, vocab = 50257 }: t.tokens and t.labels, the token behind each; i32[context] a sample.
static int tokens(lua_State *L)
{
	static const char *const known[] = {"context", "vocab", NULL};
	static const char what[] = "mp.tokens";
	Session *session = session_of(L);
	check_fields(L, 1, what, known);
	DataDeclaration *data = arena_alloc(session->arena, sizeof *data);
	data->kind = DATA_TOKENS;
	data->location = here(L);
	long context = field_integer(L, 1, what, "context", 1, 0);
	data->vocabulary = field_integer(L, 1, what, "vocab", 2, 0);
	if (!context || !data->vocabulary)
		spec_error(L, "mp.tokens needs %s: mp.tokens { context = 1024, vocab = 50257 }", context ?
		           "vocab, the number of different tokens" : "context, the tokens of a sample");
	if (data->vocabulary > INT32_MAX || context > INT32_MAX)
		spec_error(L, "mp.tokens: %s is too large: tokens are 32-bit numbers", context > INT32_MAX ? "context" : "vocab");
	InputDeclaration labels = {.name = "labels", .next_tokens = true, .dims = 1, .shape = {context}};
	InputDeclaration ids = {.name = "tokens", .dims = 1, .shape = {context}};
	list_add(session->arena, &data->inputs, labels);
	list_add(session->arena, &data->inputs, ids);
	push_handle(L, HANDLE_DATA, data);
	return 1;
}

// bin/NAME is made of it.
static const char *program_name(lua_State *L)
{
	Session *session = session_of(L);
	if (lua_getfield(L, 1, "name") != LUA_TNIL) {
		const char *name = take_name(L, -1, "mp.program: name");
		if (strchr(name, '.'))
			spec_error(L, "mp.program: name must be letters, digits and '_', not %s", describe(L, -1));
		return arena_strdup(session->arena, name);
	}
	const char *file = session->options->file, *slash = strrchr(file, '/');
	char *name = arena_strdup(session->arena, slash ? slash + 1 : file);
	size_t length = strlen(name);
	if (length > 4 && !strcmp(name + length - 4, ".lua"))
		name[length - 4] = 0;
	for (char *at = name; *at; at++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", *at))
			*at = '_';
	return name;
}

// The field as a value that `wanted` makes; NULL when it is missing.
static const void *handle_field(lua_State *L, const char *name, HandleKind kind, const char *wanted)
{
	const void *object = NULL;
	if (lua_getfield(L, 1, name) != LUA_TNIL && !(object = take_handle(L, -1, kind)))
		spec_error(L, "mp.program: %s must be made by %s, not %s", name, wanted, describe(L, -1));
	lua_pop(L, 1);
	return object;
}

// mp.program { name =, forward =, data =, batch =, microbatches =, mesh =, optimizer =, steps =, files =, config = }
static int program(lua_State *L)
{
	static const char *const known[] = {"name", "forward", "data", "batch", "microbatches", "mesh", "optimizer", "steps", "files", "config", NULL};
	static const char what[] = "mp.program";
	Session *session = session_of(L);
	check_fields(L, 1, what, known);
	Program *made = arena_alloc(session->arena, sizeof *made);
	made->location = here(L);
	if (session->program)
		spec_error(L, "a spec describes one program: mp.program was called before\nthe first time at %s:%d",
		           session->program->location->file, session->program->location->line);
	if (lua_getfield(L, 1, "forward") != LUA_TFUNCTION)
		spec_error(L, "mp.program: forward must be the function that computes the model, not %s", describe(L, -1));
	lua_setfield(L, LUA_REGISTRYINDEX, "forward");
	made->name = program_name(L);
	made->data = handle_field(L, "data", HANDLE_DATA, "mp.idx { … }, mp.tensors { … } or mp.tokens { … }");
	if (!made->data)
		spec_error(L, "mp.program needs data: what forward reads, such as mp.idx { image = { \"f32\", 784 } }");
	made->optimizer = handle_field(L, "optimizer", HANDLE_OPTIMIZER, "mp.sgd { … } or mp.adamw { … }");
	made->batch = field_integer(L, 1, what, "batch", 1, session->options->batch);
	if (!made->batch)
		spec_error(L, "mp.program needs batch: the samples of a step over all devices");
	made->microbatches = (int)field_integer(L, 1, what, "microbatches", 1, 1);
	made->steps = (int)field_integer(L, 1, what, "steps", 1, 0);
	if (lua_getfield(L, 1, "files") != LUA_TNIL)
		read_program_files(L, -1, session->spec);
	if (lua_getfield(L, 1, "config") != LUA_TNIL)
		session->spec->config = read_config(L);
	if (lua_getfield(L, 1, "mesh") == LUA_TNIL)
		lua_newtable(L);
	read_mesh(L, lua_gettop(L), made->mesh);
	session->program = made;
	push_handle(L, HANDLE_PROGRAM, made);
	return 1;
}

void open_program(lua_State *L)
{
	static const luaL_Reg functions[] = {{"program", program}, {"idx", idx}, {"tensors", tensors}, {"tokens", tokens}, {NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
}
