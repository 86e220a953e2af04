// library.c: the tables of what libraries compute: matrix products, convolutions and attention with their extents on one device.
#include <assert.h>
#include <string.h>

#include "source.h"

static const char *constant_name(const Emit *emit, const Role *role, const char *name)
{
	char *id = arena_strdup(emit->arena, name);
	for (char *c = id; *c; c++) {
		if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
		else if (!(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9'))
			*c = '_';
	}
	for (int i = 0; i < role->gemms.count; i++)
		if (!strcmp(role->gemms.at[i].constant, id))
			return constant_name(emit, role, arena_printf(emit->arena, "%s_also", id));
	for (int i = 0; i < role->convs.count; i++)
		if (!strcmp(role->convs.at[i].constant, id))
			return constant_name(emit, role, arena_printf(emit->arena, "%s_also", id));
	for (int i = 0; i < role->attentions.count; i++)
		if (!strcmp(role->attentions.at[i].constant, id))
			return constant_name(emit, role, arena_printf(emit->arena, "%s_also", id));
	for (int i = 0; i < role->events.count; i++)
		if (!strcmp(role->events.at[i].name, id))
			return constant_name(emit, role, arena_printf(emit->arena, "%s_call", id));
	return id;
}

// What all operands' addresses are multiples of, in every layer that shares the step's code.
static int alignment_of(const Role *role, const Function *function, int code)
{
	int alignment = 16;
	for (int s = code; s < function->steps.count; s++) {
		const Step *step = &function->steps.at[s];
		for (int i = 0; i < step->accesses.count && step->same_as == code; i++) {
			const Buffer *buffer = &role->buffers.at[step->accesses.at[i].buffer];
			while (buffer->slots > 1 && buffer->stride % (size_t)alignment)
				alignment /= 2;
		}
	}
	return alignment;
}

// Of the rows of one device among those of all.
static void lower_alignment(Gemm *gemm, const Step *step)
{
	size_t read = (size_t)gemm->m * (size_t)gemm->k * type_size(gemm->type), made = (size_t)gemm->m * (size_t)gemm->n * type_size(gemm->out);
	bool reads_rows = step->nodes.at[0]->attributes.parts || step->parts || step->pieces, makes_rows = step->parts || step->pieces;
	while ((reads_rows && read % (size_t)gemm->alignment) || (makes_rows && made % (size_t)gemm->alignment))
		gemm->alignment /= 2;
}

static Gemm describe_gemm(const Emit *emit, const Role *role, const Step *step)
{
	const Node *node = step->nodes.at[0];
	Gemm gemm = {.name = step->name, .constant = constant_name(emit, role, step->name), .transpose = node->attributes.transpose,
	             .type = node->in[0]->type, .out = node->out[0]->type};
	product_extents(emit->plan, node, &gemm.m, &gemm.n, &gemm.k);
	gemm.m /= steps_for_all(step);
	for (int i = 1; i < step->nodes.count; i++) {
		const Node *tail = step->nodes.at[i];
		if (tail->op == OP_ADD) {
			gemm.bias = true;
			continue;
		}
		const Tensor *read = tail->in[tail->ins - 1];
		gemm.activation = tail;
		gemm.kept = find_buffer(emit->plan, role, read) >= 0 ? read : NULL;
	}
	return gemm;
}

static void local_shape_of(const Emit *emit, const Tensor *t, int shape[4])
{
	for (int i = 0; i < 4; i++)
		shape[i] = (int)local_extent(emit->plan, t, i);
}

static Conv describe_conv(const Emit *emit, const Role *role, const Step *step)
{
	const Node *node = step->nodes.at[0];
	bool forward = node->op == OP_CONV2D, of_weight = node->op == OP_CONV2D_WEIGHT_GRAD;
	Conv conv = {.name = step->name, .constant = constant_name(emit, role, step->name), .node = node};
	local_shape_of(emit, forward ? node->in[0] : of_weight ? node->in[1] : node->out[0], conv.x);
	local_shape_of(emit, of_weight ? node->out[0] : node->in[1], conv.w);
	local_shape_of(emit, forward ? node->out[0] : node->in[0], conv.y);
	conv.groups = conv.x[3] / conv.w[3];
	conv.bias = step->nodes.count > 1;
	conv.slice = conv_slice(emit->plan, node).samples;
	return conv;
}

static Attention describe_attention(const Emit *emit, const Role *role, const Step *step)
{
	const Node *node = step->nodes.at[0];
	const Tensor *o = node->op == OP_ATTENTION ? node->out[0] : node->in[2];
	Attention attention = {.name = step->name, .constant = constant_name(emit, role, step->name), .gradient = node->op == OP_ATTENTION_GRAD};
	AttentionSlice slice = attention_slice(emit->plan, node);
	attention.slice = slice.units;
	attention.any_order = slice.any_order;
	attention.dropout = node->attributes.scale;
	attention.heads = (int)(o->shape[2] * o->shape[3]);
	int *const extents[] = {&attention.tokens, &attention.batch, &attention.groups, &attention.queries, &attention.size};
	for (int i = 0; i < 5; i++)
		*extents[i] = (int)local_extent(emit->plan, o, i);
	return attention;
}

void number_library_calls(const Emit *emit, Role *role)
{
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			Step *step = &role->functions.at[f].steps.at[i];
			if (step->same_as != i)
				continue;
			if (step->kind == STEP_GEMM) {
				Gemm gemm = describe_gemm(emit, role, step);
				gemm.alignment = alignment_of(role, &role->functions.at[f], i);
				lower_alignment(&gemm, step);
				assert(!gemm.kept || gemm.alignment == 16); // as fuse_steps promised
				step->call = role->gemms.count;
				list_add(emit->arena, &role->gemms, gemm);
			} else if (step->kind == STEP_CHUNKS) {
				Gemm products[3];
				describe_chunks(emit, role, step, alignment_of(role, &role->functions.at[f], i), products);
				step->call = role->gemms.count;
				for (int k = 0; k < 3; k++) {
					products[k].constant = constant_name(emit, role, products[k].name);
					list_add(emit->arena, &role->gemms, products[k]);
				}
			} else if (step->kind == STEP_CONV) {
				Conv conv = describe_conv(emit, role, step);
				conv.alignment = alignment_of(role, &role->functions.at[f], i);
				step->call = role->convs.count;
				list_add(emit->arena, &role->convs, conv);
			} else if (step->kind == STEP_ATTENTION) {
				Attention attention = describe_attention(emit, role, step);
				attention.alignment = alignment_of(role, &role->functions.at[f], i);
				step->call = role->attentions.count;
				list_add(emit->arena, &role->attentions, attention);
			}
		}
}

// Of enum mp_epilogue.
static const char *epilogue(const Gemm *g)
{
	static const char *const names[][2] = {
		{"MP_NO_EPILOGUE", "MP_BIAS"}, {"MP_RELU", "MP_BIAS_RELU"}, {"MP_GELU", "MP_BIAS_GELU"}, {"MP_GELU_AUX", "MP_BIAS_GELU_AUX"},
	};
	if (!g->activation)
		return names[0][g->bias];
	if (g->activation->op == OP_GELU_TANH_GRAD)
		return "MP_GELU_GRAD";
	return names[g->activation->op == OP_RELU ? 1 : g->kept ? 3 : 2][g->bias];
}

static void emit_gemms(Text *out, const Emit *emit, const Role *role)
{
	static const char *const transposes[] = {"MP_NN", "MP_NT", "MP_TN"};
	if (!role->gemms.count)
		return;
	text_add(out, "// Matrix products: C[m,n] = op(A) op(B), then the epilogue.\nenum {");
	for (int i = 0; i < role->gemms.count; i++)
		text_add(out, "%s%s", i % 4 ? ", " : i ? ",\n\t" : "\n\t", role->gemms.at[i].constant);
	text_add(out, "\n};\nstatic const struct mp_gemm gemms[] = {\n");
	text_add(out, "\t// name, m, n, k, transpose, epilogue, types of operands and result, tf32, alignment\n");
	for (int i = 0; i < role->gemms.count; i++) {
		const Gemm *g = &role->gemms.at[i];
		text_add(out, "\t{%s, %d, %d, %d, %s, %s, %s, %s, %s, %d},\n", c_string(emit->arena, g->name), g->m, g->n, g->k, transposes[g->transpose],
		         epilogue(g), mp_type(g->type), mp_type(g->out), emit->plan->tf32 ? "true" : "false", g->alignment);
	}
	text_add(out, "};\n\n");
}

static void emit_convs(Text *out, const Emit *emit, const Role *role)
{
	if (!role->convs.count)
		return;
	text_add(out, "// Convolutions of channels-last images x[n,h,w,c] and y[n,p,q,k] with filters w[k,r,s,c/groups].\nenum {");
	for (int i = 0; i < role->convs.count; i++)
		text_add(out, "%s%s", i % 4 ? ", " : i ? ",\n\t" : "\n\t", role->convs.at[i].constant);
	text_add(out, "\n};\nstatic const struct mp_conv convs[] = {\n");
	text_add(out, "\t// name, kind, n, h, w, c, k, r, s, p, q, stride, padding, dilation, groups, bias, type, tf32, alignment, slice\n");
	for (int i = 0; i < role->convs.count; i++) {
		const Conv *c = &role->convs.at[i];
		const Window *window = &c->node->attributes.window;
		const char *kind = c->node->op == OP_CONV2D ? "MP_CONV_FORWARD" : c->node->op == OP_CONV2D_INPUT_GRAD ? "MP_CONV_INPUT_GRAD" : "MP_CONV_WEIGHT_GRAD";
		text_add(out, "\t{%s, %s, %d, %d, %d, %d, %d, %d, %d, %d, %d, {%d, %d}, {%d, %d}, {%d, %d}, %d, %s, %s, %s, %d, %d},\n", c_string(emit->arena, c->name), kind,
		         c->x[0], c->x[1], c->x[2], c->x[3], c->w[0], c->w[1], c->w[2], c->y[1], c->y[2], window->stride[0], window->stride[1],
		         window->padding[0], window->padding[1], window->dilation[0], window->dilation[1], c->groups, c->bias ? "true" : "false", mp_type(emit->plan->graph->real),
		         emit->plan->tf32 ? "true" : "false", c->alignment, c->slice);
	}
	text_add(out, "};\n\n");
}

static void emit_attentions(Text *out, const Emit *emit, const Role *role)
{
	if (!role->attentions.count)
		return;
	text_add(out, "// Causal attention of packed heads qkv[tokens,batch,groups,queries+2,size], and its gradient.\nenum {");
	for (int i = 0; i < role->attentions.count; i++)
		text_add(out, "%s%s", i % 4 ? ", " : i ? ",\n\t" : "\n\t", role->attentions.at[i].constant);
	text_add(out, "\n};\nstatic const struct mp_attention attentions[] = {\n");
	text_add(out, "\t// name, gradient, tokens, batch, groups, queries, size, slice, any_order, dropout, heads, type, alignment\n");
	for (int i = 0; i < role->attentions.count; i++) {
		const Attention *a = &role->attentions.at[i];
		text_add(out, "\t{%s, %s, %d, %d, %d, %d, %d, %d, %s, %s, %d, %s, %d},\n", c_string(emit->arena, a->name), a->gradient ? "true" : "false", a->tokens, a->batch,
		         a->groups, a->queries, a->size, a->slice, a->any_order ? "true" : "false", c_number(emit->arena, TYPE_F64, a->dropout), a->heads, mp_type(emit->plan->graph->real), a->alignment);
	}
	text_add(out, "};\n\n");
}

void emit_library_tables(Text *out, const Emit *emit, const Role *role)
{
	emit_gemms(out, emit, role);
	emit_convs(out, emit, role);
	emit_attentions(out, emit, role);
}
