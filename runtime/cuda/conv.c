// mp_conv on GPUs: cuDNN's graph interface. Everything that takes time or choice happens once, at start: each convolution
// of the program is described as a graph of one operation (two with a bias), and the first engine of the heuristics that
// may be used becomes its plan. The choice depends on the shape, the type and the fixed workspace alone (the table
// promises the alignment of pointers), so that every rank makes the same one: replicated values must not drift apart.
//
// May be used: engines that are deterministic, that convert no inputs to smaller types, and, where f32 means f32, that use
// no tensor cores, which is what computes in TF32. Modes of the heuristics are asked in the order A, B, FALLBACK.
//
// An engine adds the bias and accumulates (beta = 1) by itself. Should there be none that does, the convolution goes
// without, the gradient of weights into the end of the workspace, and a second plan adds element by element.
#include "mp_run.h"

#include <cudnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef cudnnBackendDescriptor_t Descriptor;

// Names of tensors within a graph. A sum is left + right.
enum id { ID_X = 1, ID_W, ID_Y, ID_BIAS, ID_WITHOUT_BIAS, ID_LEFT, ID_RIGHT, ID_SUM };

struct engine {
	Descriptor plan;                // NULL: there is none
	size_t workspace;
};

struct engines {
	struct engine plain;            // with the bias, unless there is add
	struct engine accumulating;     // MP_CONV_WEIGHT_GRAD only; into the end of the workspace if there is add
	struct engine add;
};

struct mp_conv_plan {
	cudnnHandle_t library;
	cudaStream_t stream;            // that library enqueues on
	Descriptor device;
	struct engines *engines;        // one for each of program->convs
};

// The descriptors of a graph under construction.
struct graph {
	const struct mp_conv *conv;
	bool tensor_cores;              // may compute it
	Descriptor parts[16];
	int count;
};

// ---------------------------------------------------------------------------------------------------------
// Errors

enum { TEXT = 512 };

// What went wrong, as cuDNN says it, on one line.
static void explain(char *text, size_t size, cudnnStatus_t status)
{
	char more[TEXT] = "";
	cudnnGetLastErrorString(more, sizeof more - 1);
	snprintf(text, size, "%s%s%s", cudnnGetErrorString(status), *more ? ": " : "", more);
	for (char *c = text; *c; c++)
		if (*c == '\n')
			*c = ' ';
}

static void describe_conv(char *text, size_t size, const struct mp_conv *v)
{
	static const char *const kinds[] = {[MP_CONV_FORWARD] = "forward", [MP_CONV_INPUT_GRAD] = "gradient of the input",
	                                    [MP_CONV_WEIGHT_GRAD] = "gradient of the weights"};
	snprintf(text, size, "%s (%s, x [%d,%d,%d,%d], w [%d,%d,%d,%d], y [%d,%d,%d,%d], stride %dx%d, padding %dx%d, dilation "
	         "%dx%d, groups %d, f32%s%s)", v->name, kinds[v->kind], v->n, v->h, v->w, v->c, v->k, v->r, v->s, v->c / v->groups,
	         v->n, v->p, v->q, v->k, v->stride[0], v->stride[1], v->padding[0], v->padding[1], v->dilation[0], v->dilation[1],
	         v->groups, v->tf32 ? " as tf32" : "", v->bias ? ", bias" : "");
}

MP_NORETURN static void conv_failed(const struct mp_conv *v, cudnnStatus_t status, const char *call, int line)
{
	char which[TEXT], why[TEXT];
	describe_conv(which, sizeof which, v);
	explain(why, sizeof why, status);
	mp_fail(MP_DEVICE_FAILED, "%s:%d: conv %s: %s: %s", __FILE__, line, which, call, why);
}

#define DNN(conv, call) do { cudnnStatus_t status_ = (call); \
	if (status_ != CUDNN_STATUS_SUCCESS) conv_failed(conv, status_, #call, __LINE__); } while (0)

// ---------------------------------------------------------------------------------------------------------
// Graphs

static Descriptor create(struct graph *g, cudnnBackendDescriptorType_t type)
{
	DNN(g->conv, cudnnBackendCreateDescriptor(type, &g->parts[g->count]));
	return g->parts[g->count++];
}

static void set(struct graph *g, Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *value)
{
	DNN(g->conv, cudnnBackendSetAttribute(d, name, type, count, value));
}

static void set_part(struct graph *g, Descriptor d, cudnnBackendAttributeName_t name, Descriptor part)
{
	set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

static void destroy(struct graph *g)
{
	while (g->count > 0)
		DNN(g->conv, cudnnBackendDestroyDescriptor(g->parts[--g->count]));
}

static Descriptor tensor(struct graph *g, enum id id, int dims, const int64_t *extents, const int64_t *strides)
{
	int64_t number = id, alignment = g->conv->alignment;
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	bool inside = id == ID_WITHOUT_BIAS;
	Descriptor d = create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);

	set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
	set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims, extents);
	set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, dims, strides);
	set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &number);
	set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
	set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inside);
	DNN(g->conv, cudnnBackendFinalize(d));
	return d;
}

