// group.c: NCCL's calls become operations of streams.
//
// A call outside a group is a group of one. Calls inside a group are collected and become, at the outermost
// ncclGroupEnd, one operation that is done when all its parts are; the parts progress independently, so that a
// send and a receive in one group cannot block each other. But messages with one peer go in rounds, as NCCL schedules
// them: the n-th send together with the n-th receive, and no round begins before the one in front has ended. NCCL
// runs the groups of one communicator in the order of the calls, whatever their streams, and a group with several
// streams synchronizes them: both are expressed with ordinary waits between streams. A part takes its number when it
// is called, which is what matches it with its peers' calls.
#include "comm.h"
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------------------------------------------------
// Groups as operations

static bool is_message_with(const struct part *part, const struct part *other)
{
	return part->call.kind >= SEND && part->comm == other->comm && part->call.peer == other->call.peer;
}

// Whether all rounds in front of a part's have ended.
static bool is_open(const struct group *group, const struct part *part)
{
	for (int i = 0; i < group->count && part->round > 0; i++) {
		const struct part *other = &group->parts[i];
		if (is_message_with(other, part) && other->round < part->round && other->state != FINISHED)
			return false;
	}
	return true;
}

bool host_group_progress(struct group *group)
{
	int finished = 0;
	// Again while something moves: a rank may receive what it sends to itself.
	for (bool moved = true; moved;) {
		moved = false;
		finished = 0;
		for (int i = 0; i < group->count; i++) {
			struct part *part = &group->parts[i];
			if (part->state != FINISHED && is_open(group, part))
				moved |= host_progress_part(part);
			finished += part->state == FINISHED;
		}
		moved = moved && group->count > 1 && finished < group->count;
	}
	return finished == group->count;
}

bool host_group_wanted(const struct group *group)
{
	for (int i = 0; i < group->count; i++)
		if (host_part_wanted(&group->parts[i]))
			return true;
	return false;
}

void host_group_release(struct device *device, struct group *group)
{
	if (--group->holders > 0)
		return;
	group->count = 0;
	group->next = device->spare_groups;
	device->spare_groups = group;
}

void host_group_describe(const struct group *group, char *text, size_t room)
{
	size_t at = 0;
	for (int i = 0; i < group->count && at < room; i++) {
		const struct call *call = &group->parts[i].call;
		int length = snprintf(text + at, room - at, "%s%s %zu", i ? " + " : "", host_call_name(call->kind),
		                      call->count);
		at += (size_t)length;
	}
}

static struct group *new_group(struct device *device)
{
	struct group *group = device->spare_groups;
	if (group)
		device->spare_groups = group->next;
	else
		group = calloc(1, sizeof *group);
	return group;
}

static struct part *add_part(struct group *group, struct CUstream_st *stream)
{
	if (group->count == group->room) {
		int room = group->room ? 2 * group->room : 2;
		struct part *parts = realloc(group->parts, (size_t)room * sizeof *parts);
		if (parts)
			group->parts = parts;
		struct CUstream_st **streams = realloc(group->streams, (size_t)room * sizeof *streams);
		if (streams)
			group->streams = streams;
		if (!parts || !streams)
			return NULL;
		group->room = room;
	}
	group->streams[group->count] = stream;
	return &group->parts[group->count++];
}

// Whether the group's part i is the first one on its stream.
static bool first_on_stream(const struct group *group, int i)
{
	int k = 0;
	while (group->streams[k] != group->streams[i])
		k++;
	return k == i;
}

// Puts a complete group on the first part's stream, ordered with the other parts' streams and with the earlier
// groups of its communicators.
static ncclResult_t launch(struct device *device, struct group *group)
{
	struct CUstream_st *stream = group->streams[0];
	struct work work = {.kind = MP_HOST_COMMUNICATION, .name = "nccl", .group = group};
	for (int i = 0; i < group->count; i++) {
		struct CUstream_st *other = group->streams[i];
		struct ncclComm *comm = group->parts[i].comm;
		if (other != stream && first_on_stream(group, i) && other->completed < other->enqueued)
			host_enqueue_wait(stream, other, other->enqueued);
		if (comm->last_stream && comm->last_stream != stream &&
		    comm->last_stream->completed < comm->last_ticket)
			host_enqueue_wait(stream, comm->last_stream, comm->last_ticket);
	}
	// Released only below, because the lists of streams and communicators are needed after it may be done.
	group->holders = 2;
	cudaError_t error = host_enqueue(stream, &work, NULL, 0);
	ncclResult_t result = error || device->failed ? ncclUnhandledCudaError : ncclSuccess;
	for (int i = 0; i < group->count; i++) {
		struct ncclComm *comm = group->parts[i].comm;
		if (group->streams[i] != stream && first_on_stream(group, i) && !error)
			error = host_enqueue_wait(group->streams[i], stream, stream->enqueued);
		comm->last_stream = stream;
		comm->last_ticket = stream->enqueued;
		if (atomic_load(&comm->error))
			result = (ncclResult_t)atomic_load(&comm->error);
	}
	host_group_release(device, group);
	return result;
}

