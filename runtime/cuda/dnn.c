// dnn.c: graphs of cuDNN operations, the choice of their engines, and how they are run. See dnn.h.
//
// The choice depends on the graph and the fixed workspace alone, so that every rank makes the same one: replicated values must
// not drift apart; or one rank times them all and tells the others (attention.c). May be used: engines that are deterministic, that convert no inputs to smaller types, and, where f32 means
// f32, that use no tensor cores, which is what computes in TF32. Modes of the heuristics are asked in the order A, B, FALLBACK.
#include "dnn.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

// ---------------------------------------------------------------------------------------------------------
// Errors

// What went wrong, as cuDNN says it, on one line.
static void explain(char *text, size_t size, cudnnStatus_t status)
{
	char more[MP_DNN_TEXT] = "";
	cudnnGetLastErrorString(more, sizeof more - 1);
	snprintf(text, size, "%s%s%s", cudnnGetErrorString(status), *more ? ": " : "", more);
	for (char *c = text; *c; c++)
		if (*c == '\n')
			*c = ' ';
}

void mp_dnn_failed(const struct mp_dnn_subject *of, cudnnStatus_t status, const char *call, const char *file, int line)
{
	char which[MP_DNN_TEXT], why[MP_DNN_TEXT];
	of->describe(which, sizeof which, of->call);
	explain(why, sizeof why, status);
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %s: %s", file, line, which, call, why);
}

// ---------------------------------------------------------------------------------------------------------
// Graphs

mp_descriptor mp_dnn_create(struct mp_dnn_graph *g, cudnnBackendDescriptorType_t type)
{
	if (g->part_count == MP_DNN_PARTS)
		mp_fail(MP_BUG, "%s:%d: a graph of cuDNN has more than %d parts", __FILE__, __LINE__, MP_DNN_PARTS);
	DNN(&g->of, cudnnBackendCreateDescriptor(type, &g->parts[g->part_count]));
	return g->parts[g->part_count++];
}

void mp_dnn_set(struct mp_dnn_graph *g, mp_descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *value)
{
	DNN(&g->of, cudnnBackendSetAttribute(d, name, type, count, value));
}

void mp_dnn_set_part(struct mp_dnn_graph *g, mp_descriptor d, cudnnBackendAttributeName_t name, mp_descriptor part)
{
	mp_dnn_set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

mp_descriptor mp_dnn_finish(struct mp_dnn_graph *g, mp_descriptor d)
{
	DNN(&g->of, cudnnBackendFinalize(d));
	return d;
}

mp_descriptor mp_dnn_finish_operation(struct mp_dnn_graph *g, mp_descriptor d)
{
	if (g->operation_count == MP_DNN_OPERATIONS)
		mp_fail(MP_BUG, "%s:%d: a graph of cuDNN has more than %d operations", __FILE__, __LINE__, MP_DNN_OPERATIONS);
	return g->operations[g->operation_count++] = mp_dnn_finish(g, d);
}

void mp_dnn_destroy(struct mp_dnn_graph *g)
{
	while (g->part_count > 0)
		DNN(&g->of, cudnnBackendDestroyDescriptor(g->parts[--g->part_count]));
}

mp_descriptor mp_dnn_tensor(struct mp_dnn_graph *g, enum mp_dnn_kind kind, cudnnDataType_t type, int64_t id, int dims,
                            const int64_t *extents, const int64_t *strides)
{
	int64_t alignment = g->alignment;
	bool inside = kind == MP_DNN_VIRTUAL, scalar = kind == MP_DNN_BY_VALUE;
	mp_descriptor d = mp_dnn_create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);

	mp_dnn_set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
	mp_dnn_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims, extents);
	mp_dnn_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, dims, strides);
	mp_dnn_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
	mp_dnn_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
	mp_dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inside);
	if (scalar)
		mp_dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &scalar);
	return mp_dnn_finish(g, d);
}

void mp_dnn_pointwise(struct mp_dnn_graph *g, cudnnPointwiseMode_t mode, cudnnDataType_t type, mp_descriptor x, mp_descriptor b,
                      mp_descriptor t, mp_descriptor y, int64_t axis)
{
	mp_descriptor how = mp_dnn_create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);

	mp_dnn_set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
	mp_dnn_set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
	if (axis >= 0)
		mp_dnn_set(g, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
	mp_dnn_finish(g, how);
	mp_descriptor d = mp_dnn_create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
	mp_dnn_set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
	mp_dnn_set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
	if (b)
		mp_dnn_set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
	if (t)
		mp_dnn_set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t);
	mp_dnn_set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
	mp_dnn_finish_operation(g, d);
}

