// load.c: load_spec, the whole way from a Lua file to a graph.
//
// The chunk runs first: it declares options and returns the program. Then the program is joined with what the
// command line replaces, and forward runs and makes the graph.
#include <lauxlib.h>
#include <string.h>

#include "session.h"

int refuse_unknown_field(lua_State *L)
{
	Session *session = session_of(L);
	const char *table = lua_tostring(L, lua_upvalueindex(1));
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : describe(L, 2);
	Names names = {0};
	add_sorted_keys(L, 1, &names);
	spec_error(L, "there is no %s.%s%s", table, name, did_you_mean(session, name, &names));
}

// mp.sequence_parallel: whether tp splits the positions of sequences between tensor-parallel layers. Known while forward runs.
static int mp_field(lua_State *L)
{
	Session *session = session_of(L);
	if (lua_type(L, 2) != LUA_TSTRING || strcmp(lua_tostring(L, 2), "sequence_parallel"))
		return refuse_unknown_field(L);
	graph_of(L, "mp.sequence_parallel");
	session->reads_sequence_parallel = true;
	lua_pushboolean(L, session->spec->sequence_parallel);
	return 1;
}

static int refuse_extension(lua_State *L)
{
	spec_error(L, "mp cannot be extended: keep your functions in a table of your own");
}

static void open_mp(lua_State *L)
{
	open_handles(L);
	open_tensors(L);
	lua_newtable(L);
	open_options(L);
	open_program(L);
	open_optimizers(L);
	open_operations(L);
	open_images(L);
	open_norms(L);
	open_parameters(L);
	open_blocks(L);
	lua_newtable(L);
	lua_pushliteral(L, "mp");
	lua_pushcclosure(L, mp_field, 1);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, refuse_extension);
	lua_setfield(L, -2, "__newindex");
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_setglobal(L, "mp");
}

// Runs in protected mode: there may be no memory even for this.
static int open_libraries(lua_State *L)
{
	open_safe_library(L);
	open_mp(L);
	return 0;
}

// The chunk's result must be the program.
static void check_returned(lua_State *L)
{
	Session *session = session_of(L);
	Location file = {.file = session->options->file};
	if (take_handle(L, -1, HANDLE_PROGRAM))
		return;
	if (session->program)
		fail_at(session->program->location, "the program is not returned: write `return mp.program { … }`");
	if (lua_isnil(L, -1))
		fail_at(&file, "the spec returns nothing: it must end with `return mp.program { … }`");
	fail_at(&file, "the spec returns %s: it must end with `return mp.program { … }`", describe(L, -1));
}

// What the command line says replaces what the spec says.
static void join_options(Session *session)
{
	const SpecOptions *options = session->options;
	const Program *program = session->program;
	Spec *spec = session->spec;
	spec->name = program->name;
	spec->location = program->location;
	spec->data = program->data->kind;
	spec->vocabulary = program->data->vocabulary;
	spec->steps = program->steps;
	memcpy(spec->mesh, program->mesh, sizeof spec->mesh);
	spec->mesh_location = options->mesh ? NULL : program->location;
	if (options->mesh)
		parse_mesh(options->mesh, spec->mesh);
	spec->mesh[AXIS_MICRO] = options->microbatches ? options->microbatches : program->microbatches;
	spec->sequence_parallel = options->sequence_parallel && spec->mesh[AXIS_TP] > 1;
	if (options->training && !program->optimizer)
		fail_at(program->location, "training needs an optimizer: optimizer = mp.sgd { lr = 0.01 }");
}

static Graph *new_graph(Session *session)
{
	const SpecOptions *options = session->options;
	Graph *graph = graph_new(session->arena, options->real, options->batch ? options->batch : session->program->batch);
	graph->training = options->training;
	graph->scores = !options->training && session->spec->data == DATA_TOKENS;
	graph->microbatches = session->spec->mesh[AXIS_MICRO];
	graph->replicas = session->spec->mesh[AXIS_DP];
	if (session->program->optimizer)
		graph->optimizer = *session->program->optimizer;
	return graph;
}

Spec *load_spec(Arena *arena, const SpecOptions *options)
{
	Session *session = arena_alloc(arena, sizeof *session);
	*session = (Session){.arena = arena, .options = options, .scope = ""};
	session->spec = arena_alloc(arena, sizeof *session->spec);
	lua_State *L = session->state = sandbox_open(session);
	lua_pushcfunction(L, open_libraries);
	call_spec(L, 0, 0);
	load_file(L, options->file);
	deadline_start(options->file);
	call_spec(L, 0, 1);
	check_returned(L);
	join_options(session);
	session->spec->graph = session->graph = new_graph(session);
	lua_pushcfunction(L, run_forward);
	call_spec(L, 0, 0);
	refuse_common_file_names(session);
	deadline_stop();
	if (session->spec->sequence_parallel && !session->reads_sequence_parallel)
		fail(EXIT_USAGE, "--sequence-parallel: the layers of %s do not split sequences\nthose that do ask mp.sequence_parallel", options->file);
	check_defines(session);
	lua_close(L);
	return session->spec;
}
