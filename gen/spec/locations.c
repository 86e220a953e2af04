// locations.c: where in the user's files something happened.
//
// A wrong shape shows up inside a C function that nn.lua called that the spec called. The line that helps is the
// innermost one in a file of the user, so a Location starts there and follows the user's callers; the library's line
// is kept beside it as a note. Lua's own messages begin with a place too ("mlp.lua:3: …", or the caller's with
// error(message, 2)): it is taken off and, where it names a frame of the chain, the chain starts there.
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

// Every node keeps a location, so the charge for one bounds the size of the graph too.
enum { MOST_FRAMES = 16, DEEPEST_LEVEL = 100, CHARGE = 500 };

const char *chunk_name(lua_State *L, const char *name, bool library)
{
	return arena_printf(session_of(L)->arena, "%c%s", library ? '=' : '@', name);
}

void add_source(lua_State *L, const char *name, bool library)
{
	Session *session = session_of(L);
	lua_Debug chunk;
	if (luaL_loadbufferx(L, "", 0, chunk_name(L, name, library), "t") != LUA_OK)
		lua_error(L);
	lua_getinfo(L, ">S", &chunk);
	SourceFile file = {arena_strdup(session->arena, name), arena_strdup(session->arena, chunk.short_src), library};
	list_add(session->arena, &session->files, file);
}

// The file that a frame runs in, or NULL: C functions and chunks made by load have none.
static const SourceFile *file_of(Session *session, const lua_Debug *frame)
{
	for (int i = 0; i < session->files.count; i++)
		if (frame->currentline > 0 && !strcmp(session->files.at[i].name, frame->source + 1)
		    && (frame->source[0] == '=') == session->files.at[i].library)
			return &session->files.at[i];
	return NULL;
}

static Location *new_location(Session *session, const char *file, int line)
{
	Location *location = arena_alloc(session->arena, sizeof *location);
	*location = (Location){.file = file, .line = line};
	return location;
}

const Location *here(lua_State *L)
{
	Session *session = session_of(L);
	Location *first = NULL, *last = NULL, *library = NULL;
	lua_Debug frame;
	int frames = 0;
	charge(L, CHARGE);
	for (int level = 0; level < DEEPEST_LEVEL && frames < MOST_FRAMES && lua_getstack(L, level, &frame); level++) {
		lua_getinfo(L, "Sl", &frame);
		const SourceFile *file = file_of(session, &frame);
		if (!file || (file->library && (first || library)))
			continue;
		Location *location = new_location(session, file->name, frame.currentline);
		if (file->library) {
			library = location;
			continue;
		}
		if (last)
			last->caller = location;
		else
			first = location;
		last = location;
		frames++;
	}
	if (!first && session->program)
		first = new_location(session, session->program->location->file, session->program->location->line);
	if (!first)
		first = new_location(session, session->options->file, 0);
	first->library = library;
	return first;
}

void spec_error(lua_State *L, const char *format, ...)
{
	char message[4096];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(message, sizeof message, format, arguments);
	va_end(arguments);
	fail_at(here(L), "%s", message);
}

// The place that a message of Lua begins with ("name:12: "), and the length of that; NULL when it names none.
static const SourceFile *message_place(Session *session, const char *message, int *line, size_t *length)
{
	for (int i = 0; i < session->files.count; i++) {
		const char *name = session->files.at[i].short_name;
		size_t n = strlen(name);
		if (strncmp(message, name, n) || message[n] != ':')
			continue;
		char *end;
		long number = strtol(message + n + 1, &end, 10);
		if (end == message + n + 1 || strncmp(end, ": ", 2) || number < 1 || number > INT32_MAX)
			continue;
		*line = (int)number;
		*length = (size_t)(end + 2 - message);
		return &session->files.at[i];
	}
	return NULL;
}

void report_message(lua_State *L, const char *message)
{
	Session *session = session_of(L);
	const Location *chain = here(L);
	int line;
	size_t length;
	const SourceFile *file = message_place(session, message, &line, &length);
	if (!file)
		fail_at(chain, "%s", message);
	message += length;
	if (file->library) {
		if (!chain->library) {
			Location *with_library = new_location(session, chain->file, chain->line);
			with_library->caller = chain->caller;
			with_library->library = new_location(session, file->name, line);
			chain = with_library;
		}
		fail_at(chain, "%s", message);
	}
	for (const Location *at = chain; at; at = at->caller)
		if (!strcmp(at->file, file->name) && at->line == line)
			fail_at(at, "%s", message);
	fail_at(new_location(session, file->name, line), "%s", message);
}

// Lua calls this where the error was raised, before it unwinds the stack.
static int on_error(lua_State *L)
{
	if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
		report_message(L, lua_tostring(L, -1));
	if (lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TNUMBER)
		report_message(L, lua_tostring(L, 1));
	spec_error(L, "the spec raised an error that is %s", describe(L, 1));
}

void call_spec(lua_State *L, int arguments, int results)
{
	int handler = lua_gettop(L) - arguments;
	lua_pushcfunction(L, on_error);
	lua_insert(L, handler);
	int status = lua_pcall(L, arguments, results, handler);
	if (status == LUA_ERRMEM)
		fail_at(&session_of(L)->refused, "the spec needs more memory than it may have (64 MiB)\n"
		        "a spec only describes a model; weights and data are made by the program");
	if (status != LUA_OK)
		spec_error(L, "%s", lua_tostring(L, -1) ? lua_tostring(L, -1) : "error while reporting an error");
	lua_remove(L, handler);
}
