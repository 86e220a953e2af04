// engines.c: collectives and messages by the copy engines of GPUs that reach each other's memory.
//
// Problem: NCCL's kernels take multiprocessors, 16 of 132 at full speed. A matrix product fills all of them: one that runs
// beside takes twice as long, and a collective that comes a little later than a product waits for its end. NCCL's own collectives by
// copy engines (2.28) make a copy inside the device first, which is a kernel and waits too. Method: ranks map each other's arenas; every
// rank copies its parts to where the others want them, by copy engines, which take no multiprocessor. Sums are made of what came in
// by a short kernel. Order between ranks: each has flags in its arena, of each other rank, to which this one copies the number of a
// collective and for which its own stream waits: READY, what is copied to may be overwritten; ARRIVED, the copies are there;
// SUMMED, the sums are. A flag changes only when the rank that waits for it has told that it did. All of it is enqueued on the
// axis' stream and captured in graphs.
//
// An all-reduce is a reduce-scatter into the own part, in place, and a gather of the parts; large ones go in pieces whose incoming
// parts fit the exchange's bytes.
#define _GNU_SOURCE
#include "part_sums.h"

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum flag { READY, ARRIVED, SUMMED, FLAGS };
enum { BEGUN = 1 }; // what flags have at a step's begin; then 0, and the numbers of collectives, which are greater
enum { FLAG_APART = 64, VALUES = 2048, VALUES_AT = MP_EXCHANGE_FLAGS - VALUES * sizeof(uint32_t) };

struct mp_engines {
	struct mp_rank *r;
	int me, ranks;
	unsigned turn;                  // of the step's latest collective; 0: it had none
	cudaStream_t stream;
	size_t offset[MP_EXCHANGE_RANKS], incoming;     // by rank: of the exchange in its arena; bytes behind the flags of this one
	uint32_t *zero;                 // pinned
	cudaStream_t *lanes;            // of messages that are sent beside each other: one for each other stage
	cudaEvent_t begun, *ended;      // ended: of each lane
	char *arena[MP_EXCHANGE_RANKS]; // by rank of the axis, as mapped here
	CUresult (*batch)(CUstream, unsigned, CUstreamBatchMemOpParams *, unsigned);
};

// What ranks tell each other.
struct address {
	cudaIpcMemHandle_t arena;
	cudaUUID_t device;
	char host[80];
};

// The rank that is `by` behind this one, and by how many another one is.
static int rank_behind(const struct mp_engines *e, int by)
{
	return (e->me + by) % e->ranks;
}

static int by_of(const struct mp_engines *e, int rank)
{
	return (rank - e->me + e->ranks) % e->ranks;
}

static char *exchange_at(const struct mp_engines *e, int rank)
{
	return e->arena[rank] + e->offset[rank];
}

// ---------------------------------------------------------------------------------------------------------
// Who reaches whom

// The same for all processes of a machine, and of no two machines.
static void name_host(char *name, size_t size)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
	const char *given = getenv("NCCL_HOSTID"); // tells ranks of one machine apart on purpose

	gethostname(name, size / 2);
	name[size / 2 - 1] = 0;
	size_t used = strlen(name);
	if (file) {
		size_t n = fread(name + used, 1, size - used - 1, file);
		name[used + n] = 0;
		fclose(file);
	}
	if (given)
		snprintf(name, size, "%s", given);
}

static void describe(const struct mp_rank *r, struct address *own)
{
	struct cudaDeviceProp properties;
	int device;

	CUDA(cudaGetDevice(&device));
	CUDA(cudaGetDeviceProperties(&properties, device));
	own->device = properties.uuid;
	name_host(own->host, sizeof own->host);
	if (cudaIpcGetMemHandle(&own->arena, r->arena) != cudaSuccess) {
		cudaGetLastError();
		own->host[0] = 0;
	}
}

// By NCCL, through the exchange's bytes of the fresh arena.
static void tell_all(const struct mp_engines *e, ncclComm_t comm, struct address *all)
{
	char *there = exchange_at(e, e->me);
	size_t each = sizeof *all;

	CUDA(cudaMemcpyAsync(there + (size_t)e->me * each, &all[e->me], each, cudaMemcpyHostToDevice, e->stream));
	NCCL(ncclAllGather(there + (size_t)e->me * each, there, each, ncclInt8, comm, e->stream));
	CUDA(cudaMemcpyAsync(all, there, (size_t)e->ranks * each, cudaMemcpyDeviceToHost, e->stream));
	CUDA(cudaMemsetAsync(there, 0, (size_t)e->ranks * each, e->stream));
	CUDA(cudaStreamSynchronize(e->stream));
}