// Images or filters. cuDNN lists the channels second, wherever they lie; here they lie last.
static Descriptor images(struct graph *g, enum id id, int64_t count, int64_t channels, int64_t height, int64_t width)
{
	const int64_t extents[] = {count, channels, height, width};
	const int64_t strides[] = {channels * height * width, 1, channels * width, channels};
	return tensor(g, id, 4, extents, strides);
}

static Descriptor matrix(struct graph *g, enum id id, int64_t rows, int64_t columns)
{
	const int64_t extents[] = {1, rows, columns}, strides[] = {rows * columns, columns, 1};
	return tensor(g, id, 3, extents, strides);
}

static Descriptor windows(struct graph *g)
{
	const struct mp_conv *v = g->conv;
	int64_t dims = 2, strides[] = {v->stride[0], v->stride[1]}, padding[] = {v->padding[0], v->padding[1]};
	int64_t dilations[] = {v->dilation[0], v->dilation[1]};
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
	Descriptor d = create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);

	set(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
	set(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
	set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
	set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
	set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
	set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
	set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
	DNN(v, cudnnBackendFinalize(d));
	return d;
}

// y = the convolution + beta y. The number of groups follows from the channels of x and w.
static Descriptor convolution(struct graph *g, Descriptor x, Descriptor w, Descriptor y, float beta)
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
	enum mp_conv_kind kind = g->conv->kind;
	const float alpha = 1;
	Descriptor of = windows(g), d = create(g, names[kind].type);

	set_part(g, d, names[kind].x, x);
	set_part(g, d, names[kind].w, w);
	set_part(g, d, names[kind].y, y);
	set_part(g, d, names[kind].windows, of);
	set(g, d, names[kind].alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
	set(g, d, names[kind].beta, CUDNN_TYPE_FLOAT, 1, &beta);
	DNN(g->conv, cudnnBackendFinalize(d));
	return d;
}

// sum = left + right, element by element; right may have an extent of 1 where left has more.
static Descriptor addition(struct graph *g, Descriptor left, Descriptor right, Descriptor sum)
{
	cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	Descriptor add = create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);

	set(g, add, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
	set(g, add, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
	DNN(g->conv, cudnnBackendFinalize(add));
	Descriptor d = create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
	set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add);
	set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, left);
	set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, right);
	set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, sum);
	DNN(g->conv, cudnnBackendFinalize(d));
	return d;
}

// ---------------------------------------------------------------------------------------------------------
// The choice of an engine

static bool may_use(const struct graph *g, Descriptor configuration)
{
	cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
	int64_t count = 0;
	Descriptor engine;
	bool usable = true;

	DNN(g->conv, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
	DNN(g->conv, cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
	                                      &count, &engine));
	DNN(g->conv, cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
	                                      CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes));
	for (int64_t i = 0; i < count; i++)
		usable &= notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC && notes[i] != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS &&
		          (notes[i] != CUDNN_NUMERICAL_NOTE_TENSOR_CORE || g->tensor_cores);
	DNN(g->conv, cudnnBackendDestroyDescriptor(engine));
	return usable;
}

// The plan of a configuration, if cuDNN can make it and its workspace is at most so large; else one without a plan.
static struct engine make_plan(const struct graph *g, Descriptor configuration, size_t workspace, char *why)
{
	struct engine e = {0};
	int64_t count, needed = 0;

	DNN(g->conv, cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &e.plan));
	DNN(g->conv, cudnnBackendSetAttribute(e.plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
	                                      &configuration));
	cudnnStatus_t status = cudnnBackendFinalize(e.plan);
	if (status == CUDNN_STATUS_SUCCESS)
		status = cudnnBackendGetAttribute(e.plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
		                                  &needed);
	e.workspace = (size_t)needed;
	if (status == CUDNN_STATUS_SUCCESS && e.workspace <= workspace)
		return e;
	if (status != CUDNN_STATUS_SUCCESS)
		explain(why, TEXT, status);
	else
		snprintf(why, TEXT, "one needs %zu bytes", e.workspace);
	DNN(g->conv, cudnnBackendDestroyDescriptor(e.plan));
	return (struct engine){0};
}

