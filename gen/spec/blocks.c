// blocks.c: names and stretches of the model: mp.scope, mp.block, mp.cut and mp.layer.
//
// A scope is a prefix of names. A block is a stretch of the graph that stays on one stage; blocks cover the graph
// without gaps, so one begins at each mp.block, after it, at each mp.cut, and at each layer outside of mp.block.
// None may be empty, and what comes next is not known when one is asked for: the request is kept pending, and the
// next node makes the block. An error in a scope that the spec catches must close it: Lua closes the guard.
#include <lauxlib.h>
#include <string.h>

#include "session.h"

static const char guard_name[] = "scope";

// What leaving a scope restores.
typedef struct {
	const char *scope;
	int open_blocks;
	bool ends_block;
} Guard;

typedef enum { SCOPE, LAYER, BLOCK } ScopeKind;

const char *scoped(Session *session, const char *name)
{
	return *session->scope ? arena_printf(session->arena, "%s.%s", session->scope, name) : name;
}

// The next node begins a block. A cut that nothing followed yet stays.
static PendingBlock *want_block(lua_State *L, const char *name, bool cut)
{
	Session *session = session_of(L);
	cut |= session->pending.wanted && session->pending.cut;
	session->pending = (PendingBlock){.wanted = true, .cut = cut, .name = name, .location = here(L)};
	return &session->pending;
}

void begin_node(lua_State *L)
{
	Session *session = session_of(L);
	Graph *graph = session->graph;
	PendingBlock pending = session->pending;
	session->pending = (PendingBlock){0};
	if (!pending.wanted)
		return;
	Block *last = &graph->blocks.at[graph->blocks.count - 1];
	if (session->block_used) {
		Block block = {.name = pending.name, .location = pending.location, .cut = pending.cut, .unit = pending.unit};
		list_add(session->arena, &graph->blocks, block);
		session->block_used = false;
		return;
	}
	last->cut |= pending.cut && graph->blocks.count > 1;
	last->unit |= pending.unit;
	if (pending.name) {
		last->name = pending.name;
		last->location = pending.location;
	}
}

void end_node(Session *session, const Node *node)
{
	Block *last = &session->graph->blocks.at[session->graph->blocks.count - 1];
	if (!last->name) {
		last->name = node->name;
		last->location = node->location;
	}
	session->block_used = true;
}

static int leave(lua_State *L)
{
	Session *session = session_of(L);
	Guard *guard = luaL_checkudata(L, 1, guard_name);
	session->scope = guard->scope;
	session->open_blocks = guard->open_blocks;
	if (guard->ends_block)
		want_block(L, NULL, false);
	return 0;
}

// Calls the function at 2 with what follows it inside the scope that is named at 1; gives back its results.
static int enter(lua_State *L, const char *what, ScopeKind kind)
{
	Session *session = session_of(L);
	graph_of(L, what);
	const char *name = arena_strdup(session->arena, take_name(L, 1, arena_printf(session->arena, "%s: the name", what)));
	if (!lua_isfunction(L, 2))
		spec_error(L, "%s: the second argument must be the function that makes the layers of '%s', not %s", what, name, describe(L, 2));
	if (strlen(session->scope) + strlen(name) > 500)
		spec_error(L, "%s: scopes are nested too deep: %s.%s", what, session->scope, name);
	Guard *guard = lua_newuserdatauv(L, sizeof *guard, 0);
	bool outermost = kind != SCOPE && !session->open_blocks;
	*guard = (Guard){session->scope, session->open_blocks, outermost && kind == BLOCK};
	luaL_setmetatable(L, guard_name);
	lua_insert(L, 1);
	lua_toclose(L, 1);
	session->scope = scoped(session, name);
	session->open_blocks += kind != SCOPE;
	if (outermost)
		want_block(L, session->scope, false)->unit = kind == BLOCK;
	lua_call(L, lua_gettop(L) - 3, LUA_MULTRET);
	return lua_gettop(L) - 2;
}

// mp.block(name, fn, …): a unit of repetition, of cuts and of recomputation.
static int block(lua_State *L)
{
	return enter(L, "mp.block", BLOCK);
}

// mp.scope(name, fn, …): only names.
static int scope(lua_State *L)
{
	return enter(L, "mp.scope", SCOPE);
}

// mp.layer(name, fn, …): a scope for a layer with parameters, which begins a block outside of mp.block. What
// follows it (an activation) belongs to the same block.
static int layer(lua_State *L)
{
	return enter(L, "a layer", LAYER);
}

// mp.cut(): a preferred stage boundary. Before the first operation and after the last there is nothing to separate.
static int cut(lua_State *L)
{
	Session *session = session_of(L);
	graph_of(L, "mp.cut");
	if (session->open_blocks)
		spec_error(L, "mp.cut() inside of the block '%s': a block stays on one stage\ncut before or after it", session->scope);
	want_block(L, NULL, true);
	return 0;
}

void open_blocks(lua_State *L)
{
	static const luaL_Reg functions[] = {{"block", block}, {"scope", scope}, {"layer", layer}, {"cut", cut}, {NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
	luaL_newmetatable(L, guard_name);
	lua_pushcfunction(L, leave);
	lua_setfield(L, -2, "__close");
	lua_pop(L, 1);
}
