// operations.c: the operations of mp and the operators of tensors.
//
// Each checks what Lua passed, makes one node of the op table (whose shape rule checks the rest), and gives back its
// output. Names follow the layer: an operation on one tensor outside of any layer, such as the activation after
// nn.linear("fc1"), is named after the layer that its operand comes from ("fc1.relu"), because running numbers would
// change with every edit of the spec.
#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "session.h"

// Where a node is named: in the layer of its one operand when that lies in the same block and within the open
// scope, else in the open scope.
static const char *scope_of(Session *session, Tensor *const *in, int ins)
{
	if (ins != 1 || !session->block_used || in[0]->producer->block != session->graph->blocks.count - 1)
		return session->scope;
	const char *scope = tensor_info(session, in[0])->scope;
	size_t open = strlen(session->scope);
	bool within = !strncmp(scope, session->scope, open) && (!open || !scope[open] || scope[open] == '.');
	return within ? scope : session->scope;
}

const char *name_after(Session *session, Tensor *const *in, int ins, const char *name)
{
	const char *scope = scope_of(session, in, ins);
	return *scope ? arena_printf(session->arena, "%s.%s", scope, name) : name;
}

Tensor *make_operation(lua_State *L, Op op, const char *name, Tensor *const *in, int ins, const Attributes *attributes)
{
	Session *session = session_of(L);
	begin_node(L);
	const char *scope = scope_of(session, in, ins), *path = name_after(session, in, ins, name);
	Node *node = add_node(session->graph, op, path, here(L), PHASE_FORWARD, in, ins, attributes);
	end_node(session, node);
	tensor_info(session, node->out[0])->scope = scope;
	push_tensor(L, node->out[0]);
	return node->out[0];
}

Tensor *take_operand(lua_State *L, int index, const char *what)
{
	graph_of(L, what);
	return take_tensor(L, index, arena_printf(session_of(L)->arena, "%s: argument %d", what, index));
}

static int unary(lua_State *L, Op op, const char *name, const Attributes *attributes)
{
	Tensor *x = take_operand(L, 1, arena_printf(session_of(L)->arena, "mp.%s", name));
	make_operation(L, op, name, &x, 1, attributes);
	return 1;
}

static int multiply(lua_State *L, const char *name, Transpose transpose)
{
	const char *what = arena_printf(session_of(L)->arena, "mp.%s", name);
	Tensor *in[] = {take_operand(L, 1, what), take_operand(L, 2, what)};
	Attributes attributes = {.transpose = transpose};
	make_operation(L, OP_MATMUL, "matmul", in, 2, &attributes);
	return 1;
}

// mp.matmul(a, b): a [.., m, k], b [k, n].
static int matmul(lua_State *L)
{
	return multiply(L, "matmul", MATMUL_NN);
}

// mp.linear(x, w): x [.., in], w [out, in] -> [.., out], or w [a, b, in] -> [.., a, b], which is as if a b were one dim.
static int linear(lua_State *L)
{
	return multiply(L, "linear", MATMUL_NT);
}

static Tensor *constant(lua_State *L, double value)
{
	Session *session = session_of(L);
	Attributes attributes = {.scale = value};
	begin_node(L);
	Node *node = add_node(session->graph, OP_CONSTANT, scoped(session, "constant"), here(L), PHASE_FORWARD, NULL, 0, &attributes);
	end_node(session, node);
	return node->out[0];
}

static int scale_by(lua_State *L, Tensor *x, double factor)
{
	Attributes attributes = {.scale = factor};
	make_operation(L, OP_SCALE, "scale", &x, 1, &attributes);
	return 1;
}

