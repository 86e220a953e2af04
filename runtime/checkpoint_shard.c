// checkpoint_shard.c: the part of a logical tensor that a rank stores.
//
// Files and random numbers know logical tensors, arenas know local ones: pieces of sharded dims, padded with zeros to
// equal extents. Initialising, loading and saving all need the same walk between the two, so it is written once: a
// piece is a list of runs, each contiguous in both. Dims that are whole join the run of the dim outside them, so that a
// row-sharded matrix is one run and a column-sharded one has a run for each row.
#include "checkpoint.h"

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

static void walk(struct mp_rank *r, const struct mp_state *s, bool fill, mp_shard_visit *visit, void *context)
{
	struct mp_shard shard = mp_shard_of(r, s);
	size_t size = mp_type_bytes(s->type);
	long step = (long)(STAGING_BYTES / size), next = 0;
	char *staging;
	if (step > shard.elements)
		step = shard.elements;
	CUDA(cudaMallocHost((void **)&staging, (size_t)step * size));
	for (long begin = 0; begin < shard.elements; begin += step) {
		long end = begin + step < shard.elements ? begin + step : shard.elements;
		size_t bytes = (size_t)(end - begin) * size;
		char *device = r->arena + s->offset + (size_t)begin * size;
		if (fill) {
			memset(staging, 0, bytes);
			visit_piece(s, &shard, &next, begin, end, staging, visit, context);
			CUDA(cudaMemcpyAsync(device, staging, bytes, cudaMemcpyHostToDevice, r->compute));
			CUDA(cudaStreamSynchronize(r->compute));
		} else {
			CUDA(cudaMemcpyAsync(staging, device, bytes, cudaMemcpyDeviceToHost, r->compute));
			CUDA(cudaStreamSynchronize(r->compute));
			visit_piece(s, &shard, &next, begin, end, staging, visit, context);
		}
	}
	CUDA(cudaFreeHost(staging));
}

void mp_shard_fill(struct mp_rank *r, const struct mp_state *s, mp_shard_visit *visit, void *context)
{
	walk(r, s, true, visit, context);
}

void mp_shard_read(struct mp_rank *r, const struct mp_state *s, mp_shard_visit *visit, void *context)
{
	walk(r, s, false, visit, context);
}
