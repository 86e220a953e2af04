// What cuDNN has for the convolutions of f32 models: time, workspace and notes of its engines, so that the rule by which
// runtime/cuda/conv.c chooses one can be judged. Needs a GPU and cuDNN 9.8 or later, and nothing of mpgen.
//   cc -std=c11 -O2 -Wall -Wextra tests/bench/conv_engines.c -I/usr/local/cuda/include -L/usr/local/cuda/lib64
//      -Wl,-rpath,/usr/local/cuda/lib64 -lcudnn -lcudart -o conv_engines        (tests/bench/build.sh does that)
//   ./conv_engines [-t SECONDS] [-m WORD] [-d FILE] | tee table.txt
// -t ends it (85 unless given); cases that do not fit in are counted. -m keeps the cases whose line contains WORD, such as
// convnet or "nhwc f32 wgrad". -d FILE lists every engine that was timed, in the order of the heuristics.
//
// One line is one case; b0 and b1 say beta. Every time is in ms, the median of ten runs between two events (three, for what
// is much slower than the best so far). With beta 1 the first six engines are timed, else all that fit into a second.
// Engines are those of heuristics mode A, then B, then FALLBACK, that are deterministic and, for f32, use no tensor cores
// and convert nothing down:
//   1st<32M, 1st<256M   the first of them whose workspace is not larger: what a rule without timing takes
//   <32M, <256M         the fastest one whose workspace is not larger
//   best                the fastest of all, with the MiB of its workspace, its engine's number and how many were timed
//   nondet              the fastest nondeterministic engine, where that beats it
//   legacy              cudnnConvolutionForward and its sisters, by the v7 heuristic within 256 MiB; * nondeterministic
// A descriptor that fails skips its case and says why.
#define _POSIX_C_SOURCE 200809L
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef cudnnBackendDescriptor_t Descriptor;

enum { RUNS = 10, LISTED = 6, MOST_CANDIDATES = 96, MOST_RESULTS = 64, MOST_KNOBS = 64 };
enum kind { FORWARD, INPUT_GRAD, WEIGHT_GRAD, KINDS };
static const char *const kind_name[KINDS] = {"fwd", "dgrad", "wgrad"};
static const size_t mebibyte = 1 << 20;
static const double case_seconds = 1;   // for the engines after the first six

struct shape {
	const char *name;
	int n, c, h, w, k, r, s, stride, padding;
};

