// ordered.c: tables in a fixed order.
//
// Lua visits a table in an order that depends on addresses and on the time, so a spec that makes layers in a loop
// over pairs() would give another program on every run. Here pairs and next go by key: numbers ascending, then
// strings bytewise, then false, true; a table whose keys are objects has no such order and is refused. table.sort
// picks random pivots on large tables; a merge sort, stable besides, replaces it.
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

typedef struct {
	int type;               // LUA_TNUMBER, LUA_TSTRING, LUA_TBOOLEAN
	bool integer;
	lua_Integer i;          // integers and booleans
	lua_Number number;
	const char *text;       // held by the table
	size_t length;
} Key;

static Key key_at(lua_State *L, int index)
{
	Key key = {.type = lua_type(L, index)};
	switch (key.type) {
	case LUA_TNUMBER:
		key.integer = lua_isinteger(L, index);
		key.i = key.integer ? lua_tointeger(L, index) : 0;
		key.number = lua_tonumber(L, index);
		break;
	case LUA_TSTRING:
		key.text = lua_tolstring(L, index, &key.length);
		break;
	case LUA_TBOOLEAN:
		key.i = lua_toboolean(L, index);
		break;
	default:
		spec_error(L, "a table with a key that is %s has no fixed order to visit it in\n"
		           "use numbers or strings as keys", describe(L, index));
	}
	return key;
}

static void push_key(lua_State *L, const Key *key)
{
	if (key->type == LUA_TSTRING)
		lua_pushlstring(L, key->text, key->length);
	else if (key->type == LUA_TBOOLEAN)
		lua_pushboolean(L, (int)key->i);
	else if (key->integer)
		lua_pushinteger(L, key->i);
	else
		lua_pushnumber(L, key->number);
}

static int rank(const Key *key)
{
	return key->type == LUA_TNUMBER ? 0 : key->type == LUA_TSTRING ? 1 : 2;
}

static int compare_keys(const void *x, const void *y)
{
	const Key *a = x, *b = y;
	if (rank(a) != rank(b))
		return rank(a) - rank(b);
	if (a->type == LUA_TSTRING) {
		int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
		return order ? order : (a->length > b->length) - (a->length < b->length);
	}
	if (a->type == LUA_TNUMBER && !(a->integer && b->integer) && a->number != b->number)
		return a->number < b->number ? -1 : 1;
	return (a->i > b->i) - (a->i < b->i);
}

int ordered_keys(lua_State *L, int table)
{
	table = lua_absindex(L, table);
	size_t count = 0;
	for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
		count++;
	Key *keys = lua_newuserdatauv(L, (count + 1) * sizeof *keys, 0);
	size_t n = 0;
	for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
		keys[n++] = key_at(L, -2);
	qsort(keys, n, sizeof *keys, compare_keys);
	lua_createtable(L, (int)n, 0);
	for (size_t i = 0; i < n; i++) {
		push_key(L, &keys[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_remove(L, -2);
	return (int)n;
}

// The next pair of a loop. Upvalues: the table, its keys in order, how many were visited.
static int next_pair(lua_State *L)
{
	lua_Integer position = lua_tointeger(L, lua_upvalueindex(3));
	for (;;) {
		lua_settop(L, 0);
		bool more = lua_rawgeti(L, lua_upvalueindex(2), ++position) != LUA_TNIL;
		lua_pushinteger(L, position);
		lua_replace(L, lua_upvalueindex(3));
		if (!more)
			return 1;
		lua_pushvalue(L, 1);
		if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) // removed during the loop
			return 2;
	}
}

static int ordered_pairs(lua_State *L)
{
	luaL_checkany(L, 1);
	if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
		lua_pushvalue(L, 1);
		lua_call(L, 1, 3);
		return 3;
	}
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_pushvalue(L, 1);
	ordered_keys(L, 1);
	lua_pushinteger(L, 0);
	lua_pushcclosure(L, next_pair, 3);
	return 1;
}

// next(table, key): the smallest key above `key`.
static int ordered_next(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 2);
	bool from_start = lua_isnil(L, 2), found = false;
	Key after = from_start ? (Key){0} : key_at(L, 2), best = {0};
	for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
		Key key = key_at(L, -2);
		bool later = from_start || compare_keys(&key, &after) > 0;
		if (later && (!found || compare_keys(&key, &best) < 0)) {
			best = key;
			found = true;
		}
	}
	if (!found)
		return 0;
	push_key(L, &best);
	lua_pushvalue(L, -1);
	lua_rawget(L, 1);
	return 2;
}

// Whether the value at index a stands before the one at b: by the function at 2, or by <.
static bool stands_before(lua_State *L, int a, int b)
{
	if (lua_isnil(L, 2))
		return lua_compare(L, a, b, LUA_OPLT);
	lua_pushvalue(L, 2);
	lua_pushvalue(L, a - 1);
	lua_pushvalue(L, b - 2);
	lua_call(L, 2, 1);
	bool before = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return before;
}

// Merges [low, middle) and [middle, high) of the table at `from` into the one at `to`.
static void merge(lua_State *L, int from, int to, lua_Integer low, lua_Integer middle, lua_Integer high)
{
	lua_Integer left = low, right = middle;
	for (lua_Integer out = low; out < high; out++) {
		bool take_right = left >= middle;
		if (left < middle && right < high) {
			lua_geti(L, from, right);
			lua_geti(L, from, left);
			take_right = stands_before(L, -2, -1); // equal ones keep their order
			lua_pop(L, 2);
		}
		lua_geti(L, from, take_right ? right++ : left++);
		lua_seti(L, to, out);
	}
}

static int stable_sort(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	if (!lua_isnoneornil(L, 2))
		luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	lua_Integer count = luaL_len(L, 1);
	lua_newtable(L);
	int from = 1, to = 3;
	for (lua_Integer width = 1; width < count; width *= 2) {
		for (lua_Integer low = 1; low <= count; low += 2 * width) {
			lua_Integer middle = low + width, high = low + 2 * width;
			merge(L, from, to, low, middle > count ? count + 1 : middle, high > count ? count + 1 : high);
		}
		from = to, to = 4 - from;
	}
	for (lua_Integer i = 1; from != 1 && i <= count; i++) {
		lua_geti(L, from, i);
		lua_seti(L, 1, i);
	}
	return 0;
}

void open_ordered(lua_State *L)
{
	lua_register(L, "pairs", ordered_pairs);
	lua_register(L, "next", ordered_next);
	lua_getglobal(L, "table");
	lua_pushcfunction(L, stable_sort);
	lua_setfield(L, -2, "sort");
	lua_pop(L, 1);
}
