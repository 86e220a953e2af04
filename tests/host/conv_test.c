// The host's mp_conv against loops (conv_cases.h): all kinds, both types, bias, accumulation; the gradients against the
// forward convolution; and convolutions that share a rank's scratch on several streams.
//   cc -std=c11 -Wall -Wextra -Werror -g -O2 -Iruntime/host -Iruntime tests/host/conv_test.c tests/host/test.c
//      runtime/host/{device,event,memory,trace,errors,comm,group,collective,reduce,gemm,conv}.c
//      -lopenblas -lm -lpthread -o conv_test
#include "test.h"
#undef CUDA     // mp.h has its own, which need the runtime
#undef NCCL
#include "mp.h"

#undef CUDA
#define CUDA(call) CHECK((call) == cudaSuccess, "CUDA")
#include "conv_cases.h"

void mp_gemm_prepare(struct mp_rank *r);
void mp_conv_prepare(struct mp_rank *r);
void mp_conv_release(struct mp_rank *r);

// A rank that runs nothing but these convolutions.
static void open_rank(struct mp_rank *rank, struct mp_program *program, const struct mp_conv *convs, int count)
{
	*program = (struct mp_program){.convs = convs, .conv_count = count};
	*rank = (struct mp_rank){.program = program};
	mp_gemm_prepare(rank);
	mp_conv_prepare(rank);
}

static void *on_device(const void *values, size_t bytes)
{
	void *memory = device_memory(bytes);
	memcpy(memory, values, bytes);
	return memory;
}

static void check_conv(struct mp_conv *v, bool bias, bool accumulate)
{
	static const double precision[] = {[MP_F32] = 2e-6, [MP_F64] = 4e-15};
	size_t bytes = v->type == MP_F64 ? 8 : 4;
	struct conv_counts count = count_conv(v);
	struct mp_program program;
	struct mp_rank rank;
	v->bias = bias;
	open_rank(&rank, &program, v, 1);
	void *a = random_values(v->type, count.a, 1), *b = random_values(v->type, count.b, 2);
	void *biases = random_values(v->type, (size_t)v->k, 3), *before = random_values(v->type, count.result, 4);
	for (size_t i = 0; i < count.result && !accumulate; i++)
		put_value(before, v->type, i, NAN); // what was there must not matter
	void *in[] = {on_device(a, count.a * bytes), on_device(b, count.b * bytes), on_device(biases, (size_t)v->k * bytes)};
	void *result = on_device(before, count.result * bytes);
	cudaStream_t stream = new_stream();
	mp_conv(&rank, v, in[0], in[1], bias ? in[2] : NULL, result, accumulate, stream);
	CUDA(cudaStreamSynchronize(stream));
	check_conv_result(v, a, b, biases, before, accumulate, result, precision[v->type]);
	mp_conv_release(&rank);
	CUDA(cudaStreamDestroy(stream));
	for (int i = 0; i < 3; i++)
		CUDA(cudaFree(in[i]));
	CUDA(cudaFree(result));
	free(a), free(b), free(biases), free(before);
}

static void conv(void)
{
	static const enum mp_type types[] = {MP_F32, MP_F64};
	for (int s = 0; s < CONV_SHAPES; s++)
		for (int t = 0; t < 2; t++) {
			struct mp_conv forward = conv_of(conv_shapes[s], MP_CONV_FORWARD, types[t], false);
			struct mp_conv input = conv_of(conv_shapes[s], MP_CONV_INPUT_GRAD, types[t], false);
			struct mp_conv weight = conv_of(conv_shapes[s], MP_CONV_WEIGHT_GRAD, types[t], false);
			check_conv(&forward, false, false);
			check_conv(&forward, true, false);
			check_conv(&input, false, false);
			check_conv(&weight, false, false);
			check_conv(&weight, false, true);
		}
}

static double product(const double *a, const double *b, size_t count, double *magnitude)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++) {
		sum += a[i] * b[i];
		*magnitude += fabs(a[i] * b[i]);
	}
	return sum;
}