static const struct shape shapes[] = {
	{"convnet 16x3->128 224 k3", 16, 3, 224, 224, 128, 3, 3, 1, 1},
	{"convnet 16x128->256 224 k3", 16, 128, 224, 224, 256, 3, 3, 1, 1},
	{"convnet 4x3->128 224 k3", 4, 3, 224, 224, 128, 3, 3, 1, 1},
	{"convnet 4x128->256 224 k3", 4, 128, 224, 224, 256, 3, 3, 1, 1},
	{"resnet50 32x64->64 56 k1", 32, 64, 56, 56, 64, 1, 1, 1, 0},
	{"resnet50 32x64->64 56 k3", 32, 64, 56, 56, 64, 3, 3, 1, 1},
	{"resnet50 32x256->128 56 k1 /2", 32, 256, 56, 56, 128, 1, 1, 2, 0},
	{"resnet50 32x256->128 56 k3 /2", 32, 256, 56, 56, 128, 3, 3, 2, 1},
	{"resnet18 64x64->64 28 k3", 64, 64, 28, 28, 64, 3, 3, 1, 1},
	{"resnet18 64x128->128 28 k3", 64, 128, 28, 28, 128, 3, 3, 1, 1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

struct job {
	const struct shape *shape;
	enum kind kind;
	bool channels_last, tf32;
	float beta;
	char name[64];
};

// Everything of this run. Results are written beside the operands, so that these keep their values.
struct machine {
	cudnnHandle_t handle;
	cudaStream_t stream;
	cudaEvent_t begin, end;
	Descriptor device;
	void *x, *w, *y, *result, *workspace;
	size_t workspace_bytes;
	FILE *details;
	double ends;                    // by seconds()
	bool dead;                      // the device reported an error that stays
};

// One engine configuration.
struct candidate {
	Descriptor config;
	char mode;
	long engine;
	char knobs[240];
	bool tensor_core, down_converts, nondeterministic, compiles;
	bool timed;
	double ms;
	size_t workspace;
	char problem[120];
};

// Descriptors under construction. After the first failure, which problem describes, all further calls do nothing.
struct build {
	Descriptor all[16];
	int count;
	char problem[200];
};

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---------------------------------------------------------------------------------------------------------
// Descriptors

static void explain(char *text, size_t size, const char *what, cudnnStatus_t status)
{
	char message[1024] = "";
	cudnnGetLastErrorString(message, sizeof message - 1);
	snprintf(text, size, "%s: %s %s", what, cudnnGetErrorString(status), message);
	for (char *c = text; *c; c++)
		if (*c == '\n')
			*c = ' ';
}

static void step(struct build *b, const char *what, cudnnStatus_t status)
{
	if (status != CUDNN_STATUS_SUCCESS && !*b->problem)
		explain(b->problem, sizeof b->problem, what, status);
}

static Descriptor create(struct build *b, cudnnBackendDescriptorType_t type)
{
	Descriptor d = NULL;
	if (*b->problem || b->count == (int)(sizeof b->all / sizeof *b->all))
		return NULL;
	step(b, "create", cudnnBackendCreateDescriptor(type, &d));
	if (d)
		b->all[b->count++] = d;
	return d;
}

static void set(struct build *b, Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *value)
{
	char what[32];
	snprintf(what, sizeof what, "attribute %d", (int)name);
	if (!*b->problem)
		step(b, what, cudnnBackendSetAttribute(d, name, type, count, value));
}

static void finalize(struct build *b, const char *what, Descriptor d)
{
	if (!*b->problem)
		step(b, what, cudnnBackendFinalize(d));
}

static void destroy(struct build *b)
{
	while (b->count > 0)
		cudnnBackendDestroyDescriptor(b->all[--b->count]);
}

// dims: n, c, h, w of an image or k, c, r, s of a filter.
static Descriptor describe_tensor(struct build *b, int64_t id, const int64_t dims[4], bool channels_last)
{
	int64_t plane = dims[2] * dims[3], alignment = 16;
	int64_t last[4] = {plane * dims[1], 1, dims[3] * dims[1], dims[1]};
	int64_t first[4] = {plane * dims[1], plane, dims[3], 1};
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	Descriptor d = create(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);

	set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
	set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
	set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, channels_last ? last : first);
	set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
	set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
	finalize(b, "tensor", d);
	return d;
}

static Descriptor describe_convolution(struct build *b, const struct shape *s)
{
	int64_t dims = 2, stride[2] = {s->stride, s->stride}, padding[2] = {s->padding, s->padding}, dilation[2] = {1, 1};
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
	Descriptor d = create(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);

	set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
	set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
	set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
	set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
	set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
	set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
	set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
	finalize(b, "convolution", d);
	return d;
}

static int output_extent(int extent, int window, const struct shape *s)
{
	return (extent + 2 * s->padding - window) / s->stride + 1;
}

static Descriptor describe_graph(struct build *b, const struct job *job)
{
	static const struct {
		cudnnBackendDescriptorType_t type;
		cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
	} attributes[KINDS] = {
		[FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
			CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
			CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
			CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
		[INPUT_GRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
		[WEIGHT_GRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
			CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
	};
	const struct shape *s = job->shape;
	int64_t xs[4] = {s->n, s->c, s->h, s->w}, ws[4] = {s->k, s->c, s->r, s->s};
	int64_t ys[4] = {s->n, s->k, output_extent(s->h, s->r, s), output_extent(s->w, s->s, s)};
	const float alpha = 1;
	Descriptor x = describe_tensor(b, 'x', xs, job->channels_last), w = describe_tensor(b, 'w', ws, job->channels_last);
	Descriptor y = describe_tensor(b, 'y', ys, job->channels_last), convolution = describe_convolution(b, s);
	Descriptor operation = create(b, attributes[job->kind].type);

	set(b, operation, attributes[job->kind].x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
	set(b, operation, attributes[job->kind].w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w);
	set(b, operation, attributes[job->kind].y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
	set(b, operation, attributes[job->kind].convolution, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &convolution);
	set(b, operation, attributes[job->kind].alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
	set(b, operation, attributes[job->kind].beta, CUDNN_TYPE_FLOAT, 1, &job->beta);
	finalize(b, "operation", operation);
	Descriptor graph = create(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
	set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &operation);
	finalize(b, "graph", graph);
	return graph;
}

// ---------------------------------------------------------------------------------------------------------
// Candidates

static void read_knobs(struct candidate *c)
{
	Descriptor knobs[MOST_KNOBS] = {0};
	int64_t count = 0, got;
	size_t length = 0;

	for (int i = 0; i < MOST_KNOBS; i++)
		if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i]) != CUDNN_STATUS_SUCCESS)
			knobs[i] = NULL;
	if (cudnnBackendGetAttribute(c->config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_KNOBS,
	                             &count, knobs) != CUDNN_STATUS_SUCCESS)
		count = 0;
	for (int64_t i = 0; i < count && i < MOST_KNOBS && length < sizeof c->knobs; i++) {
		cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)0;
		int64_t value = 0;
		cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &got, &type);
		cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &got, &value);
		length += (size_t)snprintf(c->knobs + length, sizeof c->knobs - length, " k%d=%lld", (int)type, (long long)value);
	}
	for (int i = 0; i < MOST_KNOBS; i++)
		if (knobs[i])
			cudnnBackendDestroyDescriptor(knobs[i]);
}

static void read_engine(struct candidate *c)
{
	cudnnBackendNumericalNote_t numbers[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
	cudnnBackendBehaviorNote_t behaviors[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
	Descriptor engine = NULL;
	int64_t count = 0, index = -1;

	if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS)
		return;
	cudnnBackendGetAttribute(c->config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine);
	cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count, &index);
	c->engine = (long)index;
	if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
	                             CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, numbers) != CUDNN_STATUS_SUCCESS)
		count = 0;
	for (int64_t i = 0; i < count && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
		c->tensor_core |= numbers[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
		c->down_converts |= numbers[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
		c->nondeterministic |= numbers[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
	}
	if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
	                             CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count, behaviors) != CUDNN_STATUS_SUCCESS)
		count = 0;
	for (int64_t i = 0; i < count && i < CUDNN_BEHAVIOR_NOTE_TYPE_COUNT; i++)
		c->compiles |= behaviors[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
	cudnnBackendDestroyDescriptor(engine);
}

static bool is_known(const struct candidate *list, int count, const struct candidate *c)
{
	for (int i = 0; i < count; i++)
		if (list[i].engine == c->engine && !strcmp(list[i].knobs, c->knobs))
			return true;
	return false;
}

// Appends what one mode of the heuristics proposes and is not in the list yet; returns the new length.
static int ask_heuristics(const struct machine *m, Descriptor graph, cudnnBackendHeurMode_t mode, char letter,
                          struct candidate *list, int count)
{
	struct build b = {0};
	Descriptor heuristics = create(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), results[MOST_RESULTS] = {0};
	int64_t got = 0;

	set(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
	set(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
	set(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &m->device);
	finalize(&b, "heuristics", heuristics);
	for (int i = 0; i < MOST_RESULTS && !*b.problem; i++)
		step(&b, "create", cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &results[i]));
	if (!*b.problem)
		step(&b, "results", cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
		                                             CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_RESULTS, &got, results));
	if (*b.problem && m->details)
		fprintf(m->details, "    mode %c: %s\n", letter, b.problem);
	for (int i = 0; i < MOST_RESULTS && results[i]; i++) {
		struct candidate c = {.config = results[i], .mode = letter, .engine = -1};
		if (!*b.problem && i < got && count < MOST_CANDIDATES) {
			read_engine(&c);
			read_knobs(&c);
			if (!is_known(list, count, &c)) {
				list[count++] = c;
				continue;
			}
		}
		cudnnBackendDestroyDescriptor(results[i]);
	}
	destroy(&b);
	return count;
}

// ---------------------------------------------------------------------------------------------------------
// Timing

// What is timed: a plan, or a call of the older interface.
struct action {
	Descriptor plan, pack;
	const struct legacy *legacy;
};

static cudnnStatus_t run_legacy(const struct machine *m, const struct legacy *legacy);

static cudnnStatus_t run_action(const struct machine *m, const struct action *a)
{
	return a->legacy ? run_legacy(m, a->legacy) : cudnnBackendExecute(m->handle, a->plan, a->pack);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double time_once(struct machine *m, const struct action *a, cudnnStatus_t *status)
{
	float ms = 0;
	cudaEventRecord(m->begin, m->stream);
	*status = run_action(m, a);
	cudaEventRecord(m->end, m->stream);
	if (cudaEventSynchronize(m->end) != cudaSuccess || cudaEventElapsedTime(&ms, m->begin, m->end) != cudaSuccess)
		m->dead = true;
	return (double)ms;
}

// Median of RUNS, after one that loads the kernel and one that tells how long it takes. What is clearly slower than `best`
// is not worth as many, and what takes long gets fewer. Returns whether it ran; else problem says why not.
static bool time_action(struct machine *m, const struct action *a, double best, double *ms, char *problem, size_t size)
{
	double times[RUNS], first;
	cudnnStatus_t status;
	int runs = RUNS;

	first = time_once(m, a, &status);
	if (status != CUDNN_STATUS_SUCCESS) {
		explain(problem, size, "execute", status);
		return false;
	}
	if (first > 8 * best && first > 60)
		runs = 1;
	times[0] = runs > 1 && !m->dead ? time_once(m, a, &status) : first;
	if (runs > 1)
		runs = times[0] > 3 * best ? 1 : times[0] > 1.3 * best || times[0] > 30 ? 3 : RUNS;
	for (int i = 1; i < runs && !m->dead; i++)
		times[i] = time_once(m, a, &status);
	if (m->dead) {
		snprintf(problem, size, "the device failed: %s", cudaGetErrorString(cudaGetLastError()));
		return false;
	}
	qsort(times, (size_t)runs, sizeof *times, compare_doubles);
	*ms = times[runs / 2];
	return true;
}

static Descriptor make_pack(struct build *b, const struct machine *m, enum kind kind)
{
	int64_t ids[3] = {'x', 'w', 'y'};
	void *pointers[3] = {kind == INPUT_GRAD ? m->result : m->x, kind == WEIGHT_GRAD ? m->result : m->w,
	                     kind == FORWARD ? m->result : m->y};
	Descriptor pack = create(b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);

	set(b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, ids);
	set(b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers);
	set(b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &m->workspace);
	finalize(b, "variant pack", pack);
	return pack;
}

static void time_candidate(struct machine *m, enum kind kind, struct candidate *c, double best)
{
	struct build b = {0};
	Descriptor plan = create(&b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
	int64_t count, workspace = 0;

	set(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &c->config);
	finalize(&b, "plan", plan);
	if (!*b.problem)
		step(&b, "workspace", cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
		                                               1, &count, &workspace));
	c->workspace = (size_t)workspace;
	if (!*b.problem && c->workspace > m->workspace_bytes)
		snprintf(b.problem, sizeof b.problem, "needs more workspace than there is");
	Descriptor pack = make_pack(&b, m, kind);
	struct action action = {plan, pack, NULL};
	if (!*b.problem)
		c->timed = time_action(m, &action, best, &c->ms, b.problem, sizeof b.problem);
	snprintf(c->problem, sizeof c->problem, "%.*s", (int)sizeof c->problem - 1, b.problem);
	destroy(&b);
}

// ---------------------------------------------------------------------------------------------------------
// The older interface

struct legacy {
	cudnnTensorDescriptor_t x, y;
	cudnnFilterDescriptor_t w;
	cudnnConvolutionDescriptor_t convolution;
	enum kind kind;
	float beta;
	int algorithm;
	size_t workspace;
	bool deterministic;
};

static cudnnStatus_t run_legacy(const struct machine *m, const struct legacy *l)
{
	const float one = 1;
	switch (l->kind) {
	case FORWARD:
		return cudnnConvolutionForward(m->handle, &one, l->x, m->x, l->w, m->w, l->convolution,
		                               (cudnnConvolutionFwdAlgo_t)l->algorithm, m->workspace, l->workspace, &l->beta, l->y,
		                               m->result);
	case INPUT_GRAD:
		return cudnnConvolutionBackwardData(m->handle, &one, l->w, m->w, l->y, m->y, l->convolution,
		                                    (cudnnConvolutionBwdDataAlgo_t)l->algorithm, m->workspace, l->workspace,
		                                    &l->beta, l->x, m->result);
	default:
		return cudnnConvolutionBackwardFilter(m->handle, &one, l->x, m->x, l->y, m->y, l->convolution,
		                                      (cudnnConvolutionBwdFilterAlgo_t)l->algorithm, m->workspace, l->workspace,
		                                      &l->beta, l->w, m->result);
	}
}

// The three structures of results differ in the type of one member.
#define TAKE_FIRST(results) \
	for (int i = 0; i < count && !found; i++) \
		if (results[i].status == CUDNN_STATUS_SUCCESS && results[i].memory <= limit && \
		    (tf32 || results[i].mathType == CUDNN_FMA_MATH || results[i].mathType == CUDNN_DEFAULT_MATH)) { \
			l->algorithm = (int)results[i].algo; \
			l->workspace = results[i].memory; \
			l->deterministic = results[i].determinism == CUDNN_DETERMINISTIC; \
			found = true; \
		}

static bool choose_legacy(const struct machine *m, struct legacy *l, bool tf32)
{
	cudnnConvolutionFwdAlgoPerf_t forward[16];
	cudnnConvolutionBwdDataAlgoPerf_t input[16];
	cudnnConvolutionBwdFilterAlgoPerf_t weight[16];
	const size_t limit = 256 * mebibyte;
	bool found = false;
	int count = 0;

	if (l->kind == FORWARD) {
		if (cudnnGetConvolutionForwardAlgorithm_v7(m->handle, l->x, l->w, l->convolution, l->y, 16, &count, forward) ==
		    CUDNN_STATUS_SUCCESS)
			TAKE_FIRST(forward)
	} else if (l->kind == INPUT_GRAD) {
		if (cudnnGetConvolutionBackwardDataAlgorithm_v7(m->handle, l->w, l->y, l->convolution, l->x, 16, &count, input) ==
		    CUDNN_STATUS_SUCCESS)
			TAKE_FIRST(input)
	} else {
		if (cudnnGetConvolutionBackwardFilterAlgorithm_v7(m->handle, l->x, l->y, l->convolution, l->w, 16, &count, weight) ==
		    CUDNN_STATUS_SUCCESS)
			TAKE_FIRST(weight)
	}
	return found;
}

static bool describe_legacy(struct legacy *l, const struct job *job)
{
	const struct shape *s = job->shape;
	cudnnTensorFormat_t format = job->channels_last ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW;
	cudnnMathType_t math = job->tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;

	return cudnnCreateTensorDescriptor(&l->x) == CUDNN_STATUS_SUCCESS &&
	       cudnnCreateTensorDescriptor(&l->y) == CUDNN_STATUS_SUCCESS &&
	       cudnnCreateFilterDescriptor(&l->w) == CUDNN_STATUS_SUCCESS &&
	       cudnnCreateConvolutionDescriptor(&l->convolution) == CUDNN_STATUS_SUCCESS &&
	       cudnnSetTensor4dDescriptor(l->x, format, CUDNN_DATA_FLOAT, s->n, s->c, s->h, s->w) == CUDNN_STATUS_SUCCESS &&
	       cudnnSetTensor4dDescriptor(l->y, format, CUDNN_DATA_FLOAT, s->n, s->k, output_extent(s->h, s->r, s),
	                                  output_extent(s->w, s->s, s)) == CUDNN_STATUS_SUCCESS &&
	       cudnnSetFilter4dDescriptor(l->w, CUDNN_DATA_FLOAT, format, s->k, s->c, s->r, s->s) == CUDNN_STATUS_SUCCESS &&
	       cudnnSetConvolution2dDescriptor(l->convolution, s->padding, s->padding, s->stride, s->stride, 1, 1,
	                                       CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT) == CUDNN_STATUS_SUCCESS &&
	       cudnnSetConvolutionMathType(l->convolution, math) == CUDNN_STATUS_SUCCESS;
}

// Writes the legacy column.
static void time_legacy(struct machine *m, const struct job *job, char *text, size_t size)
{
	struct legacy l = {.kind = job->kind, .beta = job->beta};
	struct action action = {.legacy = &l};
	char problem[120] = "";
	double ms = 0;

	snprintf(text, size, "-");
	if (describe_legacy(&l, job) && choose_legacy(m, &l, job->tf32) && l.workspace <= m->workspace_bytes &&
	    time_action(m, &action, 1e9, &ms, problem, sizeof problem))
		snprintf(text, size, "%.3f a%d%s", ms, l.algorithm, l.deterministic ? "" : "*");
	if (*problem && m->details)
		fprintf(m->details, "    legacy: %s\n", problem);
	cudnnDestroyTensorDescriptor(l.x); // NULL where it was not made
	cudnnDestroyTensorDescriptor(l.y);
	cudnnDestroyFilterDescriptor(l.w);
	cudnnDestroyConvolutionDescriptor(l.convolution);
}

// ---------------------------------------------------------------------------------------------------------
// Cases

static bool allowed(const struct job *job, const struct candidate *c)
{
	return job->tf32 || (!c->tensor_core && !c->down_converts);
}

// The first, or else the fastest, deterministic candidate within a workspace.
static const struct candidate *pick(const struct candidate *list, int count, size_t workspace, bool fastest)
{
	const struct candidate *best = NULL;
	for (int i = 0; i < count; i++) {
		const struct candidate *c = &list[i];
		if (!c->timed || c->nondeterministic || c->workspace > workspace)
			continue;
		if (!best || (fastest && c->ms < best->ms))
			best = c;
	}
	return best;
}

static void print_time(const struct candidate *c)
{
	if (c)
		printf(" %8.3f", c->ms);
	else
		printf("        -");
}

static void print_case(const struct job *job, const struct candidate *list, int count, const char *legacy)
{
	const struct candidate *best = pick(list, count, SIZE_MAX, true), *quick = NULL;
	char text[64] = "-";
	int timed = 0;

	for (int i = 0; i < count; i++) {
		const struct candidate *c = &list[i];
		timed += c->timed;
		if (c->timed && c->nondeterministic && (!quick || c->ms < quick->ms))
			quick = c;
	}
	printf("%-50s", job->name);
	print_time(pick(list, count, 32 * mebibyte, false));
	print_time(pick(list, count, 256 * mebibyte, false));
	print_time(pick(list, count, 32 * mebibyte, true));
	print_time(pick(list, count, 256 * mebibyte, true));
	if (best)
		snprintf(text, sizeof text, "%.3f %.0fM e%ld /%d", best->ms, (double)best->workspace / (double)mebibyte, best->engine,
		         timed);
	printf("  %-23s", text);
	print_time(quick && (!best || quick->ms < best->ms) ? quick : NULL);
	printf("  %s\n", legacy);
	fflush(stdout);
}

static void list_candidates(FILE *file, const struct job *job, const struct candidate *list, int count)
{
	for (int i = 0; i < count; i++) {
		const struct candidate *c = &list[i];
		char time[32] = "-", workspace[32] = "-";
		if (c->timed)
			snprintf(time, sizeof time, "%.3f", c->ms);
		if (c->timed || c->workspace)
			snprintf(workspace, sizeof workspace, "%.1f", (double)c->workspace / (double)mebibyte);
		fprintf(file, "    %c %9s ms %8s MiB %s%s%s%s engine %ld%s%s%s\n", c->mode, time, workspace,
		        c->tensor_core ? "T" : "-", c->down_converts ? "D" : "-", c->nondeterministic ? "N" : "-",
		        c->compiles ? "C" : "-", c->engine, c->knobs, *c->problem ? "  " : "",
		        allowed(job, c) ? c->problem : "(tensor cores)");
	}
	fflush(file);
}

// Times the candidates in the order of the heuristics: the first LISTED that are allowed whatever they take, the others
// while there is time.
static void time_candidates(struct machine *m, const struct job *job, struct candidate *list, int count)
{
	double ends = seconds() + case_seconds, best = 1e9;
	int done = 0;

	for (int i = 0; i < count && !m->dead; i++) {
		if (!allowed(job, &list[i]))
			continue;
		if (done++ >= LISTED && (seconds() > ends || job->beta != 0))
			break;
		if (seconds() > m->ends)
			break;
		time_candidate(m, job->kind, &list[i], best);
		if (list[i].timed && !list[i].nondeterministic && list[i].ms < best)
			best = list[i].ms;
	}
}

static void run_case(struct machine *m, const struct job *job)
{
	static struct candidate list[MOST_CANDIDATES];
	struct build b = {0};
	char legacy[64];
	int count = 0;

	if (m->details)
		fprintf(m->details, "%s\n", job->name);
	Descriptor graph = describe_graph(&b, job);
	if (*b.problem) {
		printf("%-50s  skipped: %s\n", job->name, b.problem);
	} else {
		count = ask_heuristics(m, graph, CUDNN_HEUR_MODE_A, 'A', list, count);
		count = ask_heuristics(m, graph, CUDNN_HEUR_MODE_B, 'B', list, count);
		count = ask_heuristics(m, graph, CUDNN_HEUR_MODE_FALLBACK, 'F', list, count);
		time_candidates(m, job, list, count);
		if (m->dead)
			snprintf(legacy, sizeof legacy, "-");
		else
			time_legacy(m, job, legacy, sizeof legacy);
		print_case(job, list, count, legacy);
	}
	if (m->details)
		list_candidates(m->details, job, list, count);
	for (int i = 0; i < count; i++)
		cudnnBackendDestroyDescriptor(list[i].config);
	destroy(&b);
}

// ---------------------------------------------------------------------------------------------------------
// The device

#define CUDA(call) do { cudaError_t e_ = (call); if (e_ != cudaSuccess) { \
	fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(e_)); exit(1); } } while (0)
