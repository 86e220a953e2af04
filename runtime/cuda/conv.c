// mp_conv on GPUs: cuDNN's graph interface. Everything that takes time or choice happens once, at start: each convolution
// of the program is described as a graph of one operation (two with a bias), and planned (dnn.c). The choice of an engine depends
// on the shape, the type and the fixed workspace alone (the table promises the alignment of pointers).
//
// An engine adds the bias and accumulates (beta = 1) by itself. Should there be none that does, the convolution goes
// without, the gradient of weights into the end of the workspace, and a second plan adds element by element. f32 convolutions with
// a slice are made of several on tensor cores, if cuDNN has engines for them (conv_split.c).
#include "conv.h"

#include <stdio.h>
#include <stdlib.h>

struct engines {
	struct mp_dnn_engine plain;             // with the bias, unless there is add
	struct mp_dnn_engine accumulating;      // MP_CONV_WEIGHT_GRAD only; into the end of the workspace if there is add
	struct mp_dnn_engine add;
	struct mp_conv_split split;             // in the place of plain, where there is one
};

struct mp_conv_plan {
	struct mp_dnn dnn;
	struct engines *engines;                // one for each of program->convs
};

static void describe_conv(char *text, size_t size, const void *call)
{
	const struct mp_conv *v = call;
	static const char *const kinds[] = {[MP_CONV_FORWARD] = "forward", [MP_CONV_INPUT_GRAD] = "gradient of the input",
	                                    [MP_CONV_WEIGHT_GRAD] = "gradient of the weights"};
	snprintf(text, size, "conv %s (%s, x [%d,%d,%d,%d], w [%d,%d,%d,%d], y [%d,%d,%d,%d], stride %dx%d, padding %dx%d, dilation "
	         "%dx%d, groups %d, f32%s%s)", v->name, kinds[v->kind], v->n, v->h, v->w, v->c, v->k, v->r, v->s, v->c / v->groups,
	         v->n, v->p, v->q, v->k, v->stride[0], v->stride[1], v->padding[0], v->padding[1], v->dilation[0], v->dilation[1],
	         v->groups, v->tf32 ? " as tf32" : "", v->bias ? ", bias" : "");
}

struct mp_dnn_subject mp_conv_subject(const struct mp_conv *v)
{
	return (struct mp_dnn_subject){v, describe_conv};
}

static struct mp_dnn_graph graph_of(const struct mp_conv *v, bool tensor_cores)
{
	return (struct mp_dnn_graph){.of = mp_conv_subject(v), .alignment = v->alignment, .tensor_cores = tensor_cores};
}

// ---------------------------------------------------------------------------------------------------------
// Graphs

static mp_descriptor tensor(struct mp_dnn_graph *g, enum mp_conv_id id, int dims, const int64_t *extents, const int64_t *strides)
{
	return mp_dnn_tensor(g, id == MP_CONV_WITHOUT_BIAS ? MP_DNN_VIRTUAL : MP_DNN_REAL, CUDNN_DATA_FLOAT, id, dims, extents, strides);
}

// Images or filters. cuDNN lists the channels second, wherever they lie; here they lie last.
static mp_descriptor images(struct mp_dnn_graph *g, enum mp_conv_id id, int64_t count, int64_t channels, int64_t height, int64_t width)
{
	const int64_t extents[] = {count, channels, height, width};
	const int64_t strides[] = {channels * height * width, 1, channels * width, channels};
	return tensor(g, id, 4, extents, strides);
}

static mp_descriptor matrix(struct mp_dnn_graph *g, enum mp_conv_id id, int64_t rows, int64_t columns)
{
	const int64_t extents[] = {1, rows, columns}, strides[] = {rows * columns, columns, 1};
	return tensor(g, id, 3, extents, strides);
}

static mp_descriptor windows(struct mp_dnn_graph *g, const struct mp_conv *v)
{
	int64_t dims = 2, strides[] = {v->stride[0], v->stride[1]}, padding[] = {v->padding[0], v->padding[1]};
	int64_t dilations[] = {v->dilation[0], v->dilation[1]};
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
	mp_descriptor d = mp_dnn_create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);

	mp_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
	mp_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
	mp_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
	mp_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
	mp_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
	mp_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
	mp_dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
	return mp_dnn_finish(g, d);
}