// ---------------------------------------------------------------------------------------------------------
// The choice of an engine

static bool may_use(const struct mp_dnn_graph *g, mp_descriptor configuration)
{
	cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
	int64_t count = 0;
	mp_descriptor engine;
	bool usable = true;

	DNN(&g->of, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
	DNN(&g->of, cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
	                                     &count, &engine));
	DNN(&g->of, cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
	                                     CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes));
	for (int64_t i = 0; i < count; i++)
		usable &= (notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC || g->any_order) &&
		          notes[i] != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS &&
		          (notes[i] != CUDNN_NUMERICAL_NOTE_TENSOR_CORE || g->tensor_cores);
	DNN(&g->of, cudnnBackendDestroyDescriptor(engine));
	return usable;
}

// The plan of a configuration, if cuDNN can make it and its workspace is at most so large; else one without a plan.
static struct mp_dnn_engine make_plan(const struct mp_dnn_graph *g, mp_descriptor configuration, size_t workspace, char *why)
{
	struct mp_dnn_engine e = {0};
	int64_t count, needed = 0;

	DNN(&g->of, cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &e.plan));
	DNN(&g->of, cudnnBackendSetAttribute(e.plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
	                                     &configuration));
	cudnnStatus_t status = cudnnBackendFinalize(e.plan);
	if (status == CUDNN_STATUS_SUCCESS)
		status = cudnnBackendGetAttribute(e.plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
		                                  &needed);
	e.workspace = (size_t)needed;
	if (status == CUDNN_STATUS_SUCCESS && e.workspace <= workspace)
		return e;
	if (status != CUDNN_STATUS_SUCCESS)
		explain(why, MP_DNN_TEXT, status);
	else
		snprintf(why, MP_DNN_TEXT, "one needs %zu bytes", e.workspace);
	DNN(&g->of, cudnnBackendDestroyDescriptor(e.plan));
	return (struct mp_dnn_engine){0};
}

enum { MOST = 64 };

// What one mode of the heuristics proposes for the operation graph; the caller destroys it all.
static int propose(const struct mp_dnn_graph *g, mp_descriptor heuristics, mp_descriptor found[MOST])
{
	int64_t count = 0;

	for (int i = 0; i < MOST; i++)
		DNN(&g->of, cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &found[i]));
	DNN(&g->of, cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST,
	                                     &count, found));
	return count < MOST ? (int)count : MOST;
}

static void destroy_proposals(const struct mp_dnn_graph *g, mp_descriptor found[MOST])
{
	for (int i = 0; i < MOST; i++)
		DNN(&g->of, cudnnBackendDestroyDescriptor(found[i]));
}

// The first usable engine that one mode of the heuristics proposes.
static struct mp_dnn_engine ask(const struct mp_dnn_graph *g, mp_descriptor heuristics, size_t workspace, char *why)
{
	mp_descriptor found[MOST];
	struct mp_dnn_engine e = {0};
	int count = propose(g, heuristics, found);

	for (int i = 0; i < count && !e.plan; i++)
		if (may_use(g, found[i]))
			e = make_plan(g, found[i], workspace, why);
	destroy_proposals(g, found);
	return e;
}

// NULL when cuDNN does not know such a graph; it belongs to g.
static mp_descriptor whole_graph(struct mp_dnn_graph *g, char *why)
{
	mp_descriptor whole = mp_dnn_create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);

	mp_dnn_set(g, whole, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->operation_count, g->operations);
	cudnnStatus_t status = cudnnBackendFinalize(whole);
	if (status != CUDNN_STATUS_SUCCESS)
		explain(why, MP_DNN_TEXT, status);
	return status == CUDNN_STATUS_SUCCESS ? whole : NULL;
}

// NULL when this mode knows nothing; it belongs to g.
static mp_descriptor heuristics_of(const struct mp_dnn *dnn, struct mp_dnn_graph *g, mp_descriptor whole, cudnnBackendHeurMode_t mode, char *why)
{
	mp_descriptor heuristics = mp_dnn_create(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);

	mp_dnn_set_part(g, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, whole);
	mp_dnn_set(g, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
	mp_dnn_set_part(g, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, dnn->device);
	cudnnStatus_t status = cudnnBackendFinalize(heuristics);
	if (status != CUDNN_STATUS_SUCCESS)
		explain(why, MP_DNN_TEXT, status);
	return status == CUDNN_STATUS_SUCCESS ? heuristics : NULL;
}

struct mp_dnn_engine mp_dnn_plan(const struct mp_dnn *dnn, struct mp_dnn_graph *g, size_t workspace, char *why)
{
	static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK};
	struct mp_dnn_engine e = {0};
	mp_descriptor whole = whole_graph(g, why);

	for (size_t i = 0; i < sizeof modes / sizeof *modes && whole && !e.plan; i++) {
		mp_descriptor heuristics = heuristics_of(dnn, g, whole, modes[i], why); // another mode may know the operation
		if (heuristics)
			e = ask(g, heuristics, workspace, why);
	}
	return e;
}