#define CUDNN(call) do { cudnnStatus_t s_ = (call); if (s_ != CUDNN_STATUS_SUCCESS) { char t_[400]; \
	explain(t_, sizeof t_, #call, s_); fprintf(stderr, "%s\n", t_); exit(1); } } while (0)

// Values in [-1, 1): zeros would be faster than a model's values are.
static void *filled(size_t bytes)
{
	enum { BLOCK = 1 << 22 };
	static float values[BLOCK];
	static bool ready;
	char *memory;
	uint32_t seed = 1;

	for (size_t i = 0; i < BLOCK && !ready; i++) {
		seed = seed * 1664525 + 1013904223;
		values[i] = (float)(seed >> 8) / (1 << 23) - 1;
	}
	ready = true;
	CUDA(cudaMalloc((void **)&memory, bytes));
	for (size_t at = 0; at < bytes; at += sizeof values)
		CUDA(cudaMemcpy(memory + at, values, bytes - at < sizeof values ? bytes - at : sizeof values, cudaMemcpyHostToDevice));
	return memory;
}

static void allocate(struct machine *m)
{
	size_t x = 0, w = 0, y = 0, gibibyte = 1024 * mebibyte;
	for (int i = 0; i < SHAPES; i++) {
		const struct shape *s = &shapes[i];
		size_t xs = sizeof(float) * (size_t)s->n * (size_t)s->c * (size_t)s->h * (size_t)s->w;
		size_t ws = sizeof(float) * (size_t)s->k * (size_t)s->c * (size_t)s->r * (size_t)s->s;
		size_t ys = sizeof(float) * (size_t)s->n * (size_t)s->k * (size_t)output_extent(s->h, s->r, s) *
		            (size_t)output_extent(s->w, s->s, s);
		x = xs > x ? xs : x;
		w = ws > w ? ws : w;
		y = ys > y ? ys : y;
	}
	m->x = filled(x);
	m->w = filled(w);
	m->y = filled(y);
	m->result = filled(x > y ? x : y);
	for (m->workspace_bytes = 16 * gibibyte; m->workspace_bytes >= gibibyte / 4; m->workspace_bytes /= 2) {
		if (cudaMalloc(&m->workspace, m->workspace_bytes) == cudaSuccess)
			return;
		cudaGetLastError(); // forgets it
	}
	fprintf(stderr, "there is no room for a workspace of 256 MiB\n");
	exit(1);
}

static void open_machine(struct machine *m)
{
	struct cudaDeviceProp properties;
	struct build b = {0};
	int32_t number = 0;

	CUDA(cudaSetDevice(0));
	CUDA(cudaGetDeviceProperties(&properties, 0));
	CUDA(cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking));
	CUDA(cudaEventCreate(&m->begin));
	CUDA(cudaEventCreate(&m->end));
	CUDNN(cudnnCreate(&m->handle));
	CUDNN(cudnnSetStream(m->handle, m->stream));
	m->device = create(&b, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
	set(&b, m->device, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &number);
	finalize(&b, "device", m->device);
	if (*b.problem) {
		fprintf(stderr, "%s\n", b.problem);
		exit(1);
	}
	allocate(m);
	CUDA(cudaDeviceSynchronize());
	printf("%s, cuDNN %zu (built against %d)\n", properties.name, cudnnGetVersion(), CUDNN_VERSION);
	if (m->details)
		fprintf(m->details, "mode, ms, workspace, notes (T tensor core, D converts inputs down, N nondeterministic, C compiled at run "
		        "time), engine and knobs\n");
}

// All cases, the ones that matter most first: channels-last, then accumulation, then NCHW for comparison.
static int run_cases(struct machine *m, const char *word)
{
	int left = 0;
	for (int pass = 0; pass < 4; pass++)
		for (int i = 0; i < SHAPES; i++)
			for (int tf32 = 0; tf32 < 2; tf32++)
				for (int kind = 0; kind < KINDS; kind++) {
					struct job job = {&shapes[i], (enum kind)kind, pass < 2, tf32, (float)(pass % 2), ""};
					snprintf(job.name, sizeof job.name, "%s %s %s %s b%d", job.shape->name, job.channels_last ? "nhwc" : "nchw",
					         tf32 ? "tf32" : "f32", kind_name[kind], pass % 2);
					if (word && !strstr(job.name, word))
						continue;
					if (m->dead || seconds() > m->ends)
						left++;
					else
						run_case(m, &job);
				}
	return left;
}

int main(int argc, char **argv)
{
	static struct machine machine;
	const char *word = NULL, *details = NULL;
	double limit = 85, begin = seconds();

	for (int option; (option = getopt(argc, argv, "t:m:d:")) != -1;) {
		if (option == '?')
			return 2;
		if (option == 't')
			limit = atof(optarg);
		else if (option == 'm')
			word = optarg;
		else
			details = optarg;
	}
	if (details && !(machine.details = fopen(details, "w"))) {
		perror(details);
		return 1;
	}
	machine.ends = begin + limit;
	open_machine(&machine);
	printf("%-50s %8s %8s %8s %8s  %-23s %8s  %s\n", "", "1st<32M", "1st<256M", "<32M", "<256M", "best", "nondet", "legacy");
	int left = run_cases(&machine, word);
	printf("%.0f seconds", seconds() - begin);
	if (left)
		printf("; %d cases left out: %s", left, machine.dead ? "the device failed" : "out of time; -t gives more, -m fewer cases");
	printf("\n");
	if (machine.details)
		fclose(machine.details);
	return machine.dead;
}
