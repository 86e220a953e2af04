// test.c: the harness; see test.h.
#include "test.h"

#include <pthread.h>

struct start {
	struct rank rank;
	ncclUniqueId id;
	void (*body)(struct rank *);
};

const char *mode(void)
{
	return getenv("MP_HOST_MODE");
}

void *device_memory(size_t bytes)
{
	void *memory;
	CUDA(cudaMalloc(&memory, bytes));
	return memory;
}

cudaStream_t new_stream(void)
{
	cudaStream_t stream;
	CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	return stream;
}

cudaEvent_t new_event(void)
{
	cudaEvent_t event;
	CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
	return event;
}

static void *start_rank(void *argument)
{
	struct start *start = argument;
	struct rank *rank = &start->rank;
	CUDA(cudaSetDevice(rank->rank));
	rank->stream = new_stream();
	NCCL(ncclCommInitRank(&rank->comm, rank->size, start->id, rank->rank));
	start->body(rank);
	if (rank->comm)
		NCCL(ncclCommDestroy(rank->comm));
	cudaStreamDestroy(rank->stream);
	return NULL;
}

void run_ranks(int size, void *shared, void (*body)(struct rank *))
{
	struct start starts[MAX_RANKS];
	pthread_t threads[MAX_RANKS];
	ncclUniqueId id;
	NCCL(ncclGetUniqueId(&id));
	for (int i = 0; i < size; i++) {
		starts[i] = (struct start){{i, size, NULL, NULL, shared}, id, body};
		CHECK(!pthread_create(&threads[i], NULL, start_rank, &starts[i]), "pthread_create");
	}
	for (int i = 0; i < size; i++)
		pthread_join(threads[i], NULL);
}

struct run {
	void (*run)(void);
};

static void *start_run(void *argument)
{
	((struct run *)argument)->run();
	return NULL;
}

void run_case(const char *name, void (*run)(void))
{
	static const char *const modes[] = {"eager", "late", "random:1", "random:2", "random:3"};
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		struct run start = {run};
		pthread_t thread;
		setenv("MP_HOST_MODE", modes[i], 1);
		// A device reads its mode when a thread first uses it, so each run gets a thread.
		CHECK(!pthread_create(&thread, NULL, start_run, &start), "pthread_create");
		pthread_join(thread, NULL);
	}
	printf("ok %s\n", name);
	fflush(stdout);
}
