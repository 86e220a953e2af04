// mp_teams.h: how kernels walk over rows that several passes read, on both machines; part of mp_kernel.h, which includes it.
//
// A team of threads takes a row: a warp, which needs no barrier, or the whole block where a row is too wide for a warp's registers.
// Each thread holds its strips of the row in registers, a team's width apart, and reads them all before it looks at the first, so few
// threads keep the memory busy. Strips behind those, of very wide rows, are read again by each pass: right for rows of any
// length and blocks of any size. On the host, whose one thread has all columns, what is held is no more than the address.
//
//   strips   mp_sum_strips and mp_each_strip go over a whole row, several tensors at once; what is done with the elements from
//            column c on is a lambda (strip, c, …, value…): value[e] is element c + e of each tensor, e < strip.
//   panels   What a thread keeps for each of its columns while it goes down the rows, as sums: mp_each_held goes over the columns of
//            a panel, (k, c, elements, value…), k < held: a strip or more of each thread on the GPU, thousands of columns on the host.
//
// Orders of addition follow from the extents and the block.
#ifndef MP_TEAMS_H
#define MP_TEAMS_H

#ifdef __CUDACC__

struct mp_team {
	unsigned cols, panel;      // of a row: its columns, and the first that is held: longs would take registers that rows are held in
	unsigned thread, threads;
	unsigned turn;             // which of two places in shared memory its next sums take
	long row, stride;          // the team's first row, and from one of its rows to the next
};

enum { MP_HELD = 4 }; // strips of a thread, of rows that are held apart from the others

// Before kernels whose teams are of mp_row_team and mp_block_team: the most threads of a block, and so many registers that enough
// blocks run at once.
#define MP_ROW_TEAMS __launch_bounds__(512, 2)
#define MP_BLOCK_TEAMS __launch_bounds__(512)

// Strips for each of which a thread keeps sums: 16 columns in bf16, 12 in f32, or 8 one by one. With more, registers would be spilt.
#define MP_HELD_SUMS(width) ((width) < 2 ? 8 : (width) < 8 ? 3 : 2)

// The block's team for rows of which nothing but the columns are known.
MP_DEVICE mp_team mp_block_team(long cols) { return {(unsigned)cols, 0, threadIdx.x, blockDim.x, 0, blockIdx.x, gridDim.x}; }

// A warp for each row where that holds it, else the block.
template <int width> MP_DEVICE mp_team mp_row_team(long cols)
{
	const unsigned warps = blockDim.x / 32;
	if (cols > 32L * width * MP_HELD)
		return mp_block_team(cols);
	return {(unsigned)cols, 0, threadIdx.x % 32, 32, 0, (long)blockIdx.x * warps + threadIdx.x / 32, (long)gridDim.x * warps};
}

// Threads of a team that holds a row, at most so many.
static inline unsigned mp_team_threads(long cols, int columns, unsigned most)
{
	const long of_warp = 32L * columns, threads = (cols + of_warp - 1) / of_warp * 32;
	return threads < 32 ? 32 : threads < most ? (unsigned)threads : most;
}

static inline unsigned mp_block_team_threads(long cols, int width) { return mp_team_threads(cols, width * MP_HELD_SUMS(width), 512); }

// Threads and blocks for teams of mp_row_team: four rows a block where a warp has each.
static inline unsigned mp_row_team_threads(long cols, int width)
{
	const unsigned threads = mp_team_threads(cols, width * MP_HELD, 512);
	return threads == 32 ? 128 : threads;
}
static inline unsigned mp_row_team_blocks(long rows, long cols, int width)
{
	return mp_row_blocks(mp_team_threads(cols, width * MP_HELD, 512) == 32 ? (rows + 3) / 4 : rows);
}

template <int width, int held, class real> struct mp_held {
	const real *row;
	mp_strip<width, real> strip[held];
	__device__ __forceinline__ mp_strip<width, real> at(int k, long) const { return strip[k]; } // of mp_each_held's k and c
};

// The column of a thread's strip k.
template <int width> MP_DEVICE unsigned mp_held_column(const mp_team &team, int k)
{
	return team.panel + (k * team.threads + team.thread) * width;
}

template <int width, int held> MP_DEVICE unsigned mp_panel_columns(const mp_team &team) { return held * team.threads * width; }

