// comm.c: how ranks meet, split and part.
//
// Problem: ranks are threads, processes or both; they know nothing of each other but an id, and a run that
// is killed must leave nothing behind. Method: an id names an anonymous file of the process that made it, as
// (process, descriptor, two random words); members open it as /proc/PROCESS/fd/DESCRIPTOR and map it as their
// control block. The kernel frees it with its last user, so there is nothing to unlink and no name that two runs
// could share. Device memory is reached in the same way, at first use, through the addresses in calls.
#define _GNU_SOURCE
#include "comm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

// What the bytes of an ncclUniqueId hold.
struct id {
	char magic[8];
	int process, descriptor;
	uint64_t secret[2];
};

struct mapping {
	struct mapping *next;
	int process;
	uint64_t segment;
	char *base;
	size_t bytes;
};

// A control block as this process has it mapped.
struct shared_control {
	struct shared_control *next;
	struct control *control;
	size_t bytes;
	int users;
};

static pthread_mutex_t controls_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared_control *controls;

static const char magic[8] = "mpgenid";

// Of communicators that could not be made, and of calls without one.
static _Thread_local char thread_message[MESSAGE_BYTES];

// ---------------------------------------------------------------------------------------------------------
// Errors and names

ncclResult_t host_comm_error(struct ncclComm *comm, ncclResult_t result, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(thread_message, sizeof thread_message, format, arguments);
	va_end(arguments);
	// The first error is the cause; a reader in another thread sees the whole message or none.
	if (comm && !atomic_load(&comm->error)) {
		memcpy(comm->message, thread_message, sizeof comm->message);
		atomic_store(&comm->error, (int)result);
	}
	return result;
}

const char *ncclGetLastError(ncclComm_t comm)
{
	return comm && atomic_load(&comm->error) ? comm->message : thread_message;
}

const char *host_call_name(enum call_kind kind)
{
	static const char *const names[] = {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather", "ncclBroadcast",
	                                    "ncclSend", "ncclRecv"};
	return names[kind];
}

static const struct { const char *name; size_t bytes; } types[ncclNumTypes] = {
	{"int8", 1}, {"uint8", 1}, {"int32", 4}, {"uint32", 4}, {"int64", 8}, {"uint64", 8},
	{"float16", 2}, {"float32", 4}, {"float64", 8}, {"bfloat16", 2},
};

size_t host_type_bytes(ncclDataType_t type)
{
	return (unsigned)type < ncclNumTypes ? types[type].bytes : 0;
}

const char *host_type_name(ncclDataType_t type)
{
	return (unsigned)type < ncclNumTypes ? types[type].name : "unknown";
}

// ---------------------------------------------------------------------------------------------------------
// The control block

static size_t collective_bytes(int size)
{
	return sizeof(struct collective_slot) + (size_t)size * sizeof(struct entry);
}

// Places the parts of the control block, once it is mapped (before, comm->control is NULL); returns its bytes.
static size_t layout(struct ncclComm *comm)
{
	size_t line = 64, size = (size_t)comm->size;
	size_t members = (sizeof *comm->control + line - 1) / line * line;
	size_t collectives = members + (size * sizeof(struct member) + line - 1) / line * line;
	size_t channels = collectives + COLLECTIVE_SLOTS * collective_bytes(comm->size);
	if (comm->control) {
		char *base = (char *)comm->control;
		comm->members = (struct member *)(void *)(base + members);
		comm->collectives = base + collectives;
		comm->channels = base + channels;
	}
	return channels + size * size * CHANNEL_SLOTS * sizeof(struct channel_slot);
}

struct collective_slot *host_collective_slot(const struct ncclComm *comm, uint64_t number)
{
	size_t index = number % COLLECTIVE_SLOTS;
	return (struct collective_slot *)(void *)(comm->collectives + index * collective_bytes(comm->size));
}

struct entry *host_entry(const struct ncclComm *comm, const struct collective_slot *slot, int member)
{
	(void)comm;
	return (struct entry *)(uintptr_t)(slot + 1) + member;
}

struct channel_slot *host_channel_slot(const struct ncclComm *comm, int from, int to, uint64_t number)
{
	size_t channel = (size_t)from * (size_t)comm->size + (size_t)to;
	return (struct channel_slot *)(void *)comm->channels + channel * CHANNEL_SLOTS + number % CHANNEL_SLOTS;
}

// Another process's file, mapped here; NULL with errno if it cannot be.
static void *map_foreign(int process, int descriptor, size_t bytes)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/fd/%d", process, descriptor);
	int file = open(path, O_RDWR | O_CLOEXEC);
	if (file < 0)
		return NULL;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	return memory == MAP_FAILED ? NULL : memory;
}

