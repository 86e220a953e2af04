// modules.c: reading Lua files and `require`.
//
// A spec may be split into modules that lie below its own folder, and it can use the library that mpgen carries
// (specs/lib). Nothing else is read: names are letters, digits, '_' and dots, and a link that leads out of the
// folder is refused. The functions of a built-in module are called through C, because a tail call between Lua
// functions (`return nn.linear(…)`) would drop the user's line from the call chain.
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../embedded.h"
#include "session.h"

enum { LARGEST_FILE = 4 << 20 };

static const char loaded_modules = 0; // its address is the key in Lua's registry

// The folder part of a path with its '/', or "".
static const char *folder_of(Arena *arena, const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? arena_printf(arena, "%.*s", (int)(slash + 1 - path), path) : "";
}

// NULL when the file cannot be read (errno says why). Modules must be plain files: a pipe would block.
static char *read_file(Arena *arena, const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return NULL;
	Text text = {.arena = arena};
	text_add_bytes(&text, "", 0);
	char buffer[1 << 14];
	size_t n;
	errno = 0;
	while ((n = fread(buffer, 1, sizeof buffer, file)) > 0 && text.length < LARGEST_FILE)
		text_add_bytes(&text, buffer, n);
	bool failed = ferror(file);
	fclose(file);
	if (text.length >= LARGEST_FILE)
		errno = EFBIG;
	*size = text.length;
	return failed || text.length >= LARGEST_FILE ? NULL : text.at;
}

// Pushes the chunk, or ends mpgen with the syntax error.
static void load_chunk(lua_State *L, const char *name, bool library, const char *bytes, size_t size)
{
	add_source(L, name, library);
	int status = luaL_loadbufferx(L, bytes, size, chunk_name(L, name, library), "t");
	if (status == LUA_ERRSYNTAX)
		report_message(L, lua_tostring(L, -1));
	if (status != LUA_OK)
		lua_error(L);
}

void load_file(lua_State *L, const char *path)
{
	Session *session = session_of(L);
	size_t size;
	char *bytes = read_file(session->arena, path, &size);
	if (!bytes)
		fail(EXIT_IO, "%s: %s", path, errno ? strerror(errno) : "cannot be read");
	list_add(session->arena, &session->spec->sources, arena_strdup(session->arena, path));
	load_chunk(L, path, false, bytes, size);
}

// The real path of `path` lies below the real path of `folder`.
static bool lies_below(const char *path, const char *folder)
{
	char *inner = realpath(path, NULL), *outer = realpath(*folder ? folder : ".", NULL);
	size_t n = outer ? strlen(outer) : 0;
	bool below = inner && outer && !strncmp(inner, outer, n) && (inner[n] == '/' || !strcmp(outer, "/"));
	free(inner);
	free(outer);
	return below;
}

static bool load_from_folder(lua_State *L, const char *module)
{
	Session *session = session_of(L);
	const char *folder = folder_of(session->arena, session->options->file);
	const char *path = arena_printf(session->arena, "%s%s.lua", folder, module);
	struct stat about;
	if (stat(path, &about) || !S_ISREG(about.st_mode))
		return false;
	if (!lies_below(path, folder))
		spec_error(L, "require: %s leads out of the spec's folder", path);
	size_t size;
	char *bytes = read_file(session->arena, path, &size);
	if (!bytes)
		spec_error(L, "require: %s: %s", path, errno ? strerror(errno) : "cannot be read");
	list_add(session->arena, &session->spec->sources, path);
	load_chunk(L, path, false, bytes, size);
	return true;
}

static bool load_built_in(lua_State *L, const char *module)
{
	Arena *arena = session_of(L)->arena;
	size_t size;
	const char *bytes = embedded_file(arena_printf(arena, "specs/lib/%s.lua", module), &size);
	if (!bytes)
		return false;
	load_chunk(L, arena_printf(arena, "%s.lua (built in)", module), true, bytes, size);
	return true;
}

static int call_library(lua_State *L)
{
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

// The module's table on top of the stack: its Lua functions through C, and an error for names it does not have.
static void guard_library(lua_State *L, const char *module)
{
	if (!lua_istable(L, -1))
		return;
	int count = ordered_keys(L, lua_gettop(L));
	for (int i = 1; i <= count; i++) {
		lua_rawgeti(L, -1, i);
		lua_pushvalue(L, -1);
		lua_rawget(L, -4);
		if (lua_isfunction(L, -1) && !lua_iscfunction(L, -1)) {
			lua_pushcclosure(L, call_library, 1);
			lua_rawset(L, -4);
		} else {
			lua_pop(L, 2);
		}
	}
	lua_pop(L, 1);
	lua_createtable(L, 0, 2);
	lua_pushstring(L, module);
	lua_pushcclosure(L, refuse_unknown_field, 1);
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
}

// "a.b" -> "a/b".
static const char *module_path(lua_State *L, const char *name)
{
	char *path = arena_strdup(session_of(L)->arena, name);
	for (char *at = path; *at; at++)
		if (*at == '.')
			*at = '/';
	return path;
}

static void refuse_cycle(lua_State *L, const char *name)
{
	Session *session = session_of(L);
	for (int i = 0; i < session->loading.count; i++) {
		if (strcmp(session->loading.at[i], name))
			continue;
		Text chain = {.arena = session->arena};
		for (; i < session->loading.count; i++)
			text_add(&chain, "%s -> ", session->loading.at[i]);
		spec_error(L, "require: the module '%s' needs itself: %s%s", name, chain.at, name);
	}
}

static int require_module(lua_State *L)
{
	Session *session = session_of(L);
	const char *name = arena_strdup(session->arena, take_name(L, 1, "require: the module's name"));
	lua_settop(L, 1);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_modules);
	if (lua_getfield(L, 2, name) != LUA_TNIL)
		return 1;
	lua_pop(L, 1);
	refuse_cycle(L, name);
	const char *path = module_path(L, name);
	bool library = false;
	if (!load_from_folder(L, path) && !(library = load_built_in(L, path)))
		spec_error(L, "module '%s' not found\n"
		           "looked for %s%s.lua and for a library module of that name (there is 'nn')",
		           name, folder_of(session->arena, session->options->file), path);
	list_add(session->arena, &session->loading, name);
	lua_call(L, 0, 1);
	session->loading.count--;
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		lua_pushboolean(L, true);
	}
	if (library)
		guard_library(L, name);
	lua_pushvalue(L, -1);
	lua_setfield(L, 2, name);
	return 1;
}

void open_modules(lua_State *L)
{
	lua_newtable(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_modules);
	lua_register(L, "require", require_module);
}
