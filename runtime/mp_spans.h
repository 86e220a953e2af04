// mp_spans.h: how kernels walk over long rows that begin anywhere, on both machines; part of mp_kernel.h, which includes it.
//
// A row has elements before its first strip, fewer than fill one, and behind its last: these are taken one by one. mp_sum_exp_row and
// mp_change_row go over it, the second from cache where the first came before. Rows that are gone over twice may also be fetched into
// shared memory, as far as they fit, where each thread finds its own strips: as mp_change_fetched leaves one, that of the block's next row
// takes its place, so that memory is read and written at the same time.
//
// Orders of addition follow from the extents and the block.
#ifndef MP_SPANS_H
#define MP_SPANS_H

#ifdef __CUDACC__

#define MP_FETCH_BLOCKS __launch_bounds__(512, 2) // before a kernel whose blocks go over rows twice

// Threads for a row of n elements that mp_sum_exp_row or mp_change_row walks over: four strips for each, and more of long rows.
template <class real> static inline unsigned mp_span_threads(long n, unsigned most)
{
	unsigned threads = 32;
	while (threads < most && threads * 4L * MP_WIDE(real) < n)
		threads *= 2;
	return threads;
}

// Blocks that take a row each and read it twice: so few that rows of 100 KB are still in the cache of an H100.
static inline unsigned mp_cached_blocks(long rows) { return rows < 2 * 132 ? mp_row_blocks(rows) : 2 * 132; }

// The elements before the first strip.
template <class real> MP_DEVICE long mp_span_head(const real *from, long n)
{
	const long head = (long)((0 - (size_t)from) % 16 / sizeof(real));
	return head < n ? head : n;
}

// Those of all strips, behind the head.
template <class real> MP_DEVICE long mp_span_body(long head, long n) { return (n - head) / MP_WIDE(real) * MP_WIDE(real); }

// From the first strip of one thread to the next one of the same.
template <class real> MP_DEVICE long mp_span_stride() { return (long)blockDim.x * MP_WIDE(real); }

// The largest of a thread's values, and the sum of e^(value - largest), rescaled when a larger one comes.
template <class full> struct mp_exp_sum {
	full top, sum;
};

// The larger one; of a number and a NaN the number.
MP_DEVICE float mp_larger(float a, float b) { return fmaxf(a, b); }
MP_DEVICE double mp_larger(double a, double b) { return fmax(a, b); }

template <class full> MP_DEVICE void mp_add_exp(mp_exp_sum<full> &of, full value)
{
	const full before = of.top;
	of.top = mp_larger(of.top, value);
	const full base = of.top == -(full)INFINITY ? 0 : of.top; // -infinity minus itself would be a NaN
	of.sum = of.sum * mp_exp_below(before - base) + mp_exp_below(value - base);
}

// The thread's strips from column c up to `end`, each read by load(column), some before the first is looked at.
template <int strips, class real, class full, class Column, class Load> MP_DEVICE void mp_add_exp_strips(mp_exp_sum<full> &of, Column c, Column end, Load load)
{
	enum { width = MP_WIDE(real) };
	const Column stride = mp_span_stride<real>();
	for (; c < end; c += strips * stride) {
		mp_strip<width, real> read[strips];
		full value[strips][width];
		const full before = of.top;
#pragma unroll
		for (int k = 0; k < strips; k++)
			if (c + k * stride < end)
				read[k] = load(c + k * stride);
#pragma unroll
		for (int k = 0; k < strips; k++)
#pragma unroll
			for (int e = 0; e < width; e++) {
				value[k][e] = c + k * stride < end ? (full)read[k][e] : -(full)INFINITY;
				of.top = mp_larger(of.top, value[k][e]);
			}
		const full base = of.top == -(full)INFINITY ? 0 : of.top;
		of.sum *= mp_exp_below(before - base);
#pragma unroll
		for (int k = 0; k < strips; k++)
#pragma unroll
			for (int e = 0; e < width; e++)
				of.sum += mp_exp_below(value[k][e] - base);
	}
}

// The elements outside of strips.
template <class full, class real> MP_DEVICE mp_exp_sum<full> mp_exp_sum_of_ends(const real *from, long n, long head, long body)
{
	mp_exp_sum<full> of = {-(full)INFINITY, 0};
	for (long i = threadIdx.x; i < n - body; i += blockDim.x) // fewer than 2 * width
		mp_add_exp(of, (full)from[i < head ? i : i + body]);
	return of;
}

// The whole block's.
template <class full> MP_DEVICE full mp_sum_exp_of_block(const mp_exp_sum<full> &of, full *largest)
{
	*largest = mp_block_max(of.top);
	return mp_block_sum(of.sum * (of.top == *largest ? 1 : mp_exp_below(of.top - *largest)));
}