ncclResult_t ncclGroupStart(void)
{
	host_device()->group_depth++;
	return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
	struct device *device = host_device();
	if (!device->group_depth)
		return host_comm_error(NULL, ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
	if (--device->group_depth || !device->group)
		return ncclSuccess;
	struct group *group = device->group;
	device->group = NULL;
	return launch(device, group);
}

// ---------------------------------------------------------------------------------------------------------
// Calls

// Fills in where `bytes` of memory are for other processes; false when they are not CUDA's.
static bool find_address(const void *memory, size_t bytes, struct address *address)
{
	struct segment segment;
	*address = (struct address){.pointer = (uintptr_t)memory};
	if (!bytes)
		return true;
	if (!host_find_segment(memory, bytes, &segment))
		return false;
	address->segment = segment.number;
	address->offset = (size_t)((const char *)memory - segment.base);
	address->mapped = segment.mapped;
	address->descriptor = segment.descriptor;
	return true;
}

// Bytes that a call reads and writes on this rank, in elements.
static void extents(const struct call *call, const struct ncclComm *comm, size_t *send, size_t *receive)
{
	size_t all = call->count * (size_t)comm->size;
	*send = call->kind == RECEIVE ? 0 : call->kind == REDUCE_SCATTER ? all : call->count;
	*receive = call->kind == SEND ? 0 : call->kind == ALL_GATHER ? all : call->count;
	if (call->kind == BROADCAST && call->peer != comm->rank)
		*send = 0;
}

static ncclResult_t check_call(const struct call *call, const struct ncclComm *comm)
{
	const char *name = host_call_name(call->kind);
	struct device *device = host_device();
	if (!comm || comm->device != device)
		return host_comm_error(NULL, ncclInvalidArgument, "%s: not a communicator of this thread", name);
	if (!host_type_bytes(call->type))
		return host_comm_error(NULL, ncclInvalidArgument, "%s: unknown type %d", name, (int)call->type);
	if ((call->kind == ALL_REDUCE || call->kind == REDUCE_SCATTER) && !host_can_reduce(call->type, call->op))
		return host_comm_error(NULL, ncclInvalidArgument, "%s: the host reduces int32, int64, float32, float64 and "
			"bfloat16 by sum and max only, not %s by operation %d", name, host_type_name(call->type), (int)call->op);
	if (call->kind >= BROADCAST && (call->peer < 0 || call->peer >= comm->size))
		return host_comm_error(NULL, ncclInvalidArgument, "%s: rank %d does not exist in a communicator of %d", name,
			call->peer, comm->size);
	if (call->kind >= SEND && call->peer == comm->rank && !device->group_depth)
		return host_comm_error(NULL, ncclInvalidUsage, "%s: a rank sends to itself only inside a group", name);
	return ncclSuccess;
}

static uint64_t take_number(struct ncclComm *comm, const struct call *call)
{
	return call->kind == SEND ? comm->sent[call->peer]++ :
	       call->kind == RECEIVE ? comm->received[call->peer]++ : comm->collective_count++;
}

// How many messages of the part's kind with its peer are in front of it in its group.
static int round_of(const struct group *group, const struct part *part)
{
	int round = 0;
	for (const struct part *other = group->parts; part->call.kind >= SEND && other < part; other++)
		round += is_message_with(other, part) && other->call.kind == part->call.kind;
	return round;
}

static ncclResult_t enqueue_call(struct call *call, const void *send, void *receive, struct ncclComm *comm,
                                 cudaStream_t handle)
{
	struct CUstream_st *stream = host_stream(handle);
	size_t sent, received;
	ncclResult_t result = check_call(call, comm);
	if (result)
		return result;
	if (!stream)
		return host_comm_error(NULL, ncclInvalidArgument, "%s: not a stream of this thread",
			host_call_name(call->kind));
	extents(call, comm, &sent, &received);
	sent *= host_type_bytes(call->type);
	received *= host_type_bytes(call->type);
	if (!find_address(send, sent, &call->send) || !find_address(receive, received, &call->receive))
		return host_comm_error(NULL, ncclInvalidArgument, "%s of %zu elements: %p (%zu bytes) or %p (%zu bytes) "
			"is not memory of cudaMalloc or cudaMallocHost, or reaches past its end", host_call_name(call->kind),
			call->count, send, sent, receive, received);
	struct device *device = comm->device;
	struct group *group = device->group ? device->group : new_group(device);
	struct part *part = group ? add_part(group, stream) : NULL;
	if (!part)
		return host_comm_error(NULL, ncclSystemError, "%s: out of memory", host_call_name(call->kind));
	*part = (struct part){.comm = comm, .call = *call, .number = take_number(comm, call), .state = UNPOSTED};
	part->round = round_of(group, part);
	if (device->group_depth) {
		device->group = group;
		return ncclSuccess;
	}
	return launch(device, group);
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
	struct call call = {.kind = ALL_REDUCE, .type = type, .op = op, .count = count};
	return enqueue_call(&call, send, receive, comm, stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t receive_count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
	struct call call = {.kind = REDUCE_SCATTER, .type = type, .op = op, .count = receive_count};
	return enqueue_call(&call, send, receive, comm, stream);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t send_count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
	struct call call = {.kind = ALL_GATHER, .type = type, .count = send_count};
	return enqueue_call(&call, send, receive, comm, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
	struct call call = {.kind = BROADCAST, .type = type, .peer = root, .count = count};
	return enqueue_call(&call, send, receive, comm, stream);
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
	struct call call = {.kind = SEND, .type = type, .peer = peer, .count = count};
	return enqueue_call(&call, send, NULL, comm, stream);
}

ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
	struct call call = {.kind = RECEIVE, .type = type, .peer = peer, .count = count};
	return enqueue_call(&call, NULL, receive, comm, stream);
}
