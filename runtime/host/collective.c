// collective.c: how data move between ranks.
//
// Problem: a rank's thread may be busy in a kernel or not scheduled at all (eight ranks on two cores) when its
// peers could go on. Method: members publish what they call, with the addresses of their memory, which all can
// read and write; from then on any member that comes by does any part of the work. All-reduce, reduce-scatter
// and all-gather need everybody's data: when the last member has published, the work is cut into units, which
// members claim one by one, and the collective is done when the last unit is. A unit of an all-reduce combines
// a piece from all send buffers and writes it to all receive buffers: each byte is read and written once, no
// member waits for another's phase, and small calls cost one wake-up a member. A broadcast has one unit for
// each receiver, which needs only the root and that receiver. Of a send and a receive, the second to
// arrive copies.
//
// A mismatch is found by comparing what members published, before any data move: each one publishes first and
// then compares itself with all others, so of any two at least one sees both.
#include "comm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { UNIT_BYTES = 65536 };

static bool fail(struct part *part, ncclResult_t result, const char *message)
{
	host_comm_error(part->comm, result, "%s", message);
	host_fail(part->comm->device, "%s", part->comm->message);
	return false;
}

static bool finish(struct part *part)
{
	part->state = FINISHED;
	return true;
}

static void describe_call(const struct call *call, char *text, size_t room)
{
	const char *type = host_type_name(call->type);
	switch (call->kind) {
	case ALL_REDUCE:
	case REDUCE_SCATTER:
		snprintf(text, room, "%s(count %zu, %s, %s)", host_call_name(call->kind), call->count, type,
		         call->op == ncclSum ? "sum" : "max");
		break;
	case BROADCAST:
		snprintf(text, room, "ncclBroadcast(count %zu, %s, root %d)", call->count, type, call->peer);
		break;
	case SEND:
	case RECEIVE:
		snprintf(text, room, "%s(count %zu, %s, peer %d)", host_call_name(call->kind), call->count, type,
		         call->peer);
		break;
	default:
		snprintf(text, room, "%s(count %zu, %s)", host_call_name(call->kind), call->count, type);
	}
}

static bool fail_mismatch(struct part *part, int first, const struct call *a, int second, const struct call *b)
{
	const struct ncclComm *comm = part->comm;
	char text_a[96], text_b[96], message[MESSAGE_BYTES];
	describe_call(a, text_a, sizeof text_a);
	describe_call(b, text_b, sizeof text_b);
	snprintf(message, sizeof message, "calls do not match on communicator%s%s of %d ranks, %s number %llu: rank %d "
	         "calls %s, rank %d calls %s", *comm->name ? " " : "", comm->name, comm->size,
	         part->call.kind < SEND ? "collective" : "message", (unsigned long long)part->number, first, text_a,
	         second, text_b);
	return fail(part, ncclInvalidUsage, message);
}

// ---------------------------------------------------------------------------------------------------------
// Collectives

static bool same_call(const struct call *a, const struct call *b)
{
	return a->kind == b->kind && a->type == b->type && a->count == b->count && a->op == b->op &&
	       a->peer == b->peer;
}

static bool published(const struct part *part, const struct entry *entry)
{
	return atomic_load(&entry->published) == part->number + 1;
}

static bool mismatched(struct part *part, struct collective_slot *slot)
{
	uint32_t pair = atomic_load(&slot->mismatch);
	if (!pair)
		return false;
	int first = (int)((pair - 1) / 65536), second = (int)((pair - 1) % 65536);
	fail_mismatch(part, first, &host_entry(part->comm, slot, first)->call, second,
	              &host_entry(part->comm, slot, second)->call);
	return true;
}

// How many sleepers are worth waking to share `units` of work: no more than there are other cores.
static int helpers(uint64_t units)
{
	static _Atomic long cores;
	long count = atomic_load_explicit(&cores, memory_order_relaxed);
	if (!count) {
		count = sysconf(_SC_NPROCESSORS_ONLN);
		atomic_store_explicit(&cores, count > 0 ? count : 1, memory_order_relaxed);
	}
	return (int)(units - 1 < (uint64_t)(count - 1) ? units - 1 : (uint64_t)(count - 1));
}

