// One rank: its device, memory, streams, events and communicators. All are made here, at start, and nothing is
// allocated on a device afterwards. The sum of what is allocated is printed, to be compared with the plan.
#include "engines.h"
#include "mp_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *axis_name(int axis)
{
	static const char *const names[MP_AXES] = {"dp", "tp", "pp"};
	return names[axis];
}

static void find_coordinates(struct mp_rank *r)
{
	const int *size = r->model->axis;

	r->tp = r->rank % size[MP_TP];
	r->dp = r->rank / size[MP_TP] % size[MP_DP];
	r->pp = r->rank / size[MP_TP] / size[MP_DP];
	r->program = r->model->program(r->pp);
}

// By hand every rank is on this machine and has a GPU of its own. A launcher may show each process only its own GPU;
// then there is one, and it is number 0.
static void take_device(const struct mp_rank *r)
{
	const struct mp_launch *launch = &r->session->launch;
	int count = 0, local = launch->launcher ? launch->local_rank : r->rank;

	cudaError_t error = cudaGetDeviceCount(&count);
	if (error != cudaSuccess)
		mp_fail(MP_DEVICE_FAILED, "no usable GPU: %s; without one, build and run the host program (ninja host)",
		        cudaGetErrorString(error));
	if (r->options->one_gpu || count == 1)
		local = 0;
	if (local < 0)
		local = r->rank % (count ? count : 1);
	if (!launch->launcher && !r->options->one_gpu && count < r->world)
		mp_fail(MP_DEVICE_FAILED, "%d ranks need %d GPUs but this machine has %d: add --one-gpu to put all on one (slow), "
		        "or start it with torchrun, srun or mpirun on more machines", r->world, r->world, count);
	if (local >= count)
		mp_fail(MP_DEVICE_FAILED, "local rank %d needs %d GPUs but this machine has %d: start fewer ranks here, or add "
		        "--one-gpu", local, local + 1, count);
	CUDA(cudaSetDevice(local));
}

static void make_streams(struct mp_rank *r)
{
	cudaStream_t *side[MP_AXES] = {&r->dp_stream, &r->tp_stream, &r->pp_stream};
	int least, greatest;

	CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
	CUDA(cudaStreamCreateWithPriority(&r->compute, cudaStreamNonBlocking, (least + greatest) / 2));
	if (r->program->side)
		CUDA(cudaStreamCreateWithPriority(&r->side, cudaStreamNonBlocking, least));
	for (int axis = 0; axis < MP_AXES; axis++) // small messages first: others wait for them
		CUDA(cudaStreamCreateWithPriority(side[axis], cudaStreamNonBlocking, greatest));
	for (int slot = 0; slot < 2; slot++)
		CUDA(cudaEventCreateWithFlags(&r->loop->ended[slot], cudaEventDisableTiming));
	r->event = mp_allocate((size_t)r->program->event_count * sizeof *r->event);
	for (int i = 0; i < r->program->event_count; i++)
		CUDA(cudaEventCreateWithFlags(&r->event[i], cudaEventDisableTiming));
}

void mp_arena_clear(struct mp_rank *r)
{
	const struct mp_program *p = r->program;
	size_t after = p->workspace_offset + p->workspace_bytes;

	CUDA(cudaMemsetAsync(r->arena, 0, p->workspace_bytes ? p->workspace_offset : p->arena_bytes, r->compute));
	if (p->workspace_bytes)
		CUDA(cudaMemsetAsync(r->arena + after, 0, p->arena_bytes - after, r->compute));
	CUDA(cudaStreamSynchronize(r->compute));
}

// Behind all that tries something in the arena: libraries time their kernels there, and ranks greet each other.
static void copy_constant(struct mp_rank *r)
{
	const struct mp_program *p = r->program;

	if (p->constant)
		CUDA(cudaMemcpyAsync(r->arena + p->constant_offset, p->constant, p->constant_bytes, cudaMemcpyHostToDevice, r->compute));
	CUDA(cudaStreamSynchronize(r->compute));
}

static void make_arena(struct mp_rank *r)
{
	void *memory = NULL;

	CUDA(cudaMalloc(&memory, r->program->arena_bytes));
	r->arena = memory;
	r->device_bytes += r->program->arena_bytes;
	mp_arena_clear(r);
}

