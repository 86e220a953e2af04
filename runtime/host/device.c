// device.c: the executor of a device's streams.
//
// Problem: CUDA streams run beside the thread that feeds them; here that thread is all there is. Method: each
// stream is a queue, and the owner executes queue heads inside its own calls. Three modes (MP_HOST_MODE)
// choose when, all of them legal executions of the program:
//   eager       an operation whose stream is empty runs inside the call that enqueues it, without being
//               stored; what must wait (for an event or for a peer) is tried again at each later call.
//   late        nothing runs before a synchronize demands it. A demand is a ticket per stream: operations up to
//               it may run, and a wait for another stream passes the demand on. So each operation runs
//               when the first thing that is ordered after it needs it, and a forgotten wait reads stale data
//               every time instead of once a month. If the device would sleep while a peer already waits in a
//               call whose counterpart lies undemanded in one of our queues, that counterpart (the oldest) is
//               demanded; otherwise correct programs could deadlock.
//   random:SEED streams advance in random order, a random number of operations at each enqueue.
#define _GNU_SOURCE
#include "device.h"
#include "comm.h"
#include "memory.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	POLLS_BEFORE_SLEEP = 40,        // a microsecond or two: a peer that is about to arrive costs no sleep
	SLEEP_MILLISECONDS = 1000       // an upper bound only: every change that matters rings
};

// Devices outlive their threads, because peers may still ring them: a thread that ends returns its device to
// this pool, and the next new thread gets it.
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct device *pool;
static pthread_key_t thread_end;
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;
static _Thread_local struct device *current;

// ---------------------------------------------------------------------------------------------------------
// Devices

static void drop_operations(struct device *device);

static void return_device(void *argument)
{
	struct device *device = argument;
	drop_operations(device);
	if (device->group)
		host_group_release(device, device->group);
	device->group = NULL;
	mp_host_trace_stop();
	pthread_mutex_lock(&pool_lock);
	device->next = pool;
	pool = device;
	pthread_mutex_unlock(&pool_lock);
	current = NULL;
}

static void create_key(void)
{
	pthread_key_create(&thread_end, return_device);
}

static void out_of_memory(void)
{
	fprintf(stderr, "mp_host: out of memory\n");
	abort();
}

static struct CUstream_st *add_stream(struct device *device, bool blocking)
{
	struct CUstream_st *stream = device->streams;
	while (stream && !stream->free)
		stream = stream->next;
	if (!stream) {
		stream = calloc(1, sizeof *stream);
		if (!stream)
			out_of_memory();
		stream->device = device;
		stream->tail = &stream->head;
		*device->last_stream = stream;
		device->last_stream = &stream->next;
		stream->number = device->stream_count++;
	}
	snprintf(stream->name, sizeof stream->name, "stream %d", stream->number);
	// Tickets of a stream that is given out again go on counting, so that old events stay done.
	stream->free = false;
	stream->blocking = blocking;
	stream->demanded = device->mode == MODE_LATE ? stream->completed : UINT64_MAX;
	return stream;
}

static struct device *create_device(void)
{
	struct device *device = calloc(1, sizeof *device);
	if (!device)
		out_of_memory();
	device->last_stream = &device->streams;
	device->bell_descriptor = memfd_create("mp_host bell", MFD_CLOEXEC);
	if (device->bell_descriptor < 0 || ftruncate(device->bell_descriptor, sizeof *device->bell))
		out_of_memory();
	device->bell = mmap(NULL, sizeof *device->bell, PROT_READ | PROT_WRITE, MAP_SHARED,
	                    device->bell_descriptor, 0);
	if (device->bell == MAP_FAILED)
		out_of_memory();
	return device;
}

static void read_mode(struct device *device)
{
	const char *mode = getenv("MP_HOST_MODE");
	device->mode = MODE_EAGER;
	device->random = 0;
	if (!mode || !*mode || !strcmp(mode, "eager"))
		return;
	if (!strcmp(mode, "late")) {
		device->mode = MODE_LATE;
	} else if (!strncmp(mode, "random:", 7)) {
		device->mode = MODE_RANDOM;
		device->random = strtoull(mode + 7, NULL, 10);
	} else {
		fprintf(stderr, "MP_HOST_MODE=%s: expected eager, late or random:SEED\n", mode);
		exit(2);
	}
}

