// Collectives and messages of the host stand-in between threads and between processes, in all modes.
//   cc -std=c11 -Wall -Wextra -Werror -g -O2 -Iruntime/host tests/host/nccl_test.c tests/host/test.c
//      runtime/host/{device,event,memory,trace,errors,comm,group,collective,reduce}.c -lpthread -o nccl_test
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const int sizes[] = {1, 2, 3, 4, 8};
static const size_t counts[] = {0, 1, 7, 1000, 16385, 50021};
enum { SIZES = 5, COUNTS = 6, MOST = 50021 };

static void for_sizes(void (*body)(struct rank *))
{
	for (int i = 0; i < SIZES; i++)
		run_ranks(sizes[i], NULL, body);
}

// Element i of rank r's data: sums depend on the order of addition.
static float value(int r, size_t i)
{
	return (float)((i * 2654435761u + (size_t)r * 40503u) % 10007) / 997.0f - 5.0f;
}

static float total(int size, size_t i)
{
	float sum = value(0, i);
	for (int r = 1; r < size; r++)
		sum += value(r, i);
	return sum;
}

struct fill {
	float *to;
	int rank;
	size_t first, count;
};

static void fill(void *closure)
{
	const struct fill *f = closure;
	for (size_t i = 0; i < f->count; i++)
		f->to[i] = value(f->rank, f->first + i);
}

static void enqueue_fill(float *to, int rank, size_t first, size_t count, cudaStream_t stream)
{
	struct fill f = {to, rank, first, count};
	mp_host_enqueue(stream, "fill", fill, &f, sizeof f);
}

static void all_reduce_body(struct rank *r)
{
	float *send = device_memory(MOST * sizeof *send), *receive = device_memory(MOST * sizeof *receive);
	for (int c = 0; c < COUNTS; c++)
		for (int in_place = 0; in_place < 2; in_place++) {
			float *to = in_place ? send : receive;
			enqueue_fill(send, r->rank, 0, counts[c], r->stream);
			NCCL(ncclAllReduce(send, to, counts[c], ncclFloat32, ncclSum, r->comm, r->stream));
			CUDA(cudaStreamSynchronize(r->stream));
			for (size_t i = 0; i < counts[c]; i++)
				CHECK(to[i] == total(r->size, i), "rank %d of %d, element %zu of %zu: %g, expected %g",
				      r->rank, r->size, i, counts[c], to[i], total(r->size, i));
		}
	CUDA(cudaFree(send));
	CUDA(cudaFree(receive));
}

static void all_reduce(void)
{
	for_sizes(all_reduce_body);
}

// One element of every type, sum and max.
static void types_body(struct rank *r)
{
	union { int32_t i; int64_t l; float f; double d; uint16_t h; } *x = device_memory(64);
	x->i = r->rank - 1;
	NCCL(ncclAllReduce(x, x, 1, ncclInt32, ncclMax, r->comm, r->stream));
	CUDA(cudaStreamSynchronize(r->stream));
	CHECK(x->i == r->size - 2, "int32 max %d", x->i);
	x->l = 1ll << 40;
	NCCL(ncclAllReduce(x, x, 1, ncclInt64, ncclSum, r->comm, r->stream));
	CUDA(cudaStreamSynchronize(r->stream));
	CHECK(x->l == (long long)r->size << 40, "int64 sum");
	x->i = r->rank;
	NCCL(ncclAllReduce(x, x, 1, ncclInt32, ncclSum, r->comm, r->stream));
	CUDA(cudaStreamSynchronize(r->stream));
	CHECK(x->i == r->size * (r->size - 1) / 2, "int32 sum %d", x->i);
	x->d = 1.0 / (r->rank + 3);
	NCCL(ncclAllReduce(x, x, 1, ncclFloat64, ncclMax, r->comm, r->stream));
	CUDA(cudaStreamSynchronize(r->stream));
	CHECK(x->d == 1.0 / 3, "float64 max %g", x->d);
	x->f = (float)-r->rank;
	NCCL(ncclAllReduce(x, x, 1, ncclFloat32, ncclMax, r->comm, r->stream));
	CUDA(cudaStreamSynchronize(r->stream));
	CHECK(x->f == 0, "float32 max %g", x->f);
	x->h = 0x3f80; // 1.0
	NCCL(ncclAllReduce(x, x, 1, ncclBfloat16, ncclSum, r->comm, r->stream));
	CUDA(cudaStreamSynchronize(r->stream));
	float sum = (float)r->size;
	uint32_t bits;
	memcpy(&bits, &sum, sizeof bits);
	CHECK(x->h == bits >> 16, "bfloat16 sum %x", x->h);
	CHECK(ncclAllReduce(x, x, 1, ncclFloat32, ncclAvg, r->comm, r->stream) == ncclInvalidArgument, "average");
	CUDA(cudaFree(x));
}

