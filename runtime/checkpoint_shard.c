// checkpoint_shard.c: the part of a logical tensor that a rank stores, and where each of its elements lies in files.
//
// Files and random numbers know tensors as PyTorch's models have them; arenas know local parts of tensors whose dims
// may be ordered otherwise (filters are channels-last), that may join several tensors of files (q, k and v; gate and up)
// and are padded with zeros: to equal parts, or to a size that suits the device. Initialising, loading and saving all
// need the same walk between the two, so it is written once. The local tensor passes through a buffer of the host in
// slabs: boxes of it that are contiguous on the device. The elements that a slab shares with a piece of the state are a
// box of both; the walk goes over it in the order of the file, in runs that are contiguous there. A run that is
// contiguous in the slab too is handled in place; others pass through a second buffer.
#include "checkpoint.h"

#include <stdlib.h>
#include <string.h>

enum { BOUNCE_PART = 2, LONG_RUN = 4096 };      // the second buffer is half of a slab

struct walk {
	const struct mp_rank *r;
	const struct mp_state *s;
	mp_shard_visit *visit;
	void *context;
	bool fill, keep;
	size_t size;                            // bytes of an element
	long local[MP_DIMS], start[MP_DIMS];    // extents stored, padding included; first logical index
	long from[MP_DIMS], extent[MP_DIMS];    // the slab, in local indices
	long stride[MP_DIMS];                   // of the local tensor, and so of the slab
	int dim;                                // of which slabs are ranges, of `rows` indices
	long rows, slabs;
	struct mp_slab slab;
};

// Elements that a slab and a piece share, with dims in the order of the file: the box `at`, `extent` of the `whole`.
struct overlap {
	int dims;
	long whole[MP_DIMS], at[MP_DIMS], extent[MP_DIMS];
	long stride[MP_DIMS];                   // in the slab
	long base;                              // in the slab
};

// What the rank stores of a dim, padding included.
static long extent_of(const struct mp_rank *r, const struct mp_state *s, int dim)
{
	return mp_shard_extent(s->shape[dim], s->axis[dim] == MP_WHOLE ? 1 : r->model->axis[s->axis[dim]]);
}

const struct mp_piece *mp_pieces_of(const struct mp_state *s, struct mp_piece *own, int *count)
{
	*count = s->piece_count;
	if (s->piece_count > 0)
		return s->pieces;
	*own = (struct mp_piece){.name = s->name, .dims = s->dims};
	for (int d = 0; d < s->dims; d++) {
		own->extent[d] = own->shape[d] = s->shape[d];
		own->order[d] = d;
	}
	*count = 1;
	return own;
}

bool mp_shard_writes(const struct mp_rank *r, const struct mp_state *s)
{
	bool sharded[MP_AXES] = {false};
	for (int d = 0; d < s->dims; d++)
		if (s->axis[d] != MP_WHOLE)
			sharded[s->axis[d]] = true;
	return s->owned && (sharded[MP_DP] || r->dp == 0) && (sharded[MP_TP] || r->tp == 0);
}

// ---------------------------------------------------------------------------------------------------------
// A slab and a piece

static void add_dim(struct overlap *o, long whole, long at, long extent, long stride)
{
	int last = o->dims - 1;
	if (whole == 1)
		return;
	if (last >= 0 && extent == whole && o->stride[last] == stride * extent) {       // continues the dim before it
		o->whole[last] *= whole;
		o->at[last] *= whole;
		o->extent[last] *= whole;
		o->stride[last] = stride;
		return;
	}
	o->whole[o->dims] = whole;
	o->at[o->dims] = at;
	o->extent[o->dims] = extent;
	o->stride[o->dims++] = stride;
}

// False when they share nothing.
static bool find_overlap(const struct walk *w, const struct mp_piece *piece, struct overlap *o)
{
	*o = (struct overlap){0};
	for (int k = 0; k < w->s->dims; k++) {
		int d = piece->order[k];
		long first = w->start[d] + w->from[d], low = first, high = first + w->extent[d];
		if (low < piece->from[d])
			low = piece->from[d];
		if (high > piece->from[d] + piece->extent[d])
			high = piece->from[d] + piece->extent[d];
		if (low >= high)
			return false;
		o->base += (low - first) * w->stride[d];
		add_dim(o, piece->extent[d], low - piece->from[d], high - low, w->stride[d]);
	}
	return true;
}

static void move(char *to, long to_stride, const char *from, long from_stride, long n, size_t size)
{
	for (long i = 0; i < n; i++) {
		char *target = to + (size_t)(i * to_stride) * size;
		const char *source = from + (size_t)(i * from_stride) * size;
		if (size == 4)
			memcpy(target, source, 4);      // a size that the compiler knows is one move
		else if (size == 8)
			memcpy(target, source, 8);
		else
			memcpy(target, source, size);
	}
}