// Threads without a strip k read the panel's first: a load under a condition would be waited for.
template <int width, int held, class real> MP_DEVICE mp_held<width, held, real> mp_hold(const mp_team &team, const real *row)
{
	mp_held<width, held, real> value;
	value.row = row;
#pragma unroll
	for (int k = 0; k < held; k++) {
		const unsigned c = mp_held_column<width>(team, k);
		value.strip[k] = mp_load<width>(row + (c < team.cols ? c : team.panel));
	}
	return value;
}

// A row that all rows are computed with, in place of a held one: read where it is used, for lack of registers. It is in the nearest cache
// then. The compiler must not know that the address is the same each time, or it would hold the row after all.
template <int width, class real> struct mp_read_again {
	const real *row;
	__device__ __forceinline__ mp_strip<width, real> at(int, long c) const
	{
		const real *from = row;
#ifdef __CUDA_ARCH__
		asm volatile("" : "+l"(from));
#endif
		return mp_load<width>(from + c);
	}
};

// Held, or read again.
template <int width, int held, bool holds, class real> MP_DEVICE auto mp_hold_or_read(const mp_team &team, const real *row)
{
	if constexpr (holds)
		return mp_hold<width, held>(team, row);
	else
		return mp_read_again<width, real>{row};
}

template <int width, int held, class Each, class real, class... Row>
MP_DEVICE void mp_each_held(const mp_team &team, Each each, const mp_held<width, held, real> &first, const Row &...row)
{
#pragma unroll
	for (int k = 0; k < held; k++) {
		const unsigned c = mp_held_column<width>(team, k);
		if (c < team.cols)
			each(k, c, width, first.at(k, c), row.at(k, c)...);
	}
}

// each(strip, c, value…) for the strips that are not held.
template <int width, int held, class Each, class real, class... Row>
MP_DEVICE void mp_each_other(const mp_team &team, Each each, const mp_held<width, held, real> &head, const Row &...row)
{
	if (team.cols <= mp_panel_columns<width, held>(team))
		return;
	const unsigned first = team.thread * width, stride = team.threads * width;
	for (unsigned c = first; c < team.cols; c += c - first == team.panel ? held * stride : stride)
		if (c - first != team.panel)
			each(mp_width<width>(), c, mp_load<width>(head.row + c), mp_load<width>(row.row + c)...);
}

template <int width, class Each, class... Row> MP_DEVICE void mp_each_strip(const mp_team &team, Each each, const Row &...row)
{
	mp_each_held<width>(team, [&](int, long c, int, auto... value) { each(mp_width<width>(), c, value...); }, row...);
	mp_each_other<width>(team, each, row...);
}

// A row that is made of others: make(strip, made, value…) gives `made` the elements of a strip, which are stored in `to` and held. All
// of what it is made of has been read before.
template <int width, int held, class real, class Make, class... other>
MP_DEVICE mp_held<width, held, real> mp_make(const mp_team &team, real *to, Make make, const mp_held<width, held, other> &...row)
{
	mp_held<width, held, real> value;
	value.row = to;
	mp_each_held<width>(team, [&](int k, long c, int, auto... from) {
		real made[width];
		make(mp_width<width>(), made, from...);
		memcpy(&value.strip[k], made, sizeof made);
		mp_store<width>(to + c, made, width);
	}, row...);
	mp_each_other<width>(team, [&](auto, long c, auto... from) {
		real made[width];
		make(mp_width<width>(), made, from...);
		mp_store<width>(to + c, made, width);
	}, row...);
	return value;
}

// Each value becomes the sum over the team's threads, the same in all of them. One barrier is enough: sums in turn take two places,
// and who writes to one has seen the barrier behind the last reads of it.
template <class full, int n> MP_DEVICE void mp_team_sums(mp_team &team, full (&value)[n])
{
	__shared__ alignas(16) full of_warp[2][32][n];
#pragma unroll
	for (int k = 0; k < n; k++)
		for (int offset = 16; offset; offset >>= 1)
			value[k] += __shfl_xor_sync(~0u, value[k], offset);
	if (team.threads == 32)
		return;
	full (*sum)[n] = of_warp[team.turn];
	team.turn ^= 1;
	const unsigned warps = team.threads / 32, warp = team.thread / 32, lane = team.thread % 32;
	if (lane == 0 || (warp == 0 && lane >= warps)) // what is not there is zero
		for (int k = 0; k < n; k++)
			sum[warp + lane][k] = lane ? 0 : value[k];
	__syncthreads();
	for (int k = 0; k < n; k++)
		value[k] = 0;
#pragma unroll 1
	for (unsigned first = 0; first < warps; first += 4)
#pragma unroll
		for (int k = 0; k < 4 * n; k++)
			value[k % n] += sum[first + k / n][k % n];
}

