// forward.c: runs the spec's forward function once and takes what it returns.
//
// forward is called with the declared inputs as tensors of the whole batch and returns what training minimises, what
// evaluation reports and what inference writes. It runs once, while mpgen reads the spec: what it computes with
// tensors becomes the graph, everything else is ordinary Lua.
#include <lauxlib.h>
#include <string.h>

#include "session.h"

// t.imge
static int unknown_input(lua_State *L)
{
	Session *session = session_of(L);
	const DataDeclaration *data = session->program->data;
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : describe(L, 2);
	Names names = {0};
	Text all = {.arena = session->arena};
	for (int i = 0; i < data->inputs.count; i++) {
		list_add(session->arena, &names, data->inputs.at[i].name);
		text_add(&all, "%s%s", i ? ", " : "", data->inputs.at[i].name);
	}
	spec_error(L, "the data has no input '%s'%s\ninputs declared at %s:%d: %s", name, did_you_mean(session, name, &names),
	           data->location->file, data->location->line, all.at);
}

// Pushes the table of inputs.
static void push_inputs(lua_State *L)
{
	Session *session = session_of(L);
	const DataDeclaration *data = session->program->data;
	lua_createtable(L, 0, data->inputs.count);
	for (int i = 0; i < data->inputs.count; i++) {
		const InputDeclaration *declared = &data->inputs.at[i];
		long shape[MAX_DIMS] = {session->graph->batch};
		memcpy(shape + 1, declared->shape, (size_t)declared->dims * sizeof *shape);
		Type type = declared->real ? session->graph->master : TYPE_I32;
		Input *input = add_input(session->graph, declared->name, data->location, type, declared->dims + 1, shape);
		input->limit = input->vocabulary = declared->next_tokens ? data->vocabulary : 0;
		push_tensor(L, input->tensor);
		lua_setfield(L, -2, declared->name);
	}
	lua_newtable(L);
	lua_pushcfunction(L, unknown_input);
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
}

// A parameter that nothing uses is a mistake of the spec: it would be saved but never trained.
static void refuse_unused(Session *session)
{
	Graph *graph = session->graph;
	for (int i = 0; i < graph->parameters.count; i++) {
		const Tensor *tensor = graph->parameters.at[i]->tensor;
		bool used = !graph->parameters.at[i]->trained; // updates of buffers come later
		for (int j = tensor->producer->id + 1; j < graph->nodes.count && !used; j++)
			for (int k = 0; k < graph->nodes.at[j]->ins; k++)
				used |= graph->nodes.at[j]->in[k] == tensor;
		if (!used)
			fail_at(tensor->producer->location, "the parameter '%s' is never used", tensor->name);
	}
}

static void check_scalar(Session *session, const char *what, const Tensor *tensor)
{
	if (tensor->dims != 0 || tensor->type != session->graph->master)
		fail_at(tensor->producer->location, "%s must be a scalar, not %s %s\nmp.mean or mp.sum make a scalar of it", what,
		        tensor->name, shape_text(session->arena, tensor));
}

static Result *add_result(Session *session, int kind, const char *name, Tensor *tensor)
{
	Result *result = arena_alloc(session->arena, sizeof *result);
	result->kind = kind;
	result->name = name;
	result->tensor = tensor;
	result->count = kind == RESULT_METRIC ? tensor_info(session, tensor)->count : NULL;
	list_add(session->arena, &session->graph->results, result);
	return result;
}

// A tensor of what forward returned, on top of the stack. forward has returned, so messages name the line that made
// the tensor, or that of mp.program.
static Tensor *result_tensor(lua_State *L, const char *what)
{
	Tensor *tensor = to_tensor(L, -1);
	if (!tensor)
		spec_error(L, "forward: %s must be a tensor, not %s", what, describe(L, -1));
	return tensor;
}