void *host_resolve(struct ncclComm *comm, int member, const struct address *address)
{
	int process = comm->members[member].process;
	if (comm->local[member] || !address->segment)
		return (void *)address->pointer;
	for (struct mapping *mapping = comm->mappings; mapping; mapping = mapping->next)
		if (mapping->process == process && mapping->segment == address->segment)
			return mapping->base + address->offset;
	struct mapping *mapping = malloc(sizeof *mapping);
	void *base = mapping ? map_foreign(process, address->descriptor, address->mapped) : NULL;
	if (!base) {
		host_comm_error(comm, ncclSystemError, "rank %d cannot map the memory of rank %d (process %d): %s",
		                comm->rank, member, process, strerror(errno));
		host_fail(comm->device, "%s", comm->message);
		free(mapping);
		return NULL;
	}
	*mapping = (struct mapping){comm->mappings, process, address->segment, base, address->mapped};
	comm->mappings = mapping;
	return mapping->base + address->offset;
}

void host_ring_member(const struct ncclComm *comm, int member)
{
	if (member != comm->rank)
		host_ring(comm->bells[member]);
}

void host_ring_members(const struct ncclComm *comm, int most)
{
	for (int i = 1; i < comm->size && most > 0; i++) {
		struct bell *bell = comm->bells[(comm->rank + i) % comm->size];
		if (atomic_load(&bell->sleeping)) {
			host_ring(bell);
			most--;
		}
	}
}

// ---------------------------------------------------------------------------------------------------------
// Joining

ncclResult_t ncclGetUniqueId(ncclUniqueId *out)
{
	struct id id = {.process = getpid()};
	struct control control = {.size = 0};
	if (!out)
		return host_comm_error(NULL, ncclInvalidArgument, "ncclGetUniqueId: the id is NULL");
	memcpy(id.magic, magic, sizeof magic);
	id.descriptor = memfd_create("mp_host communicator", MFD_CLOEXEC);
	if (id.descriptor < 0 || getrandom(id.secret, sizeof id.secret, 0) != sizeof id.secret)
		return host_comm_error(NULL, ncclSystemError, "ncclGetUniqueId: %s", strerror(errno));
	memcpy(control.secret, id.secret, sizeof id.secret);
	if (write(id.descriptor, &control, sizeof control) != sizeof control)
		return host_comm_error(NULL, ncclSystemError, "ncclGetUniqueId: %s", strerror(errno));
	memset(out, 0, sizeof *out);
	memcpy(out, &id, sizeof id);
	return ncclSuccess;
}

// The id's file, as large as the communicator needs: members agree on the size, so any of them may grow it.
static struct control *map_file(const struct id *id, size_t bytes)
{
	char path[64];
	struct stat status;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", id->process, id->descriptor);
	int file = open(path, O_RDWR | O_CLOEXEC);
	struct control *control = MAP_FAILED;
	if (file >= 0 && !fstat(file, &status) && (size_t)status.st_size >= sizeof *control &&
	    ((size_t)status.st_size >= bytes || !ftruncate(file, (off_t)bytes)))
		control = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (file >= 0)
		close(file);
	if (control == MAP_FAILED)
		return NULL;
	if (!memcmp(control->secret, id->secret, sizeof id->secret))
		return control;
	munmap(control, bytes); // the number means another file by now
	return NULL;
}

// Members in one process share one mapping, so that ThreadSanitizer sees their atomics meet.
static struct shared_control *share_control(const struct id *id, size_t bytes)
{
	pthread_mutex_lock(&controls_lock);
	struct shared_control *shared = controls;
	while (shared && (shared->bytes != bytes || memcmp(shared->control->secret, id->secret, sizeof id->secret)))
		shared = shared->next;
	if (!shared && (shared = calloc(1, sizeof *shared))) {
		shared->control = map_file(id, bytes);
		shared->bytes = bytes;
		if (shared->control) {
			shared->next = controls;
			controls = shared;
		} else {
			free(shared);
			shared = NULL;
		}
	}
	if (shared)
		shared->users++;
	pthread_mutex_unlock(&controls_lock);
	return shared;
}

static void unshare_control(struct shared_control *shared)
{
	pthread_mutex_lock(&controls_lock);
	if (!--shared->users) {
		struct shared_control **link = &controls;
		while (*link != shared)
			link = &(*link)->next;
		*link = shared->next;
		munmap(shared->control, shared->bytes);
		free(shared);
	}
	pthread_mutex_unlock(&controls_lock);
}

