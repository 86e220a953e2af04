// comm.h: communicators, their shared control block, and groups of calls. Internal to runtime/host.
//
// A communicator's members share one control block (comm.c maps it): for each member who it is, a ring of
// slots for collectives and a ring for every ordered pair of ranks. Each call takes the next number of its
// ring when the program makes it, which is what matches it with its peers' calls; a member writes what it
// calls into the slot, and whoever finds all that is needed there does the work (collective.c).
#ifndef MP_HOST_COMM_H
#define MP_HOST_COMM_H

#include "device.h"

#include <nccl.h>

enum {
	COLLECTIVE_SLOTS = 16,  // collectives that a communicator may have in flight, one group's at most
	CHANNEL_SLOTS = 8       // messages from one rank to another
};

enum call_kind { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, SEND, RECEIVE };

// Device memory as any process can find it.
struct address {
	uintptr_t pointer;      // in the owner's address space
	uint64_t segment;       // memory.h; 0: no memory (a call of 0 elements)
	size_t offset, mapped;
	int descriptor;
};

// What a member called.
struct call {
	enum call_kind kind;
	ncclDataType_t type;
	ncclRedOp_t op;
	int peer;               // broadcast: root; send and receive: the other rank
	size_t count;
	struct address send, receive;
};

// A member's place in a collective's slot. Stamps are number + 1 of the collective, so that nothing needs to be
// cleared between two uses.
struct entry {
	_Atomic uint64_t published;     // call is readable
	_Atomic uint64_t taken;         // broadcast: somebody copies for this receiver
	_Atomic uint64_t finished;      // broadcast: it has its data
	struct call call;
};

struct collective_slot {
	_Atomic uint64_t round;         // collective number / COLLECTIVE_SLOTS that may use it now
	_Atomic uint64_t next, done;    // units of work begun and finished (broadcast: done receivers)
	_Atomic uint32_t posted, left;  // members
	_Atomic uint32_t mismatch;      // 0, or 1 + first * 65536 + second of two members that disagree
	_Atomic uint32_t awaited;       // somebody wants to use it for the next round
};

struct channel_slot {
	_Atomic uint64_t round;
	_Atomic uint32_t arrived, done, mismatch, awaited;
	struct call call[2];            // sender's, receiver's
};

struct member {
	_Atomic uint32_t present;
	int process;
	int bell_descriptor;
	struct bell *bell;              // in its own process
	_Atomic uint32_t aborted;
	struct { int color, key; ncclUniqueId id; } split[2];   // of even and odd splits
};

struct control {
	uint64_t secret[2];             // must equal the id's
	_Atomic uint32_t size, joined;
	_Atomic uint32_t descriptor_closed;
	_Atomic uint64_t splits;        // arrivals
};

struct ncclComm {
	struct device *device;
	struct control *control;
	struct shared_control *shared;  // keeps it mapped
	int rank, size;
	struct member *members;         // the rest is in the control block too
	char *collectives, *channels;
	struct bell **bells;            // of the members, as mapped here
	bool *local;                    // member is in this process
	uint64_t collective_count;      // calls so far: the next call's number
	uint64_t *sent, *received;      // by peer
	uint64_t split_count;
	struct CUstream_st *last_stream; // of the last group: NCCL runs a communicator's groups in call order
	uint64_t last_ticket;
	struct mapping *mappings;       // peers' segments that this process has mapped
	void **send_at, **receive_at;   // scratch of collective.c, one for each member
	_Atomic uint32_t aborted;
	_Atomic int error;              // ncclResult_t
	char message[MESSAGE_BYTES];
	char name[32];
};

// One call of a group, with its progress.
struct part {
	struct ncclComm *comm;
	struct call call;
	uint64_t number;
	int round;              // of a message: it begins when the group's messages with this peer in lower rounds are finished
	enum { UNPOSTED, POSTED, FINISHED } state;
};

struct group {
	struct group *next;
	int count, room;
	int holders;            // the operation, and launch while it runs
	struct part *parts;
	struct CUstream_st **streams;   // of the parts
};

// group.c
bool host_group_progress(struct group *group);          // true when all parts are finished
bool host_group_wanted(const struct group *group);      // a peer waits for one of its unposted parts
void host_group_release(struct device *device, struct group *group);
void host_group_describe(const struct group *group, char *text, size_t room);

// collective.c
bool host_progress_part(struct part *part);             // true if it moved
bool host_part_wanted(const struct part *part);

// reduce.c: to[j][offset + i] = from[0][offset + i] op from[1][offset + i] ..., i < count, for all j < copies.
// to[j] may be one of from.
void host_reduce(ncclDataType_t type, ncclRedOp_t op, void *const *to, int copies, void *const *from, int size,
                 size_t offset, size_t count);
bool host_can_reduce(ncclDataType_t type, ncclRedOp_t op);

// comm.c
struct collective_slot *host_collective_slot(const struct ncclComm *comm, uint64_t number);
struct entry *host_entry(const struct ncclComm *comm, const struct collective_slot *slot, int member);
struct channel_slot *host_channel_slot(const struct ncclComm *comm, int from, int to, uint64_t number);
void *host_resolve(struct ncclComm *comm, int member, const struct address *address);
void host_ring_member(const struct ncclComm *comm, int member);         // not for oneself
void host_ring_members(const struct ncclComm *comm, int most);          // at most so many that sleep
// Reports an error of the communicator: kept for ncclGetLastError and ncclCommGetAsyncError.
ncclResult_t host_comm_error(struct ncclComm *comm, ncclResult_t result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
const char *host_call_name(enum call_kind kind);
size_t host_type_bytes(ncclDataType_t type);            // 0 for an unknown type
const char *host_type_name(ncclDataType_t type);

#endif