// y = the convolution + beta y. The number of groups follows from the channels of x and w.
static void convolution(struct mp_dnn_graph *g, const struct mp_conv *v, mp_descriptor x, mp_descriptor w, mp_descriptor y, float beta)
{
	static const struct {
		cudnnBackendDescriptorType_t type;
		cudnnBackendAttributeName_t x, w, y, windows, alpha, beta;
	} names[] = {
		[MP_CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
			CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
			CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
			CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
		[MP_CONV_INPUT_GRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
		[MP_CONV_WEIGHT_GRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
	};
	enum mp_conv_kind kind = v->kind;
	const float alpha = 1;
	mp_descriptor of = windows(g, v), d = mp_dnn_create(g, names[kind].type);

	mp_dnn_set_part(g, d, names[kind].x, x);
	mp_dnn_set_part(g, d, names[kind].w, w);
	mp_dnn_set_part(g, d, names[kind].y, y);
	mp_dnn_set_part(g, d, names[kind].windows, of);
	mp_dnn_set(g, d, names[kind].alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
	mp_dnn_set(g, d, names[kind].beta, CUDNN_TYPE_FLOAT, 1, &beta);
	mp_dnn_finish_operation(g, d);
}

// sum = left + right, element by element; right may have an extent of 1 where left has more.
static void addition(struct mp_dnn_graph *g, mp_descriptor left, mp_descriptor right, mp_descriptor sum)
{
	mp_dnn_pointwise(g, CUDNN_POINTWISE_ADD, CUDNN_DATA_FLOAT, left, right, NULL, sum, -1);
}

// ---------------------------------------------------------------------------------------------------------
// Plans

struct mp_dnn_engine mp_conv_plan_engine(const struct mp_dnn *dnn, const struct mp_conv *v, bool bias, float beta, size_t workspace, char *why)
{
	struct mp_dnn_graph g = graph_of(v, v->tf32);
	mp_descriptor x = images(&g, MP_CONV_X, v->n, v->c, v->h, v->w), w = images(&g, MP_CONV_W, v->k, v->c / v->groups, v->r, v->s);
	mp_descriptor y = images(&g, MP_CONV_Y, v->n, v->k, v->p, v->q);

	if (bias) {
		mp_descriptor without = images(&g, MP_CONV_WITHOUT_BIAS, v->n, v->k, v->p, v->q), added = images(&g, MP_CONV_BIAS, 1, v->k, 1, 1);
		convolution(&g, v, x, w, without, beta);
		addition(&g, without, added, y);
	} else {
		convolution(&g, v, x, w, y, beta);
	}
	struct mp_dnn_engine e = mp_dnn_plan(dnn, &g, workspace, why);
	mp_dnn_destroy(&g);
	return e;
}

// Plans what adds the bias to y, or to dw what the end of the workspace holds. The engine for element-wise graphs has the
// note of tensor cores, but there are no products here that they could round.
static struct mp_dnn_engine plan_addition(const struct mp_rank *r, const struct mp_conv *v, size_t workspace, char *why)
{
	struct mp_dnn_graph g = graph_of(v, true);
	int64_t rows = v->bias ? (int64_t)v->n * v->p * v->q : v->k;
	int64_t columns = v->bias ? v->k : (int64_t)v->r * v->s * (v->c / v->groups);
	mp_descriptor left = matrix(&g, MP_CONV_LEFT, rows, columns), right = matrix(&g, MP_CONV_RIGHT, v->bias ? 1 : rows, columns);
	addition(&g, left, right, matrix(&g, MP_CONV_SUM, rows, columns));

	struct mp_dnn_engine e = mp_dnn_plan(&r->conv_plans->dnn, &g, workspace, why);
	mp_dnn_destroy(&g);
	return e;
}

static size_t weight_bytes(const struct mp_conv *v)
{
	return (size_t)v->k * (size_t)v->r * (size_t)v->s * (size_t)(v->c / v->groups) * sizeof(float);
}

// Bytes of the workspace before the gradient of the weights that lies at its end.
static size_t before_end(const struct mp_rank *r, const struct mp_conv *v)
{
	size_t all = r->program->workspace_bytes;
	return weight_bytes(v) < all ? (all - weight_bytes(v)) / MP_ALIGN * MP_ALIGN : 0;
}

static void choose(struct mp_rank *r, const struct mp_conv *v, struct engines *e)
{
	bool weights = v->kind == MP_CONV_WEIGHT_GRAD, separate, complete;
	size_t workspace = r->program->workspace_bytes;
	const struct mp_dnn *dnn = &r->conv_plans->dnn;
	char which[MP_DNN_TEXT], why[MP_DNN_TEXT] = "it proposes none";

	if (v->type != MP_F32)
		mp_fail(MP_USAGE, "conv %s is in f64, which exists on the host only: generate for f32, or build the target host", v->name);
	if (v->slice && v->alignment % 16 == 0 && mp_conv_split_plan(r, dnn, v, &e->split))
		return;
	e->plain = mp_conv_plan_engine(dnn, v, v->bias, 0, workspace, why);
	if (weights)
		e->accumulating = mp_conv_plan_engine(dnn, v, false, 1, workspace, why);
	separate = weights ? !e->accumulating.plan && weight_bytes(v) <= workspace : !e->plain.plan && v->bias;
	if (separate && weights) {
		e->accumulating = mp_conv_plan_engine(dnn, v, false, 0, before_end(r, v), why);
		e->add = plan_addition(r, v, before_end(r, v), why);
	} else if (separate) {
		e->plain = mp_conv_plan_engine(dnn, v, false, 0, workspace, why);
		e->add = plan_addition(r, v, workspace, why);
	}
	complete = e->plain.plan && (!weights || e->accumulating.plan) && (!separate || e->add.plan);
	if (complete)
		return;
	describe_conv(which, sizeof which, v);
	mp_fail(MP_DEVICE_FAILED, "cuDNN %zu has no engine for %s within a workspace of %zu bytes: %s", cudnnGetVersion(),
	        which, workspace, why);
}

// ---------------------------------------------------------------------------------------------------------

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

// Runs a convolution once on the zeros of the fresh arena, beside the workspace: its kernels are loaded then. Loaded
// later, they would wait for whatever the device does, which may be communication that waits for this rank.
static void run_once(struct mp_rank *r, const struct mp_conv *v)
{
	const struct mp_program *p = r->program;
	size_t x = (size_t)v->n * (size_t)v->h * (size_t)v->w * (size_t)v->c;
	size_t y = (size_t)v->n * (size_t)v->p * (size_t)v->q * (size_t)v->k;
	size_t bytes = larger(larger(x, y) * sizeof(float), weight_bytes(v));
	char *zeros = bytes <= p->workspace_offset ? r->arena : r->arena + p->workspace_offset + p->workspace_bytes;

	mp_conv(r, v, zeros, zeros, v->bias ? zeros : NULL, zeros, false, r->compute);
	if (v->kind == MP_CONV_WEIGHT_GRAD)
		mp_conv(r, v, zeros, zeros, NULL, zeros, true, r->compute);
}

void mp_conv_prepare(struct mp_rank *r)
{
	const struct mp_program *p = r->program;

	r->conv_plans = mp_allocate(sizeof *r->conv_plans);
	if (p->conv_count == 0)
		return;
	struct mp_dnn_subject first = mp_conv_subject(p->convs);
	mp_dnn_open(&r->conv_plans->dnn, &first, r->compute);
	r->conv_plans->engines = mp_allocate((size_t)p->conv_count * sizeof *r->conv_plans->engines);
	for (int i = 0; i < p->conv_count; i++) {
		choose(r, &p->convs[i], &r->conv_plans->engines[i]);
		run_once(r, &p->convs[i]);
	}
}

void mp_conv_release(struct mp_rank *r)
{
	struct mp_conv_plan *plan = r->conv_plans;
	const struct mp_conv *convs = r->program->convs;

	for (int i = 0; i < r->program->conv_count; i++) {
		struct mp_dnn_subject of = mp_conv_subject(&convs[i]);
		mp_dnn_forget(&of, &plan->engines[i].plain);
		mp_dnn_forget(&of, &plan->engines[i].accumulating);
		mp_dnn_forget(&of, &plan->engines[i].add);
		mp_conv_split_forget(&convs[i], &plan->engines[i].split);
	}
	if (plan->dnn.library) {
		struct mp_dnn_subject first = mp_conv_subject(convs);
		mp_dnn_close(&plan->dnn, &first);
	}
	free(plan->engines);
	free(plan);
}

void mp_conv(struct mp_rank *r, const struct mp_conv *conv, const void *a, const void *b, const void *bias, void *result,
             bool accumulate, cudaStream_t stream)
{
	static const int64_t ids[] = {MP_CONV_X, MP_CONV_W, MP_CONV_Y, MP_CONV_BIAS}, sum_ids[] = {MP_CONV_LEFT, MP_CONV_RIGHT, MP_CONV_SUM};
	const struct engines *c = &r->conv_plans->engines[conv - r->program->convs];
	const struct mp_dnn_engine *e = accumulate ? &c->accumulating : &c->plain;
	bool add = c->add.plan && (conv->bias || accumulate);
	void *to = add && accumulate ? r->arena + r->program->workspace_offset + before_end(r, conv) : result;
	const void *operands[][4] = {
		[MP_CONV_FORWARD] = {a, b, to, bias}, [MP_CONV_INPUT_GRAD] = {to, b, a}, [MP_CONV_WEIGHT_GRAD] = {b, to, a},
	};

	if (((uintptr_t)a | (uintptr_t)b | (uintptr_t)result | (uintptr_t)bias) % (uintptr_t)conv->alignment)
		mp_fail(MP_BUG, "conv %s: an operand is not aligned to %d bytes", conv->name, conv->alignment);
	if (stream != r->compute && (e->workspace || c->add.workspace || to != result || c->split.small.plan))
		mp_fail(MP_BUG, "conv %s: the workspace belongs to the compute stream", conv->name);
	if (c->split.small.plan) {
		mp_conv_split_run(r, &r->conv_plans->dnn, conv, &c->split, a, b, bias, result, stream);
		return;
	}
	struct mp_dnn_subject of = mp_conv_subject(conv);
	void *workspace = r->arena + r->program->workspace_offset;
	mp_dnn_execute(&r->conv_plans->dnn, &of, e, conv->bias && !add ? 4 : 3, ids, operands[conv->kind], workspace, stream);
	if (add) {
		const void *sum[] = {to, accumulate ? result : bias, result};
		mp_dnn_execute(&r->conv_plans->dnn, &of, &c->add, 3, sum_ids, sum, workspace, stream);
	}
}