// The least of what all say. Ranks that have heard of it may tell flags: it lies where none is.
static bool all_agree(const struct mp_engines *e, ncclComm_t comm, bool own)
{
	int32_t agrees = own;
	void *there = exchange_at(e, e->me) + VALUES_AT;

	CUDA(cudaMemcpyAsync(there, &agrees, sizeof agrees, cudaMemcpyHostToDevice, e->stream));
	NCCL(ncclAllReduce(there, there, 1, ncclInt32, ncclMin, comm, e->stream));
	CUDA(cudaMemcpyAsync(&agrees, there, sizeof agrees, cudaMemcpyDeviceToHost, e->stream));
	CUDA(cudaStreamSynchronize(e->stream));
	return agrees;
}

// Ranks that share a GPU go by NCCL: copies inside a device are kernels.
static bool map_arenas(struct mp_engines *e, const struct address *all)
{
	const struct address *own = &all[e->me];

	for (int rank = 0; rank < e->ranks; rank++) {
		bool here = own->host[0] && !strcmp(all[rank].host, own->host);
		if (rank != e->me && (!here || !memcmp(&all[rank].device, &own->device, sizeof own->device)
		         || cudaIpcOpenMemHandle((void **)&e->arena[rank], all[rank].arena, cudaIpcMemLazyEnablePeerAccess) != cudaSuccess)) {
			cudaGetLastError();
			e->arena[rank] = NULL;
			return false;
		}
	}
	return true;
}

static bool find_driver(struct mp_engines *e)
{
	enum cudaDriverEntryPointQueryResult found;
	void *function = NULL;

	if (cudaGetDriverEntryPointByVersion("cuStreamBatchMemOp", &function, 12000, cudaEnableDefault, &found) != cudaSuccess)
		cudaGetLastError();
	memcpy(&e->batch, &function, sizeof e->batch);
	return function != NULL;
}

// Kernels that are loaded later would wait for what the device does, which may be communication that waits for this rank.
static void load_sums(const struct mp_engines *e)
{
	static const enum mp_type types[] = {MP_F32, MP_F64, MP_BF16};

	for (size_t t = 0; t < sizeof types / sizeof *types; t++)
		for (size_t odd = 0; odd < 2; odd++)
			mp_sum_parts(e->r->arena + odd * mp_type_bytes(types[t]), (struct mp_parts){.count = 0}, 0, types[t], e->stream);
	CUDA(cudaStreamSynchronize(e->stream));
}

// What flags are told: the numbers from 0 on.
static void write_values(const struct mp_engines *e)
{
	uint32_t values[VALUES];

	for (uint32_t i = 0; i < VALUES; i++)
		values[i] = i;
	CUDA(cudaMemcpyAsync(exchange_at(e, e->me) + VALUES_AT, values, sizeof values, cudaMemcpyHostToDevice, e->stream));
	CUDA(cudaStreamSynchronize(e->stream));
}

static void make_lanes(struct mp_engines *e)
{
	int least, greatest;

	CUDA(cudaMallocHost((void **)&e->zero, sizeof *e->zero));
	*e->zero = 0;
	CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
	CUDA(cudaEventCreateWithFlags(&e->begun, cudaEventDisableTiming));
	e->lanes = mp_allocate((size_t)e->ranks * sizeof *e->lanes);
	e->ended = mp_allocate((size_t)e->ranks * sizeof *e->ended);
	for (int i = 0; i < e->ranks - 1; i++) {
		CUDA(cudaStreamCreateWithPriority(&e->lanes[i], cudaStreamNonBlocking, greatest));
		CUDA(cudaEventCreateWithFlags(&e->ended[i], cudaEventDisableTiming));
	}
}