static ncclResult_t map_control(struct ncclComm *comm, const struct id *id)
{
	comm->shared = share_control(id, layout(comm));
	if (!comm->shared)
		return host_comm_error(NULL, ncclSystemError, "rank %d of %d: the process %d that made the "
			"communicator's id has ended or cannot be read", comm->rank, comm->size, id->process);
	comm->control = comm->shared->control;
	layout(comm);
	return ncclSuccess;
}

static bool all_joined(const void *argument)
{
	const struct ncclComm *comm = argument;
	return atomic_load(&comm->control->joined) == (uint32_t)comm->size;
}

static ncclResult_t enter(struct ncclComm *comm)
{
	uint32_t size = 0, wanted = (uint32_t)comm->size;
	struct member *me = &comm->members[comm->rank];
	if (!atomic_compare_exchange_strong(&comm->control->size, &size, wanted) && size != wanted)
		return host_comm_error(NULL, ncclInvalidArgument, "rank %d joins a communicator of %d ranks, others "
			"one of %u with the same id", comm->rank, comm->size, size);
	if (atomic_exchange(&me->present, 1))
		return host_comm_error(NULL, ncclInvalidArgument, "two members of %d want to be rank %d of one "
			"communicator", comm->size, comm->rank);
	me->process = getpid();
	me->bell = comm->device->bell;
	me->bell_descriptor = comm->device->bell_descriptor;
	return ncclSuccess;
}

static ncclResult_t map_bells(struct ncclComm *comm)
{
	for (int i = 0; i < comm->size; i++) {
		const struct member *member = &comm->members[i];
		comm->local[i] = member->process == getpid();
		comm->bells[i] = comm->local[i] ? member->bell :
			map_foreign(member->process, member->bell_descriptor, sizeof *member->bell);
		if (!comm->bells[i])
			return host_comm_error(NULL, ncclSystemError, "rank %d cannot reach rank %d (process %d): %s",
			                       comm->rank, i, member->process, strerror(errno));
	}
	return ncclSuccess;
}

// Waits for all; wakes those who wait. The members' bells are known only when all have joined, so until
// then arrivals ring nobody: the last one can reach every bell.
static ncclResult_t meet(struct ncclComm *comm, const struct id *id)
{
	ncclResult_t result = enter(comm);
	if (result)
		return result;
	bool last = atomic_fetch_add(&comm->control->joined, 1) + 1 == (uint32_t)comm->size;
	if (!last && host_wait(comm->device, all_joined, comm))
		return host_comm_error(NULL, ncclUnhandledCudaError, "%s", comm->device->message);
	result = map_bells(comm);
	if (last && !result)
		host_ring_members(comm, comm->size);
	if (id->process == getpid() && !atomic_exchange(&comm->control->descriptor_closed, 1))
		close(id->descriptor); // everyone has mapped it
	return result;
}

static void free_comm(struct ncclComm *comm)
{
	for (struct mapping *mapping = comm->mappings, *next; mapping; mapping = next) {
		next = mapping->next;
		munmap(mapping->base, mapping->bytes);
		free(mapping);
	}
	for (int i = 0; comm->bells && i < comm->size; i++)
		if (comm->bells[i] && !comm->local[i])
			munmap(comm->bells[i], sizeof **comm->bells);
	if (comm->shared)
		unshare_control(comm->shared);
	free(comm->bells);
	free(comm->local);
	free(comm->sent);
	free(comm->received);
	free(comm->send_at);
	free(comm->receive_at);
	free(comm);
}

static struct ncclComm *create_comm(int size, int rank)
{
	size_t count = (size_t)size;
	struct ncclComm *comm = calloc(1, sizeof *comm);
	if (!comm)
		return NULL;
	comm->device = host_device();
	comm->size = size;
	comm->rank = rank;
	comm->bells = calloc(count, sizeof *comm->bells);
	comm->local = calloc(count, sizeof *comm->local);
	comm->sent = calloc(count, sizeof *comm->sent);
	comm->received = calloc(count, sizeof *comm->received);
	comm->send_at = calloc(count, sizeof *comm->send_at);
	comm->receive_at = calloc(count, sizeof *comm->receive_at);
	if (comm->bells && comm->local && comm->sent && comm->received && comm->send_at && comm->receive_at)
		return comm;
	free_comm(comm);
	return NULL;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId bytes, int rank, ncclConfig_t *config)
{
	struct id id;
	memcpy(&id, &bytes, sizeof id);
	if (!out || size < 1 || size > 65535 || rank < 0 || rank >= size || memcmp(id.magic, magic, sizeof magic))
		return host_comm_error(NULL, ncclInvalidArgument, "ncclCommInitRank: rank %d of %d with %s id", rank,
			size, memcmp(id.magic, magic, sizeof magic) ? "an invalid" : "a valid");
	*out = NULL;
	struct ncclComm *comm = create_comm(size, rank);
	if (!comm)
		return host_comm_error(NULL, ncclSystemError, "ncclCommInitRank: out of memory");
	if (config && config->commName)
		snprintf(comm->name, sizeof comm->name, "%s", config->commName);
	ncclResult_t result = map_control(comm, &id);
	if (!result)
		result = meet(comm, &id);
	if (result) {
		free_comm(comm);
		return result;
	}
	*out = comm;
	return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank)
{
	return ncclCommInitRankConfig(comm, size, id, rank, NULL);
}

