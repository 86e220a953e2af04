// mp_conv on a GPU against loops (tests/host/conv_cases.h): all kinds, f32 and TF32, bias, accumulation; a second run, and a
// run within a CUDA graph, give the same bits; f32 made of parts is about as exact as f32. Then everything once more with a cuDNN that never adds a bias or
// accumulates by itself, so that what the runtime does then is seen too. tests/gpu/run builds and runs it:
//   nvcc -arch=sm_90 -O2 -Iruntime -c runtime/cuda/conv_parts.cu -o conv_parts.o
//   cc -std=c11 -O2 -Iruntime -Itests/host -I$cuda/include tests/gpu/conv_test.c runtime/cuda/{conv,conv_split,dnn}.c conv_parts.o
//      -o conv_test -Wl,--wrap=cudnnBackendSetAttribute,--wrap=cudnnBackendGetAttribute -L$cuda/lib64 -lcudnn -lcudart -lstdc++ -lm
#include <cudnn.h>
#include <stdio.h>

#include "../runtime/alone.h"

#define CHECK(condition, ...) do { if (!(condition)) { \
	fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
	fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); exit(1); } } while (0)
#include "conv_cases.h"

enum { OPERANDS = 4 << 20, WORKSPACE = 48 << 20, MOST = CONV_SHAPES * 14 };

// ---------------------------------------------------------------------------------------------------------
// A cuDNN that can do less (the linker's --wrap sends the calls of dnn.c here)

static struct {
	bool on;        // has no engine for two operations, nor for beta = 1
	bool beta;      // the operation described last has it
	bool refused;   // the graph described last is such a one
	int times;      // refused so far
} less;

cudnnStatus_t __real_cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count, const void *value);
cudnnStatus_t __real_cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *value);
cudnnStatus_t __wrap_cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count, const void *value);
cudnnStatus_t __wrap_cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *value);

cudnnStatus_t __wrap_cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count, const void *value)
{
	if (name == CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA)
		less.beta = *(const float *)value != 0;
	if (name == CUDNN_ATTR_OPERATIONGRAPH_OPS) {
		less.refused = less.on && (count > 1 || less.beta);
		less.times += less.refused;
		less.beta = false;
	}
	return __real_cudnnBackendSetAttribute(d, name, type, count, value);
}

cudnnStatus_t __wrap_cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *value)
{
	if (name != CUDNN_ATTR_ENGINEHEUR_RESULTS || !less.refused)
		return __real_cudnnBackendGetAttribute(d, name, type, room, count, value);
	*count = 0;
	return CUDNN_STATUS_SUCCESS;
}

// ---------------------------------------------------------------------------------------------------------

// A copy from pageable memory may return before it has arrived, and the compute stream does not wait for it.
static void to_device(char *to, const void *from, size_t count)
{
	CUDA(cudaMemcpy(to, from, count * sizeof(float), cudaMemcpyHostToDevice));
	CUDA(cudaDeviceSynchronize());
}

static void from_device(void *to, const char *from, size_t count)
{
	CUDA(cudaMemcpy(to, from, count * sizeof(float), cudaMemcpyDeviceToHost));
}

// Runs it as a graph that was captured from the compute stream.
static void run_captured(struct mp_rank *r, const struct mp_conv *v, char *const *at, bool accumulate)
{
	cudaGraph_t graph;
	cudaGraphExec_t runnable;
	CUDA(cudaStreamBeginCapture(r->compute, cudaStreamCaptureModeThreadLocal));
	mp_conv(r, v, at[0], at[1], v->bias ? at[2] : NULL, at[3], accumulate, r->compute);
	CUDA(cudaStreamEndCapture(r->compute, &graph));
	CUDA(cudaGraphInstantiate(&runnable, graph, 0));
	CUDA(cudaGraphLaunch(runnable, r->compute));
	CUDA(cudaStreamSynchronize(r->compute));
	CUDA(cudaGraphExecDestroy(runnable));
	CUDA(cudaGraphDestroy(graph));
}