static void free_lanes(struct mp_engines *e)
{
	CUDA(cudaFreeHost(e->zero));
	CUDA(cudaEventDestroy(e->begun));
	for (int i = 0; i < e->ranks - 1; i++) {
		CUDA(cudaStreamDestroy(e->lanes[i]));
		CUDA(cudaEventDestroy(e->ended[i]));
	}
	free(e->lanes);
	free(e->ended);
}

// Stages have programs of their own, all of them in this one.
static const struct mp_program *program_of(const struct mp_rank *r, enum mp_axis axis, int rank)
{
	return axis == MP_PP ? r->model->program(rank) : r->program;
}

// Whether the plan gives copy engines something to do over the axis, which all its ranks know.
static bool exchanges(const struct mp_rank *r, enum mp_axis axis)
{
	int ranks = r->model->axis[axis];

	for (int rank = 0; rank < ranks; rank++)
		if (!program_of(r, axis, rank)->exchange[axis].bytes)
			return false;
	return ranks > 1 && ranks <= MP_EXCHANGE_RANKS && !r->options->nccl_alone;
}

struct mp_engines *mp_engines_open(struct mp_rank *r, enum mp_axis axis)
{
	ncclComm_t comm = mp_communicator(r, axis);
	int ranks = r->model->axis[axis];

	if (!exchanges(r, axis))
		return NULL;
	struct mp_engines *e = mp_allocate(sizeof *e);
	struct address *all = mp_allocate((size_t)ranks * sizeof *all);
	*e = (struct mp_engines){.r = r, .me = mp_coordinate(r, axis), .ranks = ranks, .stream = mp_axis_stream(r, axis),
	                         .incoming = r->program->exchange[axis].bytes - MP_EXCHANGE_FLAGS};
	for (int rank = 0; rank < ranks; rank++)
		e->offset[rank] = program_of(r, axis, rank)->exchange[axis].offset;
	e->arena[e->me] = r->arena;
	describe(r, &all[e->me]);
	tell_all(e, comm, all);
	bool maps = find_driver(e) && map_arenas(e, all), agreed = all_agree(e, comm, maps);
	free(all);
	if (!agreed) {
		mp_engines_close(e);
		return NULL;
	}
	load_sums(e);
	write_values(e);
	if (axis == MP_PP)
		make_lanes(e);
	return e;
}

void mp_engines_close(struct mp_engines *e)
{
	if (!e)
		return;
	for (int rank = 0; rank < e->ranks; rank++)
		if (rank != e->me && e->arena[rank])
			CUDA(cudaIpcCloseMemHandle(e->arena[rank]));
	if (e->lanes)
		free_lanes(e);
	free(e);
}

// ---------------------------------------------------------------------------------------------------------
// Flags and copies

static void copy(const struct mp_engines *e, void *to, const void *from, size_t bytes)
{
	if (bytes)
		CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, e->stream));
}

// The flag of rank `of` in the arena of rank `where`.
static char *flag_of(const struct mp_engines *e, enum flag flag, int of, int where)
{
	return exchange_at(e, where) + ((size_t)flag * MP_EXCHANGE_RANKS + (size_t)of) * FLAG_APART;
}

// Gives the flags of this rank at others, from the one `first` behind it to the one `last` behind it, a value: what was enqueued before is
// done when they see it. A copy too: what writes a value into a stream waits for the writes of all kernels under way.
static void tell(const struct mp_engines *e, enum flag flag, int first, int last, unsigned value)
{
	const char *from = exchange_at(e, e->me) + VALUES_AT + value * sizeof(uint32_t);

	for (int by = first; by <= last; by++)
		copy(e, flag_of(e, flag, e->me, rank_behind(e, by)), from, sizeof(uint32_t));
}

// Waits until the flags of these ranks have the value here.
static void await(const struct mp_engines *e, enum flag flag, int first, int last, unsigned value)
{
	CUstreamBatchMemOpParams waits[MP_EXCHANGE_RANKS];

	memset(waits, 0, sizeof waits);
	for (int by = first; by <= last; by++) {
		CUstreamBatchMemOpParams *wait = &waits[by - first];
		wait->operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
		wait->waitValue.address = (CUdeviceptr)flag_of(e, flag, rank_behind(e, by), e->me);
		wait->waitValue.value = value;
		wait->waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
	}
	CUresult status = e->batch((CUstream)e->stream, (unsigned)(last - first + 1), waits, 0);
	if (status != CUDA_SUCCESS)
		mp_fail(MP_DEVICE_FAILED, "cuStreamBatchMemOp: error %d of the driver", (int)status);
}