// ---------------------------------------------------------------------------------------------------------
// Splitting

static bool all_split(const void *argument)
{
	const struct ncclComm *comm = argument;
	return atomic_load(&comm->control->splits) >= comm->split_count * (uint64_t)comm->size;
}

// Every member offers a new id with its color and key; when all have, those of one color take the id of
// their first. The offers alternate between two places: nobody can be two splits ahead of a reader.
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *part, ncclConfig_t *config)
{
	if (!comm || !part || (color < 0 && color != NCCL_SPLIT_NOCOLOR) || comm->device != host_device())
		return host_comm_error(comm, ncclInvalidArgument, "ncclCommSplit: invalid argument (color %d)", color);
	int place = comm->split_count++ % 2, rank = 0, size = 0, first = -1;
	struct member *me = &comm->members[comm->rank];
	*part = NULL;
	me->split[place].color = color;
	me->split[place].key = key;
	ncclResult_t result = ncclGetUniqueId(&me->split[place].id);
	if (result)
		return result;
	ncclUniqueId mine = me->split[place].id;
	if (atomic_fetch_add(&comm->control->splits, 1) + 1 == comm->split_count * (uint64_t)comm->size)
		host_ring_members(comm, comm->size);
	else if (host_wait(comm->device, all_split, comm))
		return host_comm_error(comm, ncclUnhandledCudaError, "%s", comm->device->message);
	for (int i = 0; i < comm->size; i++) {
		const struct member *other = &comm->members[i];
		if (other->split[place].color != color)
			continue;
		size++;
		rank += other->split[place].key < key || (other->split[place].key == key && i < comm->rank);
		if (first < 0)
			first = i;
	}
	if (color == NCCL_SPLIT_NOCOLOR || first != comm->rank) {
		struct id unused;
		memcpy(&unused, &mine, sizeof unused);
		close(unused.descriptor);
	}
	if (color == NCCL_SPLIT_NOCOLOR)
		return ncclSuccess;
	return ncclCommInitRankConfig(part, size, comm->members[first].split[place].id, rank, config);
}

// ---------------------------------------------------------------------------------------------------------
// Parting

static cudaError_t finish(struct ncclComm *comm)
{
	return comm->last_stream ? host_wait_ticket(comm->last_stream, comm->last_ticket) : cudaSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
	if (!comm || comm->device != host_device())
		return host_comm_error(comm, ncclInvalidArgument, "ncclCommFinalize: not a communicator of this thread");
	return finish(comm) ? ncclUnhandledCudaError : ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
	ncclResult_t result = ncclCommFinalize(comm);
	if (result == ncclSuccess || result == ncclUnhandledCudaError)
		free_comm(comm);
	return result;
}

// What waits is let go without effect, here, and fails on the peers, who could never finish it. The
// memory stays when another thread aborts (a watchdog, about to end the program) or when calls are still queued behind
// something that does not move: the owner may be using it.
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
	if (!comm)
		return host_comm_error(NULL, ncclInvalidArgument, "ncclCommAbort: no communicator");
	struct device *owner = comm->device;
	bool own = owner == host_device();
	atomic_store(&comm->aborted, 1);
	atomic_store(&comm->members[comm->rank].aborted, 1);
	host_ring_members(comm, comm->size);
	host_ring(owner->bell);
	if (own && comm->last_stream)
		host_poll(comm->last_stream, comm->last_ticket);
	if (own && (!comm->last_stream || comm->last_stream->completed >= comm->last_ticket))
		free_comm(comm);
	return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
	if (!comm || !error)
		return host_comm_error(NULL, ncclInvalidArgument, "ncclCommGetAsyncError: NULL argument");
	*error = (ncclResult_t)atomic_load(&comm->error);
	return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
	if (!comm || !count)
		return host_comm_error(NULL, ncclInvalidArgument, "ncclCommCount: NULL argument");
	*count = comm->size;
	return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
	if (!comm || !rank)
		return host_comm_error(NULL, ncclInvalidArgument, "ncclCommUserRank: NULL argument");
	*rank = comm->rank;
	return ncclSuccess;
}
