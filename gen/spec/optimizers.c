// optimizers.c: mp.sgd and mp.adamw, and what they have in common: the learning rate's schedule and clipping.
#include <lauxlib.h>
#include <string.h>

#include "session.h"

static double field_at_least_zero(lua_State *L, const char *what, const char *name, double missing)
{
	double value = field_number(L, 1, what, name, missing);
	if (value < 0)
		spec_error(L, "%s: %s must not be negative, not %g", what, name, value);
	return value;
}

static double check_below_one(lua_State *L, const char *what, const char *name, double value)
{
	if (value < 0 || value >= 1)
		spec_error(L, "%s: %s must lie between 0 and 1, 1 excluded, not %g", what, name, value);
	return value;
}

static void read_schedule(lua_State *L, const char *what, Optimizer *optimizer)
{
	static const char *const schedules[] = {[RATE_CONSTANT] = "constant", [RATE_LINEAR] = "linear", [RATE_COSINE] = "cosine"};
	enum { SCHEDULES = sizeof schedules / sizeof *schedules };
	Session *session = session_of(L);
	Names names = {0};
	int schedule = RATE_CONSTANT;
	if (lua_getfield(L, 1, "schedule") != LUA_TNIL) {
		const char *name = take_string(L, -1, arena_printf(session->arena, "%s: schedule", what));
		for (int i = 0; i < SCHEDULES; i++)
			list_add(session->arena, &names, schedules[i]);
		for (schedule = 0; schedule < SCHEDULES && strcmp(name, schedules[schedule]); )
			schedule++;
		if (schedule == SCHEDULES)
			spec_error(L, "%s: there is no schedule '%s'%s\nschedules: constant, linear, cosine", what, name, did_you_mean(session, name, &names));
	}
	lua_pop(L, 1);
	optimizer->schedule = schedule;
	optimizer->warmup = (int)field_integer(L, 1, what, "warmup", 0, 0);
	optimizer->least_rate = field_at_least_zero(L, what, "min_lr", 0);
	if (optimizer->least_rate > optimizer->rate)
		spec_error(L, "%s: min_lr is %g, which is more than lr, %g", what, optimizer->least_rate, optimizer->rate);
	if (optimizer->least_rate > 0 && schedule == RATE_CONSTANT)
		spec_error(L, "%s: min_lr is where a schedule ends, but the learning rate is constant\nadd schedule = \"cosine\" or \"linear\"", what);
}

// The fields that every optimizer has.
static Optimizer *read_optimizer(lua_State *L, const char *what, double weight_decay)
{
	Session *session = session_of(L);
	Optimizer *optimizer = arena_alloc(session->arena, sizeof *optimizer);
	optimizer->location = here(L);
	if (lua_getfield(L, 1, "lr") == LUA_TNIL)
		spec_error(L, "%s needs the learning rate: lr = 0.01", what);
	lua_pop(L, 1);
	optimizer->rate = field_at_least_zero(L, what, "lr", 0);
	optimizer->weight_decay = field_at_least_zero(L, what, "weight_decay", weight_decay);
	optimizer->clip = field_at_least_zero(L, what, "clip", 0);
	read_schedule(L, what, optimizer);
	return optimizer;
}

// mp.sgd { lr =, momentum = 0, weight_decay = 0, schedule = "constant" | "linear" | "cosine", warmup = 0, min_lr = 0, clip = 0 }
static int sgd(lua_State *L)
{
	static const char *const known[] = {"lr", "momentum", "weight_decay", "schedule", "warmup", "min_lr", "clip", NULL};
	static const char what[] = "mp.sgd";
	check_fields(L, 1, what, known);
	Optimizer *optimizer = read_optimizer(L, what, 0);
	optimizer->kind = OPTIMIZER_SGD;
	optimizer->momentum = field_at_least_zero(L, what, "momentum", 0);
	if (optimizer->momentum >= 1)
		spec_error(L, "%s: momentum must be less than 1, not %g", what, optimizer->momentum);
	push_handle(L, HANDLE_OPTIMIZER, optimizer);
	return 1;
}

static void read_betas(lua_State *L, const char *what, double betas[2])
{
	Arena *arena = session_of(L)->arena;
	if (lua_getfield(L, 1, "betas") != LUA_TNIL) {
		if (!lua_istable(L, -1) || lua_rawlen(L, -1) != 2)
			spec_error(L, "%s: betas must be a table of two numbers such as { 0.9, 0.999 }, not %s", what, describe(L, -1));
		for (int i = 0; i < 2; i++) {
			const char *field = arena_printf(arena, "%s: betas[%d]", what, i + 1);
			lua_rawgeti(L, -1, i + 1);
			betas[i] = take_number(L, -1, field);
			check_below_one(L, what, arena_printf(arena, "betas[%d]", i + 1), betas[i]);
			lua_pop(L, 1);
		}
	}
	lua_pop(L, 1);
}

// mp.adamw { lr =, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0.01, and schedule, warmup, min_lr, clip as of mp.sgd }
static int adamw(lua_State *L)
{
	static const char *const known[] = {"lr", "betas", "eps", "weight_decay", "schedule", "warmup", "min_lr", "clip", NULL};
	static const char what[] = "mp.adamw";
	check_fields(L, 1, what, known);
	Optimizer *optimizer = read_optimizer(L, what, 0.01);
	optimizer->kind = OPTIMIZER_ADAMW;
	optimizer->betas[0] = 0.9, optimizer->betas[1] = 0.999;
	read_betas(L, what, optimizer->betas);
	optimizer->epsilon = field_at_least_zero(L, what, "eps", 1e-8);
	if (optimizer->epsilon == 0)
		spec_error(L, "%s: eps must be positive: where a gradient has always been 0, the update would be 0 / 0", what);
	push_handle(L, HANDLE_OPTIMIZER, optimizer);
	return 1;
}

void open_optimizers(lua_State *L)
{
	static const luaL_Reg functions[] = {{"sgd", sgd}, {"adamw", adamw}, {NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
}
