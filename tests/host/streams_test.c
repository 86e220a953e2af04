// Streams, events, memory and traces of the host stand-in, in all modes. From the repository's root:
//   cc -std=c11 -Wall -Wextra -Werror -g -O2 -Iruntime/host tests/host/streams_test.c tests/host/test.c
//      runtime/host/{device,event,memory,trace,errors,comm,group,collective,reduce}.c -lpthread -o streams_test
#include "test.h"

struct assign {
	int *to;
	const int *from;        // NULL: value
	int value;
};

static void assign(void *closure)
{
	const struct assign *a = closure;
	*a->to = a->from ? *a->from : a->value;
}

static void set(int *to, int value, cudaStream_t stream)
{
	struct assign a = {to, NULL, value};
	mp_host_enqueue(stream, "set", assign, &a, sizeof a);
}

static void get(int *to, const int *from, cudaStream_t stream)
{
	struct assign a = {to, from, 0};
	mp_host_enqueue(stream, "get", assign, &a, sizeof a);
}

static void wait_before_record(void)
{
	int *x = device_memory(sizeof *x);
	cudaStream_t a = new_stream(), b = new_stream();
	cudaEvent_t event = new_event();
	CUDA(cudaStreamWaitEvent(b, event, 0));
	set(x, 1, b);
	CUDA(cudaEventRecord(event, a)); // too late to matter for b
	CUDA(cudaStreamSynchronize(b));
	CHECK(*x == 1, "%d", *x);
	CUDA(cudaEventSynchronize(event));
	CHECK(cudaEventQuery(event) == cudaSuccess, "event");
	CUDA(cudaEventDestroy(event));
	CUDA(cudaFree(x));
}

static void re_record(void)
{
	int *x = device_memory(2 * sizeof *x);
	cudaStream_t a = new_stream(), b = new_stream();
	cudaEvent_t event = new_event();
	set(x, 1, a);
	CUDA(cudaEventRecord(event, a));
	CUDA(cudaStreamWaitEvent(b, event, 0));
	set(x, 2, a);
	CUDA(cudaStreamWaitEvent(b, event, 0)); // the record is what counts, not where the stream is now
	CUDA(cudaEventRecord(event, a));
	get(x + 1, x, b);
	CUDA(cudaStreamSynchronize(b));
	CHECK(x[1] >= 1, "the wait for the first record was lost: %d", x[1]);
	CHECK(strcmp(mode(), "late") || x[1] == 1, "the wait moved to the second record: %d", x[1]);
	CUDA(cudaStreamWaitEvent(b, event, 0));
	get(x + 1, x, b);
	CUDA(cudaStreamSynchronize(b));
	CHECK(x[1] == 2, "%d", x[1]);
	CUDA(cudaEventDestroy(event));
	CUDA(cudaFree(x));
}

// Returns what a consumer on another stream reads.
static int produce_and_consume(bool with_wait)
{
	int *x = device_memory(2 * sizeof *x), result;
	cudaStream_t a = new_stream(), b = new_stream();
	cudaEvent_t event = new_event();
	set(x, 5, a);
	CUDA(cudaEventRecord(event, a));
	if (with_wait)
		CUDA(cudaStreamWaitEvent(b, event, 0));
	get(x + 1, x, b);
	CUDA(cudaStreamSynchronize(b));
	result = x[1];
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaEventDestroy(event));
	CUDA(cudaStreamDestroy(a));
	CUDA(cudaStreamDestroy(b));
	CUDA(cudaFree(x));
	return result;
}

static void missing_wait(void)
{
	CHECK(produce_and_consume(true) == 5, "wrong with the wait");
	int without = produce_and_consume(false);
	if (!strcmp(mode(), "eager"))
		CHECK(without == 5, "%d", without);
	if (!strcmp(mode(), "late"))
		CHECK(without == 0, "late mode hides a missing wait: %d", without);
}

// The consumer runs first when the whole device is synchronized, too, if it was created later.
static void missing_wait_at_device(void)
{
	int *x = device_memory(2 * sizeof *x);
	cudaStream_t a = new_stream(), b = new_stream();
	set(x, 5, a);
	get(x + 1, x, b);
	CUDA(cudaDeviceSynchronize());
	CHECK(x[0] == 5, "%d", x[0]);
	if (!strcmp(mode(), "late"))
		CHECK(x[1] == 0, "late mode hides a missing wait: %d", x[1]);
	CUDA(cudaFree(x));
}

struct mix {
	unsigned long *to;
	const unsigned long *from;
	unsigned long factor;
};