static size_t piece_elements(const struct call *call)
{
	return UNIT_BYTES / host_type_bytes(call->type);
}

static uint64_t unit_count(const struct part *part)
{
	size_t piece = piece_elements(&part->call);
	uint64_t pieces = (part->call.count + piece - 1) / piece;
	return part->call.kind == ALL_REDUCE ? pieces : pieces * (uint64_t)part->comm->size;
}

static void do_unit(struct part *part, uint64_t unit)
{
	struct ncclComm *comm = part->comm;
	const struct call *call = &part->call;
	size_t piece = piece_elements(call), bytes = host_type_bytes(call->type);
	uint64_t pieces = (call->count + piece - 1) / piece;
	int owner = call->kind == ALL_REDUCE ? 0 : (int)(unit / pieces); // whose share of the whole
	size_t at = (size_t)(unit % pieces) * piece;
	size_t count = call->count - at < piece ? call->count - at : piece;
	if (call->kind == ALL_REDUCE) {
		host_reduce(call->type, call->op, comm->receive_at, comm->size, comm->send_at, comm->size, at, count);
	} else if (call->kind == REDUCE_SCATTER) {
		// The owner's receive buffer begins where its share of the send buffers does.
		size_t share = (size_t)owner * call->count;
		void *to = (void *)((uintptr_t)comm->receive_at[owner] - share * bytes);
		host_reduce(call->type, call->op, &to, 1, comm->send_at, comm->size, share + at, count);
	} else {
		const char *from = (const char *)comm->send_at[owner] + at * bytes;
		for (int i = 0; i < comm->size; i++) {
			char *to = (char *)comm->receive_at[i] + ((size_t)owner * call->count + at) * bytes;
			if (to != from)
				memcpy(to, from, count * bytes);
		}
	}
}

static bool find_buffers(struct part *part, struct collective_slot *slot)
{
	struct ncclComm *comm = part->comm;
	for (int i = 0; i < comm->size; i++) {
		const struct call *call = &host_entry(comm, slot, i)->call;
		comm->send_at[i] = host_resolve(comm, i, &call->send);
		comm->receive_at[i] = host_resolve(comm, i, &call->receive);
		if (call->count && (!comm->send_at[i] || !comm->receive_at[i]))
			return false;
	}
	return true;
}

// The last member to leave hands the slot to the next round.
static bool leave(struct part *part, struct collective_slot *slot)
{
	if (atomic_fetch_add(&slot->left, 1) + 1 == (uint32_t)part->comm->size) {
		atomic_store_explicit(&slot->posted, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->left, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->next, 0, memory_order_relaxed);
		atomic_store_explicit(&slot->done, 0, memory_order_relaxed);
		atomic_fetch_add(&slot->round, 1);
		if (atomic_exchange(&slot->awaited, 0))
			host_ring_members(part->comm, part->comm->size);
	}
	return finish(part);
}

// Everybody's data are there: shares the work; true when all of it is done.
static bool work(struct part *part, struct collective_slot *slot)
{
	uint64_t units = unit_count(part);
	bool found = false;
	while (atomic_load(&slot->next) < units) {
		// Claims cannot be given back, so the buffers are found first.
		if (!found && !(found = find_buffers(part, slot)))
			return false;
		uint64_t unit = atomic_fetch_add(&slot->next, 1);
		if (unit >= units)
			break;
		do_unit(part, unit);
		if (atomic_fetch_add(&slot->done, 1) + 1 == units)
			host_ring_members(part->comm, part->comm->size);
	}
	return atomic_load(&slot->done) >= units;
}