// As mp_sum_exp_over of from[0] to from[n - 1].
template <class full, class real> MP_DEVICE full mp_sum_exp_row(const real *from, long n, full *largest)
{
	enum { width = MP_WIDE(real) };
	const long head = mp_span_head(from, n), body = mp_span_body<real>(head, n);
	mp_exp_sum<full> of = mp_exp_sum_of_ends<full>(from, n, head, body);
	mp_add_exp_strips<4, real>(of, head + threadIdx.x * (long)width, head + body, [=](long c) { return mp_load<width>(from + c); });
	return mp_sum_exp_of_block(of, largest);
}

template <class full, class real, class Change> MP_DEVICE void mp_change_ends(real *to, const real *from, long n, long head, long body, Change change)
{
	for (long i = threadIdx.x; i < n - body; i += blockDim.x) {
		const long c = i < head ? i : i + body;
		full value[1] = {(full)from[c]};
		change(mp_width<1>(), c, value);
		to[c] = value[0];
	}
}

template <class full, class real, int width, class Change> MP_DEVICE void mp_change_strip(real *to, const mp_strip<width, real> &was, long c, Change change)
{
	full value[width];
	real changed[width];
#pragma unroll
	for (int e = 0; e < width; e++)
		value[e] = was[e];
	change(mp_width<width>(), c, value);
#pragma unroll
	for (int e = 0; e < width; e++)
		changed[e] = value[e];
	mp_store<width>(to + c, changed, width);
}

// The block's strips from column `first` up to `end`, from the end: what a pass before read last comes first, from cache.
template <class full, class real, class Change> MP_DEVICE void mp_change_strips(real *to, const real *from, long first, long end, Change change)
{
	enum { width = MP_WIDE(real), strips = 4 };
	const long stride = mp_span_stride<real>();
	for (long c = end - (threadIdx.x + 1L) * width; c >= first; c -= strips * stride) {
		mp_strip<width, real> was[strips];
#pragma unroll
		for (int k = 0; k < strips; k++)
			if (c - k * stride >= first)
				was[k] = mp_load<width>(from + c - k * stride);
#pragma unroll
		for (int k = 0; k < strips; k++)
			if (c - k * stride >= first)
				mp_change_strip<full>(to, was[k], c - k * stride, change);
	}
}

// change(strip, c, value) for the elements of a row from column c on, which become `to`, maybe the same memory.
template <class full, class real, class Change> MP_DEVICE void mp_change_row(real *to, const real *from, long n, Change change)
{
	const long head = ((size_t)to - (size_t)from) % 16 ? n : mp_span_head(from, n), body = mp_span_body<real>(head, n);
	mp_change_ends<full>(to, from, n, head, body, change);
	mp_change_strips<full>(to, from, head, head + body, change);
}

// ---- Rows in shared memory

enum {
	MP_FETCH_THREADS = 512,         // of a block
	MP_FETCH_MOST = 112 << 10       // bytes of a row: two blocks of a multiprocessor of an H100 have so many; a multiple of what all threads fetch
};

#ifndef MP_FETCHES
// Bytes of shared memory that a block of this device may have.
static inline int mp_shared_of_block()
{
	int device, most;
	return cudaGetDevice(&device) || cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) ? 0 : most;
}

// The strips of a row, those behind the head, as far as a thread has fetched its own.
MP_DEVICE char *mp_fetched()
{
	extern __shared__ uint4 fetched[];
	return (char *)fetched;
}

MP_DEVICE void mp_fetch(char *shared, const void *from)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(shared)), "l"(from) : "memory");
}

// Rows are fetched in two halves; what a thread has fetched since the last call is one.
MP_DEVICE void mp_fetched_half() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until no more than so many halves of the thread's are under way.
template <int halves> MP_DEVICE void mp_wait_for_fetched() { asm volatile("cp.async.wait_group %0;" ::"n"(halves) : "memory"); }
#endif

// Bytes of shared memory for what is fetched of a row of n elements of `from`, whose changes go to `to`; 0: the rows are not in the same place
// of a strip, or the device's blocks do not have so much.
template <class real> static inline int mp_fetch_bytes(const real *to, const real *from, long n)
{
	const long all = MP_FETCH_THREADS * 16L, bytes = (n * (long)sizeof(real) + all - 1) / all * all;
	const int some = bytes < MP_FETCH_MOST ? (int)bytes : MP_FETCH_MOST;
	return ((size_t)to - (size_t)from) % 16 || some > mp_shared_of_block() ? 0 : some;
}

// The columns behind the head that are fetched; those behind them are read again from cache.
template <class real> MP_DEVICE int mp_fetched_columns(int n)
{
	const int most = MP_FETCH_MOST / (int)sizeof(real);
	return n < most ? n : most;
}

// Those of the first half: some strips of each thread.
template <class real> MP_DEVICE int mp_first_half(int columns)
{
	const int both = 2 * mp_span_stride<real>();
	return (columns + both - 1) / both * (both / 2);
}

