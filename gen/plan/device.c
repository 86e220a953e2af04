// device.c: what devices can do, for predictions: rates that training steps sustain, below those of a single product or copy. A JSON
// file with the same fields describes any other device.
//
// h200: steps of GPT-2 350M and 1558M in micro-batches of 16 to 1 samples of 1024 tokens. bf16: 137 GFLOP in 184 us with the 8 in which the
// result is stored, on 128 of 132 multiprocessors (cost.c). Memory: the update of all parameters at 4.1 TB/s, sums of squares at 4.0, additions at
// 4.4. Launch: what is left of 8 and 16 micro-batches, 162 and 191 ms of 350M, 366 and 433 of 1558M, of about 1,100 and 2,200 launches each. bf16 of
// GPT-2 350M's head, 1.69 TFLOP at 820 TFLOP/s with 1.6 GB of logits, is not reached: there the device stores some tiles while it computes others.
// h100: memory by the data sheets' 3.35 and 4.8 TB/s (an update at 2.9); bf16 by steps of GPT-2 124M and 1558M, which take 57.8 and 178 ms
// and are predicted as 61 and 174; launch as h200. Links, f32 and TF32 of both: single calls. Others: the vendors' data sheets with the
// same derating.
#include <jansson.h>
#include <string.h>

#include "plan.h"

// Bytes that a rank sends: collectives of fewer are over sooner by a kernel of NCCL.
#define COPIED 1e6

// name, FLOP/s (f32 or f64, tf32, bf16), bytes/s, link bytes/s, latency, launch, capacity, overhead, from how many bytes copy engines pay, multiprocessors
static const Device devices[] = {
	{"h100", {51e12, 400e12, 773e12}, 2.9e12, 300e9, 10e-6, 2.1e-6, 79ull << 30, 1ull << 30, COPIED, 132},
	{"h200", {51e12, 400e12, 825e12}, 4.1e12, 300e9, 10e-6, 2.1e-6, 139ull << 30, 1ull << 30, COPIED, 132},
	{"a100-80g", {17e12, 120e12, 240e12}, 1.8e12, 200e9, 12e-6, 3e-6, 79ull << 30, 1ull << 30, COPIED, 108},
	{"cpu", {60e9, 60e9, 30e9}, 10e9, 5e9, 5e-6, 0.5e-6, 64ull << 30, 0, COPIED, 0},
};

static double field(const char *file, const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	if (!json_is_number(value) || json_number_value(value) < 0)
		fail(EXIT_USAGE, "%s: a device description needs the number \"%s\"\nfields: flops, flops_tf32, memory_bandwidth, link_bandwidth, "
		     "link_latency, launch, capacity, overhead (SI units); flops_bf16, copied_bytes and multiprocessors may be left out", file, name);
	return json_number_value(value);
}

// bf16 runs twice as fast as TF32 on tensor cores.
static double field_or(const char *file, const json_t *object, const char *name, double missing)
{
	return json_object_get(object, name) ? field(file, object, name) : missing;
}

static const Device *read_device(Arena *arena, const char *file)
{
	json_error_t error;
	json_t *object = json_load_file(file, JSON_REJECT_DUPLICATES, &error);
	if (!object && error.line < 0)
		fail(EXIT_IO, "%s", error.text); // it could not be opened
	if (!object)
		fail(EXIT_USAGE, "%s: line %d: %s", file, error.line, error.text);
	Device *device = arena_alloc(arena, sizeof *device);
	*device = (Device){.name = arena_strdup(arena, file),
		.flops = {field(file, object, "flops"), field(file, object, "flops_tf32"), field_or(file, object, "flops_bf16", 2 * field(file, object, "flops_tf32"))}, .memory = field(file, object, "memory_bandwidth"),
		.link = field(file, object, "link_bandwidth"), .latency = field(file, object, "link_latency"), .launch = field(file, object, "launch"),
		.capacity = (size_t)field(file, object, "capacity"), .overhead = (size_t)field(file, object, "overhead"),
		.copied = field_or(file, object, "copied_bytes", COPIED), .multiprocessors = (int)field_or(file, object, "multiprocessors", 0)};
	json_decref(object);
	if (device->flops[0] <= 0 || device->flops[1] <= 0 || device->flops[2] <= 0 || device->memory <= 0 || device->link <= 0)
		fail(EXIT_USAGE, "%s: rates and bandwidths must be more than 0", file);
	return device;
}

const Device *find_device(Arena *arena, const char *name)
{
	const char *known[sizeof devices / sizeof *devices];
	int count = sizeof devices / sizeof *devices;
	for (int i = 0; i < count; i++) {
		known[i] = devices[i].name;
		if (!strcmp(devices[i].name, name))
			return &devices[i];
	}
	size_t length = strlen(name);
	if (length > 5 && !strcmp(name + length - 5, ".json"))
		return read_device(arena, name);
	const char *near = nearest_name(name, known, count);
	fail(EXIT_USAGE, "unknown device '%s'%s%s%s\nknown: h100, h200, a100-80g, cpu, or a JSON file", name, near ? ": did you mean '" : "",
	     near ? near : "", near ? "'?" : "");
}
