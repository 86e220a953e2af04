// A two-stage MLP as mpgen would emit it, by hand and small: 8 inputs, 16 hidden units with ReLU, 4 classes, batch 16
// in 2 micro-batches, pp=2 and dp=DP. It exists to run the runtime before and beside the generator; its kernels are plain.
//
// Compile with -DDP=1 or 2, -DINFER for the inference program, and to make trouble: FAULT in the environment,
// "fail:RANK:STEP" (exit 3), "die:…" (no message), "crash:…" (a signal), "hang:RANK:STEP", "nan:RANK:STEP", "slow:RANK:STEP" (200 ms a step from there on);
// "key:RANK:STEP" only prints the random key, from there on.
#include "mp.h"
#include "mp_kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DP
#define DP 1
#endif
#ifndef RATE
#define RATE {0.1, mp_learning_rate::MP_LR_CONSTANT, 0, 0}
#endif
#ifdef INFER
#define TRAINING false
#else
#define TRAINING true
#endif

enum { BATCH = 16, MICROBATCHES = 2, ROWS = BATCH / MICROBATCHES / DP, IN = 8, HIDDEN = 16, CLASSES = 4 };

// ---- memory: one table for both programs, for brevity
#define AT(name, type, offset) static inline type *name(struct mp_rank *r) { return (type *)(r->arena + offset); }
#define AT_MB(name, type, offset, bytes) \
	static inline type *name(struct mp_rank *r, int mb) { return (type *)(r->arena + offset + mb * bytes); }
AT(weight, float, 0)                            // fc1 f32[16,8] or fc2 f32[4,16]
AT(bias, float, 512)
AT(weight_grad, float, 768)                     // then the bias's gradient: one bucket
AT(bias_grad, float, 1280)
AT(rate, float, 1536)
AT(count, float, 1792)
AT(metrics, float, 2048)                        // loss, loss.count, accuracy
AT_MB(image, float, 2304, ROWS * IN * 4)
AT_MB(label, int, 2304, ROWS * 4)               // on the other stage
AT_MB(hidden, float, 4096, ROWS * HIDDEN * 4)   // on both
AT_MB(hidden_grad, float, 8192, ROWS * HIDDEN * 4)
AT_MB(logits, float, 12288, ROWS * CLASSES * 4)
enum { ARENA = 16384 };

static const struct mp_gemm gemms_0[] = {
	{"fc1", ROWS, HIDDEN, IN, MP_NT, MP_BIAS_RELU, MP_F32, MP_F32, false, 16},
	{"fc1.weight.grad", HIDDEN, IN, ROWS, MP_TN, MP_NO_EPILOGUE, MP_F32, MP_F32, false, 16},
};
static const struct mp_gemm gemms_1[] = {
	{"fc2", ROWS, CLASSES, HIDDEN, MP_NT, MP_BIAS, MP_F32, MP_F32, false, 16},
	{"fc2.weight.grad", CLASSES, HIDDEN, ROWS, MP_TN, MP_NO_EPILOGUE, MP_F32, MP_F32, false, 16},
	{"fc2.input.grad", ROWS, HIDDEN, CLASSES, MP_NN, MP_NO_EPILOGUE, MP_F32, MP_F32, false, 16},
};
enum { READY = 0, GRAD_READY = 2, SENT = 4, DONE = 6, EVENTS };

// ---- kernels
__global__ void count_labels_kernel(float *n, const int *labels, int rows)
{
	*n = 0;
	for (int i = 0; i < rows; i++)
		*n += labels[i] >= 0;
}

// Adds loss and correct answers to m[0], m[2]; logits become their gradient.
__global__ void loss_kernel(float *m, float *x, const int *labels, const float *n, int rows, bool first)
{
	if (first)
		m[0] = m[2] = 0;
	m[1] = *n;
	for (int i = 0; i < rows; i++, x += CLASSES) {
		float top = x[0], sum = 0;
		int best = 0;
		for (int c = 1; c < CLASSES; c++)
			if (x[c] > top)
				top = x[best = c];
		for (int c = 0; c < CLASSES; c++)
			sum += expf(x[c] - top);
		if (labels[i] >= 0) {
			m[0] += (logf(sum) + top - x[labels[i]]) / *n;
			m[2] += (best == labels[i]) / *n;
		}
		for (int c = 0; c < CLASSES; c++)
			x[c] = labels[i] < 0 ? 0 : (expf(x[c] - top) / sum - (c == labels[i])) / *n;
	}
}

