// alone.h: what a file of the runtime calls of others, for a test that is built of that file without them. One file of the test includes it.
#ifndef ALONE_H
#define ALONE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "mp_run.h"

// Ends at once what other threads do, too.
void mp_fail(enum mp_exit status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	fflush(stdout);
	_Exit((int)status);
}

void mp_cuda_failed(cudaError_t error, const char *call, const char *file, int line)
{
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %s", file, line, call, cudaGetErrorString(error));
}

void *mp_allocate(size_t bytes) { return calloc(1, bytes ? bytes : 1); }
size_t mp_type_bytes(enum mp_type type) { return type == MP_BF16 ? 2 : type == MP_F64 ? 8 : 4; }

#endif