struct device *host_device(void)
{
	if (current)
		return current;
	pthread_once(&thread_end_once, create_key);
	pthread_mutex_lock(&pool_lock);
	struct device *device = pool;
	if (device)
		pool = device->next;
	pthread_mutex_unlock(&pool_lock);
	if (!device)
		device = create_device();
	read_mode(device);
	device->ordinal = 0;
	device->failed = false;
	device->last_error = cudaSuccess;
	device->group_depth = 0;
	for (struct CUstream_st *stream = device->streams; stream; stream = stream->next)
		stream->free = true;
	add_stream(device, true); // the null stream: always the first of the list
	pthread_setspecific(thread_end, device);
	return current = device;
}

cudaError_t host_error(cudaError_t error)
{
	if (error != cudaSuccess)
		host_device()->last_error = error;
	return error;
}

void host_fail(struct device *device, const char *format, ...)
{
	if (device->failed)
		return; // the first failure is the cause of later ones
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(device->message, sizeof device->message, format, arguments);
	va_end(arguments);
	device->failed = true;
}

// ---------------------------------------------------------------------------------------------------------
// Operations

uint64_t host_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t next_random(struct device *device)
{
	// splitmix64: any seed is a good one
	uint64_t z = device->random += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void host_demand(struct CUstream_st *stream, uint64_t ticket)
{
	if (stream->demanded < ticket)
		stream->demanded = ticket;
}

// Does the work if it can be done now. *started is the trace's.
static bool execute(struct CUstream_st *stream, const struct work *work, void *closure, uint64_t *started)
{
	struct device *device = stream->device;
	if (device->tracing && !*started)
		*started = host_now();
	switch (work->kind) {
	case MP_HOST_KERNEL:
		work->run(closure);
		break;
	case MP_HOST_COPY:
		memmove(work->copy.to, work->copy.from, work->copy.bytes);
		break;
	case MP_HOST_FILL:
		host_fill(work);
		break;
	case MP_HOST_RECORD:
		break;
	case MP_HOST_WAIT:
		if (work->wait.stream->completed < work->wait.ticket) {
			host_demand(work->wait.stream, work->wait.ticket);
			return false;
		}
		break;
	case MP_HOST_COMMUNICATION:
		if (!host_group_progress(work->group))
			return false;
		break;
	}
	if (device->tracing)
		host_trace(stream, work, *started);
	if (work->kind == MP_HOST_COMMUNICATION)
		host_group_release(device, work->group);
	atomic_store_explicit(&stream->completed, stream->completed + 1, memory_order_release);
	return true;
}

static void release_operation(struct device *device, struct operation *operation)
{
	free(operation->large);
	operation->next = device->spare;
	device->spare = operation;
}

static void pop(struct CUstream_st *stream)
{
	struct operation *operation = stream->head;
	stream->head = operation->next;
	if (!stream->head) {
		stream->tail = &stream->head;
		stream->device->busy--;
	}
	release_operation(stream->device, operation);
}

static void append(struct CUstream_st *stream, const struct work *work, const void *closure, size_t bytes,
                   uint64_t started)
{
	struct device *device = stream->device;
	struct operation *operation = device->spare;
	if (operation)
		device->spare = operation->next;
	else if (!(operation = aligned_alloc(64, (sizeof *operation + 63) / 64 * 64)))
		out_of_memory();
	operation->next = NULL;
	operation->ticket = stream->enqueued;
	operation->order = device->orders++;
	operation->started = started;
	operation->work = *work;
	operation->large = NULL;
	if (bytes > CLOSURE_BYTES && !(operation->large = malloc(bytes)))
		out_of_memory();
	if (bytes)
		memcpy(operation->large ? operation->large : operation->closure, closure, bytes);
	if (!stream->head)
		device->busy++;
	*stream->tail = operation;
	stream->tail = &operation->next;
}

static void drop_operations(struct device *device)
{
	for (struct CUstream_st *stream = device->streams; stream; stream = stream->next) {
		while (stream->head) {
			if (stream->head->work.kind == MP_HOST_COMMUNICATION)
				host_group_release(device, stream->head->work.group);
			pop(stream);
		}
		stream->completed = stream->enqueued;
	}
}

// ---------------------------------------------------------------------------------------------------------
// Progress

static bool run_head(struct CUstream_st *stream)
{
	struct operation *head = stream->head;
	if (!head || head->ticket > stream->demanded)
		return false;
	if (!execute(stream, &head->work, head->large ? head->large : head->closure, &head->started))
		return false;
	pop(stream);
	return true;
}

// One operation of a stream picked at random among those that can run.
static bool run_random(struct device *device)
{
	int skip = (int)(next_random(device) % (unsigned)device->stream_count);
	for (int turn = 0; turn < 2; turn++) {
		int position = 0;
		for (struct CUstream_st *stream = device->streams; stream; stream = stream->next, position++)
			if ((position >= skip) == (turn == 0) && run_head(stream))
				return true;
	}
	return false;
}

bool host_progress(struct device *device)
{
	if (!device->busy || device->failed)
		return false;
	if (device->mode == MODE_RANDOM)
		return run_random(device);
	bool any = false;
	for (bool again = true; again && device->busy && !device->failed; any |= again) {
		again = false;
		for (struct CUstream_st *stream = device->streams; stream; stream = stream->next) {
			uint64_t demanded = stream->demanded;
			while (run_head(stream))
				again = true;
			// A wait may have passed a demand on to a stream that this round has been to already.
			again |= stream->demanded != demanded;
		}
	}
	return any;
}

static bool unblocks_peer(const struct operation *operation)
{
	return operation->work.kind == MP_HOST_COMMUNICATION && host_group_wanted(operation->work.group);
}

// Late mode, before sleeping: demands the oldest communication that a peer already waits in.
static bool demand_wanted(struct device *device)
{
	struct CUstream_st *oldest_stream = NULL;
	struct operation *oldest = NULL;
	if (device->mode != MODE_LATE)
		return false;
	for (struct CUstream_st *stream = device->streams; stream; stream = stream->next)
		for (struct operation *operation = stream->head; operation; operation = operation->next)
			if (operation->ticket > stream->demanded && unblocks_peer(operation)) {
				if (!oldest || operation->order < oldest->order) {
					oldest = operation;
					oldest_stream = stream;
				}
				break;
			}
	if (oldest)
		host_demand(oldest_stream, oldest->ticket);
	return oldest != NULL;
}

void host_ring(struct bell *bell)
{
	// The caller's change and this load, the sleeper's flag and its last poll: all four are sequentially
	// consistent, so one of the two sides sees the other.
	if (atomic_load(&bell->sleeping) && atomic_exchange(&bell->sleeping, 0)) {
		atomic_fetch_add(&bell->count, 1);
		syscall(SYS_futex, &bell->count, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
}

static void sleep_until_rung(struct device *device, bool (*done)(const void *), const void *argument)
{
	struct timespec limit = {SLEEP_MILLISECONDS / 1000, SLEEP_MILLISECONDS % 1000 * 1000000};
	uint32_t count = atomic_load(&device->bell->count);
	atomic_store(&device->bell->sleeping, 1);
	if (!done(argument) && !host_progress(device) && !device->failed && !demand_wanted(device))
		syscall(SYS_futex, &device->bell->count, FUTEX_WAIT, count, &limit, NULL, 0);
	atomic_store(&device->bell->sleeping, 0);
}

static inline void pause_briefly(void)
{
#if defined __x86_64__ || defined __i386__
	__builtin_ia32_pause();
#endif
}

cudaError_t host_wait(struct device *device, bool (*done)(const void *), const void *argument)
{
	for (int idle = 0; !done(argument);) {
		if (device->failed) {
			drop_operations(device);
			return host_error(cudaErrorLaunchFailure);
		}
		if (host_progress(device)) {
			idle = 0;
		} else if (idle++ < POLLS_BEFORE_SLEEP) {
			pause_briefly();
		} else {
			sleep_until_rung(device, done, argument);
			idle = 0;
		}
	}
	return device->failed ? host_error(cudaErrorLaunchFailure) : cudaSuccess;
}

struct position {
	struct CUstream_st *stream;
	uint64_t ticket;
};

static bool position_reached(const void *argument)
{
	const struct position *position = argument;
	return position->stream->completed >= position->ticket;
}

cudaError_t host_wait_ticket(struct CUstream_st *stream, uint64_t ticket)
{
	struct position position = {stream, ticket};
	host_demand(stream, ticket);
	return host_wait(stream->device, position_reached, &position);
}

void host_poll(struct CUstream_st *stream, uint64_t ticket)
{
	host_demand(stream, ticket);
	if (!host_progress(stream->device))
		demand_wanted(stream->device);
}

// ---------------------------------------------------------------------------------------------------------
// Enqueueing

struct CUstream_st *host_stream(cudaStream_t stream)
{
	struct device *device = host_device();
	if (!stream)
		return device->streams;
	return stream->device == device && !stream->free ? stream : NULL;
}

static cudaError_t enqueue(struct CUstream_st *stream, const struct work *work, const void *closure, size_t bytes)
{
	struct device *device = stream->device;
	uint64_t started = 0;
	if (device->failed) {
		if (work->kind == MP_HOST_COMMUNICATION)
			host_group_release(device, work->group);
		return host_error(cudaErrorLaunchFailure);
	}
	stream->enqueued++;
	if (device->mode == MODE_EAGER && stream->head)
		host_progress(device);
	// The closure is run where the caller has it; kernels take theirs as const arguments.
	if (device->mode != MODE_EAGER || stream->head || !execute(stream, work, (void *)(uintptr_t)closure, &started))
		append(stream, work, closure, bytes, started);
	if (device->mode == MODE_RANDOM)
		for (uint64_t steps = next_random(device) % 4; steps > 0 && host_progress(device); steps--)
			;
	else if (device->mode == MODE_EAGER)
		host_progress(device);
	return cudaSuccess;
}

cudaError_t host_enqueue_wait(struct CUstream_st *stream, struct CUstream_st *other, uint64_t ticket)
{
	struct work wait = {.kind = MP_HOST_WAIT, .name = other->name, .wait = {other, ticket}};
	return enqueue(stream, &wait, NULL, 0);
}

// The null stream waits for all blocking streams, and they for it.
static void order_with_null_stream(struct CUstream_st *stream)
{
	struct CUstream_st *null = stream->device->streams;
	if (stream != null) {
		if (null->completed < null->enqueued)
			host_enqueue_wait(stream, null, null->enqueued);
		return;
	}
	for (struct CUstream_st *other = null->next; other; other = other->next)
		if (other->blocking && other->completed < other->enqueued)
			host_enqueue_wait(null, other, other->enqueued);
}

cudaError_t host_enqueue(struct CUstream_st *stream, const struct work *work, const void *closure, size_t bytes)
{
	if (stream->blocking && !stream->device->failed)
		order_with_null_stream(stream);
	return enqueue(stream, work, closure, bytes);
}

void mp_host_enqueue(cudaStream_t handle, const char *name, void (*run)(void *), const void *closure, size_t bytes)
{
	struct CUstream_st *stream = host_stream(handle);
	struct work work = {.kind = MP_HOST_KERNEL, .name = name, .run = run};
	if (!stream)
		host_error(cudaErrorInvalidResourceHandle);
	else
		host_enqueue(stream, &work, closure, bytes);
}

// ---------------------------------------------------------------------------------------------------------
// CUDA's calls for devices and streams

cudaError_t cudaSetDevice(int ordinal)
{
	struct device *device = host_device();
	if (ordinal < 0)
		return host_error(cudaErrorInvalidDevice);
	if (ordinal != device->ordinal) {
		device->ordinal = ordinal;
		device->random += (uint64_t)ordinal << 32; // ranks of one seed interleave differently
	}
	return cudaSuccess;
}

cudaError_t cudaGetDevice(int *ordinal)
{
	*ordinal = host_device()->ordinal;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
	*count = 1024; // as many as there are threads
	return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
	*least = *greatest = 0;
	return cudaSuccess;
}

// In late mode the streams are finished one after another, the newest first: programs create their main stream
// before those that serve it, and "later" for the main stream is what its own synchronize tests.
cudaError_t cudaDeviceSynchronize(void)
{
	struct device *device = host_device();
	for (;;) {
		struct CUstream_st *newest = NULL;
		for (struct CUstream_st *stream = device->streams; stream; stream = stream->next)
			if (stream->head)
				newest = stream;
		if (!newest)
			return device->failed ? host_error(cudaErrorLaunchFailure) : cudaSuccess;
		cudaError_t error = host_wait_ticket(newest, newest->enqueued);
		if (error)
			return error;
	}
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
	*stream = add_stream(host_device(), !(flags & cudaStreamNonBlocking));
	return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
	(void)priority; // one thread executes all streams
	return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
	struct CUstream_st *stream = handle ? host_stream(handle) : NULL;
	if (!stream)
		return host_error(cudaErrorInvalidResourceHandle);
	cudaError_t error = host_wait_ticket(stream, stream->enqueued);
	stream->free = true;
	return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
	struct CUstream_st *stream = host_stream(handle);
	if (!stream)
		return host_error(cudaErrorInvalidResourceHandle);
	return host_wait_ticket(stream, stream->enqueued);
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
	struct CUstream_st *stream = host_stream(handle);
	if (!stream)
		return host_error(cudaErrorInvalidResourceHandle);
	host_poll(stream, stream->enqueued);
	if (stream->device->failed)
		return host_error(cudaErrorLaunchFailure);
	return stream->head ? cudaErrorNotReady : cudaSuccess;
}

void mp_host_name_stream(cudaStream_t handle, const char *name)
{
	struct CUstream_st *stream = host_stream(handle);
	if (stream)
		snprintf(stream->name, sizeof stream->name, "%s", name);
}
