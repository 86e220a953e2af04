// options.c: mp.option, the values that a spec lets its user choose.
//
// An option has the type of its default value, so `-D width=abc` is an error where it is read. Which names exist is
// known only after the whole spec ran, so unknown -D names are reported then, with the names that there are.
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

enum { LONGEST_TEXT = 1000 };

// The VALUE of the last "NAME=VALUE" on the command line, or NULL.
static const char *defined_value(const SpecOptions *options, const char *name)
{
	size_t length = strlen(name);
	for (int i = options->defines.count - 1; i >= 0; i--) {
		const char *define = options->defines.at[i];
		if (!strncmp(define, name, length) && define[length] == '=')
			return define + length + 1;
	}
	return NULL;
}

static _Noreturn void refuse_value(const char *name, const char *value, const char *wanted)
{
	fail(EXIT_USAGE, "-D %s=%s: the option '%s' is %s", name, value, name, wanted);
}

// Pushes the value of -D as the type of the default (at index 2).
static void push_defined(lua_State *L, const char *name, const char *value)
{
	switch (lua_type(L, 2)) {
	case LUA_TSTRING:
		lua_pushstring(L, value);
		break;
	case LUA_TBOOLEAN:
		if (strcmp(value, "true") && strcmp(value, "false"))
			refuse_value(name, value, "true or false");
		lua_pushboolean(L, !strcmp(value, "true"));
		break;
	case LUA_TNUMBER:
		if (!lua_stringtonumber(L, value))
			refuse_value(name, value, lua_isinteger(L, 2) ? "an integer" : "a number");
		if (lua_isinteger(L, 2) && !lua_isinteger(L, -1))
			refuse_value(name, value, "an integer");
		if (!lua_isinteger(L, 2))
			lua_pushnumber(L, lua_tonumber(L, -1)); // 2 is 2.0 where the default is a float
		break;
	}
}

static const char *value_text(lua_State *L, int index)
{
	Arena *arena = session_of(L)->arena;
	if (lua_type(L, index) == LUA_TSTRING)
		return arena_strdup(arena, lua_tostring(L, index));
	if (lua_type(L, index) != LUA_TNUMBER || lua_isinteger(L, index))
		return describe(L, index);
	for (int digits = 6;; digits++) { // the fewest that give the number back
		const char *text = arena_printf(arena, "%.*g", digits, lua_tonumber(L, index));
		if (digits == 17 || strtod(text, NULL) == lua_tonumber(L, index))
			return text;
	}
}

// mp.option(name, default[, help])
static int option(lua_State *L)
{
	Session *session = session_of(L);
	lua_settop(L, 3);
	const char *name = arena_strdup(session->arena, take_name(L, 1, "mp.option: the name"));
	int type = lua_type(L, 2);
	if (type != LUA_TSTRING && type != LUA_TBOOLEAN && type != LUA_TNUMBER)
		spec_error(L, "mp.option: the default of '%s' must be a number, a string or a boolean, not %s", name, describe(L, 2));
	if (type == LUA_TSTRING && lua_rawlen(L, 2) > LONGEST_TEXT)
		spec_error(L, "mp.option: the default of '%s' is longer than %d bytes", name, LONGEST_TEXT);
	if (type == LUA_TNUMBER)
		take_number(L, 2, arena_printf(session->arena, "mp.option: the default of '%s'", name));
	if (!lua_isnil(L, 3))
		take_string(L, 3, "mp.option: the help");
	for (int i = 0; i < session->declared.count; i++)
		if (!strcmp(session->declared.at[i].name, name))
			spec_error(L, "the option '%s' is declared twice\nthe first time at %s:%d", name,
			           session->declared.at[i].location->file, session->declared.at[i].location->line);
	const char *value = defined_value(session->options, name);
	if (value)
		push_defined(L, name, value);
	else
		lua_pushvalue(L, 2);
	Option declared = {name, here(L), value_text(L, -1)};
	list_add(session->arena, &session->declared, declared);
	list_add(session->arena, &session->spec->options, arena_printf(session->arena, "%s=%s", name, declared.value));
	return 1;
}

static void refuse_define(Session *session, const char *name)
{
	Names names = {0};
	Text all = {.arena = session->arena};
	text_add(&all, "%s", session->declared.count ? "\nits options: " : "\nit has no options");
	for (int i = 0; i < session->declared.count; i++) {
		list_add(session->arena, &names, session->declared.at[i].name);
		text_add(&all, "%s%s", i ? ", " : "", session->declared.at[i].name);
	}
	fail(EXIT_USAGE, "-D %s: %s has no option of that name%s%s", name, session->options->file,
	     did_you_mean(session, name, &names), all.at);
}

void check_defines(Session *session)
{
	for (int i = 0; i < session->options->defines.count; i++) {
		const char *define = session->options->defines.at[i], *equals = strchr(define, '=');
		if (!equals)
			fail(EXIT_USAGE, "-D %s: expected NAME=VALUE", define);
		const char *name = arena_printf(session->arena, "%.*s", (int)(equals - define), define);
		bool known = false;
		for (int j = 0; j < session->declared.count; j++)
			known |= !strcmp(session->declared.at[j].name, name);
		if (!known)
			refuse_define(session, name);
	}
}

void open_options(lua_State *L)
{
	lua_pushcfunction(L, option);
	lua_setfield(L, -2, "option");
}
