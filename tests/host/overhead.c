// What the host stand-in costs, beside the work itself: ns for each enqueue, us for each small collective.
//   cc -std=c11 -O2 -Iruntime/host tests/host/overhead.c tests/host/test.c
//      runtime/host/{device,event,memory,trace,errors,comm,group,collective,reduce}.c -lpthread -o overhead
#include "test.h"

#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void nothing(void *closure)
{
	(void)closure;
}

static void enqueue(void)
{
	enum { TIMES = 1000000 };
	char arguments[64] = {0};
	cudaStream_t a = new_stream(), b = new_stream();
	cudaEvent_t event = new_event();
	double start = now();
	for (int i = 0; i < TIMES; i++)
		mp_host_enqueue(a, "nothing", nothing, arguments, sizeof arguments);
	CUDA(cudaDeviceSynchronize());
	printf("%-7s enqueue and run       %6.1f ns\n", mode(), (now() - start) * 1e9 / TIMES);
	start = now();
	for (int i = 0; i < TIMES; i++) {
		CUDA(cudaEventRecord(event, a));
		CUDA(cudaStreamWaitEvent(b, event, 0));
	}
	CUDA(cudaDeviceSynchronize());
	printf("%-7s record and wait       %6.1f ns\n", mode(), (now() - start) * 1e9 / TIMES);
	CUDA(cudaEventDestroy(event));
}

static void all_reduce(struct rank *r)
{
	static const size_t counts[] = {1, 1000, 500500};
	float *x = device_memory(500500 * sizeof *x);
	for (int c = 0; c < 3; c++) {
		int times = c < 2 ? 20000 : 100;
		double start = now();
		for (int i = 0; i < times; i++) {
			NCCL(ncclAllReduce(x, x, counts[c], ncclFloat32, ncclSum, r->comm, r->stream));
			CUDA(cudaStreamSynchronize(r->stream));
		}
		if (r->rank == 0)
			printf("%-7s all-reduce of %6zu floats, %d ranks %9.2f us\n", mode(), counts[c], r->size,
			       (now() - start) * 1e6 / times);
	}
	CUDA(cudaFree(x));
}

int main(void)
{
	setenv("MP_HOST_MODE", "eager", 1);
	enqueue();
	for (int size = 1; size <= 8; size *= 2)
		run_ranks(size, NULL, all_reduce);
	return 0;
}