static void check_conv(struct mp_rank *r, const struct mp_conv *v, bool accumulate)
{
	struct conv_counts count = count_conv(v);
	char *at[4] = {r->arena, r->arena + OPERANDS, r->arena + 2 * OPERANDS, r->arena + 3 * OPERANDS};
	void *a = random_values(MP_F32, count.a, 1), *b = random_values(MP_F32, count.b, 2);
	void *bias = random_values(MP_F32, (size_t)v->k, 3), *before = random_values(MP_F32, count.result, 4);
	void *first = malloc(count.result * sizeof(float)), *again = malloc(count.result * sizeof(float));

	CHECK(count.a <= OPERANDS / sizeof(float) && count.b <= OPERANDS / sizeof(float) && count.result <= OPERANDS / sizeof(float),
	      "the arena is too small");
	for (size_t i = 0; i < count.result && !accumulate; i++)
		put_value(before, MP_F32, i, NAN); // what was there must not matter
	to_device(at[0], a, count.a);
	to_device(at[1], b, count.b);
	to_device(at[2], bias, (size_t)v->k);
	for (int run = 0; run < 3; run++) {
		to_device(at[3], before, count.result);
		if (run < 2)
			mp_conv(r, v, at[0], at[1], v->bias ? at[2] : NULL, at[3], accumulate, r->compute);
		else
			run_captured(r, v, at, accumulate);
		CUDA(cudaStreamSynchronize(r->compute));
		from_device(run ? again : first, at[3], count.result);
		CHECK(!run || !memcmp(first, again, count.result * sizeof(float)), "kind %d, %dx%dx%dx%d -> %d, tf32 %d: %s gives other bits",
		      v->kind, v->n, v->h, v->w, v->c, v->k, v->tf32, run == 1 ? "a second run" : "a captured run");
	}
	check_conv_result(v, a, b, bias, before, accumulate, first, v->tf32 ? 2.5e-3 : 2e-6);
	free(a), free(b), free(bias), free(before), free(first), free(again);
}

// The f32 convolution on tensor cores, all samples at once and one by one, where it can be.
static int list_splits(struct mp_conv *convs, const struct mp_conv *v)
{
	bool forward = v->kind == MP_CONV_FORWARD, whole = (forward ? v->c : v->k) % MP_CONV_SLICE == 0 && v->c % 4 == 0 && v->k % 4 == 0;
	int count = 0;
	for (int all = 0; all < 2 && whole && v->groups == 1 && !v->tf32 && v->kind != MP_CONV_WEIGHT_GRAD; all++) {
		convs[count] = *v;
		convs[count++].slice = all ? v->n : 1;
	}
	return count;
}

static int list_convs(struct mp_conv *convs)
{
	int count = 0;
	for (int s = 0; s < CONV_SHAPES; s++)
		for (int tf32 = 0; tf32 < 2; tf32++)
			for (int i = 0; i < 4; i++) {
				convs[count] = conv_of(conv_shapes[s], i == 3 ? MP_CONV_FORWARD : (enum mp_conv_kind)i, MP_F32, tf32);
				convs[count++].bias = i == 3;
				count += list_splits(convs + count, &convs[count - 1]);
			}
	return count;
}

static void check_all(const char *name, const struct mp_conv *convs, int count)
{
	struct mp_program program = {.workspace_offset = 4 * OPERANDS, .workspace_bytes = WORKSPACE, .convs = convs,
	                             .conv_count = count, .arena_bytes = 4 * OPERANDS + WORKSPACE};
	struct mp_rank rank = {.program = &program};
	void *memory;

	CUDA(cudaMalloc(&memory, program.arena_bytes));
	rank.arena = memory;
	CUDA(cudaMemset(rank.arena, 0, program.arena_bytes));
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaStreamCreateWithFlags(&rank.compute, cudaStreamNonBlocking));
	mp_conv_prepare(&rank);
	CUDA(cudaStreamSynchronize(rank.compute));
	CUDA(cudaMemset(rank.arena + program.workspace_offset, 0xff, WORKSPACE)); // NaN: nothing is read before it is written
	for (int i = 0; i < count; i++) {
		check_conv(&rank, &convs[i], false);
		if (convs[i].kind == MP_CONV_WEIGHT_GRAD)
			check_conv(&rank, &convs[i], true);
	}
	mp_conv_release(&rank);
	CUDA(cudaStreamDestroy(rank.compute));
	CUDA(cudaFree(rank.arena));
	printf("ok %s: %d convolutions, cuDNN %zu\n", name, count, cudnnGetVersion());
	fflush(stdout);
}