static void types(void)
{
	for_sizes(types_body);
}

static void gather_scatter_body(struct rank *r)
{
	size_t most = 20011, n = (size_t)r->size, me = (size_t)r->rank;
	float *all = device_memory(n * most * sizeof *all), *part = device_memory(most * sizeof *part);
	static const size_t pieces[] = {1, 333, 20011};
	for (int c = 0; c < 3; c++)
		for (int in_place = 0; in_place < 2; in_place++) {
			size_t count = pieces[c];
			float *mine = in_place ? all + me * count : part;
			CUDA(cudaMemsetAsync(all, 0, n * count * sizeof *all, r->stream));
			enqueue_fill(mine, r->rank, 0, count, r->stream);
			NCCL(ncclAllGather(mine, all, count, ncclFloat32, r->comm, r->stream));
			CUDA(cudaStreamSynchronize(r->stream));
			for (size_t i = 0; i < n * count; i++)
				CHECK(all[i] == value((int)(i / count), i % count), "all-gather, element %zu of %zu", i, n * count);
			enqueue_fill(all, r->rank, 0, n * count, r->stream);
			NCCL(ncclReduceScatter(all, mine, count, ncclFloat32, ncclSum, r->comm, r->stream));
			CUDA(cudaStreamSynchronize(r->stream));
			for (size_t i = 0; i < count; i++)
				CHECK(mine[i] == total(r->size, me * count + i), "reduce-scatter, element %zu", i);
		}
	CUDA(cudaFree(all));
	CUDA(cudaFree(part));
}

static void gather_scatter(void)
{
	for_sizes(gather_scatter_body);
}

static void broadcast_body(struct rank *r)
{
	float *x = device_memory(MOST * sizeof *x), *y = device_memory(MOST * sizeof *y);
	for (int c = 0; c < COUNTS; c++)
		for (int root = 0; root < r->size; root++)
			for (int in_place = 0; in_place < 2; in_place++) {
				float *to = in_place ? x : y;
				enqueue_fill(x, r->rank, 0, counts[c], r->stream);
				NCCL(ncclBroadcast(x, to, counts[c], ncclFloat32, root, r->comm, r->stream));
				CUDA(cudaStreamSynchronize(r->stream));
				for (size_t i = 0; i < counts[c]; i++)
					CHECK(to[i] == value(root, i), "root %d, element %zu of %zu", root, i, counts[c]);
			}
	CUDA(cudaFree(x));
	CUDA(cudaFree(y));
}

static void broadcast(void)
{
	for_sizes(broadcast_body);
}

// Both ways around a ring in one group, more messages than a channel has slots, and one to oneself.
static void groups_body(struct rank *r)
{
	enum { MESSAGES = 20, COUNT = 3001 };
	float *x = device_memory(2 * (MESSAGES + 1) * COUNT * sizeof *x), *y = x + (MESSAGES + 1) * COUNT;
	int next = (r->rank + 1) % r->size, previous = (r->rank + r->size - 1) % r->size;
	enqueue_fill(x, r->rank, 0, (MESSAGES + 1) * COUNT, r->stream);
	NCCL(ncclGroupStart());
	for (int i = 0; i < MESSAGES; i++) {
		NCCL(ncclSend(x + i * COUNT, COUNT, ncclFloat32, i % 2 ? next : previous, r->comm, r->stream));
		NCCL(ncclRecv(y + i * COUNT, COUNT, ncclFloat32, i % 2 ? previous : next, r->comm, r->stream));
	}
	NCCL(ncclRecv(y + MESSAGES * COUNT, COUNT, ncclFloat32, r->rank, r->comm, r->stream));
	NCCL(ncclSend(x + MESSAGES * COUNT, COUNT, ncclFloat32, r->rank, r->comm, r->stream));
	NCCL(ncclGroupEnd());
	CUDA(cudaStreamSynchronize(r->stream));
	for (size_t i = 0; i < (MESSAGES + 1) * COUNT; i++) {
		int message = (int)(i / COUNT), from = message == MESSAGES ? r->rank : message % 2 ? previous : next;
		CHECK(y[i] == value(from, i), "size %d, message %d, element %zu", r->size, message, i % COUNT);
	}
	CUDA(cudaFree(x));
}

