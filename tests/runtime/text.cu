// A two-stage language model as mpgen would emit it, by hand and small: logits = (token[id] + position[t]) . head^T, so
// that a token follows from the one before it and from its place in the window. pp=2 and dp=DP; batch 4 in 2
// micro-batches, windows of 8. Compile with -DDP=1 or 2, -DVOCABULARY=256 (bytes) or more, -DINFER.
#include "mp.h"
#include "mp_kernel.h"

#include <math.h>

#ifndef DP
#define DP 1
#endif
#ifndef VOCABULARY
#define VOCABULARY 256
#endif
#ifdef INFER
#define TRAINING false
#else
#define TRAINING true
#endif

enum { BATCH = 4, MICROBATCHES = 2, CONTEXT = 8, WIDTH = 16, ROWS = BATCH / MICROBATCHES / DP * CONTEXT };

// ---- memory: one table for both programs
enum {
	WEIGHT = 0, POSITION = VOCABULARY * WIDTH * 4, WEIGHT_GRAD = POSITION + CONTEXT * WIDTH * 4,
	POSITION_GRAD = WEIGHT_GRAD + VOCABULARY * WIDTH * 4, SCALARS = POSITION_GRAD + CONTEXT * WIDTH * 4,
	IDS = SCALARS + 256, HIDDEN = IDS + MICROBATCHES * ROWS * 4, HIDDEN_GRAD = HIDDEN + MICROBATCHES * ROWS * WIDTH * 4,
	LOGITS = HIDDEN_GRAD + MICROBATCHES * ROWS * WIDTH * 4, ARENA = LOGITS + MICROBATCHES * ROWS * VOCABULARY * 4
};
#define AT(name, type, offset) static inline type *name(struct mp_rank *r) { return (type *)(r->arena + (offset)); }
#define AT_MB(name, type, offset, bytes) \
	static inline type *name(struct mp_rank *r, int mb) { return (type *)(r->arena + (offset) + mb * (bytes)); }
AT(weight, float, WEIGHT)                       // token.weight or head.weight f32[VOCABULARY,WIDTH]
AT(position, float, POSITION)                   // stage 0
AT(weight_grad, float, WEIGHT_GRAD)
AT(position_grad, float, POSITION_GRAD)
AT(rate, float, SCALARS)
AT(count, float, SCALARS + 4)
AT(metrics, float, SCALARS + 8)                 // loss, loss.count
AT_MB(ids, int, IDS, ROWS * 4)                  // tokens or labels
AT_MB(hidden, float, HIDDEN, ROWS * WIDTH * 4)
AT_MB(hidden_grad, float, HIDDEN_GRAD, ROWS * WIDTH * 4)
AT_MB(logits, float, LOGITS, ROWS * VOCABULARY * 4)

static const struct mp_gemm gemms_1[] = {
	{"head", ROWS, VOCABULARY, WIDTH, MP_NT, MP_NO_EPILOGUE, MP_F32, MP_F32, false, 16},
	{"head.weight.grad", VOCABULARY, WIDTH, ROWS, MP_TN, MP_NO_EPILOGUE, MP_F32, MP_F32, false, 16},
	{"head.input.grad", ROWS, WIDTH, VOCABULARY, MP_NN, MP_NO_EPILOGUE, MP_F32, MP_F32, false, 16},
};
enum { READY = 0, GRAD_READY = 2, SENT = 4, DONE = 6, EVENTS };

// ---- kernels
__global__ void embed_kernel(float *y, const int *id, const float *token, const float *place)
{
	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < WIDTH; c++)
			y[i * WIDTH + c] = token[id[i] * WIDTH + c] + place[i % CONTEXT * WIDTH + c];
}

__global__ void embed_grad_kernel(float *token, float *place, const int *id, const float *grad, bool first)
{
	for (int i = 0; first && i < VOCABULARY * WIDTH; i++)
		token[i] = 0;
	for (int i = 0; first && i < CONTEXT * WIDTH; i++)
		place[i] = 0;
	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < WIDTH; c++) {
			token[id[i] * WIDTH + c] += grad[i * WIDTH + c];
			place[i % CONTEXT * WIDTH + c] += grad[i * WIDTH + c];
		}
}

__global__ void count_labels_kernel(float *n, const int *labels)
{
	*n = 0;
	for (int i = 0; i < MICROBATCHES * ROWS; i++)
		*n += labels[i] >= 0;
}

// Adds the loss to m[0]; with `learn` logits become their gradient.
__global__ void loss_kernel(float *m, float *x, const int *labels, const float *n, bool first, bool learn)
{
	m[0] = first ? 0 : m[0];
	m[1] = *n;
	for (int i = 0; i < ROWS; i++, x += VOCABULARY) {
		float top = x[0], sum = 0;
		for (int c = 1; c < VOCABULARY; c++)
			top = x[c] > top ? x[c] : top;
		for (int c = 0; c < VOCABULARY; c++)
			sum += expf(x[c] - top);
		if (labels[i] >= 0)
			m[0] += (logf(sum) + top - x[labels[i]]) / *n;
		for (int c = 0; learn && c < VOCABULARY; c++)
			x[c] = labels[i] < 0 ? 0 : (expf(x[c] - top) / sum - (c == labels[i])) / *n;
	}
}