// Of the two operands of + - * / at least one is a tensor; a number scales, or is a constant tensor.
static int binary(lua_State *L, Op op)
{
	Session *session = session_of(L);
	const char *name = op_name(op), *what = arena_printf(session->arena, "mp.%s", name);
	bool number[2] = {lua_type(L, 1) == LUA_TNUMBER, lua_type(L, 2) == LUA_TNUMBER};
	Tensor *in[2] = {NULL, NULL};
	double value = 0;
	graph_of(L, what);
	for (int i = 0; i < 2; i++) {
		if (number[i] && !number[!i])
			value = take_number(L, i + 1, arena_printf(session->arena, "%s: argument %d", what, i + 1));
		else
			in[i] = take_operand(L, i + 1, what);
	}
	if (op == OP_MUL && (number[0] || number[1]))
		return scale_by(L, in[number[0]], value);
	if (op == OP_DIV && number[1]) {
		if (value == 0 || !isfinite(1 / value))
			spec_error(L, "mp.div: a tensor is divided by %g", value);
		return scale_by(L, in[0], 1 / value);
	}
	for (int i = 0; i < 2; i++)
		if (!in[i])
			in[i] = constant(L, value);
	make_operation(L, op, name, in, 2, NULL);
	return 1;
}

static int add(lua_State *L)
{
	return binary(L, OP_ADD);
}

static int sub(lua_State *L)
{
	return binary(L, OP_SUB);
}

static int mul(lua_State *L)
{
	return binary(L, OP_MUL);
}

static int divide(lua_State *L)
{
	return binary(L, OP_DIV);
}

static int negate(lua_State *L)
{
	return scale_by(L, take_operand(L, 1, "-"), -1);
}

// mp.scale(x, number)
static int scale(lua_State *L)
{
	return scale_by(L, take_operand(L, 1, "mp.scale"), take_number(L, 2, "mp.scale: the factor"));
}

static int relu(lua_State *L)
{
	return unary(L, OP_RELU, "relu", NULL);
}

// mp.gelu(x[, "erf" | "tanh"])
static int gelu(lua_State *L)
{
	bool tanh_form = false;
	if (!lua_isnoneornil(L, 2)) {
		const char *form = take_string(L, 2, "mp.gelu: the form");
		tanh_form = !strcmp(form, "tanh");
		if (!tanh_form && strcmp(form, "erf"))
			spec_error(L, "mp.gelu: the form must be \"erf\" or \"tanh\", not '%s'", form);
	}
	return unary(L, tanh_form ? OP_GELU_TANH : OP_GELU_ERF, "gelu", NULL);
}

static int silu(lua_State *L)
{
	return unary(L, OP_SILU, "silu", NULL);
}

static int tanh_of(lua_State *L)
{
	return unary(L, OP_TANH, "tanh", NULL);
}

static int sigmoid(lua_State *L)
{
	return unary(L, OP_SIGMOID, "sigmoid", NULL);
}

// mp.softmax(x): over the last dim.
static int softmax(lua_State *L)
{
	return unary(L, OP_SOFTMAX, "softmax", NULL);
}

// mp.attention(qkv[, { dropout = 0 }]): causal; qkv [tokens, batch, groups, queries + 2, size], the key and the value head last in
// each group -> [tokens, batch, groups, queries, size]. While training, dropout drops weights of the values.
static int attention(lua_State *L)
{
	static const char what[] = "mp.attention";
	static const char *const known[] = {"dropout", NULL};
	Session *session = session_of(L);
	Tensor *qkv = take_operand(L, 1, what);
	double rate = 0;
	lua_settop(L, 2);
	if (!lua_isnil(L, 2)) {
		check_fields(L, 2, what, known);
		rate = field_number(L, 2, what, "dropout", 0);
	}
	if (rate < 0 || rate >= 1)
		spec_error(L, "%s: dropout must be at least 0 and less than 1, not %g", what, rate);
	begin_node(L);
	const char *scope = scope_of(session, &qkv, 1), *path = name_after(session, &qkv, 1, "attention");
	Tensor *o = add_attention(session->graph, path, here(L), qkv, rate);
	end_node(session, o->producer);
	tensor_info(session, o)->scope = scope;
	push_tensor(L, o);
	return 1;
}

// Replaces the one -1 of a shape by what is left of x's elements.
static void infer_extent(lua_State *L, const Tensor *x, Attributes *to)
{
	int wildcard = -1;
	long rest = 1;
	for (int i = 0; i < to->dims; i++) {
		if (to->shape[i] >= 0) {
			rest *= to->shape[i];
			continue;
		}
		if (wildcard >= 0)
			spec_error(L, "mp.reshape: only one extent can be -1");
		wildcard = i;
	}
	if (wildcard < 0)
		return;
	if (tensor_elements(x) % rest)
		spec_error(L, "mp.reshape: %s %s has %ld elements, which %ld does not divide", x->name,
		           shape_text(session_of(L)->arena, x), tensor_elements(x), rest);
	to->shape[wildcard] = tensor_elements(x) / rest;
}