static void mix(void *closure)
{
	const struct mix *m = closure;
	*m->to = *m->to * 31 + *m->from * 7 + m->factor;
}

// A random program with a wait for every conflict gives what its operations give one after another.
static void random_program(void)
{
	enum { CELLS = 8, STREAMS = 5, OPERATIONS = 3000 };
	unsigned long *cell = device_memory(CELLS * sizeof *cell), serial[CELLS] = {0};
	cudaStream_t streams[STREAMS];
	cudaEvent_t last[CELLS];        // the last use of a cell; reads count as writes
	unsigned random = 12345;
	for (int i = 0; i < STREAMS; i++)
		streams[i] = new_stream();
	for (int i = 0; i < CELLS; i++)
		last[i] = new_event();
	for (int i = 0; i < OPERATIONS; i++) {
		random = random * 1664525 + 1013904223;
		int s = (int)(random >> 8) % STREAMS, to = (int)(random >> 12) % CELLS, from = (int)(random >> 20) % CELLS;
		struct mix m = {&cell[to], &cell[from], (unsigned long)i}, check = {&serial[to], &serial[from], (unsigned long)i};
		mix(&check);
		CUDA(cudaStreamWaitEvent(streams[s], last[to], 0));
		CUDA(cudaStreamWaitEvent(streams[s], last[from], 0));
		mp_host_enqueue(streams[s], "mix", mix, &m, sizeof m);
		CUDA(cudaEventRecord(last[to], streams[s]));
		CUDA(cudaEventRecord(last[from], streams[s]));
		if (random >> 28 == 0)
			CUDA(cudaStreamSynchronize(streams[(s + 1) % STREAMS]));
	}
	CUDA(cudaDeviceSynchronize());
	for (int i = 0; i < CELLS; i++) {
		CHECK(cell[i] == serial[i], "cell %d: %lu, expected %lu", i, cell[i], serial[i]);
		CUDA(cudaEventDestroy(last[i]));
	}
	CUDA(cudaFree(cell));
}

struct large {
	int values[200];
	int *to;
};

static void sum_large(void *closure)
{
	const struct large *l = closure;
	*l->to = 0;
	for (int i = 0; i < 200; i++)
		*l->to += l->values[i];
}

static void large_closure(void)
{
	struct large l = {.to = device_memory(sizeof(int))};
	for (int i = 0; i < 200; i++)
		l.values[i] = i;
	int *to = l.to;
	cudaStream_t stream = new_stream();
	mp_host_enqueue(stream, "sum_large", sum_large, &l, sizeof l);
	memset(&l, 0, sizeof l); // the arguments were copied
	CUDA(cudaStreamSynchronize(stream));
	CHECK(*to == 19900, "%d", *to);
	CUDA(cudaFree(to));
}