// Copies elements begin .. begin + count - 1 of a run over dims `dim` and following, which begins at `base` of the slab,
// into the slab from the second buffer, or back.
static void exchange(const struct walk *w, const struct overlap *o, bool into_slab, int dim, long base, long begin, long count)
{
	int last = o->dims - 1;
	for (long done = 0, n; done < count; done += n) {
		long rest = begin + done, place = base, left = o->extent[last] - rest % o->extent[last];
		for (int d = last; d >= dim; rest /= o->extent[d--])
			place += rest % o->extent[d] * o->stride[d];
		n = left < count - done ? left : count - done;
		char *slab = w->slab.memory + (size_t)place * w->size, *bounce = w->slab.bounce + (size_t)done * w->size;
		if (into_slab)
			move(slab, o->stride[last], bounce, 1, n, w->size);
		else
			move(bounce, 1, slab, o->stride[last], n, w->size);
	}
}

static void visit_run(const struct walk *w, const struct mp_piece *piece, const struct overlap *o, int dim, bool direct,
                      long base, long first)
{
	long run = 1, most = (long)(w->slab.most / BOUNCE_PART / w->size);
	for (int d = dim; d < o->dims; d++)
		run *= o->extent[d];
	if (direct) {
		w->visit(w->context, w->s, piece, w->slab.memory + (size_t)base * w->size, first, run);
		return;
	}
	for (long begin = 0; begin < run; begin += most) {
		long n = run - begin < most ? run - begin : most;
		if (!w->fill || w->keep)
			exchange(w, o, false, dim, base, begin, n);
		w->visit(w->context, w->s, piece, w->slab.bounce, first + begin, n);
		if (w->fill)
			exchange(w, o, true, dim, base, begin, n);
	}
}

static void visit_piece(const struct walk *w, const struct mp_piece *piece)
{
	struct overlap o;
	if (!find_overlap(w, piece, &o))
		return;
	if (o.dims == 0)
		o = (struct overlap){1, {1}, {0}, {1}, {1}, o.base};
	int dim = o.dims - 1;
	while (dim > 0 && o.extent[dim] == o.whole[dim])
		dim--;
	bool direct = o.stride[o.dims - 1] == 1 && (dim == o.dims - 1 || o.extent[o.dims - 1] >= LONG_RUN);
	if (direct)
		dim = o.dims - 1;
	long runs = 1;
	for (int d = 0; d < dim; d++)
		runs *= o.extent[d];
	for (long i = 0; i < runs; i++) {
		long index[MP_DIMS] = {0}, rest = i, first = 0, base = o.base;
		for (int d = dim; d-- > 0; rest /= o.extent[d])
			index[d] = rest % o.extent[d];
		for (int d = 0; d < o.dims; d++) {
			first = first * o.whole[d] + o.at[d] + index[d];
			base += index[d] * o.stride[d];
		}
		visit_run(w, piece, &o, dim, direct, base, first);
	}
}

// ---------------------------------------------------------------------------------------------------------
// Slabs

// Slabs are ranges of the first dim whose rows are small enough; the dims outside of it are single indices.
static void measure(struct walk *w)
{
	long stride = 1, most = (long)(w->slab.most / w->size);
	int dims = w->s->dims;
	for (int d = dims; d-- > 0; stride *= w->local[d]) {
		w->local[d] = extent_of(w->r, w->s, d);
		w->start[d] = mp_coordinate(w->r, w->s->axis[d]) * w->local[d];
		w->stride[d] = stride;
		w->extent[d] = w->local[d];
	}
	w->slabs = w->rows = 1;
	while (w->dim < dims - 1 && w->stride[w->dim] > most)
		w->slabs *= w->local[w->dim++];
	if (dims == 0)
		return;
	long extent = w->local[w->dim], rows = most / w->stride[w->dim];
	w->rows = rows < 1 ? 1 : rows < extent ? rows : extent;
	w->slabs *= (extent + w->rows - 1) / w->rows;
}

// Says where a slab lies that begins with an element of the local tensor.
static void place_slab(struct walk *w, long first, long elements)
{
	size_t size = w->s->lower != MP_STORED_WHOLE ? w->size / 2 : w->size;
	w->slab.bytes = (size_t)elements * w->size;
	w->slab.offset = w->s->offset + (size_t)first * size;
	w->slab.lower = w->s->lower >= 0 ? w->s->lower + first * (long)size : w->s->lower;
}

// Makes a slab the one that is walked.
static void take_slab(struct walk *w, long number)
{
	if (w->s->dims == 0) {
		place_slab(w, 0, 1);
		return;
	}
	long extent = w->local[w->dim], ranges = (extent + w->rows - 1) / w->rows, row = w->stride[w->dim];
	long at = number % ranges * w->rows, n = w->rows < extent - at ? w->rows : extent - at, outer = number / ranges;
	w->from[w->dim] = at;
	w->extent[w->dim] = n;
	for (long d = w->dim, rest = outer; d-- > 0; rest /= w->local[d]) {
		w->from[d] = rest % w->local[d];
		w->extent[d] = 1;
	}
	place_slab(w, (outer * extent + at) * row, n * row);
}

static long elements_of(const struct walk *w)
{
	return (long)(w->slab.bytes / w->size);
}

