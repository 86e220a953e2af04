// device.h: a host device, its streams and the operations that wait in them. Internal to runtime/host.
//
// One operating system thread, a rank, owns one device and executes its streams cooperatively: inside the
// calls that it makes anyway. Threads for each stream would cost two context switches per dependency, while
// emitted operations take microseconds; and an executor in one thread can choose the order of operations, which
// is what the late and random modes are for.
//
// Positions: operations of a stream are numbered from 1 in the order of enqueueing (tickets), and a stream
// executes them in that order, so "everything before here is done" is one comparison, completed >= ticket.
// An event is such a pair (stream, ticket), and waiting for it needs no other object.
#ifndef MP_HOST_DEVICE_H
#define MP_HOST_DEVICE_H

#include "mp_host.h"

#include <stdatomic.h>
#include <stdbool.h>

enum {
	CLOSURE_BYTES = 256,    // closures up to this size live in the operation
	MESSAGE_BYTES = 512
};

struct group;                   // comm.h

enum mode {
	MODE_EAGER,             // as soon as possible
	MODE_LATE,              // at the latest legal moment
	MODE_RANDOM             // streams advance in random order
};

// What an operation does. Small: on the fast path it lives in registers and on the stack only.
struct work {
	enum mp_host_kind kind;
	const char *name;
	union {
		void (*run)(void *);
		struct { void *to; const void *from; size_t bytes; } copy;
		struct { void *to; int value, descriptor; size_t bytes, offset; } fill; // to is at offset of the file
		struct { struct CUstream_st *stream; uint64_t ticket; } wait;
		struct group *group;
	};
};

struct operation {
	struct operation *next;
	uint64_t ticket;                // in its stream
	uint64_t order;                 // among all operations of the device
	uint64_t started;               // trace: ns, 0 before the first attempt
	struct work work;
	void *large;                    // closure beyond CLOSURE_BYTES, or NULL
	_Alignas(16) unsigned char closure[CLOSURE_BYTES];
};

struct CUstream_st {
	struct device *device;
	struct CUstream_st *next;       // of the device, in order of creation
	struct operation *head, **tail;
	uint64_t enqueued;              // last ticket given
	_Atomic uint64_t completed;     // last ticket done; other threads may read it
	uint64_t demanded;              // last ticket that may run (late mode), else UINT64_MAX
	bool blocking;                  // ordered with the null stream
	bool free;                      // destroyed: may be given out again
	int number;                     // in order of creation
	char name[24];
};

struct CUevent_st {
	struct CUstream_st *stream;     // NULL before the first record
	uint64_t ticket;
};

// Where a device sleeps when nothing can run, in a page that peers of other processes map. A peer that changes
// what a sleeper may be polling rings; it pays for a system call only when the device does sleep.
struct bell {
	_Atomic uint32_t count;         // futex word
	_Atomic uint32_t sleeping;
};

struct device {
	struct device *next;            // in the pool
	int ordinal;
	enum mode mode;
	uint64_t random;                // state of the generator
	struct CUstream_st *streams;    // the null stream first
	struct CUstream_st **last_stream;
	int stream_count;
	int busy;                       // streams that hold operations
	uint64_t orders;
	struct operation *spare;        // free list
	struct bell *bell;
	int bell_descriptor;
	bool failed;
	char message[MESSAGE_BYTES];    // why
	cudaError_t last_error;

	bool tracing;
	struct mp_host_event *events;
	size_t event_count, event_room;

	int group_depth;                // ncclGroupStart
	struct group *group;            // being collected
	struct group *spare_groups;
};

// The calling thread's device; made at first use.
struct device *host_device(void);

// Remembers the error for cudaGetLastError and returns it.
cudaError_t host_error(cudaError_t error);

// Marks the device failed for good: its streams are emptied and every later call reports it.
void host_fail(struct device *device, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The stream behind a handle (NULL: the null stream), or NULL when another thread's device owns it.
struct CUstream_st *host_stream(cudaStream_t stream);

// Appends work to a stream, or does it at once where the mode allows. Copies the closure.
cudaError_t host_enqueue(struct CUstream_st *stream, const struct work *work, const void *closure, size_t bytes);

// Appends a wait for a position of another stream of the same device.
cudaError_t host_enqueue_wait(struct CUstream_st *stream, struct CUstream_st *other, uint64_t ticket);

// Executes until done(argument); sleeps while nothing can run. The streams that done needs must be demanded
// before (host_demand), which only late mode heeds.
cudaError_t host_wait(struct device *device, bool (*done)(const void *argument), const void *argument);
void host_demand(struct CUstream_st *stream, uint64_t ticket);

// host_demand, then host_wait until the stream has reached the ticket.
cudaError_t host_wait_ticket(struct CUstream_st *stream, uint64_t ticket);

// For queries: what a wait would do, without sleeping. A program may poll until its work is done, so this demands.
void host_poll(struct CUstream_st *stream, uint64_t ticket);

// Executes what can run now without sleeping; true if anything did.
bool host_progress(struct device *device);

void host_ring(struct bell *bell);

uint64_t host_now(void);        // ns of CLOCK_MONOTONIC
void host_trace(struct CUstream_st *stream, const struct work *work, uint64_t start);

#endif
