// event.c: CUDA events.
//
// An event remembers where its last record stands: a stream and a ticket of that stream. A wait copies the pair
// when it is called, so a later record of the same event does not move it, and a wait before the first
// record has nothing to copy and is no wait. Nothing else needs to be kept or freed.
#include "device.h"

#include <stdlib.h>

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	(void)flags; // there is no timing to disable
	*event = calloc(1, sizeof **event);
	return host_error(*event ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	if (!event)
		return host_error(cudaErrorInvalidResourceHandle);
	free(event);
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle)
{
	struct CUstream_st *stream = host_stream(handle);
	if (!event || !stream)
		return host_error(cudaErrorInvalidResourceHandle);
	struct work record = {.kind = MP_HOST_RECORD, .name = "record"};
	cudaError_t error = host_enqueue(stream, &record, NULL, 0);
	event->stream = stream;
	event->ticket = stream->enqueued;
	return error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags)
{
	struct CUstream_st *stream = host_stream(handle);
	(void)flags;
	if (!event || !stream || (event->stream && event->stream->device != stream->device))
		return host_error(cudaErrorInvalidResourceHandle);
	if (!event->stream || event->stream == stream)
		return cudaSuccess; // never recorded; or a stream's own past
	return host_enqueue_wait(stream, event->stream, event->ticket);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	if (!event || (event->stream && event->stream->device != host_device()))
		return host_error(cudaErrorInvalidResourceHandle);
	return event->stream ? host_wait_ticket(event->stream, event->ticket) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	if (!event)
		return host_error(cudaErrorInvalidResourceHandle);
	if (!event->stream || event->stream->completed >= event->ticket)
		return cudaSuccess;
	if (event->stream->device != host_device())
		return cudaErrorNotReady; // only the owner executes
	host_poll(event->stream, event->ticket);
	return event->stream->completed >= event->ticket ? cudaSuccess : cudaErrorNotReady;
}