// One plan that is made beside others.
struct candidate {
	const struct mp_dnn_graph *g;
	mp_descriptor configuration;
	size_t workspace;
	int device;
	pthread_t thread;
	bool started;
	struct mp_dnn_engine engine;
};

static void *make_candidate(void *argument)
{
	struct candidate *c = argument;
	char why[MP_DNN_TEXT];

	CUDA(cudaSetDevice(c->device));
	c->engine = make_plan(c->g, c->configuration, c->workspace, why);
	return NULL;
}

// A plan is compiled while it is made, for about 0.3 s: each has a thread.
static void make_candidates(struct candidate *candidates, int count)
{
	for (int i = 0; i < count; i++)
		candidates[i].started = candidates[i].g && !pthread_create(&candidates[i].thread, NULL, make_candidate, &candidates[i]);
	for (int i = 0; i < count; i++) {
		if (candidates[i].started)
			pthread_join(candidates[i].thread, NULL);
		else if (candidates[i].g)
			make_candidate(&candidates[i]);
	}
}

int mp_dnn_candidates(const struct mp_dnn *dnn, struct mp_dnn_graph *g, size_t workspace, int only, int most, struct mp_dnn_engine *found)
{
	char why[MP_DNN_TEXT];
	struct candidate candidates[MOST] = {{0}};
	mp_descriptor proposals[MOST], whole = whole_graph(g, why), heuristics = whole ? heuristics_of(dnn, g, whole, CUDNN_HEUR_MODE_A, why) : NULL;
	int count = 0, device;

	if (!heuristics)
		return 0;
	CUDA(cudaGetDevice(&device));
	int proposed = propose(g, heuristics, proposals);
	for (int i = 0; i < proposed && count < most; i++) {
		if (!may_use(g, proposals[i]))
			continue;
		if (only < 0 || count == only)
			candidates[count] = (struct candidate){.g = g, .configuration = proposals[i], .workspace = workspace, .device = device};
		count++;
	}
	make_candidates(candidates, count);
	for (int i = 0; i < count; i++)
		found[i] = candidates[i].engine;
	destroy_proposals(g, proposals);
	return count;
}

void mp_dnn_forget(const struct mp_dnn_subject *of, struct mp_dnn_engine *e)
{
	if (e->plan)
		DNN(of, cudnnBackendDestroyDescriptor(e->plan));
	e->plan = NULL;
}

// ---------------------------------------------------------------------------------------------------------

void mp_dnn_open(struct mp_dnn *dnn, const struct mp_dnn_subject *first, cudaStream_t stream)
{
	int device;
	int32_t number;

	CUDA(cudaGetDevice(&device));
	number = device;
	DNN(first, cudnnCreate(&dnn->library));
	DNN(first, cudnnSetStream(dnn->library, stream));
	dnn->stream = stream;
	DNN(first, cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &dnn->device));
	DNN(first, cudnnBackendSetAttribute(dnn->device, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &number));
	DNN(first, cudnnBackendFinalize(dnn->device));
}

void mp_dnn_close(struct mp_dnn *dnn, const struct mp_dnn_subject *first)
{
	DNN(first, cudnnBackendDestroyDescriptor(dnn->device));
	DNN(first, cudnnDestroy(dnn->library));
}

void mp_dnn_execute(struct mp_dnn *dnn, const struct mp_dnn_subject *of, const struct mp_dnn_engine *e, int64_t count, const int64_t *ids,
                    const void *const *addresses, void *workspace, cudaStream_t stream)
{
	struct mp_dnn_graph g = {.of = *of};
	mp_descriptor pack = mp_dnn_create(&g, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);

	if (stream != dnn->stream)
		DNN(of, cudnnSetStream(dnn->library, stream));
	dnn->stream = stream;
	mp_dnn_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
	mp_dnn_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, addresses);
	mp_dnn_set(&g, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
	mp_dnn_finish(&g, pack);
	DNN(of, cudnnBackendExecute(dnn->library, e->plan, pack));
	mp_dnn_destroy(&g);
}