// Calls visit for what a slab holds of each piece. What no piece has is padding.
static void visit_slab(const struct walk *w)
{
	struct mp_piece own;
	struct overlap o;
	int pieces;
	const struct mp_piece *piece = mp_pieces_of(w->s, &own, &pieces);
	long padding = elements_of(w);
	for (int i = 0; i < pieces; i++) {
		long shared = find_overlap(w, &piece[i], &o);
		for (int d = 0; d < o.dims; d++)
			shared *= o.extent[d];
		padding -= shared;
	}
	if (w->fill && !w->keep && padding > 0)
		memset(w->slab.memory, 0, w->slab.bytes);
	for (int i = 0; i < pieces; i++)
		visit_piece(w, &piece[i]);
}

// Fills it, as it goes to the device.
static void fill_slab(const struct walk *w)
{
	visit_slab(w);
	if (w->slab.lower != MP_STORED_WHOLE)
		mp_slab_split(w->slab.memory, elements_of(w), w->slab.bounce);
}

static size_t part_of(const struct mp_slab *slab)
{
	return slab->lower != MP_STORED_WHOLE ? slab->bytes / 2 : slab->bytes;
}

void mp_slab_to_device(const struct mp_rank *r, const struct mp_slab *slab)
{
	size_t part = part_of(slab);
	CUDA(cudaMemcpyAsync(r->arena + slab->offset, slab->memory, part, cudaMemcpyHostToDevice, r->compute));
	if (slab->lower >= 0)
		CUDA(cudaMemcpyAsync(r->arena + slab->lower, slab->memory + part, part, cudaMemcpyHostToDevice, r->compute));
	CUDA(cudaStreamSynchronize(r->compute));
}

// Where lower halves are not kept, they are zeros.
static void from_device(const struct walk *w)
{
	const struct mp_slab *slab = &w->slab;
	size_t part = part_of(slab);
	CUDA(cudaMemcpyAsync(slab->memory, w->r->arena + slab->offset, part, cudaMemcpyDeviceToHost, w->r->compute));
	if (slab->lower == MP_UPPER_ALONE)
		memset(slab->memory + part, 0, part);
	if (slab->lower >= 0)
		CUDA(cudaMemcpyAsync(slab->memory + part, w->r->arena + slab->lower, part, cudaMemcpyDeviceToHost, w->r->compute));
	CUDA(cudaStreamSynchronize(w->r->compute));
	if (slab->lower != MP_STORED_WHOLE)
		mp_slab_join(slab->memory, elements_of(w), slab->bounce);
}

static void walk(struct walk *w)
{
	measure(w);
	for (long k = 0; k < w->slabs; k++) {
		take_slab(w, k);
		if (!w->fill || w->keep)
			from_device(w);
		if (!w->fill) {
			visit_slab(w);
			continue;
		}
		fill_slab(w);
		mp_slab_to_device(w->r, &w->slab);
	}
}

static struct walk new_walk(const struct mp_rank *r, const struct mp_state *s, const struct mp_slab *slab, mp_shard_visit *visit,
                            void *context)
{
	return (struct walk){.r = r, .s = s, .visit = visit, .context = context, .size = mp_type_bytes(s->type), .slab = *slab};
}

void mp_shard_fill(struct mp_rank *r, const struct mp_state *s, const struct mp_slab *slab, bool keep, mp_shard_visit *visit,
                   void *context)
{
	struct walk w = new_walk(r, s, slab, visit, context);
	w.fill = true;
	w.keep = keep;
	walk(&w);
}

void mp_shard_read(struct mp_rank *r, const struct mp_state *s, const struct mp_slab *slab, mp_shard_visit *visit, void *context)
{
	struct walk w = new_walk(r, s, slab, visit, context);
	walk(&w);
}

// ---------------------------------------------------------------------------------------------------------
// Slab by slab

void mp_slabs_open(struct mp_slab *slab, int count, size_t most)
{
	void *memory;
	CUDA(cudaMallocHost(&memory, (size_t)count * most));
	for (int i = 0; i < count; i++)
		slab[i] = (struct mp_slab){.most = most, .memory = (char *)memory + (size_t)i * most,
		                           .bounce = mp_allocate(most / BOUNCE_PART)};
}

void mp_slabs_close(struct mp_slab *slab, int count)
{
	for (int i = 0; i < count; i++)
		free(slab[i].bounce);
	CUDA(cudaFreeHost(slab[0].memory));
}

size_t mp_shard_bytes(const struct mp_rank *r, const struct mp_state *s)
{
	size_t bytes = mp_type_bytes(s->type);
	for (int d = 0; d < s->dims; d++)
		bytes *= (size_t)extent_of(r, s, d);
	return bytes;
}

long mp_shard_slabs(const struct mp_rank *r, const struct mp_state *s, size_t most)
{
	struct walk w = new_walk(r, s, &(struct mp_slab){.most = most}, NULL, NULL);
	measure(&w);
	return w.slabs;
}

void mp_shard_fill_slab(const struct mp_rank *r, const struct mp_state *s, long number, struct mp_slab *slab,
                        mp_shard_visit *visit, void *context)
{
	struct walk w = new_walk(r, s, slab, visit, context);
	w.fill = true;
	measure(&w);
	take_slab(&w, number);
	fill_slab(&w);
	*slab = w.slab;
}