static void meet(const struct mp_engines *e, enum flag flag, unsigned value)
{
	tell(e, flag, 1, e->ranks - 1, value);
	await(e, flag, 1, e->ranks - 1, value);
}

// In a graph every run of a step has the same values, and flags may still have those of the run before. No flag has BEGUN then: who has it
// in READY from all knows that all have passed the run before and wait for no flag of it; who has it in ARRIVED, that all have seen
// it in READY, which may change; with 0 in READY ARRIVED may, and with 0 in ARRIVED READY again. Meeting in 0 alone would not do: flags that
// nobody told in the run before, or before the first one, are 0 already and say nothing of their rank.
static void take_back(const struct mp_engines *e)
{
	meet(e, READY, BEGUN);
	tell(e, SUMMED, 1, e->ranks - 1, 0);
	meet(e, ARRIVED, BEGUN);
	meet(e, READY, 0);
	meet(e, ARRIVED, 0);
}

// The value of the next collective's flags, which none of them has.
static unsigned next_turn(struct mp_engines *e)
{
	if (e->turn == 0 || e->turn == VALUES - 1) {
		take_back(e);
		e->turn = BEGUN;
	}
	return ++e->turn;
}

void mp_engines_begin(struct mp_engines *e)
{
	if (e)
		e->turn = 0;
}

// What lies at `own` in this arena, in that of another rank.
static char *there(const struct mp_engines *e, int rank, const char *own)
{
	return e->arena[rank] + (own - e->r->arena);
}

// Where the part of rank `from` comes in at rank `at`.
static char *place_in(const struct mp_engines *e, int from, int at, size_t bytes)
{
	return exchange_at(e, at) + MP_EXCHANGE_FLAGS + (size_t)(from < at ? from : from - 1) * bytes;
}

// ---------------------------------------------------------------------------------------------------------
// Collectives

// A part of a tensor that each rank has whole: rank k's begins at k * apart and has as many bytes as are left, `apart` at the most.
static size_t part_bytes(int rank, size_t apart, size_t whole)
{
	size_t begin = (size_t)rank * apart;
	return begin >= whole ? 0 : whole - begin < apart ? whole - begin : apart;
}

// Sends every other rank its part of `from`, and adds up the own one into `to`.
static void scatter(struct mp_engines *e, const char *from, char *to, size_t apart, size_t whole, enum mp_type type)
{
	unsigned turn = next_turn(e);
	size_t own = part_bytes(e->me, apart, whole);
	struct mp_parts parts = {.count = e->ranks};

	meet(e, READY, turn);
	for (int by = 1; by < e->ranks; by++) {
		int rank = rank_behind(e, by);
		copy(e, place_in(e, e->me, rank, apart), from + (size_t)rank * apart, part_bytes(rank, apart, whole));
	}
	meet(e, ARRIVED, turn);
	for (int rank = 0; rank < e->ranks; rank++)
		parts.at[rank] = rank == e->me ? from + (size_t)rank * apart : place_in(e, rank, e->me, apart);
	if (own)
		mp_sum_parts(to, parts, own, type, e->stream);
}

void mp_engines_reduce_scatter(struct mp_engines *e, const char *from, char *to, size_t bytes, enum mp_type type)
{
	scatter(e, from, to, bytes, (size_t)e->ranks * bytes, type);
}

// A piece whose parts have come in everywhere: what others do with theirs, they do not read this one's any more.
static void all_reduce_piece(struct mp_engines *e, char *data, size_t apart, size_t bytes, enum mp_type type)
{
	char *own = data + (size_t)e->me * apart;

	scatter(e, data, own, apart, bytes, type);
	for (int by = 1; by < e->ranks; by++)
		copy(e, there(e, rank_behind(e, by), own), own, part_bytes(e->me, apart, bytes));
	meet(e, SUMMED, e->turn);
}

void mp_engines_all_reduce(struct mp_engines *e, char *data, size_t bytes, enum mp_type type)
{
	size_t most = e->incoming / (size_t)(e->ranks - 1) / 16 * 16, piece = most * (size_t)e->ranks;

	for (size_t at = 0; at < bytes; at += piece) {
		size_t length = bytes - at < piece ? bytes - at : piece, apart = (length + (size_t)e->ranks - 1) / (size_t)e->ranks;
		all_reduce_piece(e, data + at, (apart + 15) / 16 * 16, length, type);
	}
}