static void groups(void)
{
	for_sizes(groups_body);
}

// Two tensors one way and one the other way, in one group at both ends.
static void rounds_body(struct rank *r)
{
	int *x = device_memory(3 * sizeof *x), peer = 1 - r->rank;
	for (int i = 0; i < 3; i++)
		x[i] = r->rank ? -1 : 10 + i;
	x[2] = r->rank ? 20 : -1;
	NCCL(ncclGroupStart());
	if (r->rank)
		NCCL(ncclSend(x + 2, 1, ncclInt32, peer, r->comm, r->stream));
	for (int i = 0; i < 2; i++)
		NCCL(r->rank ? ncclRecv(x + i, 1, ncclInt32, peer, r->comm, r->stream) : ncclSend(x + i, 1, ncclInt32, peer, r->comm, r->stream));
	if (!r->rank)
		NCCL(ncclRecv(x + 2, 1, ncclInt32, peer, r->comm, r->stream));
	NCCL(ncclGroupEnd());
	CUDA(cudaStreamSynchronize(r->stream));
	CHECK(x[0] == 10 && x[1] == 11 && x[2] == 20, "%d %d %d", x[0], x[1], x[2]);
	CUDA(cudaFree(x));
}

static void rounds(void)
{
	run_ranks(2, NULL, rounds_body);
}

// Many small operations on several streams of one communicator, with different orders of synchronizing.
static void streams_body(struct rank *r)
{
	int *x = device_memory(64 * sizeof *x);
	cudaStream_t other = new_stream();
	for (int step = 0; step < 50; step++) {
		for (int i = 0; i < 20; i++) {
			x[i] = r->rank + i;
			NCCL(ncclAllReduce(x + i, x + i, 1, ncclInt32, ncclSum, r->comm, i % 3 ? r->stream : other));
		}
		CUDA(cudaStreamSynchronize((step + r->rank) % 2 ? r->stream : other));
		CUDA(cudaStreamSynchronize((step + r->rank) % 2 ? other : r->stream));
		for (int i = 0; i < 20; i++)
			CHECK(x[i] == r->size * i + r->size * (r->size - 1) / 2, "step %d, %d: %d", step, i, x[i]);
	}
	CUDA(cudaStreamDestroy(other));
	CUDA(cudaFree(x));
}

static void several_streams(void)
{
	for_sizes(streams_body);
}

// A send is not done before its receive has begun.
static void rendezvous_body(struct rank *r)
{
	_Atomic int *go = r->shared;
	int *x = device_memory(sizeof *x);
	if (r->rank == 0) {
		*x = 42;
		NCCL(ncclSend(x, 1, ncclInt32, 1, r->comm, r->stream));
		for (int i = 0; i < 1000; i++)
			CHECK(cudaStreamQuery(r->stream) == cudaErrorNotReady, "a send was buffered");
		atomic_store(go, 1);
	} else {
		while (!atomic_load(go))
			usleep(100);
		NCCL(ncclRecv(x, 1, ncclInt32, 0, r->comm, r->stream));
	}
	CUDA(cudaStreamSynchronize(r->stream));
	CHECK(*x == 42, "%d", *x);
	CUDA(cudaFree(x));
}

static void rendezvous(void)
{
	_Atomic int go = 0;
	run_ranks(2, &go, rendezvous_body);
}

// Rank 1 has the root's data although rank 2 has not called; the root is not done before rank 2 has.
static void no_barrier_body(struct rank *r)
{
	_Atomic int *go = r->shared;
	int *x = device_memory(sizeof *x);
	*x = r->rank ? 0 : 42;
	if (r->rank == 2)
		while (atomic_load(go) < 2)
			usleep(100);
	NCCL(ncclBroadcast(x, x, 1, ncclInt32, 0, r->comm, r->stream));
	if (r->rank == 0) {
		for (int i = 0; i < 1000 || !atomic_load(go); i++)
			CHECK(cudaStreamQuery(r->stream) == cudaErrorNotReady, "the root does not wait for rank 2");
		atomic_fetch_add(go, 1);
	}
	CUDA(cudaStreamSynchronize(r->stream));
	if (r->rank == 1)
		atomic_fetch_add(go, 1);
	CHECK(*x == 42, "%d", *x);
	CUDA(cudaFree(x));
}