__global__ void column_sums_kernel(float *y, const float *x, int rows, int columns, bool first)
{
	for (int c = 0; c < columns; c++) {
		y[c] = first ? 0 : y[c];
		for (int i = 0; i < rows; i++)
			y[c] += x[i * columns + c];
	}
}

__global__ void relu_grad_kernel(float *grad, const float *y, int n)
{
	for (int i = 0; i < n; i++)
		grad[i] = y[i] > 0 ? grad[i] : 0;
}

__global__ void sgd_kernel(float *w, const float *grad, const float *learning_rate, int n)
{
	for (int i = 0; i < n; i++)
		w[i] -= *learning_rate * grad[i];
}

// ---- faults
static void make_trouble(struct mp_rank *r)
{
	const char *fault = getenv("FAULT");
	char what[16];
	int rank;
	long step;

	if (!fault || sscanf(fault, "%15[a-z]:%d:%ld", what, &rank, &step) != 3 || r->rank != rank)
		return;
	if ((r->evaluating ? r->step + 1 : *r->step_number) < step) // the one that is enqueued, while one before it may run
		return;
	if (!strcmp(what, "fail"))
		mp_fail(MP_DEVICE_FAILED, "this rank was asked to fail at step %ld", step);
	if (!strcmp(what, "die"))
		_exit(1);
	if (!strcmp(what, "crash"))
		abort();
	if (!strcmp(what, "nan"))
		*(float *)r->learning_rate = NAN;
	while (!strcmp(what, "hang"))
		sleep(1000);
	if (!strcmp(what, "slow"))
		usleep(200000);
	if (!strcmp(what, "ahead"))
		printf("\nstep %d behind %ld%s\n", *r->step_number, r->step, r->evaluating ? " evaluating" : "");
	if (!strcmp(what, "key"))
		printf("\nkey %d %d %d %d%s\n", r->random_key[0], r->random_key[1], r->random_key[2], r->random_key[3], // a line of its own, whatever other ranks print
		       r->evaluating ? " evaluating" : "");
}

// ---- program 0
static void prologue_0(struct mp_rank *r, int, int)
{
	make_trouble(r);
	CUDA(cudaMemcpyAsync(image(r, 0), r->input[0], MICROBATCHES * ROWS * IN * 4, cudaMemcpyHostToDevice, r->compute));
	CUDA(cudaMemcpyAsync(rate(r), r->learning_rate, 4, cudaMemcpyHostToDevice, r->compute));
}

static void forward_0(struct mp_rank *r, int mb, int)
{
	mp_gemm(r, &gemms_0[0], image(r, mb), weight(r), bias(r), hidden(r, mb), false, r->compute);
	CUDA(cudaEventRecord(r->event[READY + mb], r->compute));
}

static void send_forward(struct mp_rank *r, int mb, int)
{
	CUDA(cudaStreamWaitEvent(r->pp_stream, r->event[READY + mb], 0));
	NCCL(ncclSend(hidden(r, mb), ROWS * HIDDEN, ncclFloat32, 1, r->pp_comm, r->pp_stream));
	CUDA(cudaEventRecord(r->event[SENT + mb], r->pp_stream));
}

static void receive_backward(struct mp_rank *r, int mb, int)
{
	NCCL(ncclRecv(hidden_grad(r, mb), ROWS * HIDDEN, ncclFloat32, 1, r->pp_comm, r->pp_stream));
	CUDA(cudaEventRecord(r->event[GRAD_READY + mb], r->pp_stream));
}

