// trace.c: a record of what a device executed and when.
//
// The checker of generated plans and people who look for idle time both want what a GPU's profiler gives. The
// executor reports each finished operation here; texts are made only while recording, so that it costs one
// test when it is off. The list belongs to the device's thread and needs no lock.
#include "device.h"
#include "comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void describe(const struct work *work, char *text, size_t room)
{
	switch (work->kind) {
	case MP_HOST_COPY:
		snprintf(text, room, "copy %zu", work->copy.bytes);
		break;
	case MP_HOST_FILL:
		snprintf(text, room, "fill %zu", work->fill.bytes);
		break;
	case MP_HOST_WAIT:
		snprintf(text, room, "wait %s", work->name);
		break;
	case MP_HOST_COMMUNICATION:
		host_group_describe(work->group, text, room);
		break;
	default:
		snprintf(text, room, "%s", work->name);
	}
}

void host_trace(struct CUstream_st *stream, const struct work *work, uint64_t start)
{
	struct device *device = stream->device;
	if (device->event_count == device->event_room) {
		size_t room = device->event_room ? 2 * device->event_room : 1024;
		struct mp_host_event *events = realloc(device->events, room * sizeof *events);
		if (!events)
			return; // a shorter trace is better than no program
		device->events = events;
		device->event_room = room;
	}
	struct mp_host_event *event = &device->events[device->event_count++];
	memcpy(event->stream, stream->name, sizeof event->stream);
	describe(work, event->name, sizeof event->name);
	event->kind = work->kind;
	event->end = host_now();
	event->start = start ? start : event->end; // begun before recording was
}

void mp_host_trace_start(void)
{
	struct device *device = host_device();
	device->event_count = 0;
	device->tracing = true;
}

size_t mp_host_trace_take(struct mp_host_event *out, size_t capacity)
{
	struct device *device = host_device();
	size_t count = device->event_count;
	if (!out)
		return count;
	if (count > capacity)
		count = capacity;
	if (count)
		memcpy(out, device->events, count * sizeof *out);
	device->event_count -= count;
	if (device->event_count)
		memmove(device->events, device->events + count, device->event_count * sizeof *out);
	return count;
}

void mp_host_trace_stop(void)
{
	struct device *device = host_device();
	free(device->events);
	device->events = NULL;
	device->event_count = device->event_room = 0;
	device->tracing = false;
}