static void no_barrier(void)
{
	_Atomic int go = 0;
	run_ranks(3, &go, no_barrier_body);
}

// Rank 0 sends from a stream that it never synchronizes and waits, on another, for the answer.
static void undemanded_body(struct rank *r)
{
	int *x = device_memory(2 * sizeof *x);
	cudaStream_t sender = new_stream();
	ncclComm_t back;
	NCCL(ncclCommSplit(r->comm, 0, r->rank, &back, NULL));
	for (int step = 0; step < 200; step++) {
		if (r->rank == 0) {
			x[0] = step;
			NCCL(ncclSend(x, 1, ncclInt32, 1, r->comm, sender));
			NCCL(ncclRecv(x + 1, 1, ncclInt32, 1, back, r->stream));
		} else {
			NCCL(ncclRecv(x, 1, ncclInt32, 0, r->comm, r->stream));
			NCCL(ncclSend(x, 1, ncclInt32, 0, back, r->stream));
		}
		CUDA(cudaStreamSynchronize(r->stream));
		CHECK(r->rank || x[1] == step, "%d", x[1]);
	}
	NCCL(ncclCommDestroy(back));
	CUDA(cudaStreamDestroy(sender));
	CUDA(cudaFree(x));
}

static void undemanded(void)
{
	run_ranks(2, NULL, undemanded_body);
}

// ---------------------------------------------------------------------------------------------------------
// Errors

static void mismatch_body(struct rank *r)
{
	float *x = device_memory(4096);
	size_t count = r->rank == 1 ? 12 : 10;
	ncclResult_t error = ncclInternalError;
	ncclResult_t result = ncclAllReduce(x, x, count, ncclFloat32, ncclSum, r->comm, r->stream);
	CHECK(result == ncclSuccess || result == ncclInvalidUsage, "%d", result);
	cudaError_t status = cudaStreamSynchronize(r->stream);
	CHECK(status == cudaErrorLaunchFailure, "a mismatch was not found");
	NCCL(ncclCommGetAsyncError(r->comm, &error));
	CHECK(error == ncclInvalidUsage, "%d", error);
	const char *text = ncclGetLastError(r->comm);
	CHECK(strstr(text, "ncclAllReduce(count 10, float32, sum)") && strstr(text, "rank 1 calls ncclAllReduce(count 12"),
	      "%s", text);
	CHECK(!strcmp(text, cudaGetErrorString(status)), "%s", cudaGetErrorString(status));
	CHECK(ncclAllReduce(x, x, count, ncclFloat32, ncclSum, r->comm, r->stream) != ncclSuccess, "not sticky");
	NCCL(ncclCommAbort(r->comm));
	r->comm = NULL;
}

static void mismatch_kind_body(struct rank *r)
{
	float *x = device_memory(4096);
	if (r->rank)
		ncclAllGather(x, x, 10, ncclFloat32, r->comm, r->stream);
	else
		ncclBroadcast(x, x, 10, ncclFloat32, 0, r->comm, r->stream);
	CHECK(cudaStreamSynchronize(r->stream) == cudaErrorLaunchFailure, "a mismatch was not found");
	CHECK(strstr(ncclGetLastError(r->comm), "rank 1 calls ncclAllGather"), "%s", ncclGetLastError(r->comm));
	NCCL(ncclCommAbort(r->comm));
	r->comm = NULL;
}

static void mismatch_message_body(struct rank *r)
{
	float *x = device_memory(4096);
	if (r->rank)
		ncclSend(x, 10, ncclFloat32, 0, r->comm, r->stream);
	else
		ncclRecv(x, 20, ncclInt32, 1, r->comm, r->stream);
	CHECK(cudaStreamSynchronize(r->stream) == cudaErrorLaunchFailure, "a mismatch was not found");
	CHECK(strstr(ncclGetLastError(r->comm), "rank 1 calls ncclSend(count 10, float32, peer 0), rank 0 calls "
	             "ncclRecv(count 20, int32, peer 1)"), "%s", ncclGetLastError(r->comm));
	NCCL(ncclCommAbort(r->comm));
	r->comm = NULL;
}

