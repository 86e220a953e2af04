// norms.c: the operations of mp on rows of activations: norms, rotary position embeddings, gated units.
#include <lauxlib.h>

#include "session.h"

static double take_epsilon(lua_State *L, int index, const char *what)
{
	double epsilon = lua_isnoneornil(L, index) ? 1e-5 : take_number(L, index, arena_printf(session_of(L)->arena, "%s: eps", what));
	if (epsilon <= 0)
		spec_error(L, "%s: eps must be positive, not %g", what, epsilon);
	return epsilon;
}

// mp.layer_norm(x, w, b[, eps]): over the last dim; b may be nil.
static int layer_norm(lua_State *L)
{
	static const char what[] = "mp.layer_norm";
	Tensor *in[3] = {take_operand(L, 1, what), take_operand(L, 2, what)};
	int ins = 2;
	if (!lua_isnoneornil(L, 3))
		in[ins++] = take_operand(L, 3, what);
	Attributes of = {.epsilon = take_epsilon(L, 4, what)};
	make_operation(L, OP_LAYER_NORM, "layer_norm", in, ins, &of);
	return 1;
}

// mp.rms_norm(x, w[, eps]): over the last dim.
static int rms_norm(lua_State *L)
{
	static const char what[] = "mp.rms_norm";
	Tensor *in[2] = {take_operand(L, 1, what), take_operand(L, 2, what)};
	Attributes of = {.epsilon = take_epsilon(L, 3, what)};
	make_operation(L, OP_RMS_NORM, "rms_norm", in, 2, &of);
	return 1;
}

// The fields of config.json of Hugging Face's Llama 3.1, "original" for original_max_position_embeddings.
static void take_scaling(lua_State *L, int table, Rotary *rotary)
{
	static const char what[] = "mp.rope: scaling";
	static const char *const known[] = {"factor", "low_freq_factor", "high_freq_factor", "original", NULL};
	check_fields(L, table, what, known);
	double *const numbers[] = {&rotary->factor, &rotary->low, &rotary->high, &rotary->original};
	for (int i = 0; i < 4; i++) {
		*numbers[i] = field_number(L, table, what, known[i], 0);
		if (*numbers[i] <= 0)
			spec_error(L, "%s: %s must be a positive number", what, known[i]);
	}
	if (rotary->low >= rotary->high)
		spec_error(L, "%s: low_freq_factor must be less than high_freq_factor, not %g and %g", what, rotary->low, rotary->high);
}

// mp.rope(qkv[, { theta = 10000, scaling = { factor =, low_freq_factor =, high_freq_factor =, original = } }])
static int rope(lua_State *L)
{
	static const char what[] = "mp.rope";
	static const char *const known[] = {"theta", "scaling", NULL};
	Tensor *x = take_operand(L, 1, what);
	Rotary rotary = {.theta = 10000, .factor = 1};
	lua_settop(L, 2);
	if (!lua_isnil(L, 2)) {
		check_fields(L, 2, what, known);
		rotary.theta = field_number(L, 2, what, "theta", rotary.theta);
		if (lua_getfield(L, 2, "scaling") != LUA_TNIL)
			take_scaling(L, 3, &rotary);
	}
	if (rotary.theta <= 1)
		spec_error(L, "%s: theta must be more than 1, not %g", what, rotary.theta);
	Attributes of = {.rotary = rotary};
	make_operation(L, OP_ROPE, "rope", &x, 1, &of);
	return 1;
}

// mp.swiglu(x): x [.., 2, n] -> silu(x[.., 1, :]) * x[.., 2, :]
static int swiglu(lua_State *L)
{
	Tensor *x = take_operand(L, 1, "mp.swiglu");
	make_operation(L, OP_SWIGLU, "swiglu", &x, 1, NULL);
	return 1;
}

void open_norms(lua_State *L)
{
	static const luaL_Reg functions[] = {{"layer_norm", layer_norm}, {"rms_norm", rms_norm}, {"rope", rope}, {"swiglu", swiglu},
		{NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
}