// Copies a broadcast's data to one receiver, unless somebody else does.
static void give(struct part *part, struct collective_slot *slot, int root, int receiver)
{
	struct ncclComm *comm = part->comm;
	struct entry *from = host_entry(comm, slot, root), *to = host_entry(comm, slot, receiver);
	uint64_t stamp = part->number + 1;
	if (!published(part, from) || !published(part, to) || !same_call(&from->call, &to->call) ||
	    atomic_load(&to->taken) == stamp)
		return;
	void *source = host_resolve(comm, root, &from->call.send);
	void *target = host_resolve(comm, receiver, &to->call.receive);
	size_t bytes = part->call.count * host_type_bytes(part->call.type);
	if ((bytes && (!source || !target)) || atomic_exchange(&to->taken, stamp) == stamp)
		return;
	if (bytes)
		memmove(target, source, bytes);
	// The slot must not be left, and so not reused, before the last access to it: count before finishing.
	bool all = atomic_fetch_add(&slot->done, 1) + 1 == (uint64_t)comm->size - 1;
	atomic_store(&to->finished, stamp);
	host_ring_member(comm, receiver);
	if (all)
		host_ring_member(comm, root);
}

static bool broadcast(struct part *part, struct collective_slot *slot)
{
	struct ncclComm *comm = part->comm;
	int root = part->call.peer;
	if (comm->rank != root) {
		give(part, slot, root, comm->rank);
		return atomic_load(&host_entry(comm, slot, comm->rank)->finished) == part->number + 1;
	}
	for (int i = 0; i < comm->size; i++)
		if (i != root)
			give(part, slot, root, i);
	return atomic_load(&slot->done) == (uint64_t)comm->size - 1;
}

static bool post_collective(struct part *part, struct collective_slot *slot)
{
	struct ncclComm *comm = part->comm;
	struct entry *me = host_entry(comm, slot, comm->rank);
	uint64_t round = part->number / COLLECTIVE_SLOTS;
	if (atomic_load(&slot->round) != round) {
		atomic_store(&slot->awaited, 1);
		if (atomic_load(&slot->round) != round)
			return false;
	}
	if (part->call.kind == BROADCAST && comm->rank == part->call.peer && part->call.count &&
	    part->call.send.pointer != part->call.receive.pointer)
		memmove((void *)part->call.receive.pointer, (void *)part->call.send.pointer,
		        part->call.count * host_type_bytes(part->call.type));
	me->call = part->call;
	atomic_store(&me->published, part->number + 1);
	part->state = POSTED;
	for (int i = 0; i < comm->size; i++) {
		struct entry *other = host_entry(comm, slot, i);
		uint32_t none = 0;
		if (i == comm->rank || !published(part, other) || same_call(&me->call, &other->call))
			continue;
		int first = i < comm->rank ? i : comm->rank, second = i + comm->rank - first;
		atomic_compare_exchange_strong(&slot->mismatch, &none, 1 + (uint32_t)first * 65536 + (uint32_t)second);
		host_ring_members(comm, comm->size);
	}
	bool last = atomic_fetch_add(&slot->posted, 1) + 1 == (uint32_t)comm->size;
	if (comm->device->mode == MODE_LATE)
		host_ring_members(comm, comm->size); // a peer may have to demand its counterpart
	else if (last && part->call.kind != BROADCAST)
		host_ring_members(comm, helpers(unit_count(part) ? unit_count(part) : 1));
	return true;
}

static bool progress_collective(struct part *part)
{
	struct collective_slot *slot = host_collective_slot(part->comm, part->number);
	bool moved = false;
	if (part->state == UNPOSTED && !(moved = post_collective(part, slot)))
		return false;
	if (mismatched(part, slot))
		return false;
	if (part->call.kind == BROADCAST) {
		if (broadcast(part, slot))
			return leave(part, slot);
	} else if (atomic_load(&slot->posted) == (uint32_t)part->comm->size && work(part, slot)) {
		if (part->call.count == 0)
			host_ring_members(part->comm, part->comm->size); // no unit was there to ring
		return leave(part, slot);
	}
	return moved;
}