static void mismatch(void)
{
	run_ranks(2, NULL, mismatch_body);
	run_ranks(4, NULL, mismatch_body);
	run_ranks(2, NULL, mismatch_kind_body);
	run_ranks(2, NULL, mismatch_message_body);
}

static void usage_body(struct rank *r)
{
	float local[4], *x = device_memory(4 * sizeof *x);
	ncclResult_t error;
	CHECK(ncclAllReduce(local, x, 4, ncclFloat32, ncclSum, r->comm, r->stream) == ncclInvalidArgument, "stack");
	CHECK(ncclAllReduce(x, x, 5, ncclFloat32, ncclSum, r->comm, r->stream) == ncclInvalidArgument, "past the end");
	CHECK(ncclSend(x, 4, ncclFloat32, r->size, r->comm, r->stream) == ncclInvalidArgument, "peer");
	CHECK(ncclGroupEnd() == ncclInvalidUsage, "group end");
	NCCL(ncclCommGetAsyncError(r->comm, &error)); // a refused call does no harm
	CHECK(error == ncclSuccess, "%d", error);
	int count, rank;
	NCCL(ncclCommCount(r->comm, &count));
	NCCL(ncclCommUserRank(r->comm, &rank));
	CHECK(count == r->size && rank == r->rank, "%d of %d", rank, count);
	NCCL(ncclAllReduce(x, x, 4, ncclFloat32, ncclSum, r->comm, r->stream));
	CUDA(cudaStreamSynchronize(r->stream));
	CUDA(cudaFree(x));
}

static void usage(void)
{
	run_ranks(2, NULL, usage_body);
}

static void *abort_later(void *comm)
{
	usleep(20000);
	NCCL(ncclCommAbort(comm));
	return NULL;
}

// A watchdog thread frees rank 0 from a receive that nobody answers; rank 1 learns why its own fails.
static void abort_body(struct rank *r)
{
	float *x = device_memory(4096);
	pthread_t watchdog;
	if (r->rank == 0) {
		NCCL(ncclRecv(x, 10, ncclFloat32, 1, r->comm, r->stream));
		pthread_create(&watchdog, NULL, abort_later, r->comm);
		CUDA(cudaStreamSynchronize(r->stream));
		pthread_join(watchdog, NULL);
	} else {
		NCCL(ncclAllReduce(x, x, 10, ncclFloat32, ncclSum, r->comm, r->stream));
		CHECK(cudaStreamSynchronize(r->stream) == cudaErrorLaunchFailure, "rank 1 does not notice");
		CHECK(strstr(ncclGetLastError(r->comm), "rank 0 aborted"), "%s", ncclGetLastError(r->comm));
	}
	NCCL(ncclCommAbort(r->comm));
	r->comm = NULL;
}

static void aborts(void)
{
	run_ranks(2, NULL, abort_body);
}

// Rank 0 sends two tensors and receives one in one group; rank 1 sends only when it has both. The second cannot go before
// rank 0 has received, so both stand still, until rank 0 gives up. Rank 2's messages
// in the same group do not wait for that.
static void stuck_body(struct rank *r)
{
	_Atomic int *others = r->shared; // rank 1 has asked for all of its messages, rank 2 has its own
	int *x = device_memory(5 * sizeof *x);
	NCCL(ncclGroupStart());
	if (r->rank == 0) {
		for (int i = 0; i < 2; i++)
			NCCL(ncclSend(x + i, 1, ncclInt32, 1, r->comm, r->stream));
		NCCL(ncclRecv(x + 2, 1, ncclInt32, 1, r->comm, r->stream));
		NCCL(ncclRecv(x + 3, 1, ncclInt32, 2, r->comm, r->stream));
		NCCL(ncclSend(x + 4, 1, ncclInt32, 2, r->comm, r->stream));
	} else if (r->rank == 1) {
		for (int i = 0; i < 2; i++)
			NCCL(ncclRecv(x + i, 1, ncclInt32, 0, r->comm, r->stream));
	} else {
		NCCL(ncclSend(x + 3, 1, ncclInt32, 0, r->comm, r->stream));
		NCCL(ncclRecv(x + 4, 1, ncclInt32, 0, r->comm, r->stream));
	}
	NCCL(ncclGroupEnd());
	if (r->rank == 1) {
		NCCL(ncclSend(x + 2, 1, ncclInt32, 0, r->comm, r->stream));
		atomic_fetch_add(others, 1);
	}
	if (r->rank == 2) {
		CUDA(cudaStreamSynchronize(r->stream));
		atomic_fetch_add(others, 1);
		return;
	}
	for (int i = 0; r->rank == 0 && (i < 1000 || atomic_load(others) < 2); i++)
		CHECK(cudaStreamQuery(r->stream) == cudaErrorNotReady, "a round began before the one in front had ended");
	if (r->rank == 1)
		CHECK(cudaStreamSynchronize(r->stream) == cudaErrorLaunchFailure, "rank 1 does not notice");
	NCCL(ncclCommAbort(r->comm));
	r->comm = NULL;
}

