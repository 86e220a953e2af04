// images.c: the operations of mp on images [batch, channels, height, width]: convolution, pooling, batch normalisation.
//
// Options have PyTorch's names. A size along height and width is one number for both or {height, width}.
#include <lauxlib.h>
#include <string.h>

#include "session.h"

// A number or {height, width} on top of the stack, which is popped.
static void take_pair(lua_State *L, const char *what, long least, int pair[2])
{
	Session *session = session_of(L);
	int top = lua_gettop(L);
	if (!lua_istable(L, top)) {
		pair[0] = pair[1] = (int)take_integer(L, top, what, least);
	} else if (lua_rawlen(L, top) != 2) {
		spec_error(L, "%s must be a number or {height, width}", what);
	} else {
		for (int i = 0; i < 2; i++) {
			lua_rawgeti(L, top, i + 1);
			pair[i] = (int)take_integer(L, -1, arena_printf(session->arena, "%s: the %s", what, i ? "width" : "height"), least);
		}
	}
	lua_settop(L, top - 1);
}

// A field of the options at `table`; where it is missing the pair stays.
static void pair_field(lua_State *L, int table, const char *what, const char *name, long least, int pair[2])
{
	const char *field = arena_printf(session_of(L)->arena, "%s: %s", what, name);
	if (lua_getfield(L, table, name) == LUA_TNIL)
		lua_pop(L, 1);
	else
		take_pair(L, field, least, pair);
}

static bool flag_field(lua_State *L, int table, const char *what, const char *name, bool missing)
{
	bool value = missing;
	if (lua_getfield(L, table, name) != LUA_TNIL) {
		if (!lua_isboolean(L, -1))
			spec_error(L, "%s: %s must be true or false, not %s", what, name, describe(L, -1));
		value = lua_toboolean(L, -1);
	}
	lua_pop(L, 1);
	return value;
}

// The options are a table; none is an empty one.
static void want_options(lua_State *L, int index, const char *what, const char *const *known)
{
	lua_settop(L, index);
	if (lua_isnil(L, index)) {
		lua_newtable(L);
		lua_replace(L, index);
	}
	check_fields(L, index, what, known);
}

// mp.conv2d(x, w[, { stride = 1, padding = 0, dilation = 1, groups = 1, bias = tensor }])
static int conv2d(lua_State *L)
{
	static const char what[] = "mp.conv2d";
	static const char *const known[] = {"stride", "padding", "dilation", "groups", "bias", NULL};
	Tensor *in[3] = {take_operand(L, 1, what), take_operand(L, 2, what)};
	int ins = 2;
	Attributes of = {.window = {.stride = {1, 1}, .dilation = {1, 1}}};
	want_options(L, 3, what, known);
	pair_field(L, 3, what, "stride", 1, of.window.stride);
	pair_field(L, 3, what, "padding", 0, of.window.padding);
	pair_field(L, 3, what, "dilation", 1, of.window.dilation);
	of.window.groups = (int)field_integer(L, 3, what, "groups", 1, 1);
	if (lua_getfield(L, 3, "bias") != LUA_TNIL)
		in[ins++] = take_tensor(L, -1, "mp.conv2d: bias");
	make_operation(L, OP_CONV2D, "conv2d", in, ins, &of);
	return 1;
}

static int pool(lua_State *L, Op op, const char *name, const char *const *known)
{
	const char *what = arena_printf(session_of(L)->arena, "mp.%s", name);
	Tensor *x = take_operand(L, 1, what);
	Attributes of = {.window = {.dilation = {1, 1}, .groups = 1}};
	lua_settop(L, 3);
	lua_pushvalue(L, 2);
	take_pair(L, arena_printf(session_of(L)->arena, "%s: the window", what), 1, of.window.kernel);
	want_options(L, 3, what, known);
	memcpy(of.window.stride, of.window.kernel, sizeof of.window.stride);
	pair_field(L, 3, what, "stride", 1, of.window.stride);
	pair_field(L, 3, what, "padding", 0, of.window.padding);
	if (op == OP_MAX_POOL2D)
		pair_field(L, 3, what, "dilation", 1, of.window.dilation);
	else
		of.window.counts_padding = flag_field(L, 3, what, "count_include_pad", true);
	make_operation(L, op, name, &x, 1, &of);
	return 1;
}

// mp.max_pool2d(x, window[, { stride = window, padding = 0, dilation = 1 }])
static int max_pool2d(lua_State *L)
{
	static const char *const known[] = {"stride", "padding", "dilation", NULL};
	return pool(L, OP_MAX_POOL2D, "max_pool2d", known);
}