// mp.reshape(x, 2, -1) or mp.reshape(x, {2, -1})
static int reshape(lua_State *L)
{
	Tensor *x = take_operand(L, 1, "mp.reshape");
	if (!lua_istable(L, 2)) {
		int count = lua_gettop(L) - 1;
		lua_createtable(L, count, 0);
		for (int i = 1; i <= count; i++) {
			lua_pushvalue(L, i + 1);
			lua_rawseti(L, -2, i);
		}
		lua_replace(L, 2);
	}
	Attributes to = {0};
	to.dims = take_shape(L, 2, "mp.reshape: the shape", -1, to.shape);
	infer_extent(L, x, &to);
	make_operation(L, OP_RESHAPE, "reshape", &x, 1, &to);
	return 1;
}

// mp.flatten(x): all dims but the first become one.
static int flatten(lua_State *L)
{
	Tensor *x = take_operand(L, 1, "mp.flatten");
	if (x->dims < 2)
		spec_error(L, "mp.flatten: %s %s has no dims after the first", x->name, shape_text(session_of(L)->arena, x));
	Attributes to = {.dims = 2, .shape = {x->shape[0], tensor_elements(x) / x->shape[0]}};
	if (x->dims == 2)
		push_tensor(L, x);
	else
		make_operation(L, OP_RESHAPE, "flatten", &x, 1, &to);
	return 1;
}

// mp.transpose(x, a, b): the dims a and b exchanged.
static int transpose(lua_State *L)
{
	static const char what[] = "mp.transpose";
	Tensor *x = take_operand(L, 1, what);
	int a = take_dim(L, 2, what, x), b = take_dim(L, 3, what, x);
	Attributes dims = {.from = a < b ? a : b, .to = a < b ? b : a};
	if (a == b)
		push_tensor(L, x);
	else
		make_operation(L, OP_TRANSPOSE, "transpose", &x, 1, &dims);
	return 1;
}

// mp.embedding(ids, table): ids i32 [..], table [rows, columns] -> [.., columns]; ids from 0 on, zeros for others.
static int embedding(lua_State *L)
{
	Tensor *in[2] = {take_operand(L, 1, "mp.embedding"), take_operand(L, 2, "mp.embedding")};
	make_operation(L, OP_EMBEDDING, "embedding", in, 2, NULL);
	return 1;
}

// mp.sum(x[, dim | {first, last}]) and mp.mean: dims from 1, or from the end below 0.
static int reduce(lua_State *L, const char *name, bool mean)
{
	const char *what = arena_printf(session_of(L)->arena, "mp.%s", name);
	Tensor *x = take_operand(L, 1, what);
	Attributes over = {.from = 0, .to = x->dims};
	if (lua_istable(L, 2)) {
		if (lua_rawlen(L, 2) != 2)
			spec_error(L, "%s: a range of dims has two ends: {first, last}", what);
		lua_rawgeti(L, 2, 1);
		lua_rawgeti(L, 2, 2);
		over.from = take_dim(L, -2, what, x);
		over.to = take_dim(L, -1, what, x) + 1;
		if (over.from >= over.to)
			spec_error(L, "%s: the range of dims {%d, %d} is empty", what, over.from + 1, over.to);
	} else if (!lua_isnoneornil(L, 2)) {
		over.from = take_dim(L, 2, what, x);
		over.to = over.from + 1;
	}
	double count = 1;
	for (int i = over.from; i < over.to; i++)
		count *= (double)x->shape[i];
	over.scale = mean ? 1 / count : 1;
	make_operation(L, OP_SUM, name, &x, 1, &over);
	return 1;
}

static int sum(lua_State *L)
{
	return reduce(L, "sum", false);
}

static int mean(lua_State *L)
{
	return reduce(L, "mean", true);
}