static void stuck(void)
{
	_Atomic int others = 0;
	run_ranks(3, &others, stuck_body);
}

// ---------------------------------------------------------------------------------------------------------
// Processes

static void split_body(struct rank *r)
{
	int *x = device_memory(sizeof *x), count, rank;
	ncclComm_t half, none;
	for (int i = 0; i < 3; i++) {
		NCCL(ncclCommSplit(r->comm, r->rank % 2, -r->rank, &half, NULL));
		NCCL(ncclCommSplit(r->comm, r->rank ? NCCL_SPLIT_NOCOLOR : 7, 0, &none, NULL));
		CHECK((none != NULL) == (r->rank == 0), "no color");
		if (none)
			NCCL(ncclCommDestroy(none));
		NCCL(ncclCommCount(half, &count));
		NCCL(ncclCommUserRank(half, &rank));
		CHECK(count == (r->size + 1 - r->rank % 2) / 2, "size %d", count);
		CHECK(rank == count - 1 - r->rank / 2, "rank %d of %d, new rank %d", r->rank, r->size, rank);
		*x = r->rank;
		NCCL(ncclAllReduce(x, x, 1, ncclInt32, ncclSum, half, r->stream));
		CUDA(cudaStreamSynchronize(r->stream));
		int sum = 0;
		for (int k = r->rank % 2; k < r->size; k += 2)
			sum += k;
		CHECK(*x == sum, "%d, expected %d", *x, sum);
		NCCL(ncclCommDestroy(half));
	}
	CUDA(cudaFree(x));
}

static void split(void)
{
	for_sizes(split_body);
}

static int run_process(int rank, int size, ncclUniqueId id)
{
	struct rank r = {.rank = rank, .size = size};
	CUDA(cudaSetDevice(rank));
	r.stream = new_stream();
	NCCL(ncclCommInitRank(&r.comm, size, id, rank));
	all_reduce_body(&r);
	gather_scatter_body(&r);
	broadcast_body(&r);
	groups_body(&r);
	streams_body(&r);
	split_body(&r);
	NCCL(ncclCommDestroy(r.comm));
	return 0;
}

static void processes(void)
{
	enum { COUNT = 4 };
	pid_t children[COUNT];
	ncclUniqueId *id = mmap(NULL, sizeof *id, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	_Atomic int *ready = mmap(NULL, sizeof *ready, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < COUNT; i++) {
		children[i] = fork();
		CHECK(children[i] >= 0, "fork");
		if (children[i])
			continue;
		if (i == 0) {
			NCCL(ncclGetUniqueId(id));
			atomic_store(ready, 1);
		}
		while (!atomic_load(ready))
			usleep(100);
		_Exit(run_process(i, COUNT, *id));
	}
	for (int i = 0; i < COUNT; i++) {
		int status;
		CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0, "rank %d ended with %x", i, status);
	}
	munmap(id, sizeof *id);
	munmap((void *)(uintptr_t)ready, sizeof *ready);
}

int main(void)
{
	run_case("processes", processes);
	run_case("all-reduce", all_reduce);
	run_case("types", types);
	run_case("all-gather, reduce-scatter", gather_scatter);
	run_case("broadcast", broadcast);
	run_case("groups of send and receive", groups);
	run_case("rounds with one peer", rounds);
	run_case("several streams", several_streams);
	run_case("rendezvous", rendezvous);
	run_case("broadcast is no barrier", no_barrier);
	run_case("undemanded sends", undemanded);
	run_case("split", split);
	run_case("mismatch", mismatch);
	run_case("wrong usage", usage);
	run_case("abort", aborts);
	run_case("a round that cannot end", stuck);
	return 0;
}