// sum[k] = what add(strip, c, sum, value…) adds to it over every strip of a row, by the whole team.
template <int width, class full, int n, class Add, class... Row>
MP_DEVICE void mp_sum_strips(mp_team &team, full (&sum)[n], Add add, const Row &...row)
{
	for (int k = 0; k < n; k++)
		sum[k] = 0;
	mp_each_strip<width>(team, [&](auto strip, long c, auto... value) { add(strip, c, sum, value...); }, row...);
	mp_team_sums(team, sum);
}

#else

struct mp_team {
	long cols, panel, row, stride;
	int thread;
};

enum { MP_HELD = 1 };
#define MP_HELD_SUMS(width) 1
#define MP_ROW_TEAMS
#define MP_BLOCK_TEAMS

MP_DEVICE mp_team mp_block_team(long cols) { return {cols, 0, blockIdx.x, gridDim.x, 0}; }
template <int width> MP_DEVICE mp_team mp_row_team(long cols) { return mp_block_team(cols); }

static inline unsigned mp_block_team_threads(long, int) { return 1; }
static inline unsigned mp_row_team_threads(long, int) { return 1; }
static inline unsigned mp_row_team_blocks(long rows, long, int) { return mp_row_blocks(rows); }

template <int width, int held, class real> struct mp_held {
	const real *row;
	inline __attribute__((always_inline)) auto at(int, long c) const { return mp_load<width>(row + c); }
};

template <int width, int held> MP_DEVICE long mp_panel_columns(const mp_team &) { return width; }

template <int width, int held, class real> MP_DEVICE mp_held<width, held, real> mp_hold(const mp_team &, const real *row) { return {row}; }
template <int width, int held, bool, class real> MP_DEVICE mp_held<width, held, real> mp_hold_or_read(const mp_team &, const real *row) { return {row}; }

template <int width, int held, class Each, class... real>
MP_DEVICE void mp_each_held(const mp_team &team, Each each, const mp_held<width, held, real> &...row)
{
	each(0, team.panel, mp_strip_width<width>(team.cols - team.panel), mp_load<width>(row.row + team.panel)...);
}

template <int width, int held, class Each, class... real>
MP_DEVICE void mp_each_strip(const mp_team &team, Each each, const mp_held<width, held, real> &...row)
{
	for (long c = 0; c < team.cols; c++)
		each(mp_width<1>(), c, mp_load<1>(row.row + c)...);
}

template <int width, int held, class real, class Make, class... other>
MP_DEVICE mp_held<width, held, real> mp_make(const mp_team &team, real *__restrict__ to, Make make, const mp_held<width, held, other> &...row)
{
	for (long c = 0; c < team.cols; c++) {
		real made[1];
		make(mp_width<1>(), made, mp_load<1>(row.row + c)...);
		to[c] = made[0];
	}
	return {to};
}

template <int width, int held, class full, int n, class Add, class... real>
MP_DEVICE void mp_sum_strips(const mp_team &team, full (&sum)[n], Add add, const mp_held<width, held, real> &...row)
{
	full part[n][MP_LANES] = {};
	auto add_lanes = [&](long c, int lanes) {
		for (int lane = 0; lane < lanes; lane++) {
			full own[n] = {};
			add(mp_width<1>(), c + lane, own, mp_load<1>(row.row + c + lane)...);
			for (int k = 0; k < n; k++)
				part[k][lane] += own[k];
		}
	};
	long c = 0;
	for (; c + MP_LANES <= team.cols; c += MP_LANES)
		add_lanes(c, MP_LANES);
	add_lanes(c, (int)(team.cols - c));
	for (int k = 0; k < n; k++) {
		for (int lanes = MP_LANES / 2; lanes; lanes /= 2)
			for (int lane = 0; lane < lanes; lane++)
				part[k][lane] += part[k][lane + lanes];
		sum[k] = part[k][0];
	}
}

#endif
#endif
