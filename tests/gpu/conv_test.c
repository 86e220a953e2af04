// mp_conv on a GPU against loops (tests/host/conv_cases.h): all kinds, f32 and TF32, bias, accumulation; a second run, and a
// run within a CUDA graph, give the same bits. Then everything once more with a cuDNN that never adds a bias or
// accumulates by itself, so that what the runtime does then is seen too. tests/gpu/run builds and runs it:
//   cc -std=c11 -O2 -Iruntime -Itests/host -I$cuda/include tests/gpu/conv_test.c runtime/cuda/{conv,dnn}.c -o conv_test
//      -Wl,--wrap=cudnnBackendSetAttribute,--wrap=cudnnBackendGetAttribute -L$cuda/lib64 -lcudnn -lcudart -lm
#include <cudnn.h>
#include <stdarg.h>
#include <stdio.h>

#include "mp_run.h"

#define CHECK(condition, ...) do { if (!(condition)) { \
	fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
	fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); exit(1); } } while (0)
#include "conv_cases.h"

enum { OPERANDS = 4 << 20, WORKSPACE = 48 << 20, MOST = CONV_SHAPES * 8 };

// ---------------------------------------------------------------------------------------------------------
// What the runtime has elsewhere

void mp_fail(enum mp_exit status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit((int)status);
}

void mp_cuda_failed(cudaError_t error, const char *call, const char *file, int line)
{
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %s", file, line, call, cudaGetErrorString(error));
}

void *mp_allocate(size_t bytes)
{
	return calloc(1, bytes ? bytes : 1);
}

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

static int list_convs(struct mp_conv *convs)
{
	int count = 0;
	for (int s = 0; s < CONV_SHAPES; s++)
		for (int tf32 = 0; tf32 < 2; tf32++)
			for (int i = 0; i < 4; i++) {
				convs[count] = conv_of(conv_shapes[s], i == 3 ? MP_CONV_FORWARD : (enum mp_conv_kind)i, MP_F32, tf32);
				convs[count++].bias = i == 3;
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

int main(void)
{
	static struct mp_conv convs[MOST];
	int count = list_convs(convs);
	check_all("conv", convs, count);
	less.on = true;
	check_all("conv with separate additions", convs, count);
	CHECK(less.times > 0, "nothing was refused");
	return 0;
}