// The own part last: a copy inside a device is a kernel, which waits for the one that runs.
void mp_engines_all_gather(struct mp_engines *e, const char *from, char *to, size_t bytes, bool own)
{
	unsigned turn = next_turn(e);
	char *there_too = to + (size_t)e->me * bytes; // at the same place in every arena

	meet(e, READY, turn);
	for (int by = 1; by < e->ranks; by++)
		copy(e, there(e, rank_behind(e, by), there_too), from, bytes);
	tell(e, ARRIVED, 1, e->ranks - 1, turn);
	if (own && from != there_too)
		copy(e, there_too, from, bytes);
	await(e, ARRIVED, 1, e->ranks - 1, turn);
}

void mp_engines_shift(struct mp_engines *e, const char *from, char *to, size_t bytes, int by)
{
	unsigned turn = next_turn(e);
	int back = e->ranks - by;

	tell(e, READY, back, back, turn);
	await(e, READY, by, by, turn);
	copy(e, there(e, rank_behind(e, by), to), from, bytes);
	tell(e, ARRIVED, by, by, turn);
	await(e, ARRIVED, back, back, turn);
}

// ---------------------------------------------------------------------------------------------------------
// Messages

// Unlike collectives they come in no order that all ranks share, and how many a pair has in a step is its own matter. So a flag is
// raised by one rank and lowered by the one that waited for it, in its own memory: by a copy from the host, as one inside the device is a kernel.
static void await_raised(const struct mp_engines *e, enum flag flag, int by)
{
	await(e, flag, by, by, 1);
	CUDA(cudaMemcpyAsync(flag_of(e, flag, rank_behind(e, by), e->me), e->zero, sizeof *e->zero, cudaMemcpyHostToDevice, e->stream));
}

// The ordinal of a message among those of the same stage and direction.
static int round_of(const struct mp_message *messages, int i)
{
	int round = 0;
	for (int k = 0; k < i; k++)
		round += messages[k].stage == messages[i].stage && messages[k].send == messages[i].send;
	return round;
}

static bool is_of(const struct mp_message *messages, int i, int round, bool send)
{
	return messages[i].send == send && round_of(messages, i) == round;
}

// On its own lane, so that no message waits for another stage than the one that takes it.
static void send_beside(const struct mp_engines *e, const struct mp_message *m, int lane)
{
	struct mp_engines beside = *e;
	int by = by_of(e, m->stage);

	beside.stream = e->lanes[lane];
	CUDA(cudaStreamWaitEvent(beside.stream, e->begun, 0));
	await_raised(&beside, READY, by);
	copy(&beside, e->arena[m->stage] + m->there, m->at, (size_t)m->count * mp_type_bytes(m->type));
	tell(&beside, ARRIVED, by, by, 1);
	CUDA(cudaEventRecord(e->ended[lane], beside.stream));
}

static void send_and_receive(const struct mp_engines *e, const struct mp_message *messages, int count, int round)
{
	int sent = 0;

	for (int i = 0; i < count; i++)
		if (is_of(messages, i, round, false))
			tell(e, READY, by_of(e, messages[i].stage), by_of(e, messages[i].stage), 1);
	CUDA(cudaEventRecord(e->begun, e->stream));
	for (int i = 0; i < count; i++)
		if (is_of(messages, i, round, true))
			send_beside(e, &messages[i], sent++);
	for (int i = 0; i < count; i++)
		if (is_of(messages, i, round, false))
			await_raised(e, ARRIVED, by_of(e, messages[i].stage));
	while (sent > 0)
		CUDA(cudaStreamWaitEvent(e->stream, e->ended[--sent], 0));
}

void mp_engines_messages(struct mp_engines *e, const struct mp_message *messages, int count)
{
	int rounds = 0;

	for (int i = 0; i < count; i++) {
		int round = round_of(messages, i);
		rounds = round >= rounds ? round + 1 : rounds;
	}
	for (int round = 0; round < rounds; round++)
		send_and_receive(e, messages, count, round);
}