static void reduce_gradients(struct mp_rank *r)
{
#if DP > 1
	CUDA(cudaEventRecord(r->event[DONE], r->compute));
	CUDA(cudaStreamWaitEvent(r->dp_stream, r->event[DONE], 0));
	NCCL(ncclAllReduce(weight_grad(r), weight_grad(r), (1536 - 768) / 4, ncclFloat32, ncclSum, r->dp_comm, r->dp_stream));
	CUDA(cudaEventRecord(r->event[DONE], r->dp_stream));
	CUDA(cudaStreamWaitEvent(r->compute, r->event[DONE], 0));
#else
	(void)r;
#endif
}

static void backward_0(struct mp_rank *r, int mb, int)
{
	CUDA(cudaStreamWaitEvent(r->compute, r->event[GRAD_READY + mb], 0));
	MP_LAUNCH(relu_grad_kernel, 1, 1, r->compute, hidden_grad(r, mb), hidden(r, mb), ROWS * HIDDEN);
	mp_gemm(r, &gemms_0[1], hidden_grad(r, mb), image(r, mb), NULL, weight_grad(r), mb > 0, r->compute);
	MP_LAUNCH(column_sums_kernel, 1, 1, r->compute, bias_grad(r), hidden_grad(r, mb), ROWS, HIDDEN, mb == 0);
	if (mb == MICROBATCHES - 1)
		reduce_gradients(r);
}

static void update_0(struct mp_rank *r, int, int)
{
	MP_LAUNCH(sgd_kernel, 1, 1, r->compute, weight(r), weight_grad(r), rate(r), HIDDEN * IN);
	MP_LAUNCH(sgd_kernel, 1, 1, r->compute, bias(r), bias_grad(r), rate(r), HIDDEN);
}

// Everything that pp_stream has done comes before what follows on compute: the step is closed.
static void close_0(struct mp_rank *r, int, int)
{
	for (int mb = 0; mb < MICROBATCHES; mb++)
		CUDA(cudaStreamWaitEvent(r->compute, r->event[SENT + mb], 0));
}

// ---- program 1
static void prologue_1(struct mp_rank *r, int, int)
{
	make_trouble(r);
	if (r->program->input_count)
		CUDA(cudaMemcpyAsync(label(r, 0), r->input[0], MICROBATCHES * ROWS * 4, cudaMemcpyHostToDevice, r->compute));
	CUDA(cudaMemcpyAsync(rate(r), r->learning_rate, 4, cudaMemcpyHostToDevice, r->compute));
	MP_LAUNCH(count_labels_kernel, 1, 1, r->compute, count(r), label(r, 0), MICROBATCHES * ROWS);
#if DP > 1
	CUDA(cudaEventRecord(r->event[DONE], r->compute));
	CUDA(cudaStreamWaitEvent(r->dp_stream, r->event[DONE], 0));
	NCCL(ncclAllReduce(count(r), count(r), 1, ncclFloat32, ncclSum, r->dp_comm, r->dp_stream));
	CUDA(cudaEventRecord(r->event[DONE], r->dp_stream));
	CUDA(cudaStreamWaitEvent(r->compute, r->event[DONE], 0));
#endif
}

static void receive_forward(struct mp_rank *r, int mb, int)
{
	NCCL(ncclRecv(hidden(r, mb), ROWS * HIDDEN, ncclFloat32, 0, r->pp_comm, r->pp_stream));
	CUDA(cudaEventRecord(r->event[READY + mb], r->pp_stream));
}

static void forward_1(struct mp_rank *r, int mb, int)
{
	CUDA(cudaStreamWaitEvent(r->compute, r->event[READY + mb], 0));
	mp_gemm(r, &gemms_1[0], hidden(r, mb), weight(r), bias(r), logits(r, mb), false, r->compute);
	if (r->program->metric_count)
		MP_LAUNCH(loss_kernel, 1, 1, r->compute, metrics(r), logits(r, mb), label(r, mb), count(r), (int)ROWS, mb == 0);
}

