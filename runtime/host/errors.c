// errors.c: names and descriptions of CUDA and NCCL results.
//
// A launch failure on the host can only come from communication, so its description is the device's message.
#include "device.h"

#include <nccl.h>

static const struct {
	cudaError_t error;
	const char *name, *text;
} errors[] = {
	{cudaSuccess, "cudaSuccess", "no error"},
	{cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
	{cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
	{cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
	{cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
	{cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
	{cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle",
	 "invalid resource handle (a stream or event that is destroyed or of another thread)"},
	{cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
	{cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
	{cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
	{cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

cudaError_t cudaGetLastError(void)
{
	struct device *device = host_device();
	cudaError_t error = device->last_error;
	device->last_error = device->failed ? cudaErrorLaunchFailure : cudaSuccess;
	return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
	if (error == cudaErrorLaunchFailure && host_device()->failed)
		return host_device()->message;
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].error == error)
			return errors[i].text;
	return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error)
{
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].error == error)
			return errors[i].name;
	return "unrecognized error code";
}

const char *ncclGetErrorString(ncclResult_t result)
{
	static const char *const texts[ncclNumResults] = {
		"no error", "unhandled cuda error", "unhandled system error", "internal error", "invalid argument",
		"invalid usage", "remote process exited or there was a network error", "NCCL operation in progress",
	};
	return (unsigned)result < ncclNumResults ? texts[result] : "unknown result code";
}