__global__ void sgd_kernel(float *w, const float *grad, const float *learning_rate, int n)
{
	for (int i = 0; i < n; i++)
		w[i] -= *learning_rate * grad[i];
}

// ---- both programs
static void prologue(struct mp_rank *r, int, int)
{
	CUDA(cudaMemcpyAsync(ids(r, 0), r->input[0], MICROBATCHES * ROWS * 4, cudaMemcpyHostToDevice, r->compute));
	CUDA(cudaMemcpyAsync(rate(r), r->learning_rate, 4, cudaMemcpyHostToDevice, r->compute));
}

#if DP > 1
static void all_reduce(struct mp_rank *r, float *x, size_t n)
{
	CUDA(cudaEventRecord(r->event[DONE], r->compute));
	CUDA(cudaStreamWaitEvent(r->dp_stream, r->event[DONE], 0));
	NCCL(ncclAllReduce(x, x, n, ncclFloat32, ncclSum, r->dp_comm, r->dp_stream));
	CUDA(cudaEventRecord(r->event[DONE], r->dp_stream));
	CUDA(cudaStreamWaitEvent(r->compute, r->event[DONE], 0));
}
#else
static void all_reduce(struct mp_rank *, float *, size_t) {}
#endif

static void update(struct mp_rank *r, int, int)
{
	int n = (WEIGHT_GRAD - WEIGHT) / 4;     // on stage 1 the positions are zero, and so are their gradients
	all_reduce(r, weight_grad(r), n);
	MP_LAUNCH(sgd_kernel, 1, 1, r->compute, weight(r), weight_grad(r), rate(r), n);
}

// Everything that pp_stream has done comes before what follows on compute: the step is closed.
static void close_step(struct mp_rank *r, int, int)
{
	for (int mb = 0; mb < MICROBATCHES; mb++)
		CUDA(cudaStreamWaitEvent(r->compute, r->event[SENT + mb], 0));
}

static void send(struct mp_rank *r, const float *x, int mb, int ready, int peer)
{
	CUDA(cudaStreamWaitEvent(r->pp_stream, r->event[ready + mb], 0));
	NCCL(ncclSend(x, ROWS * WIDTH, ncclFloat32, peer, r->pp_comm, r->pp_stream));
	CUDA(cudaEventRecord(r->event[SENT + mb], r->pp_stream));
}

static void receive(struct mp_rank *r, float *x, int mb, int ready, int peer)
{
	NCCL(ncclRecv(x, ROWS * WIDTH, ncclFloat32, peer, r->pp_comm, r->pp_stream));
	CUDA(cudaEventRecord(r->event[ready + mb], r->pp_stream));
}

// ---- program 0
static void forward_0(struct mp_rank *r, int mb, int)
{
	MP_LAUNCH(embed_kernel, 1, 1, r->compute, hidden(r, mb), ids(r, mb), weight(r), position(r));
	CUDA(cudaEventRecord(r->event[READY + mb], r->compute));
}

static void send_0(struct mp_rank *r, int mb, int) { send(r, hidden(r, mb), mb, READY, 1); }
static void receive_0(struct mp_rank *r, int mb, int) { receive(r, hidden_grad(r, mb), mb, GRAD_READY, 1); }

static void backward_0(struct mp_rank *r, int mb, int)
{
	CUDA(cudaStreamWaitEvent(r->compute, r->event[GRAD_READY + mb], 0));
	MP_LAUNCH(embed_grad_kernel, 1, 1, r->compute, weight_grad(r), position_grad(r), ids(r, mb), hidden_grad(r, mb), mb == 0);
}

// ---- program 1
static void receive_1(struct mp_rank *r, int mb, int) { receive(r, hidden(r, mb), mb, READY, 0); }
static void send_1(struct mp_rank *r, int mb, int) { send(r, hidden_grad(r, mb), mb, GRAD_READY, 0); }

static void count_1(struct mp_rank *r, int, int)
{
	prologue(r, -1, -1);
	MP_LAUNCH(count_labels_kernel, 1, 1, r->compute, count(r), ids(r, 0));
	all_reduce(r, count(r), 1);
}

static void forward_1(struct mp_rank *r, int mb, int)
{
	CUDA(cudaStreamWaitEvent(r->compute, r->event[READY + mb], 0));
	mp_gemm(r, &gemms_1[0], hidden(r, mb), weight(r), NULL, logits(r, mb), false, r->compute);
	MP_LAUNCH(loss_kernel, 1, 1, r->compute, metrics(r), logits(r, mb), ids(r, mb), count(r), mb == 0, TRAINING);
}

static void backward_1(struct mp_rank *r, int mb, int)
{
	mp_gemm(r, &gemms_1[1], logits(r, mb), hidden(r, mb), NULL, weight_grad(r), mb > 0, r->compute);
	mp_gemm(r, &gemms_1[2], logits(r, mb), weight(r), NULL, hidden_grad(r, mb), false, r->compute);
	CUDA(cudaEventRecord(r->event[GRAD_READY + mb], r->compute));
}