// each(c) for the columns at which the thread's strips of those that are fetched begin, counted behind the head; what it fetches are two halves.
template <class real, class Each> MP_DEVICE void mp_each_fetched(int columns, Each each)
{
	const int half = mp_first_half<real>(columns);
	int c = threadIdx.x * MP_WIDE(real);
	for (int part = 0; part < 2; part++) {
		for (; c < (part ? columns : half); c += mp_span_stride<real>())
			each(c);
		mp_fetched_half();
	}
}

// Begins to fetch a row of n elements.
template <class real> MP_DEVICE void mp_fetch_row(const real *from, int n)
{
	char *const fetched = mp_fetched();
	const int head = mp_span_head(from, n), body = mp_span_body<real>(head, n);
	mp_each_fetched<real>(mp_fetched_columns<real>(n), [=](int c) {
		if (c < body)
			mp_fetch(fetched + c * sizeof(real), from + head + c);
	});
}

// As mp_sum_exp_row of the row that was fetched.
template <class full, class real> MP_DEVICE full mp_sum_exp_fetched(const real *from, int n, full *largest)
{
	char *const fetched = mp_fetched();
	enum { width = MP_WIDE(real) };
	const int head = mp_span_head(from, n), body = mp_span_body<real>(head, n), first = threadIdx.x * width;
	const int columns = mp_fetched_columns<real>(n), half = mp_first_half<real>(columns), end = columns < body ? columns : body;
	const auto load = [=](int c) { return *(const mp_strip<width, real> *)(fetched + c * sizeof(real)); };
	mp_exp_sum<full> of = mp_exp_sum_of_ends<full>(from, n, head, body);
	mp_add_exp_strips<2, real>(of, columns + first, body, [=](int c) { return mp_load<width>(from + head + c); });
	mp_wait_for_fetched<1>();
	mp_add_exp_strips<2, real>(of, first, half < end ? half : end, load);
	mp_wait_for_fetched<0>();
	mp_add_exp_strips<2, real>(of, half + first, end, load);
	return mp_sum_exp_of_block(of, largest);
}

// As mp_change_row of the row that was fetched; meanwhile begins to fetch the row at `next`; NULL: there is none.
template <class full, class real, class Change> MP_DEVICE void mp_change_fetched(real *to, const real *from, int n, const real *next, Change change)
{
	char *const fetched = mp_fetched();
	enum { width = MP_WIDE(real) };
	const int head = mp_span_head(from, n), body = mp_span_body<real>(head, n);
	const int next_head = next ? mp_span_head(next, n) : 0, next_body = next ? mp_span_body<real>(next_head, n) : 0;
	const int columns = mp_fetched_columns<real>(n);
	mp_change_ends<full>(to, from, n, head, body, change);
	mp_change_strips<full>(to, from, (long)head + columns, (long)head + body, change);
	mp_each_fetched<real>(columns, [=](int c) {
		char *strip = fetched + c * sizeof(real);
		if (c < body)
			mp_change_strip<full>(to, *(const mp_strip<width, real> *)strip, head + c, change);
		if (c < next_body)
			mp_fetch(strip, next + next_head + c);
	});
}

#else

#define MP_FETCH_BLOCKS

enum { MP_FETCH_THREADS = 1 };

template <class real> static inline unsigned mp_span_threads(long, unsigned) { return 1; }
static inline unsigned mp_cached_blocks(long) { return 1; }

template <class full, class real> MP_DEVICE full mp_sum_exp_row(const real *from, long n, full *largest)
{
	return mp_sum_exp_over<full>(n, [=](long c) { return (full)from[c]; }, largest);
}

template <class full, class real, class Change>
MP_DEVICE void mp_change_elements(real *__restrict__ to, const real *__restrict__ from, long n, Change change)
{
	for (long c = 0; c < n; c++) {
		full value[1] = {(full)from[c]};
		change(mp_width<1>(), c, value);
		to[c] = value[0];
	}
}

// One pointer or two that do not overlap: both loops vectorise.
template <class full, class real, class Change> MP_DEVICE void mp_change_row(real *to, const real *from, long n, Change change)
{
	if (to != from) {
		mp_change_elements<full>(to, from, n, change);
		return;
	}
	for (long c = 0; c < n; c++) {
		full value[1] = {(full)to[c]};
		change(mp_width<1>(), c, value);
		to[c] = value[0];
	}
}

// Rows are in cache anyway.
template <class real> static inline int mp_fetch_bytes(const real *, const real *, long) { return 0; }
template <class real> MP_DEVICE void mp_fetch_row(const real *, long) {}
template <class full, class real> MP_DEVICE full mp_sum_exp_fetched(const real *from, long n, full *largest) { return mp_sum_exp_row<full>(from, n, largest); }
template <class full, class real, class Change> MP_DEVICE void mp_change_fetched(real *to, const real *from, long n, const real *, Change change)
{
	mp_change_row<full>(to, from, n, change);
}

#endif
#endif