static void *pinned(size_t bytes)
{
	void *memory = NULL;
	CUDA(cudaMallocHost(&memory, bytes ? bytes : 1));
	memset(memory, 0, bytes);
	return memory;
}

// Outputs of a whole step on this rank.
static size_t output_bytes(const struct mp_rank *r, const struct mp_output *output)
{
	size_t bytes = mp_type_bytes(output->type) * (size_t)(r->model->batch / r->model->axis[MP_DP]);
	for (int d = 0; d < output->dims; d++)
		bytes *= (size_t)output->shape[d];
	return bytes;
}

static void make_host_buffers(struct mp_rank *r)
{
	const struct mp_program *p = r->program;

	r->input = mp_allocate((size_t)p->input_count * sizeof *r->input); // the loader points them to its buffers
	r->output = mp_allocate((size_t)p->output_count * sizeof *r->output);
	for (int i = 0; i < p->output_count; i++)
		r->output[i] = pinned(output_bytes(r, &p->outputs[i]));
	for (int slot = 0; slot < 2; slot++)
		r->loop->words[slot] = (struct mp_words){pinned(sizeof(double)), pinned(sizeof *r->step_number), pinned(4 * sizeof *r->random_key),
		                                         pinned((size_t)p->metric_count * mp_type_bytes(r->model->type))};
	mp_take_words(r, 0);
}

void mp_take_words(struct mp_rank *r, int slot)
{
	const struct mp_words *words = &r->loop->words[slot];

	r->learning_rate = words->learning_rate;
	r->step_number = words->step_number;
	r->random_key = words->random_key;
	r->metrics = words->metrics;
}

enum { NCCL_BLOCKS = 16 };

// The world's communicator is only the one from which those of the axes are split. Every rank splits in the same
// order; a rank's number in the communicator of an axis is its coordinate there.
static void make_communicators(struct mp_rank *r)
{
	ncclComm_t world, *part[MP_AXES] = {&r->dp_comm, &r->tp_comm, &r->pp_comm};
	const int *size = r->model->axis;
	const int stride[MP_AXES] = {size[MP_TP], 1, size[MP_TP] * size[MP_DP]};
	ncclUniqueId id;

	if (r->world == 1)
		return;
	if (r->rank == 0)
		NCCL(ncclGetUniqueId(&id));
	mp_broadcast(r, &id, sizeof id, 0);
	ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
	NCCL(ncclCommInitRankConfig(&world, r->world, id, r->rank, &config));
	for (enum mp_axis axis = MP_DP; axis < MP_AXES; axis++) {
		int coordinate = mp_coordinate(r, axis);
		if (size[axis] == 1)
			continue;
		ncclConfig_t own = NCCL_CONFIG_INITIALIZER;
		own.maxCTAs = NCCL_BLOCKS; // leave multiprocessors to compute
		own.commName = axis_name(axis);
		NCCL(ncclCommSplit(world, r->rank - coordinate * stride[axis], coordinate, part[axis], &own));
	}
	NCCL(ncclCommDestroy(world));
}

// Sends nothing but zeros of the fresh arena along every connection that the program will use. NCCL connects at the
// first use and a kernel is loaded at its first launch; both wait for the device, and inside a step the device may be
// busy with communication that waits for this very rank.
static void connect_and_load(struct mp_rank *r)
{
	if (r->program->load_kernels)
		r->program->load_kernels();
	for (enum mp_axis axis = MP_DP; axis < MP_AXES; axis++)
		if (mp_communicator(r, axis))
			NCCL(ncclAllReduce(r->arena, r->arena, 1, ncclInt32, ncclSum, mp_communicator(r, axis), r->compute));
	if (r->pp_comm) {
		NCCL(ncclGroupStart());
		for (int peer = 0; peer < r->model->axis[MP_PP]; peer++) {
			if (peer == r->pp)
				continue;
			NCCL(ncclSend(r->arena, 1, ncclInt32, peer, r->pp_comm, r->compute));
			NCCL(ncclRecv(r->arena + 4 * (peer + 1), 1, ncclInt32, peer, r->pp_comm, r->compute));
		}
		NCCL(ncclGroupEnd());
	}
	CUDA(cudaStreamSynchronize(r->compute));
}

