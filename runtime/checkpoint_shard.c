// checkpoint_shard.c: the part of a logical tensor that a rank stores.
//
// Files and random numbers know logical tensors, arenas know local ones: pieces of sharded dims, padded with zeros to
// equal extents. Initialising, loading and saving all need the same walk between the two, so it is written once: a
// piece is a list of runs, each contiguous in both. Dims that are whole join the run of the dim outside them, so that a
// row-sharded matrix is one run and a column-sharded one has a run for each row.
//
// All of this is in the order of files. Filters that the device keeps channels-last pass through a second buffer on
// their way, where each is transposed; nothing else knows of that order.
#include "checkpoint.h"

#include <stdlib.h>
#include <string.h>

enum { STAGING_BYTES = 4 << 20 };

static int coordinate(const struct mp_rank *r, int axis)
{
	return axis == MP_DP ? r->dp : axis == MP_TP ? r->tp : axis == MP_PP ? r->pp : 0;
}

struct mp_shard mp_shard_of(const struct mp_rank *r, const struct mp_state *s)
{
	struct mp_shard shard = {.dims = s->dims, .elements = 1, .runs = 1, .run = 1};
	for (int d = 0; d < s->dims; d++) {
		int size = s->axis[d] == MP_WHOLE ? 1 : r->model->axis[s->axis[d]], c = coordinate(r, s->axis[d]);
		shard.shape[d] = s->shape[d];
		shard.local[d] = mp_shard_extent(s->shape[d], size);
		shard.start[d] = c * shard.local[d];
		shard.valid[d] = mp_shard_valid(s->shape[d], size, c);
		shard.elements *= shard.local[d];
	}
	int d = s->dims;
	while (d > 0 && shard.valid[d - 1] == shard.shape[d - 1] && shard.local[d - 1] == shard.shape[d - 1])
		shard.run *= shard.shape[--d];
	if (d > 0)
		shard.run *= shard.valid[--d];
	shard.outer = d;
	while (d > 0)
		shard.runs *= shard.valid[--d];
	if (shard.run == 0)
		shard.runs = 0;
	return shard;
}

void mp_shard_at(const struct mp_shard *shard, long i, long *logical, long *stored)
{
	long index[MP_DIMS] = {0};
	for (int d = shard->outer; d-- > 0; i /= shard->valid[d])
		index[d] = i % shard->valid[d];
	*logical = *stored = 0;
	for (int d = 0; d < shard->dims; d++) {
		*logical = *logical * shard->shape[d] + shard->start[d] + index[d];
		*stored = *stored * shard->local[d] + index[d];
	}
}

bool mp_shard_writes(const struct mp_rank *r, const struct mp_state *s)
{
	bool sharded[MP_AXES] = {false};
	for (int d = 0; d < s->dims; d++)
		if (s->axis[d] != MP_WHOLE)
			sharded[s->axis[d]] = true;
	return s->owned && (sharded[MP_DP] || r->dp == 0) && (sharded[MP_TP] || r->tp == 0);
}

// Calls visit for the parts of runs that lie in stored elements begin .. end - 1, which `bytes` holds. *next is the
// first run that may have such a part.
static void visit_piece(const struct mp_state *s, const struct mp_shard *shard, long *next, long begin, long end,
                        char *bytes, mp_shard_visit *visit, void *context)
{
	size_t size = mp_type_bytes(s->type);
	for (; *next < shard->runs; ++*next) {
		long logical, stored;
		mp_shard_at(shard, *next, &logical, &stored);
		long from = stored > begin ? stored : begin, to = stored + shard->run < end ? stored + shard->run : end;
		if (from < to)
			visit(context, s, bytes + (size_t)(from - begin) * size, logical + from - stored, to - from);
		if (stored + shard->run > end)
			break;
	}
}

// to[f][column][row] = from[f][row][column] for so many filters.
static void transpose(char *to, const char *from, long filters, long rows, long columns, size_t size)
{
	long area = rows * columns;
	for (long f = 0; f < filters; f++, to += (size_t)area * size, from += (size_t)area * size)
		for (long row = 0; row < rows; row++)
			for (long column = 0; column < columns; column++) {
				char *target = to + (size_t)(column * rows + row) * size;
				const char *source = from + (size_t)(row * columns + column) * size;
				if (size == 4)
					memcpy(target, source, 4);      // a size that the compiler knows is one move
				else
					memcpy(target, source, 8);
			}
}

// What a state's elements pass through between visit and the device.
struct staging {
	long step;                      // elements at a time: whole filters where they are transposed
	long channels, pixels;          // of a filter
	char *device, *file;            // in the order of each; one buffer where these are the same
};

static struct staging make_staging(const struct mp_state *s, const struct mp_shard *shard)
{
	struct staging g = {.channels = 1, .pixels = 1};
	size_t size = mp_type_bytes(s->type);
	if (s->channels_last) {
		g.channels = shard->local[1];
		g.pixels = shard->local[2] * shard->local[3];
	}
	long filter = g.channels * g.pixels, filters = (long)(STAGING_BYTES / size) / filter;
	g.step = (filters ? filters : 1) * filter;
	if (g.step > shard->elements)
		g.step = shard->elements;
	CUDA(cudaMallocHost((void **)&g.device, (size_t)g.step * size));
	g.file = s->channels_last ? mp_allocate((size_t)g.step * size) : g.device;
	return g;
}

static void walk(struct mp_rank *r, const struct mp_state *s, bool fill, mp_shard_visit *visit, void *context)
{
	struct mp_shard shard = mp_shard_of(r, s);
	struct staging g = make_staging(s, &shard);
	size_t size = mp_type_bytes(s->type);
	long next = 0;
	for (long begin = 0; begin < shard.elements; begin += g.step) {
		long end = begin + g.step < shard.elements ? begin + g.step : shard.elements;
		long filters = (end - begin) / (g.channels * g.pixels);
		size_t bytes = (size_t)(end - begin) * size;
		char *arena = r->arena + s->offset + (size_t)begin * size;
		if (fill) {
			memset(g.file, 0, bytes);
			visit_piece(s, &shard, &next, begin, end, g.file, visit, context);
			if (g.file != g.device)
				transpose(g.device, g.file, filters, g.channels, g.pixels, size);
			CUDA(cudaMemcpyAsync(arena, g.device, bytes, cudaMemcpyHostToDevice, r->compute));
			CUDA(cudaStreamSynchronize(r->compute));
		} else {
			CUDA(cudaMemcpyAsync(g.device, arena, bytes, cudaMemcpyDeviceToHost, r->compute));
			CUDA(cudaStreamSynchronize(r->compute));
			if (g.file != g.device)
				transpose(g.file, g.device, filters, g.pixels, g.channels, size);
			visit_piece(s, &shard, &next, begin, end, g.file, visit, context);
		}
	}
	if (g.file != g.device)
		free(g.file);
	CUDA(cudaFreeHost(g.device));
}

void mp_shard_fill(struct mp_rank *r, const struct mp_state *s, mp_shard_visit *visit, void *context)
{
	walk(r, s, true, visit, context);
}

void mp_shard_read(struct mp_rank *r, const struct mp_state *s, mp_shard_visit *visit, void *context)
{
	walk(r, s, false, visit, context);
}
