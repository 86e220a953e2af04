// How a program ends when it cannot go on. A failure may come from any thread, while rank threads, streams and
// loaders of the same process are at work and other ranks wait for messages. So a failure prints one line, flushes
// what was printed, and ends the process at once without exit handlers, which would pull libraries from under the
// running threads. The other ranks notice that the sockets of the control channel close.
#define _GNU_SOURCE
#include "mp_run.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// Truly per process: only the first of several failing threads may speak.
static atomic_flag ending = ATOMIC_FLAG_INIT;

// Per thread: whom its messages are from.
static _Thread_local const char *thread_program;
static _Thread_local int thread_rank = -1;

void mp_fail_name(const char *program, int rank)
{
	thread_program = program;
	thread_rank = rank;
}

// Returns to the first caller only.
static void end_once(void)
{
	if (atomic_flag_test_and_set(&ending))
		for (;;)
			pause();
}

void mp_end_process(enum mp_exit status)
{
	end_once();
	fflush(stdout);
	_exit(status);
}

void mp_fail(enum mp_exit status, const char *format, ...)
{
	char text[2048];
	int used = 0;
	va_list arguments;

	end_once();
	if (thread_program)
		used = snprintf(text, sizeof text, "%s: ", thread_program);
	if (thread_rank >= 0)
		used += snprintf(text + used, sizeof text - (size_t)used, "rank %d: ", thread_rank);
	va_start(arguments, format);
	used += vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
	va_end(arguments);
	if (used > (int)sizeof text - 2)
		used = sizeof text - 2;
	strcpy(text + used, "\n");
	fflush(stdout);
	fputs(text, stderr);    // in one piece: ranks share the terminal
	fflush(stderr);
	_exit(status);
}

// A failure of communication often follows from another rank's end. The control channel hears of that within a moment
// and then ends this process with a better message.
static void let_control_speak(void)
{
	if (thread_rank >= 0)
		sleep(1);
}

void mp_cuda_failed(cudaError_t error, const char *call, const char *file, int line)
{
	let_control_speak();
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %s", file, line, call, cudaGetErrorString(error));
}

void mp_nccl_failed(ncclResult_t error, const char *call, const char *file, int line)
{
	const char *more = ncclGetLastError(NULL);

	let_control_speak();
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %s%s%s", file, line, call, ncclGetErrorString(error),
	        more && *more ? ": " : "", more ? more : "");
}

double mp_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void *mp_allocate(size_t bytes)
{
	void *memory = calloc(1, bytes ? bytes : 1);
	if (!memory)
		mp_fail(MP_IO_FAILED, "out of host memory: %zu bytes were asked for", bytes);
	return memory;
}

size_t mp_type_bytes(enum mp_type type)
{
	return type == MP_F64 ? 8 : type == MP_BF16 ? 2 : 4;
}