// The first usable engine that one mode of the heuristics proposes for the operation graph.
static struct engine ask(const struct graph *g, Descriptor heuristics, size_t workspace, char *why)
{
	enum { MOST = 64 };
	Descriptor found[MOST];
	struct engine e = {0};
	int64_t count = 0;

	for (int i = 0; i < MOST; i++)
		DNN(g->conv, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &found[i]));
	DNN(g->conv, cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST,
	                                      &count, found));
	for (int64_t i = 0; i < count && i < MOST && !e.plan; i++)
		if (may_use(g, found[i]))
			e = make_plan(g, found[i], workspace, why);
	for (int i = 0; i < MOST; i++)
		DNN(g->conv, cudnnBackendDestroyDescriptor(found[i]));
	return e;
}

// Plans the operations with a workspace of at most so many bytes. Without a usable engine the result has no plan, and
// why says what the last one lacked.
static struct engine plan_operations(struct mp_rank *r, struct graph *g, const Descriptor *operations, int count,
                                     size_t workspace, char *why)
{
	static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK};
	struct engine e = {0};
	Descriptor whole = create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);

	set(g, whole, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
	cudnnStatus_t status = cudnnBackendFinalize(whole);
	for (size_t i = 0; i < sizeof modes / sizeof *modes && status == CUDNN_STATUS_SUCCESS && !e.plan; i++) {
		Descriptor heuristics = create(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
		set_part(g, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, whole);
		set(g, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &modes[i]);
		set_part(g, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, r->conv_plans->device);
		status = cudnnBackendFinalize(heuristics);
		if (status == CUDNN_STATUS_SUCCESS)
			e = ask(g, heuristics, workspace, why);
		else
			explain(why, TEXT, status); // another mode may know the operation
		status = CUDNN_STATUS_SUCCESS;
	}
	return e;
}

static struct engine plan_convolution(struct mp_rank *r, const struct mp_conv *v, bool bias, float beta, size_t workspace,
                                      char *why)
{
	struct graph g = {.conv = v, .tensor_cores = v->tf32};
	Descriptor x = images(&g, ID_X, v->n, v->c, v->h, v->w), w = images(&g, ID_W, v->k, v->c / v->groups, v->r, v->s);
	Descriptor y = images(&g, ID_Y, v->n, v->k, v->p, v->q), operations[2];
	int count = 0;

	if (bias) {
		Descriptor without = images(&g, ID_WITHOUT_BIAS, v->n, v->k, v->p, v->q), added = images(&g, ID_BIAS, 1, v->k, 1, 1);
		operations[count++] = convolution(&g, x, w, without, beta);
		operations[count++] = addition(&g, without, added, y);
	} else {
		operations[count++] = convolution(&g, x, w, y, beta);
	}
	struct engine e = plan_operations(r, &g, operations, count, workspace, why);
	destroy(&g);
	return e;
}

// Plans what adds the bias to y, or to dw what the end of the workspace holds. The engine for element-wise graphs has the
// note of tensor cores, but there are no products here that they could round.
static struct engine plan_addition(struct mp_rank *r, const struct mp_conv *v, size_t workspace, char *why)
{
	struct graph g = {.conv = v, .tensor_cores = true};
	int64_t rows = v->bias ? (int64_t)v->n * v->p * v->q : v->k;
	int64_t columns = v->bias ? v->k : (int64_t)v->r * v->s * (v->c / v->groups);
	Descriptor left = matrix(&g, ID_LEFT, rows, columns), right = matrix(&g, ID_RIGHT, v->bias ? 1 : rows, columns);
	Descriptor operation = addition(&g, left, right, matrix(&g, ID_SUM, rows, columns));

	struct engine e = plan_operations(r, &g, &operation, 1, workspace, why);
	destroy(&g);
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
	char which[TEXT], why[TEXT] = "it proposes none";

	if (v->type != MP_F32)
		mp_fail(MP_USAGE, "conv %s is in f64, which exists on the host only: generate for f32, or build the target host", v->name);
	e->plain = plan_convolution(r, v, v->bias, 0, workspace, why);
	if (weights)
		e->accumulating = plan_convolution(r, v, false, 1, workspace, why);
	separate = weights ? !e->accumulating.plan && weight_bytes(v) <= workspace : !e->plain.plan && v->bias;
	if (separate && weights) {
		e->accumulating = plan_convolution(r, v, false, 0, before_end(r, v), why);
		e->add = plan_addition(r, v, before_end(r, v), why);
	} else if (separate) {
		e->plain = plan_convolution(r, v, false, 0, workspace, why);
		e->add = plan_addition(r, v, workspace, why);
	}
	complete = e->plain.plan && (!weights || e->accumulating.plan) && (!separate || e->add.plan);
	if (complete)
		return;
	describe_conv(which, sizeof which, v);
	mp_fail(MP_DEVICE_FAILED, "cuDNN %zu has no engine for conv %s within a workspace of %zu bytes: %s", cudnnGetVersion(),
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

static void open_library(struct mp_conv_plan *plan, const struct mp_conv *first, cudaStream_t stream)
{
	int device;
	int32_t number;

	CUDA(cudaGetDevice(&device));
	number = device;
	DNN(first, cudnnCreate(&plan->library));
	DNN(first, cudnnSetStream(plan->library, stream));
	plan->stream = stream;
	DNN(first, cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &plan->device));
	DNN(first, cudnnBackendSetAttribute(plan->device, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &number));
	DNN(first, cudnnBackendFinalize(plan->device));
}

void mp_conv_prepare(struct mp_rank *r)
{
	const struct mp_program *p = r->program;

	r->conv_plans = mp_allocate(sizeof *r->conv_plans);
	if (p->conv_count == 0)
		return;
	open_library(r->conv_plans, p->convs, r->compute);
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
		const Descriptor made[] = {plan->engines[i].plain.plan, plan->engines[i].accumulating.plan, plan->engines[i].add.plan};
		for (size_t k = 0; k < sizeof made / sizeof *made; k++)
			if (made[k])
				DNN(&convs[i], cudnnBackendDestroyDescriptor(made[k]));
	}
	if (plan->library) {
		DNN(convs, cudnnBackendDestroyDescriptor(plan->device));
		DNN(convs, cudnnDestroy(plan->library));
	}
	free(plan->engines);
	free(plan);
}

// Enqueues a plan whose `count` tensors are where the addresses say.
static void execute(struct mp_rank *r, const struct mp_conv *v, const struct engine *e, int64_t count, const int64_t *ids,
                    const void *const *addresses)
{
	void *workspace = r->arena + r->program->workspace_offset;
	struct graph g = {.conv = v};
	Descriptor pack = create(&g, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);

	set(&g, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
	set(&g, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, addresses);
	set(&g, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
	DNN(v, cudnnBackendFinalize(pack));
	DNN(v, cudnnBackendExecute(r->conv_plans->library, e->plan, pack));
	destroy(&g);
}

void mp_conv(struct mp_rank *r, const struct mp_conv *conv, const void *a, const void *b, const void *bias, void *result,
             bool accumulate, cudaStream_t stream)
{
	static const int64_t ids[] = {ID_X, ID_W, ID_Y, ID_BIAS}, sum_ids[] = {ID_LEFT, ID_RIGHT, ID_SUM};
	const struct engines *c = &r->conv_plans->engines[conv - r->program->convs];
	const struct engine *e = accumulate ? &c->accumulating : &c->plain;
	bool add = c->add.plan && (conv->bias || accumulate);
	void *to = add && accumulate ? r->arena + r->program->workspace_offset + before_end(r, conv) : result;
	const void *operands[][4] = {
		[MP_CONV_FORWARD] = {a, b, to, bias}, [MP_CONV_INPUT_GRAD] = {to, b, a}, [MP_CONV_WEIGHT_GRAD] = {b, to, a},
	};

	if (((uintptr_t)a | (uintptr_t)b | (uintptr_t)result | (uintptr_t)bias) % (uintptr_t)conv->alignment)
		mp_fail(MP_BUG, "conv %s: an operand is not aligned to %d bytes", conv->name, conv->alignment);
	if (stream != r->compute && (e->workspace || c->add.workspace || to != result))
		mp_fail(MP_BUG, "conv %s: the workspace belongs to the compute stream", conv->name);
	if (stream != r->conv_plans->stream)
		DNN(conv, cudnnSetStream(r->conv_plans->library, stream));
	r->conv_plans->stream = stream;
	execute(r, conv, e, conv->bias && !add ? 4 : 3, ids, operands[conv->kind]);
	if (add) {
		const void *sum[] = {to, accumulate ? result : bias, result};
		execute(r, conv, &c->add, 3, sum_ids, sum);
	}
}