static void memory(void)
{
	char *arena = device_memory((size_t)1 << 36), *small = device_memory(100), pageable[100], *pinned;
	cudaStream_t stream = new_stream();
	CUDA(cudaMallocHost((void **)&pinned, 100));
	CHECK(arena[(size_t)1 << 35] == 0, "memory is not zero");
	arena[12345] = arena[(size_t)1 << 35] = arena[((size_t)1 << 36) - 1] = 1;
	CUDA(cudaMemsetAsync(arena + 1, 0, ((size_t)1 << 36) - 2, stream)); // touches three pages
	CUDA(cudaStreamSynchronize(stream));
	CHECK(!arena[12345] && !arena[(size_t)1 << 35] && arena[((size_t)1 << 36) - 1], "a sparse fill");
	memset(pageable, 1, sizeof pageable);
	CUDA(cudaMemcpyAsync(small, pageable, 100, cudaMemcpyHostToDevice, stream));
	memset(pageable, 2, sizeof pageable); // the copy has read it already
	CUDA(cudaMemcpyAsync(pinned, small, 100, cudaMemcpyDeviceToHost, stream));
	CUDA(cudaMemsetAsync(small, 3, 50, stream));
	CUDA(cudaMemcpyAsync(arena, small, 100, cudaMemcpyDeviceToDevice, stream));
	CUDA(cudaStreamSynchronize(stream));
	CHECK(pinned[99] == 1 && arena[49] == 3 && arena[50] == 1, "%d %d %d", pinned[99], arena[49], arena[50]);
	CUDA(cudaMemcpy(pageable, arena, 100, cudaMemcpyDeviceToHost));
	CHECK(pageable[0] == 3 && pageable[99] == 1, "%d %d", pageable[0], pageable[99]);
	CHECK(cudaMemcpy(pageable, small, 101, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue, "past the end");
	CHECK(cudaMemcpy(pageable, small, 10, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "host as device");
	CHECK(cudaMemcpy(pinned, small, 10, cudaMemcpyDeviceToDevice) == cudaErrorInvalidMemcpyDirection, "direction");
	CHECK(cudaGetLastError() == cudaErrorInvalidMemcpyDirection && cudaGetLastError() == cudaSuccess, "last error");
	CHECK(cudaMemsetAsync(pageable, 0, 10, stream) == cudaErrorInvalidValue, "fill of host memory");
	CHECK(cudaFree(small + 1) == cudaErrorInvalidValue, "free of an inner pointer");
	CUDA(cudaFree(arena));
	CUDA(cudaFree(small));
	CUDA(cudaFreeHost(pinned));
	cudaGetLastError();
}

// Work on the null stream and on blocking streams is ordered; non-blocking streams are not.
static void null_stream(void)
{
	int *x = device_memory(3 * sizeof *x);
	cudaStream_t blocking;
	CUDA(cudaStreamCreateWithFlags(&blocking, cudaStreamDefault));
	set(x, 1, blocking);
	get(x + 1, x, NULL);
	get(x + 2, x + 1, blocking);
	CUDA(cudaStreamSynchronize(blocking));
	CHECK(x[2] == 1, "%d", x[2]);
	CUDA(cudaStreamDestroy(blocking));
	CHECK(cudaStreamSynchronize(blocking) == cudaErrorInvalidResourceHandle, "a destroyed stream");
	cudaGetLastError();
	CUDA(cudaFree(x));
}

static void query(void)
{
	int *x = device_memory(sizeof *x);
	cudaStream_t a = new_stream(), b = new_stream();
	cudaEvent_t event = new_event();
	set(x, 1, a);
	CUDA(cudaEventRecord(event, a));
	CUDA(cudaStreamWaitEvent(b, event, 0));
	set(x, 2, b);
	int polls = 0;
	while (cudaStreamQuery(b) == cudaErrorNotReady)
		CHECK(++polls < 100000, "a polled stream never ends");
	CHECK(*x == 2, "%d", *x);
	CUDA(cudaEventDestroy(event));
	CUDA(cudaFree(x));
}

static void trace(void)
{
	int *x = device_memory(2 * sizeof *x);
	struct mp_host_event events[8];
	cudaStream_t a = new_stream(), b = new_stream();
	cudaEvent_t event = new_event();
	mp_host_name_stream(a, "compute");
	mp_host_trace_start();
	set(x, 1, a);
	CUDA(cudaEventRecord(event, a));
	CUDA(cudaStreamWaitEvent(b, event, 0));
	CUDA(cudaMemcpyAsync(x + 1, x, sizeof *x, cudaMemcpyDeviceToDevice, b));
	CUDA(cudaStreamSynchronize(b));
	CHECK(mp_host_trace_take(NULL, 0) == 4, "%zu", mp_host_trace_take(NULL, 0));
	CHECK(mp_host_trace_take(events, 1) == 1, "take");
	CHECK(mp_host_trace_take(events + 1, 7) == 3, "take the rest");
	CHECK(!strcmp(events[0].name, "set") && !strcmp(events[0].stream, "compute"), "%s", events[0].name);
	CHECK(events[1].kind == MP_HOST_RECORD && events[2].kind == MP_HOST_WAIT, "kinds");
	CHECK(!strcmp(events[2].name, "wait compute") && !strcmp(events[3].name, "copy 4"), "%s", events[3].name);
	for (int i = 0; i < 4; i++)
		CHECK(events[i].start && events[i].start <= events[i].end, "event %d", i);
	mp_host_trace_stop();
	set(x, 1, a);
	CUDA(cudaStreamSynchronize(a));
	CHECK(mp_host_trace_take(NULL, 0) == 0, "recording goes on");
	CUDA(cudaEventDestroy(event));
	CUDA(cudaFree(x));
}

int main(void)
{
	run_case("wait before record", wait_before_record);
	run_case("re-record", re_record);
	run_case("missing wait", missing_wait);
	run_case("missing wait, device synchronize", missing_wait_at_device);
	run_case("random program", random_program);
	run_case("large closure", large_closure);
	run_case("memory", memory);
	run_case("null stream", null_stream);
	run_case("query", query);
	run_case("trace", trace);
	return 0;
}