static void backward_1(struct mp_rank *r, int mb, int)
{
	mp_gemm(r, &gemms_1[1], logits(r, mb), hidden(r, mb), NULL, weight_grad(r), mb > 0, r->compute);
	MP_LAUNCH(column_sums_kernel, 1, 1, r->compute, bias_grad(r), logits(r, mb), (int)ROWS, (int)CLASSES, mb == 0);
	mp_gemm(r, &gemms_1[2], logits(r, mb), weight(r), NULL, hidden_grad(r, mb), false, r->compute);
	CUDA(cudaEventRecord(r->event[GRAD_READY + mb], r->compute));
	if (mb == MICROBATCHES - 1)
		reduce_gradients(r);
}

static void send_backward(struct mp_rank *r, int mb, int)
{
	CUDA(cudaStreamWaitEvent(r->pp_stream, r->event[GRAD_READY + mb], 0));
	NCCL(ncclSend(hidden_grad(r, mb), ROWS * HIDDEN, ncclFloat32, 0, r->pp_comm, r->pp_stream));
	CUDA(cudaEventRecord(r->event[SENT + mb], r->pp_stream));
}

static void update_1(struct mp_rank *r, int, int)
{
	MP_LAUNCH(sgd_kernel, 1, 1, r->compute, weight(r), weight_grad(r), rate(r), CLASSES * HIDDEN);
	MP_LAUNCH(sgd_kernel, 1, 1, r->compute, bias(r), bias_grad(r), rate(r), (int)CLASSES);
}

static void epilogue_1(struct mp_rank *r, int, int)
{
#if DP > 1 // loss and accuracy, without the count between them
	CUDA(cudaEventRecord(r->event[DONE], r->compute));
	CUDA(cudaStreamWaitEvent(r->dp_stream, r->event[DONE], 0));
	NCCL(ncclGroupStart());
	NCCL(ncclAllReduce(metrics(r), metrics(r), 1, ncclFloat32, ncclSum, r->dp_comm, r->dp_stream));
	NCCL(ncclAllReduce(metrics(r) + 2, metrics(r) + 2, 1, ncclFloat32, ncclSum, r->dp_comm, r->dp_stream));
	NCCL(ncclGroupEnd());
	CUDA(cudaEventRecord(r->event[DONE], r->dp_stream));
	CUDA(cudaStreamWaitEvent(r->compute, r->event[DONE], 0));
#endif
	CUDA(cudaMemcpyAsync(r->metrics, metrics(r), 12, cudaMemcpyDeviceToHost, r->compute));
}

static void write_1(struct mp_rank *r, int, int)
{
	CUDA(cudaMemcpyAsync(r->output[0], logits(r, 0), MICROBATCHES * ROWS * CLASSES * 4, cudaMemcpyDeviceToHost, r->compute));
}

// ---- tables
static const struct mp_action train_0[] = {
	{"prologue", prologue_0, -1, -1}, {"0F0", forward_0, 0, -1}, {"0SEND_F0", send_forward, 0, -1},
	{"0F1", forward_0, 1, -1}, {"0SEND_F1", send_forward, 1, -1}, {"0RECV_B0", receive_backward, 0, -1},
	{"0B0", backward_0, 0, -1}, {"0RECV_B1", receive_backward, 1, -1}, {"0B1", backward_0, 1, -1},
	{"update", update_0, -1, -1}, {"close", close_0, -1, -1},
};
static const struct mp_action train_1[] = {
	{"prologue", prologue_1, -1, -1}, {"1RECV_F0", receive_forward, 0, -1}, {"1F0", forward_1, 0, -1},
	{"1RECV_F1", receive_forward, 1, -1}, {"1F1", forward_1, 1, -1}, {"1B0", backward_1, 0, -1},
	{"1SEND_B0", send_backward, 0, -1}, {"1B1", backward_1, 1, -1}, {"1SEND_B1", send_backward, 1, -1},
	{"update", update_1, -1, -1}, {"epilogue", epilogue_1, -1, -1}, {"close", close_0, -1, -1},
};
static const struct mp_action forward_only_0[] = {
	{"prologue", prologue_0, -1, -1}, {"0F0", forward_0, 0, -1}, {"0SEND_F0", send_forward, 0, -1},
	{"0F1", forward_0, 1, -1}, {"0SEND_F1", send_forward, 1, -1}, {"close", close_0, -1, -1},
};
static const struct mp_action evaluate_1[] = {
	{"prologue", prologue_1, -1, -1}, {"1RECV_F0", receive_forward, 0, -1}, {"1F0", forward_1, 0, -1},
	{"1RECV_F1", receive_forward, 1, -1}, {"1F1", forward_1, 1, -1}, {"epilogue", epilogue_1, -1, -1},
};
static const struct mp_action infer_1[] = {
	{"1RECV_F0", receive_forward, 0, -1}, {"1F0", forward_1, 0, -1}, {"1RECV_F1", receive_forward, 1, -1},
	{"1F1", forward_1, 1, -1}, {"write", write_1, -1, -1},
};