// mp.expand(x, dim, n): n times the same along a new dim.
static int expand(lua_State *L)
{
	Tensor *x = take_operand(L, 1, "mp.expand");
	if (x->dims == MAX_DIMS)
		spec_error(L, "mp.expand: %s has %d dims already", x->name, MAX_DIMS);
	long dim = take_integer(L, 2, "mp.expand: the new dim", 1), n = take_integer(L, 3, "mp.expand: its extent", 1);
	if (dim > x->dims + 1)
		spec_error(L, "mp.expand: the new dim of %s can be 1 to %d, not %d", x->name, x->dims + 1, (int)dim);
	Attributes to = {.from = (int)dim - 1, .to = (int)dim, .shape = {n}};
	make_operation(L, OP_EXPAND, "expand", &x, 1, &to);
	return 1;
}

static int push_mean(lua_State *L, Tensor *mean, Tensor *count)
{
	Session *session = session_of(L);
	end_node(session, mean->producer);
	TensorInfo *info = tensor_info(session, mean);
	info->scope = session->scope;
	info->count = count;
	push_tensor(L, mean);
	return 1;
}

// A mean over valid labels: several nodes. The graph checks the operands. Options: { classes = n }: columns from n on are padding.
static int labelled(lua_State *L, const char *name,
                    Tensor *(*make)(Graph *, const char *, const Location *, Tensor *, Tensor *, long, Tensor **))
{
	static const char *const known[] = {"classes", NULL};
	Session *session = session_of(L);
	const char *what = arena_printf(session->arena, "mp.%s", name);
	Tensor *logits = take_operand(L, 1, what), *label = take_operand(L, 2, what), *count = NULL;
	long classes = 0;
	lua_settop(L, 3);
	if (!lua_isnil(L, 3)) {
		check_fields(L, 3, what, known);
		classes = field_integer(L, 3, what, "classes", 1, 0);
	}
	begin_node(L);
	Tensor *result = make(session->graph, scoped(session, name), here(L), logits, label, classes, &count);
	return push_mean(L, result, count);
}

static int cross_entropy(lua_State *L)
{
	return labelled(L, "cross_entropy", add_cross_entropy);
}

// mp.linear_cross_entropy(x, w, label[, { classes = n, chunks = 1 }]): the cross-entropy of mp.linear(x, w). While training, logits
// are made for 1/chunks of the rows at a time.
static int linear_cross_entropy(lua_State *L)
{
	static const char what[] = "mp.linear_cross_entropy";
	static const char *const known[] = {"chunks", "classes", NULL};
	Session *session = session_of(L);
	Tensor *in[3] = {take_operand(L, 1, what), take_operand(L, 2, what), take_operand(L, 3, what)}, *count = NULL;
	long classes = 0, chunks = 1;
	lua_settop(L, 4);
	if (!lua_isnil(L, 4)) {
		check_fields(L, 4, what, known);
		classes = field_integer(L, 4, what, "classes", 1, 0);
		chunks = field_integer(L, 4, what, "chunks", 1, 1);
	}
	begin_node(L);
	Tensor *result = add_linear_cross_entropy(session->graph, scoped(session, "cross_entropy"), here(L), in, classes, chunks, &count);
	return push_mean(L, result, count);
}

static int accuracy(lua_State *L)
{
	return labelled(L, "accuracy", add_accuracy);
}

void add_arithmetic(lua_State *L)
{
	static const luaL_Reg functions[] = {{"__add", add}, {"__sub", sub}, {"__mul", mul}, {"__div", divide},
		{"__unm", negate}, {NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
}

void open_operations(lua_State *L)
{
	static const luaL_Reg functions[] = {{"matmul", matmul}, {"linear", linear}, {"add", add}, {"sub", sub}, {"mul", mul},
		{"div", divide}, {"scale", scale}, {"relu", relu}, {"gelu", gelu}, {"silu", silu}, {"tanh", tanh_of},
		{"sigmoid", sigmoid}, {"softmax", softmax}, {"transpose", transpose}, {"embedding", embedding}, {"attention", attention}, {"reshape", reshape},
		{"flatten", flatten}, {"sum", sum}, {"mean", mean}, {"expand", expand}, {"cross_entropy", cross_entropy}, {"linear_cross_entropy", linear_cross_entropy}, {"accuracy", accuracy},
		{NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
}