// The sum of the list of losses on top of the stack.
static Tensor *sum_losses(lua_State *L)
{
	Session *session = session_of(L);
	Tensor *total = NULL, *count = NULL;
	int losses = (int)lua_rawlen(L, -1);
	if (!losses)
		spec_error(L, "forward: loss is an empty table: it must be a scalar tensor or a list of them");
	for (int i = 1; i <= losses; i++) {
		lua_rawgeti(L, -1, i);
		Tensor *loss = result_tensor(L, arena_printf(session->arena, "loss %d", i));
		lua_pop(L, 1);
		check_scalar(session, arena_printf(session->arena, "loss %d", i), loss);
		Tensor *its_count = tensor_info(session, loss)->count;
		count = i == 1 || count == its_count ? its_count : NULL;
		if (total) {
			begin_node(L);
			Node *node = add_node(session->graph, OP_ADD, "loss", loss->producer->location, PHASE_FORWARD, (Tensor *[]){total, loss}, 2, NULL);
			end_node(session, node);
			loss = node->out[0];
		}
		total = loss;
	}
	tensor_info(session, total)->count = count;
	return total;
}

static void take_metrics(lua_State *L, int returned)
{
	Session *session = session_of(L);
	int type = lua_getfield(L, returned, "loss");
	if (type != LUA_TNIL) {
		Tensor *loss = type == LUA_TTABLE ? sum_losses(L) : result_tensor(L, "loss");
		check_scalar(session, "the loss", loss);
		add_result(session, RESULT_METRIC, "loss", loss);
	} else if (session->graph->training) {
		spec_error(L, "forward returns no loss, which training needs: return { loss = … }\n"
		        "without a loss the model can only be used with --mode infer");
	}
	if (lua_getfield(L, returned, "accuracy") != LUA_TNIL) {
		Tensor *accuracy = result_tensor(L, "accuracy");
		check_scalar(session, "the accuracy", accuracy);
		add_result(session, RESULT_METRIC, "accuracy", accuracy)->evaluation = true;
	}
	lua_settop(L, returned);
}

static void take_outputs(lua_State *L, int returned)
{
	Session *session = session_of(L);
	Names names = {0};
	if (lua_getfield(L, returned, "outputs") == LUA_TTABLE)
		add_sorted_keys(L, -1, &names);
	else if (!lua_isnil(L, -1))
		spec_error(L, "forward: outputs must be a table such as { logits = logits }, not %s", describe(L, -1));
	for (int i = 0; i < names.count; i++) {
		lua_pushstring(L, names.at[i]);
		take_name(L, -1, "forward: the name of an output");
		lua_rawget(L, -2);
		Tensor *tensor = result_tensor(L, arena_printf(session->arena, "output '%s'", names.at[i]));
		if (tensor->dims < 1 || tensor->shape[0] != session->graph->batch)
			fail_at(tensor->producer->location, "the output '%s' is %s %s: its outermost dim must be the batch, %ld", names.at[i],
			        tensor->name, shape_text(session->arena, tensor), session->graph->batch);
		add_result(session, RESULT_OUTPUT, names.at[i], tensor);
		lua_pop(L, 1);
	}
	if (!names.count && lua_istable(L, -1) && lua_rawlen(L, -1))
		spec_error(L, "forward: outputs have names: { logits = logits }");
	bool scored = session->graph->scores && session->graph->results.count;
	if (!names.count && !session->graph->training && !scored)
		spec_error(L, "forward returns no outputs, which inference needs: return { outputs = { logits = logits } }");
	lua_settop(L, returned);
}

int run_forward(lua_State *L)
{
	static const char *const known[] = {"loss", "accuracy", "outputs", NULL};
	Session *session = session_of(L);
	Graph *graph = session->graph;
	Block first = {.location = session->program->location};
	list_add(session->arena, &graph->blocks, first);
	lua_getfield(L, LUA_REGISTRYINDEX, "forward");
	push_inputs(L);
	lua_call(L, 1, 1);
	if (!lua_istable(L, -1))
		spec_error(L, "forward must return a table such as { loss = …, accuracy = …, outputs = { … } }, not %s",
		        describe(L, -1));
	int returned = lua_gettop(L);
	check_fields(L, returned, "what forward returns", known);
	take_metrics(L, returned);
	take_outputs(L, returned);
	refuse_unused(session);
	if (!session->block_used && graph->blocks.count > 1)
		graph->blocks.count--; // only parameters came after a cut: they belong to their users
	if (!graph->blocks.at[0].name)
		graph->blocks.at[0].name = session->program->name;
	return 0;
}