// A convolution is linear in x and in w, so <dy, conv(x, w)> = <dx, x> = <dw, w>, whatever a convolution is.
static void check_adjoint(const int *shape)
{
	struct mp_conv convs[3];
	struct mp_program program;
	struct mp_rank rank;
	for (int kind = 0; kind < 3; kind++)
		convs[kind] = conv_of(shape, (enum mp_conv_kind)kind, MP_F64, false);
	open_rank(&rank, &program, convs, 3);
	struct conv_counts count = count_conv(convs);
	double *x = random_values(MP_F64, count.x, 5), *w = random_values(MP_F64, count.w, 6), *dy = random_values(MP_F64, count.y, 7);
	double *y = calloc(count.y, 8), *dx = calloc(count.x, 8), *dw = calloc(count.w, 8), magnitude = 0;
	mp_conv(&rank, &convs[MP_CONV_FORWARD], x, w, NULL, y, false, NULL);
	mp_conv(&rank, &convs[MP_CONV_INPUT_GRAD], dy, w, NULL, dx, false, NULL);
	mp_conv(&rank, &convs[MP_CONV_WEIGHT_GRAD], dy, x, NULL, dw, false, NULL);
	CUDA(cudaStreamSynchronize(NULL));
	double of_y = product(dy, y, count.y, &magnitude), of_x = product(dx, x, count.x, &magnitude), of_w = product(dw, w, count.w, &magnitude);
	CHECK(fabs(of_y - of_x) <= 1e-14 * magnitude && fabs(of_y - of_w) <= 1e-14 * magnitude,
	      "%dx%dx%dx%d -> %d, window %dx%d: <dy,y> %.17g, <dx,x> %.17g, <dw,w> %.17g", convs->n, convs->h, convs->w, convs->c,
	      convs->k, convs->r, convs->s, of_y, of_x, of_w);
	mp_conv_release(&rank);
	free(x), free(w), free(dy), free(y), free(dx), free(dw);
}

static void adjoint(void)
{
	for (int s = 0; s < CONV_SHAPES; s++)
		check_adjoint(conv_shapes[s]);
}

// Two convolutions of one rank, enqueued in turns on two streams, give the bits that each gives alone.
static void streams(void)
{
	enum { TIMES = 8 };
	struct mp_conv convs[2] = {conv_of(conv_shapes[CONV_SHAPES - 1], MP_CONV_FORWARD, MP_F32, false),
	                           conv_of(conv_shapes[CONV_SHAPES - 2], MP_CONV_FORWARD, MP_F32, false)};
	struct mp_program program;
	struct mp_rank rank;
	cudaStream_t stream[2] = {new_stream(), new_stream()};
	float *x[2], *w[2], *y[2], *many[2][TIMES];
	size_t bytes[2];
	open_rank(&rank, &program, convs, 2);
	for (int i = 0; i < 2; i++) {
		struct conv_counts count = count_conv(&convs[i]);
		bytes[i] = count.y * sizeof(float);
		x[i] = random_values(MP_F32, count.x, 8);
		w[i] = random_values(MP_F32, count.w, 9);
		y[i] = calloc(count.y, sizeof(float));
		mp_conv(&rank, &convs[i], x[i], w[i], NULL, y[i], false, stream[i]);
		CUDA(cudaStreamSynchronize(stream[i]));
	}
	for (int t = 0; t < TIMES; t++)
		for (int i = 0; i < 2; i++) {
			many[i][t] = calloc(1, bytes[i]);
			mp_conv(&rank, &convs[i], x[i], w[i], NULL, many[i][t], false, stream[i]);
		}
	CUDA(cudaDeviceSynchronize());
	for (int i = 0; i < 2; i++) {
		for (int t = 0; t < TIMES; t++) {
			CHECK(!memcmp(many[i][t], y[i], bytes[i]), "convolution %d, time %d: other bits", i, t);
			free(many[i][t]);
		}
		free(x[i]), free(w[i]), free(y[i]);
		CUDA(cudaStreamDestroy(stream[i]));
	}
	mp_conv_release(&rank);
}

int main(void)
{
	run_case("conv", conv);
	run_case("adjoint", adjoint);
	run_case("streams", streams);
	return 0;
}