static void results_1(struct mp_rank *r, int, int)
{
	all_reduce(r, metrics(r), 1);
	CUDA(cudaMemcpyAsync(r->metrics, metrics(r), 8, cudaMemcpyDeviceToHost, r->compute));
	if (r->program->output_count)
		CUDA(cudaMemcpyAsync(r->output[0], logits(r, 0), MICROBATCHES * ROWS * VOCABULARY * 4, cudaMemcpyDeviceToHost, r->compute));
}

// ---- tables
static const struct mp_action train_0[] = {
	{"prologue", prologue, -1, -1}, {"0F0", forward_0, 0, -1}, {"0SEND_F0", send_0, 0, -1},
	{"0F1", forward_0, 1, -1}, {"0SEND_F1", send_0, 1, -1}, {"0RECV_B0", receive_0, 0, -1},
	{"0B0", backward_0, 0, -1}, {"0RECV_B1", receive_0, 1, -1}, {"0B1", backward_0, 1, -1},
	{"update", update, -1, -1}, {"close", close_step, -1, -1},
};
static const struct mp_action train_1[] = {
	{"prologue", count_1, -1, -1}, {"1RECV_F0", receive_1, 0, -1}, {"1F0", forward_1, 0, -1},
	{"1RECV_F1", receive_1, 1, -1}, {"1F1", forward_1, 1, -1}, {"1B0", backward_1, 0, -1},
	{"1SEND_B0", send_1, 0, -1}, {"1B1", backward_1, 1, -1}, {"1SEND_B1", send_1, 1, -1},
	{"update", update, -1, -1}, {"results", results_1, -1, -1}, {"close", close_step, -1, -1},
};
static const struct mp_action forward_0_actions[] = {
	{"prologue", prologue, -1, -1}, {"0F0", forward_0, 0, -1}, {"0SEND_F0", send_0, 0, -1},
	{"0F1", forward_0, 1, -1}, {"0SEND_F1", send_0, 1, -1}, {"close", close_step, -1, -1},
};
static const struct mp_action forward_1_actions[] = {
	{"prologue", count_1, -1, -1}, {"1RECV_F0", receive_1, 0, -1}, {"1F0", forward_1, 0, -1},
	{"1RECV_F1", receive_1, 1, -1}, {"1F1", forward_1, 1, -1}, {"results", results_1, -1, -1},
};

#define COUNT(table) (int)(sizeof table / sizeof *table)
#define PARAMETER(name, rows, offset) \
	{name, mp_state::MP_PARAMETER, MP_F32, 2, {rows, WIDTH}, {MP_WHOLE, MP_WHOLE}, offset, -1, NULL, 0, {mp_init::MP_NORMAL, 0, 0.3}, true}
static const struct mp_state states_0[] = {PARAMETER("token.weight", VOCABULARY, WEIGHT), PARAMETER("position.weight", CONTEXT, POSITION)};
static const struct mp_state states_1[] = {PARAMETER("head.weight", VOCABULARY, WEIGHT)};
static const struct mp_input inputs[] = {{"labels", MP_I32, 1, {CONTEXT}, VOCABULARY}, {"tokens", MP_I32, 1, {CONTEXT}, 0}};
static const struct mp_metric metrics_1[] = {{"loss", 1, false}, {"loss.count", -1, false}};
static const struct mp_output outputs_1[] = {{"logits", MP_F32, 2, {CONTEXT, VOCABULARY}}};

static const struct mp_schedule none = {NULL, 0};
static const struct mp_schedule train_0_schedule = {train_0, COUNT(train_0)}, train_1_schedule = {train_1, COUNT(train_1)};
static const struct mp_schedule forward_0_schedule = {forward_0_actions, COUNT(forward_0_actions)};
static const struct mp_schedule forward_1_schedule = {forward_1_actions, COUNT(forward_1_actions)};

static const struct mp_program programs[] = {
	{"program_0", ARENA, 0, 0, {{0, 0}, {0, 0}, {0, 0}}, states_0, 2, inputs + 1, 1, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, EVENTS, NULL,
	 TRAINING ? train_0_schedule : none, TRAINING ? forward_0_schedule : none, TRAINING ? none : forward_0_schedule, NULL, NULL, 0, 0, false},
	{"program_1", ARENA, 0, 0, {{0, 0}, {0, 0}, {0, 0}}, states_1, 1, inputs, 1, outputs_1, !TRAINING, metrics_1, 2, gemms_1, 3, NULL, 0, NULL, 0, EVENTS, NULL,
	 TRAINING ? train_1_schedule : none, TRAINING ? forward_1_schedule : none, TRAINING ? none : forward_1_schedule, NULL, NULL, 0, 0, false},
};
static const struct mp_program *program(int stage) { return &programs[stage]; }

extern "C" const struct mp_model model = {
	"text", "0123456789abcdef", MP_F32, TRAINING, {DP, 1, 2}, BATCH, MICROBATCHES, 0, MP_DATA_TOKENS, VOCABULARY,
	{1, mp_learning_rate::MP_LR_CONSTANT, 0, 0}, inputs, 2, program, NULL,
};