// ||error|| / ||result|| of a convolution of the table.
static double error_of(struct mp_rank *r, const struct mp_conv *v, const void *a, const void *b, const double *value)
{
	struct conv_counts count = count_conv(v);
	char *at[3] = {r->arena, r->arena + OPERANDS, r->arena + 2 * OPERANDS};
	float *got = malloc(count.result * sizeof *got);
	double error = 0, size = 0;

	to_device(at[0], a, count.a);
	to_device(at[1], b, count.b);
	mp_conv(r, v, at[0], at[1], NULL, at[2], false, r->compute);
	CUDA(cudaStreamSynchronize(r->compute));
	from_device(got, at[2], count.result);
	for (size_t i = 0; i < count.result; i++) {
		error += (got[i] - value[i]) * (got[i] - value[i]);
		size += value[i] * value[i];
	}
	free(got);
	return sqrt(error / size);
}

// Long sums: made of parts, f32 has at most twice the error that it has without tensor cores.
static void compare_split(struct mp_rank *r, const struct mp_conv convs[2])
{
	const struct mp_conv *v = &convs[0];
	struct conv_counts count = count_conv(v);
	void *a = random_values(MP_F32, count.a, 1), *b = random_values(MP_F32, count.b, 2);
	double *value = calloc(count.result, sizeof *value), *magnitude = calloc(count.result, sizeof *magnitude);

	for (int i = 0; i < v->n * v->p * v->q * v->k; i++)
		add_terms(v, a, b, i / v->k / v->q / v->p, i / v->k / v->q % v->p, i / v->k % v->q, i % v->k, value, magnitude);
	double plain = error_of(r, &convs[0], a, b, value), split = error_of(r, &convs[1], a, b, value);
	printf("kind %d of %d channels: error %.2g of f32 units, %.2g of parts on tensor cores\n", v->kind, v->kind == MP_CONV_FORWARD ? v->c : v->k, plain, split);
	fflush(stdout);
	CHECK(split <= 2 * plain + 1e-7, "kind %d: the error is %g, and %g without tensor cores", v->kind, split, plain);
	free(a), free(b), free(value), free(magnitude);
}

static void check_accuracy(void)
{
	static const int shapes[][14] = {{2, 9, 10, 256, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1}, {2, 9, 10, 64, 256, 3, 3, 1, 1, 1, 1, 1, 1, 1}};
	struct mp_conv convs[4];
	struct mp_program program = {.workspace_offset = 3 * OPERANDS, .workspace_bytes = WORKSPACE, .convs = convs, .conv_count = 4,
	                             .arena_bytes = 3 * OPERANDS + WORKSPACE};
	struct mp_rank rank = {.program = &program};
	void *memory;

	for (int i = 0; i < 4; i++) {
		convs[i] = conv_of(shapes[i / 2], i / 2 ? MP_CONV_INPUT_GRAD : MP_CONV_FORWARD, MP_F32, false);
		convs[i].slice = i % 2;
	}
	CUDA(cudaMalloc(&memory, program.arena_bytes));
	rank.arena = memory;
	CUDA(cudaMemset(rank.arena, 0, program.arena_bytes));
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaStreamCreateWithFlags(&rank.compute, cudaStreamNonBlocking));
	mp_conv_prepare(&rank);
	compare_split(&rank, convs);
	compare_split(&rank, convs + 2);
	mp_conv_release(&rank);
	CUDA(cudaStreamDestroy(rank.compute));
	CUDA(cudaFree(rank.arena));
}

int main(void)
{
	static struct mp_conv convs[MOST];
	int count = list_convs(convs);
	check_all("conv", convs, count);
	check_accuracy();
	less.on = true;
	check_all("conv with separate additions", convs, count);
	CHECK(less.times > 0, "nothing was refused");
	return 0;
}