int mp_streams(const struct mp_rank *r, cudaStream_t *stream, const char **name)
{
	const cudaStream_t side[MP_AXES] = {r->dp_stream, r->tp_stream, r->pp_stream};
	int count = 1;

	stream[0] = r->compute;
	name[0] = "compute";
	if (r->side) {
		stream[count] = r->side;
		name[count++] = "side";
	}
	for (int axis = 0; axis < MP_AXES; axis++) {
		if (r->model->axis[axis] == 1)
			continue;
		stream[count] = side[axis];
		name[count++] = axis_name(axis);
	}
	return count;
}

static void print_memory(struct mp_rank *r)
{
	unsigned long long own = r->device_bytes;
	unsigned long long *all = mp_allocate((size_t)r->world * sizeof *all);

	mp_gather(r, &own, sizeof own, all);
	for (int k = 0; r->rank == 0 && k < r->world; k++)
		printf("memory: rank %d allocates %llu bytes\n", k, all[k]);
	if (r->rank == 0)
		fflush(stdout);
	free(all);
}

void mp_rank_open(struct mp_rank *r)
{
	r->loop = mp_allocate(sizeof *r->loop);
	r->loop->evaluated = r->loop->saved = -1;
	find_coordinates(r);
	take_device(r);
	make_streams(r);
	make_arena(r);
	make_host_buffers(r);
	make_communicators(r);
	mp_gemm_prepare(r);
	if (r->options->tune)
		mp_gemm_tune(r);
	mp_conv_prepare(r);
	mp_attention_prepare(r);
	connect_and_load(r);
	for (enum mp_axis axis = MP_DP; axis < MP_AXES; axis++)
		r->engines[axis] = mp_engines_open(r, axis);
	copy_constant(r);
	if (r->options->trace)
		r->trace = mp_trace_open();
	r->marks = mp_marks_new(r, r->trace != NULL);
	r->graphs = mp_graphs_new();
	r->report = mp_report_open(r);
	r->watch = mp_watch_open(r);
	print_memory(r);
}

void mp_rank_wait(struct mp_rank *r)
{
	mp_watch_action(r->watch, NULL);
	CUDA(cudaStreamSynchronize(r->compute));
	mp_watch_end(r->watch);
	if (r->trace)
		mp_marks_trace(r->marks, r->trace);
	mp_marks_stop(r->marks);
}

static void close_device(struct mp_rank *r)
{
	cudaStream_t stream[] = {r->compute, r->dp_stream, r->tp_stream, r->pp_stream, r->side};

	mp_graphs_free(r->graphs, r); // they hold kernels of the libraries
	mp_attention_release(r);
	mp_conv_release(r);
	mp_gemm_release(r);
	for (enum mp_axis axis = MP_DP; axis < MP_AXES; axis++)
		mp_engines_close(r->engines[axis]);
	for (enum mp_axis axis = MP_DP; axis < MP_AXES; axis++)
		if (mp_communicator(r, axis))
			NCCL(ncclCommDestroy(mp_communicator(r, axis)));
	for (int i = 0; i < r->program->event_count; i++)
		CUDA(cudaEventDestroy(r->event[i]));
	for (int slot = 0; slot < 2; slot++)
		CUDA(cudaEventDestroy(r->loop->ended[slot]));
	for (size_t i = 0; i < sizeof stream / sizeof *stream; i++)
		if (stream[i])
			CUDA(cudaStreamDestroy(stream[i]));
	CUDA(cudaFree(r->arena));
}

void mp_rank_close(struct mp_rank *r)
{
	CUDA(cudaDeviceSynchronize());
	mp_barrier(r); // nobody tears down what another still uses
	mp_watch_close(r->watch);
	if (r->trace)
		mp_trace_close(r->trace, r, r->options->trace);
	mp_report_close(r->report);
	if (r->loop->loader)
		mp_loader_free(r->loop->loader);
	if (r->loop->eval_loader)
		mp_loader_free(r->loop->eval_loader);
	mp_marks_free(r->marks);
	close_device(r);
	for (int i = 0; i < r->program->output_count; i++)
		CUDA(cudaFreeHost(r->output[i]));
	for (int slot = 0; slot < 2; slot++) {
		const struct mp_words *words = &r->loop->words[slot];
		CUDA(cudaFreeHost(words->learning_rate));
		CUDA(cudaFreeHost(words->step_number));
		CUDA(cudaFreeHost(words->random_key));
		CUDA(cudaFreeHost(words->metrics));
	}
	free(r->input);
	free(r->output);
	free(r->event);
	free(r->loop);
}