// ---------------------------------------------------------------------------------------------------------
// Messages

static struct channel_slot *channel_slot(const struct part *part)
{
	bool send = part->call.kind == SEND;
	return host_channel_slot(part->comm, send ? part->comm->rank : part->call.peer,
	                         send ? part->call.peer : part->comm->rank, part->number);
}

static bool copy_message(struct part *part, struct channel_slot *slot)
{
	struct ncclComm *comm = part->comm;
	int peer = part->call.peer;
	int from = part->call.kind == SEND ? comm->rank : peer, to = from == peer ? comm->rank : peer;
	const struct call *send = &slot->call[0], *receive = &slot->call[1];
	if (send->count != receive->count || send->type != receive->type) {
		atomic_store(&slot->mismatch, 1);
		host_ring_member(comm, peer);
		return fail_mismatch(part, from, send, to, receive);
	}
	if (send->count) {
		void *source = host_resolve(comm, from, &send->send);
		void *target = host_resolve(comm, to, &receive->receive);
		if (!source || !target)
			return false;
		memmove(target, source, send->count * host_type_bytes(send->type));
	}
	atomic_store(&slot->done, 1);
	host_ring_member(comm, peer);
	return finish(part);
}

static bool progress_message(struct part *part)
{
	struct channel_slot *slot = channel_slot(part);
	uint64_t round = part->number / CHANNEL_SLOTS;
	if (part->state == UNPOSTED) {
		if (atomic_load(&slot->round) != round) {
			atomic_store(&slot->awaited, 1);
			if (atomic_load(&slot->round) != round)
				return false;
		}
		slot->call[part->call.kind == RECEIVE] = part->call;
		part->state = POSTED;
		if (atomic_fetch_add(&slot->arrived, 1) == 1)
			return copy_message(part, slot);
		if (part->comm->device->mode == MODE_LATE)
			host_ring_member(part->comm, part->call.peer);
		return true;
	}
	if (atomic_load(&slot->mismatch)) {
		bool send = part->call.kind == SEND;
		int rank = part->comm->rank, peer = part->call.peer;
		return fail_mismatch(part, send ? rank : peer, &slot->call[0], send ? peer : rank, &slot->call[1]);
	}
	if (!atomic_load(&slot->done))
		return false;
	// The one who copied has left; the slot is this member's to hand on.
	atomic_store_explicit(&slot->arrived, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->done, 0, memory_order_relaxed);
	atomic_fetch_add(&slot->round, 1);
	if (atomic_exchange(&slot->awaited, 0))
		host_ring_member(part->comm, part->call.peer);
	return finish(part);
}

// ---------------------------------------------------------------------------------------------------------

bool host_progress_part(struct part *part)
{
	struct ncclComm *comm = part->comm;
	if (atomic_load(&comm->aborted))
		return finish(part);
	if (part->call.kind < SEND ? progress_collective(part) : progress_message(part))
		return true;
	for (int i = 0; i < comm->size && !comm->device->failed; i++)
		if (atomic_load(&comm->members[i].aborted) && i != comm->rank) {
			char message[MESSAGE_BYTES];
			snprintf(message, sizeof message, "%s on communicator%s%s of %d ranks cannot finish: rank %d aborted "
			         "the communicator", host_call_name(part->call.kind), *comm->name ? " " : "", comm->name,
			         comm->size, i);
			fail(part, ncclRemoteError, message);
		}
	return false;
}

bool host_part_wanted(const struct part *part)
{
	if (part->state != UNPOSTED)
		return false;
	if (part->call.kind >= SEND) {
		const struct channel_slot *slot = channel_slot(part);
		return atomic_load(&slot->round) == part->number / CHANNEL_SLOTS && atomic_load(&slot->arrived) > 0;
	}
	const struct collective_slot *slot = host_collective_slot(part->comm, part->number);
	return atomic_load(&slot->round) == part->number / COLLECTIVE_SLOTS && atomic_load(&slot->posted) > 0;
}