// mp.avg_pool2d(x, window[, { stride = window, padding = 0, count_include_pad = true }])
static int avg_pool2d(lua_State *L)
{
	static const char *const known[] = {"stride", "padding", "count_include_pad", NULL};
	return pool(L, OP_AVG_POOL2D, "avg_pool2d", known);
}

// The mean over height and width, each kept with extent 1.
static Tensor *mean_image(lua_State *L, Tensor *x)
{
	Attributes over = {.from = 2, .to = 4, .scale = 1 / ((double)x->shape[2] * (double)x->shape[3])};
	Tensor *mean = make_operation(L, OP_SUM, "mean", &x, 1, &over);
	Attributes to = {.dims = 4, .shape = {x->shape[0], x->shape[1], 1, 1}};
	return make_operation(L, OP_RESHAPE, "adaptive_avg_pool2d", &mean, 1, &to);
}

// mp.adaptive_avg_pool2d(x, size)
static int adaptive_avg_pool2d(lua_State *L)
{
	static const char what[] = "mp.adaptive_avg_pool2d";
	Tensor *x = take_operand(L, 1, what);
	Attributes of = {.window = {.groups = 1}};
	lua_settop(L, 2);
	take_pair(L, "mp.adaptive_avg_pool2d: the size", 1, of.window.kernel);
	if (x->dims == 4 && of.window.kernel[0] == 1 && of.window.kernel[1] == 1)
		mean_image(L, x);
	else
		make_operation(L, OP_ADAPTIVE_AVG_POOL2D, "adaptive_avg_pool2d", &x, 1, &of);
	return 1;
}

static Tensor *tensor_field(lua_State *L, const char *what, const char *name)
{
	lua_getfield(L, 2, name);
	Tensor *tensor = take_tensor(L, -1, arena_printf(session_of(L)->arena, "%s: %s", what, name));
	lua_pop(L, 1);
	return tensor;
}

// mp.batch_norm2d(x, { weight =, bias =, running_mean =, running_var =, num_batches_tracked =, momentum = 0.1, eps = 1e-5,
// sync = false })
static int batch_norm2d(lua_State *L)
{
	static const char what[] = "mp.batch_norm2d";
	static const char *const known[] = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked", "momentum", "eps",
		"sync", NULL};
	Session *session = session_of(L);
	BatchNorm norm = {.x = take_operand(L, 1, what)};
	want_options(L, 2, what, known);
	norm.weight = tensor_field(L, what, "weight");
	norm.bias = tensor_field(L, what, "bias");
	norm.running_mean = tensor_field(L, what, "running_mean");
	norm.running_var = tensor_field(L, what, "running_var");
	norm.batches_tracked = tensor_field(L, what, "num_batches_tracked");
	norm.momentum = field_number(L, 2, what, "momentum", 0.1);
	norm.epsilon = field_number(L, 2, what, "eps", 1e-5);
	norm.synchronised = flag_field(L, 2, what, "sync", false);
	if (norm.momentum < 0 || norm.momentum > 1)
		spec_error(L, "%s: momentum must lie between 0 and 1, not %g", what, norm.momentum);
	if (norm.epsilon <= 0)
		spec_error(L, "%s: eps must be positive, not %g", what, norm.epsilon);
	begin_node(L);
	Tensor *y = add_batch_norm(session->graph, scoped(session, "batch_norm2d"), here(L), &norm);
	end_node(session, y->producer);
	tensor_info(session, y)->scope = session->scope;
	push_tensor(L, y);
	return 1;
}

// mp.dropout(x, rate): x itself where nothing is trained.
static int dropout(lua_State *L)
{
	Session *session = session_of(L);
	Tensor *x = take_operand(L, 1, "mp.dropout");
	double rate = take_number(L, 2, "mp.dropout: the rate");
	if (rate < 0 || rate >= 1)
		spec_error(L, "mp.dropout: the rate must be at least 0 and less than 1, not %g", rate);
	if (session->graph->training && rate > 0) {
		begin_node(L);
		x = add_dropout(session->graph, name_after(session, &x, 1, "dropout"), here(L), x, rate);
		end_node(session, x->producer);
		tensor_info(session, x)->scope = session->scope;
	}
	push_tensor(L, x);
	return 1;
}

void open_images(lua_State *L)
{
	static const luaL_Reg functions[] = {{"conv2d", conv2d}, {"max_pool2d", max_pool2d}, {"avg_pool2d", avg_pool2d},
		{"adaptive_avg_pool2d", adaptive_avg_pool2d}, {"batch_norm2d", batch_norm2d}, {"dropout", dropout}, {NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
}