#define COUNT(table) (int)(sizeof table / sizeof *table)
#define PARAMETER mp_state::MP_PARAMETER, MP_F32
#define UNIFORM(bound) {mp_init::MP_UNIFORM, -bound, bound}
static const struct mp_state states_0[] = {
	{"fc1.weight", PARAMETER, 2, {HIDDEN, IN}, {MP_WHOLE, MP_WHOLE}, 0, -1, NULL, 0, UNIFORM(0.35), true},
	{"fc1.bias", PARAMETER, 1, {HIDDEN}, {MP_WHOLE}, 512, -1, NULL, 0, UNIFORM(0.35), true},
};
static const struct mp_state states_1[] = {
	{"fc2.weight", PARAMETER, 2, {CLASSES, HIDDEN}, {MP_WHOLE, MP_WHOLE}, 0, -1, NULL, 0, UNIFORM(0.25), true},
	{"fc2.bias", PARAMETER, 1, {CLASSES}, {MP_WHOLE}, 512, -1, NULL, 0, UNIFORM(0.25), true},
};
static const struct mp_input inputs[] = {
	{"image", MP_F32, 1, {IN}, 0},
	{"label", MP_I32, 0, {0}, CLASSES},
};
static const struct mp_metric metrics_1[] = {{"loss", 1, false}, {"loss.count", -1, false}, {"accuracy", 1, true}};
static const struct mp_output outputs_1[] = {{"logits", MP_F32, 1, {CLASSES}}};

static const struct mp_schedule none = {NULL, 0};
static const struct mp_schedule train_0_schedule = {train_0, COUNT(train_0)}, train_1_schedule = {train_1, COUNT(train_1)};
static const struct mp_schedule forward_0_schedule = {forward_only_0, COUNT(forward_only_0)};
static const struct mp_schedule evaluate_1_schedule = {evaluate_1, COUNT(evaluate_1)}, infer_1_schedule = {infer_1, COUNT(infer_1)};

static const struct mp_program programs[] = {
	{"program_0", ARENA, 0, 0, {{0, 0}, {0, 0}, {0, 0}}, states_0, 2, inputs, 1, NULL, 0, NULL, 0, gemms_0, 2, NULL, 0, NULL, 0, EVENTS, NULL,
	 TRAINING ? train_0_schedule : none, TRAINING ? forward_0_schedule : none, TRAINING ? none : forward_0_schedule, NULL, NULL, 0, 0, false},
	{"program_1", ARENA + 256, 0, 0, {{0, 0}, {0, 0}, {0, 0}}, states_1, 2, inputs + 1, TRAINING, outputs_1, !TRAINING, metrics_1, TRAINING ? 3 : 0,
	 gemms_1, 3, NULL, 0, NULL, 0, EVENTS, NULL,
	 TRAINING ? train_1_schedule : none, TRAINING ? evaluate_1_schedule : none, TRAINING ? none : infer_1_schedule, NULL, NULL, 0, 0, false},
};
static const struct mp_program *program(int stage) { return &programs[stage]; }

#ifndef BUILD
#define BUILD "1234567890abcdef"
#endif
extern "C" const struct mp_model model = {
	"tiny", BUILD, MP_F32, TRAINING, {DP, 1, 2}, BATCH, MICROBATCHES, 0, MP_DATA_TENSORS, 0,
	RATE, inputs, 2, program, NULL,
};
