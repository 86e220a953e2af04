// The gradient of causal attention in bf16 on Hopper's tensor cores, for heads of 64 elements (attention_sm90.h). With the scores
// s = scale q k', p = e^(s - lse) and delta = the sums of d_o o over each row (Dao, "FlashAttention-2", 2023, algorithm 2):
//
//   dv = p' d_o,    ds = p (d_o v' - delta),    dk = scale ds' q,    dq = scale ds k
//
// Tokens are taken in blocks of 128. An item is a block of keys of a unit (a pair of a sample and a group); a tile is what an item has
// to do with one block of queries of one head. A block of threads, one on each multiprocessor, takes items until there are none left. Its
// first warpgroup loads tiles; the two others compute them, 64 keys each, and hold what becomes dk and dv in registers. Scores are
// computed transposed, keys by queries: so p' and ds' are factors of products as they lie in registers, and only for dq does ds go
// through shared memory.
//
// dq is summed over items, in f32 in device memory, in the order in which items of a unit are given out: the first of them stores,
// others add to what is there, the last reads the sums and stores dq. So the sums have one order, and runs agree to the bit. A block
// of queries counts who has added; who comes next waits for that, but not for long: the items of some units, a group, are given out
// block by block. The shortest come first, that of the last block of keys, since then each block of queries is reached by one item after the
// other; in the last group, the longest, so that the multiprocessors end at about the same time. As an item only ever waits for items that
// were given out before it, the first that is not done waits for none.
//
// In a tile, the two warpgroups that compute go through these products, each as soon as its factors are there, so that the tensor cores
// have some while exponentials are computed (t: this tile):
//
//   s(t), dk(t-1), dq(t-2) | e^s | d_o v' (t), dv(t) | store or add dq(t-2); ds | s(t+1), dk(t), dq(t-1)
//
// The numbers of stages and the registers are what shared memory (219 KB of 227) and 232 registers a thread have room for.
#include "attention_sm90.h"
#include "sm90.h"

#include <math.h>

enum { SIZE = 64, BLOCK = 128, TILE_BYTES = BLOCK * SIZE * 2 };
enum { WARPGROUP = 128, GROUPS = 2, WARPS = GROUPS * 4, THREADS = WARPGROUP * (1 + GROUPS) };
enum { KEPT_REGISTERS = 40, REGISTERS = 232 }; // of threads that load, and that compute: 512 in all, of 3 warpgroups
enum { KEY_STAGES = 2, QUERY_STAGES = 3, RESULT_STAGES = 2, SCORE_STAGES = 2 };
enum { SUMS_IN_FLIGHT = 512 };                 // blocks of queries whose sums, 32 KB each, should stay in the L2 cache

struct job {
	int units, queries, tokens, blocks, group; // group: units whose items are given out block by block
	const float *rows;                         // [unit,query,block,2,BLOCK]: lse and delta of each query, in units of log 2 and 1
	float *sums;                               // [unit,query,block]: dq / scale, as the threads hold it
	unsigned *added;                           // [unit,query,block]: how many items have added to its dq
	unsigned *given;                           // how many items have been given out
	mp_bf16 *dqkv;                             // of the first unit
	size_t token;                              // elements of dqkv from one token to the next
	float scale, scale_2;                      // scale_2 = scale / log 2
};

// ---------------------------------------------------------------------------------------------------------
// Rows

enum { ROW_THREADS = 256, ROW_TOKENS = 32, ROW_HEADS = 4 };

// rows, and zeros in `added` and `given`. Behind the last token lse is infinite: e^(s - lse) is 0. o and d_o: [tokens,units of all,query,SIZE],
// lse: [unit,query,tokens]. Eight threads take a row.
static __global__ void __launch_bounds__(ROW_THREADS) prepare(job j, float *rows, const mp_bf16 *o, const mp_bf16 *d_o, const float *lse, size_t token)
{
	__shared__ float delta[ROW_HEADS][ROW_TOKENS];
	const int heads = j.units * j.queries, head0 = (int)blockIdx.x * ROW_HEADS, token0 = (int)blockIdx.y * ROW_TOKENS;
	const int part = (int)threadIdx.x % 8, head = (int)threadIdx.x / 8 % ROW_HEADS, first = (int)threadIdx.x / (8 * ROW_HEADS);

#pragma unroll
	for (int t = first; t < ROW_TOKENS; t += ROW_THREADS / (8 * ROW_HEADS)) {
		float sum = 0;
		if (token0 + t < j.tokens && head0 + head < heads) {
			const size_t at = (size_t)(token0 + t) * token + (size_t)(head0 + head) * SIZE + (size_t)part * 8;
			const uint4 x = *(const uint4 *)(o + at), y = *(const uint4 *)(d_o + at);
			const mp_bf16 *u = (const mp_bf16 *)&x, *v = (const mp_bf16 *)&y;
			for (int i = 0; i < 8; i++)
				sum = fmaf((float)u[i], (float)v[i], sum);
		}
		for (int lanes = 4; lanes; lanes /= 2)
			sum += __shfl_xor_sync(~0u, sum, lanes);
		if (part == 0)
			delta[head][t] = sum;
	}
	__syncthreads();
	const int h = (int)threadIdx.x / ROW_TOKENS, t = (int)threadIdx.x % ROW_TOKENS, at = token0 + t;
	if (h < ROW_HEADS && head0 + h < heads) {
		float *to = rows + ((size_t)(head0 + h) * j.blocks + at / BLOCK) * 2 * BLOCK + at % BLOCK;
		const bool inside = at < j.tokens;
		to[0] = inside ? lse[(size_t)(head0 + h) * j.tokens + at] * (float)M_LOG2E : INFINITY;
		to[BLOCK] = inside ? delta[h][t] : 0;
	}
	const int thread = (int)((blockIdx.y * gridDim.x + blockIdx.x) * ROW_THREADS + threadIdx.x);
	for (int i = thread; i < heads * j.blocks; i += (int)(gridDim.x * gridDim.y) * ROW_THREADS)
		j.added[i] = 0;
	if (thread == 0)
		*j.given = 0;
}

// ---------------------------------------------------------------------------------------------------------
// Items, and shared memory

struct item {
	int unit, block;
	bool longest_first;                                 // of its group
	// How many items add to the dq of a block of queries before it does.
	__device__ __forceinline__ int before(int i) const { return longest_first ? block : i - block; }
};

MP_DEVICE item item_of(const job &j, int number)
{
	const int first = number / (j.group * j.blocks) * j.group, size = min(j.group, j.units - first), rest = number % (j.group * j.blocks);
	const bool longest_first = first > 0 && first + size == j.units;
	return {first + rest % size, longest_first ? rest / size : j.blocks - 1 - rest / size, longest_first};
}

struct alignas(1024) memory {
	uint8_t k[KEY_STAGES][TILE_BYTES], v[KEY_STAGES][TILE_BYTES];
	uint8_t q[QUERY_STAGES][TILE_BYTES], d_o[RESULT_STAGES][TILE_BYTES];
	uint8_t ds[SCORE_STAGES][GROUPS][TILE_BYTES];       // [stage,keys / 64,query,key % 64]
	uint8_t staging[WARPS][8 * SIZE * 2];               // rows on their way to device memory
	float lse[QUERY_STAGES][2][BLOCK];                  // and delta
	int number[KEY_STAGES];                             // of the item; -1: there are no more
	uint64_t key_full[KEY_STAGES], key_free[KEY_STAGES], query_full[QUERY_STAGES], query_free[QUERY_STAGES];
	uint64_t result_full[RESULT_STAGES], result_free[RESULT_STAGES];
	uint64_t ds_full[SCORE_STAGES], ds_free[SCORE_STAGES];
	uint64_t turn[2], added[2], told[2];                // dq of a tile may be added; has been; others know
};

static __device__ void make_barriers(memory &m)
{
	for (int i = 0; i < KEY_STAGES; i++) {
		mp_barrier_make(&m.key_full[i], 1);
		mp_barrier_make(&m.key_free[i], WARPS + 2); // who computes, and both who keep the order
	}
	for (int i = 0; i < QUERY_STAGES; i++) {
		mp_barrier_make(&m.query_full[i], 1);
		mp_barrier_make(&m.query_free[i], WARPS);
	}
	for (int i = 0; i < RESULT_STAGES; i++) {
		mp_barrier_make(&m.result_full[i], 1);
		mp_barrier_make(&m.result_free[i], WARPS);
	}
	for (int i = 0; i < SCORE_STAGES; i++) {
		mp_barrier_make(&m.ds_full[i], WARPS);
		mp_barrier_make(&m.ds_free[i], WARPS);
	}
	for (int i = 0; i < 2; i++) {
		mp_barrier_make(&m.turn[i], 1);
		mp_barrier_make(&m.added[i], WARPS);
		mp_barrier_make(&m.told[i], 1);
	}
	mp_barriers_made();
}

// The parity of the phase in which a ring of so many stages holds number n, from 0 on. Who fills the ring waits for the phase before.
MP_DEVICE int phase(int n, int stages) { return n / stages % 2; }
MP_DEVICE int phase_before(int n, int stages) { return n / stages % 2 ^ 1; }

// ---------------------------------------------------------------------------------------------------------
// One thread each that loads, that waits for other blocks' sums and that tells of this one's

MP_DEVICE void load(const job &j, memory &m, const CUtensorMap &qkv, const CUtensorMap &d_o)
{
	const int items = j.units * j.blocks, packed = j.queries + 2;
	int number = (int)atomicAdd(j.given, 1u), tile = 0;

	for (int n = 0;; n++) {
		const int stage = n % KEY_STAGES;
		mp_barrier_wait(&m.key_free[stage], phase_before(n, KEY_STAGES));
		m.number[stage] = number < items ? number : -1;
		if (number >= items) {
			mp_barrier_arrive(&m.key_full[stage]);
			return;
		}
		const item of = item_of(j, number);
		mp_barrier_expect(&m.key_full[stage], 2 * TILE_BYTES);
		mp_load_box(m.k[stage], &qkv, of.unit * packed + j.queries, of.block * BLOCK, &m.key_full[stage]);
		mp_load_box(m.v[stage], &qkv, of.unit * packed + j.queries + 1, of.block * BLOCK, &m.key_full[stage]);
		for (int query = 0; query < j.queries; query++)
			for (int i = of.block; i < j.blocks; i++, tile++) {
				const int q = tile % QUERY_STAGES, o = tile % RESULT_STAGES, head = of.unit * j.queries + query;
				if (query == j.queries - 1 && i == j.blocks - 1)
					number = (int)atomicAdd(j.given, 1u);
				mp_barrier_wait(&m.query_free[q], phase_before(tile, QUERY_STAGES));
				mp_barrier_expect(&m.query_full[q], TILE_BYTES + (int)sizeof m.lse[q]);
				mp_load_box(m.q[q], &qkv, of.unit * packed + query, i * BLOCK, &m.query_full[q]);
				mp_load_bytes(m.lse[q], j.rows + ((size_t)head * j.blocks + i) * 2 * BLOCK, (int)sizeof m.lse[q], &m.query_full[q]);
				mp_barrier_wait(&m.result_free[o], phase_before(tile, RESULT_STAGES));
				mp_barrier_expect(&m.result_full[o], TILE_BYTES);
				mp_load_box(m.d_o[o], &d_o, head, i * BLOCK, &m.result_full[o]);
			}
	}
}

// Walks through the tiles as those who compute do; see `turn` and `told`. The fence before telling takes longer than a tile can wait.
template <bool Tells> MP_DEVICE void keep_order(const job &j, memory &m)
{
	int tile = 0;

	for (int n = 0;; n++) {
		const int stage = n % KEY_STAGES;
		mp_barrier_wait(&m.key_full[stage], phase(n, KEY_STAGES));
		if (m.number[stage] < 0)
			return;
		const item of = item_of(j, m.number[stage]);
		mp_barrier_arrive(&m.key_free[stage]);
		for (int query = 0; query < j.queries; query++)
			for (int i = of.block; i < j.blocks; i++, tile++) {
				unsigned *added = j.added + ((size_t)of.unit * j.queries + query) * j.blocks + i;
				const unsigned before = (unsigned)of.before(i);
				if (Tells) {
					mp_barrier_wait(&m.added[tile % 2], phase(tile, 2));
					mp_tell(added, before + 1);
					mp_barrier_arrive(&m.told[tile % 2]);
				} else {
					mp_barrier_wait(&m.told[tile % 2], phase_before(tile, 2));
					mp_await(added, before);
					mp_barrier_arrive(&m.turn[tile % 2]);
				}
			}
	}
}

// ---------------------------------------------------------------------------------------------------------
// Threads that compute

MP_DEVICE float low_of(uint32_t x) { return __uint_as_float(x << 16); }
MP_DEVICE float high_of(uint32_t x) { return __uint_as_float(x & 0xffff0000u); }

MP_DEVICE int lane() { return (int)threadIdx.x % 32; }
MP_DEVICE int warp_of_group() { return (int)threadIdx.x / 32 % 4; }
MP_DEVICE int group() { return (int)threadIdx.x / WARPGROUP - 1; }

MP_DEVICE void arrive_once(uint64_t *b)
{
	if (lane() == 0)
		mp_barrier_arrive(b);
}

// The warpgroup's 64 rows of x, times scale, to the head at `to` from this token on: each warp's through shared memory, 8 at a time, so that
// rows are stored in one piece.
MP_DEVICE void store_rows(const job &j, memory &m, const float (&x)[32], float scale, mp_bf16 *to, int token)
{
	uint8_t *rows = m.staging[threadIdx.x / 32 - 4];
	const int row = lane() % 8;
	token += warp_of_group() * 16 + lane() / 8;
#pragma unroll
	for (int half = 0; half < 2; half++) {
		__syncwarp();
#pragma unroll
		for (int n = 0; n < 8; n += 4) {
			uint32_t w[4];
#pragma unroll
			for (int k = 0; k < 4; k++)
				w[k] = mp_pack(x[(n + k) * 4 + half * 2] * scale, x[(n + k) * 4 + half * 2 + 1] * scale);
			mp_store_matrices(mp_shared_address(rows) + (uint32_t)(row * 128 + ((n + lane() / 8) ^ row) * 16), w);
		}
		__syncwarp();
#pragma unroll
		for (int r = 0; r < 8; r += 4) {
			const int of = r + lane() / 8;
			const uint4 eight = *(const uint4 *)(rows + of * 128 + (lane() % 8 ^ of) * 16);
			if (token + half * 8 + r < j.tokens)
				*(uint4 *)(to + (size_t)(token + half * 8 + r) * j.token + lane() % 8 * 8) = eight;
		}
	}
}

// What becomes of a tile's dq; in few registers, which are scarce.
struct target {
	int slot;                               // of sums; -1: there is no tile
	unsigned code;
	static __device__ __forceinline__ target of(int slot, int before, bool last, bool ends, int stage)
	{
		return {slot, (unsigned)before | (unsigned)last << 16 | (unsigned)ends << 17 | (unsigned)stage << 18};
	}
	__device__ __forceinline__ bool any() const { return slot >= 0; }
	__device__ __forceinline__ int before() const { return (int)(code & 0xffff); }  // how many items add before
	__device__ __forceinline__ bool last() const { return code >> 16 & 1; }         // whether none adds behind
	__device__ __forceinline__ bool ends() const { return code >> 17 & 1; }         // whether it is the item's last tile
	__device__ __forceinline__ int stage() const { return (int)(code >> 18); }      // of its keys
	__device__ __forceinline__ void forget_end() { code &= ~(1u << 17); }
};

MP_DEVICE float *sums_of(const job &j, int slot)
{
	return j.sums + (size_t)slot * (BLOCK * SIZE) + (size_t)(group() * 8 * WARPGROUP + (int)threadIdx.x % WARPGROUP) * 4;
}

// What dq of a tile begins with: the sums, where it is the last to add to them, else nothing.
MP_DEVICE void begin_dq(const job &j, memory &m, float (&dq)[32], const target &to, int tile)
{
	if (to.any() && to.last() && to.before()) {
		const float *sums = sums_of(j, to.slot);
		mp_barrier_wait(&m.turn[tile % 2], phase(tile, 2));
#pragma unroll
		for (int n = 0; n < 8; n++)
			mp_read_four(dq + n * 4, sums + n * 4 * WARPGROUP);
	} else {
#pragma unroll
		for (int n = 0; n < 32; n++)
			dq[n] = 0;
	}
}

// Every warp waits for every turn, also where it need not: a barrier tells a phase from the next, but not from the one behind that.
MP_DEVICE void end_dq(const job &j, memory &m, const float (&dq)[32], const target &to, int tile)
{
	mp_barrier_wait(&m.turn[tile % 2], phase(tile, 2));
	if (to.last()) {
		const int head = to.slot / j.blocks, unit = head / j.queries, query = head % j.queries;
		store_rows(j, m, dq, j.scale, j.dqkv + (size_t)(unit * (j.queries + 2) + query) * SIZE, to.slot % j.blocks * BLOCK + group() * 64);
	} else {
		float *sums = sums_of(j, to.slot);
		if (to.before()) {
#pragma unroll
			for (int n = 0; n < 8; n++)
				mp_add_to(sums + n * 4 * WARPGROUP, dq[n * 4], dq[n * 4 + 1], dq[n * 4 + 2], dq[n * 4 + 3]);
		} else {
#pragma unroll
			for (int n = 0; n < 8; n++)
				__stcg((float4 *)(sums + n * 4 * WARPGROUP), make_float4(dq[n * 4], dq[n * 4 + 1], dq[n * 4 + 2], dq[n * 4 + 3]));
		}
	}
	__syncwarp();
	arrive_once(&m.added[tile % 2]);
}

// Where the threads are.
struct place {
	item of;
	int query, i;                           // the head, and the block of queries
	int tile, items;                        // tiles before, items so far
	__device__ __forceinline__ int stage() const { return (items - 1) % KEY_STAGES; }
};

// The next item; false: there is none.
MP_DEVICE bool take(const job &j, memory &m, place *at)
{
	const int stage = at->items % KEY_STAGES;
	mp_barrier_wait(&m.key_full[stage], phase(at->items, KEY_STAGES));
	if (m.number[stage] < 0)
		return false;
	at->of = item_of(j, m.number[stage]);
	at->query = 0;
	at->i = at->of.block;
	at->items++;
	return true;
}

// x = a b'
MP_DEVICE void multiply(float (&x)[64], uint64_t a, uint64_t b)
{
#pragma unroll
	for (int c = 0; c < SIZE; c += 16)
		mp_product_128(x, a + mp_factor_columns(c), b + mp_factor_columns(c), c > 0);
	mp_products_end();
}

// x = a b (+ x, where it adds), a in registers.
MP_DEVICE void multiply(float (&x)[32], const uint32_t (&a)[32], uint64_t b, bool adds)
{
#pragma unroll
	for (int r = 0; r < BLOCK; r += 16)
		mp_product_64(x, a + r / 4, b + mp_factor_rows(r), r > 0 || adds);
	mp_products_end();
}

// x = k q'
MP_DEVICE void begin_scores(memory &m, float (&x)[64], const place &at)
{
	const int q = at.tile % QUERY_STAGES;
	const uint64_t keys = mp_factor(m.k[at.stage()] + group() * TILE_BYTES / GROUPS), queries = mp_factor(m.q[q]);
	mp_barrier_wait(&m.query_full[q], phase(at.tile, QUERY_STAGES));
	mp_products_begin();
	multiply(x, keys, queries);
}

// x = v d_o', and dv += p' d_o
MP_DEVICE void begin_results(memory &m, float (&x)[64], float (&dv)[32], const uint32_t (&p)[32], const place &at, bool adds)
{
	const int o = at.tile % RESULT_STAGES;
	const uint64_t values = mp_factor(m.v[at.stage()] + group() * TILE_BYTES / GROUPS), d_o = mp_factor(m.d_o[o]);
	mp_barrier_wait(&m.result_full[o], phase(at.tile, RESULT_STAGES));
	mp_products_begin();
	multiply(x, values, d_o);
	multiply(dv, p, d_o, adds);
}

// dk += ds' q
MP_DEVICE void begin_dk(memory &m, float (&dk)[32], const uint32_t (&ds)[32], int tile, bool adds)
{
	const uint64_t q = mp_factor(m.q[tile % QUERY_STAGES]);
	mp_products_begin();
	multiply(dk, ds, q, adds);
}

// dq += ds k, of 64 queries and all keys
MP_DEVICE void sum_dq(memory &m, float (&dq)[32], const target &to, int tile)
{
	const uint64_t ds = mp_factor(m.ds[tile % SCORE_STAGES][0] + group() * TILE_BYTES / GROUPS), k = mp_factor(m.k[to.stage()]);
	if (to.any())
		mp_barrier_wait(&m.ds_full[tile % SCORE_STAGES], phase(tile, SCORE_STAGES));
	mp_products_begin();
#pragma unroll
	for (int r = 0; r < BLOCK; r += 16)
		mp_product_64(dq, ds + r / 64 * (TILE_BYTES >> 4) + mp_factor_columns(r % 64), k + mp_factor_rows(r));
	mp_products_end();
}

// Scores of keys behind their query become minus infinity.
MP_DEVICE void mask(float (&x)[64])
{
	const int key = group() * 64 + warp_of_group() * 16 + lane() / 4;
#pragma unroll
	for (int n = 0; n < 64; n++) {
		const int query = n / 4 * 8 + lane() % 4 * 2 + n % 2;
		if (query < key + n / 2 % 2 * 8)
			x[n] = -INFINITY;
	}
}

MP_DEVICE void store_ds(memory &m, const uint32_t (&ds)[32], int tile)
{
	const int row = lane() % 8 + lane() / 16 * 8, chunk = warp_of_group() * 2 + lane() / 8 % 2;
	const uint32_t to = mp_shared_address(m.ds[tile % SCORE_STAGES][group()]) + (uint32_t)(row * 128 + (chunk ^ row % 8) * 16);
	mp_barrier_wait(&m.ds_free[tile % SCORE_STAGES], phase_before(tile, SCORE_STAGES));
#pragma unroll
	for (int c = 0; c < 8; c++)
		mp_store_transposed(to + c * 16 * 128, ds + c * 4);
	mp_stores_for_products();
	__syncwarp();
	arrive_once(&m.ds_full[tile % SCORE_STAGES]);
}

MP_DEVICE void compute(const job &j, memory &m)
{
	float x[64], dk[32], dv[32], dq[32];            // x: scores, then d_o v', both transposed
	uint32_t p[32], ds[32];                         // in bf16, transposed
	place at = {};
	target one = {-1, 0}, two = {-1, 0};            // of the tile before, of that before it

	if (!take(j, m, &at))
		return;
	begin_scores(m, x, at);
	mp_products_end();
	for (;;) {
		const int tile = at.tile;
		const float (&lse)[2][BLOCK] = m.lse[tile % QUERY_STAGES];
		const bool begins = at.i == at.of.block && at.query == 0, ends = at.i == j.blocks - 1 && at.query == j.queries - 1;

		mp_products_wait<1>();                  // all but dq of two
		mp_products_done(x);
		mp_products_done(dk);
		if (tile > 0)
			arrive_once(&m.query_free[(tile - 1) % QUERY_STAGES]);
		if (at.i == at.of.block)
			mask(x);
#pragma unroll
		for (int n = 0; n < 32; n += 2) {
			const float2 l = *(const float2 *)&lse[0][n * 4 + lane() % 4 * 2];
			p[n] = mp_pack(mp_exp_2(fmaf(x[n * 2], j.scale_2, -l.x)), mp_exp_2(fmaf(x[n * 2 + 1], j.scale_2, -l.y)));
			p[n + 1] = mp_pack(mp_exp_2(fmaf(x[n * 2 + 2], j.scale_2, -l.x)), mp_exp_2(fmaf(x[n * 2 + 3], j.scale_2, -l.y)));
		}
		begin_results(m, x, dv, p, at, !begins);

		mp_products_wait<2>();                  // dq of two
		mp_products_done(dq);
		if (two.any()) {
			arrive_once(&m.ds_free[tile % SCORE_STAGES]);
			if (two.ends())
				arrive_once(&m.key_free[two.stage()]);
			end_dq(j, m, dq, two, tile - 2);
		}
		mp_products_wait<1>();                  // d_o v'
		mp_products_done(x);
#pragma unroll
		for (int n = 0; n < 32; n += 2) {
			const float2 delta = *(const float2 *)&lse[1][n * 4 + lane() % 4 * 2];
			ds[n] = mp_pack(low_of(p[n]) * (x[n * 2] - delta.x), high_of(p[n]) * (x[n * 2 + 1] - delta.y));
			ds[n + 1] = mp_pack(low_of(p[n + 1]) * (x[n * 2 + 2] - delta.x), high_of(p[n + 1]) * (x[n * 2 + 3] - delta.y));
		}
		mp_products_wait<0>();                  // dv
		mp_products_done(dv);
		arrive_once(&m.result_free[tile % RESULT_STAGES]);
		store_ds(m, ds, tile);
		begin_dq(j, m, dq, one, tile - 1);

		two = one;
		const int before = at.of.before(at.i);
		one = target::of((at.of.unit * j.queries + at.query) * j.blocks + at.i, before, before == at.i, ends, at.stage());
		at.tile++;
		if (!ends) {
			if (++at.i == j.blocks) {
				at.i = at.of.block;
				at.query++;
			}
			begin_scores(m, x, at);
			begin_dk(m, dk, ds, tile, !begins);
			sum_dq(m, dq, two, tile - 1);
			continue;
		}
		begin_dk(m, dk, ds, tile, !begins);
		sum_dq(m, dq, two, tile - 1);
		mp_products_wait<0>();
		mp_products_done(dk);
		mp_products_done(dq);
		if (two.any() && two.ends()) {          // an item of one tile: the next one's keys come where those of `two` are
			arrive_once(&m.key_free[two.stage()]);
			two.forget_end();
		}
		const item done = at.of;
		const bool more = take(j, m, &at);
		if (more)
			begin_scores(m, x, at);
		mp_bf16 *head = j.dqkv + (size_t)(done.unit * (j.queries + 2) + j.queries) * SIZE;
		store_rows(j, m, dk, j.scale, head, done.block * BLOCK + group() * 64);
		store_rows(j, m, dv, 1, head + SIZE, done.block * BLOCK + group() * 64);
		if (!more) {
			if (two.any())
				end_dq(j, m, dq, two, tile - 1);
			begin_dq(j, m, dq, one, tile);
			sum_dq(m, dq, one, tile);
			mp_products_wait<0>();
			mp_products_done(dq);
			end_dq(j, m, dq, one, tile);
			return;
		}
		mp_products_wait<0>();
		mp_products_done(x);
	}
}

static __global__ void __launch_bounds__(THREADS, 1) attention_grad(const __grid_constant__ job j, const __grid_constant__ CUtensorMap qkv,
                                                                    const __grid_constant__ CUtensorMap d_o)
{
	memory &m = mp_dynamic_shared<memory>();

	if (threadIdx.x == 0)
		make_barriers(m);
	__syncthreads();
	if (threadIdx.x < WARPGROUP) {
		mp_keep_registers<KEPT_REGISTERS>();
		if (threadIdx.x == 0)
			load(j, m, qkv, d_o);
		else if (threadIdx.x == 32)
			keep_order<false>(j, m);
		else if (threadIdx.x == 64)
			keep_order<true>(j, m);
	} else {
		mp_get_registers<REGISTERS>();
		compute(j, m);
	}
}

// ---------------------------------------------------------------------------------------------------------

static size_t blocks_of(const struct mp_attention *a)
{
	return (size_t)(a->tokens + BLOCK - 1) / BLOCK;
}

extern "C" bool mp_attention_sm90_takes(const struct mp_attention *a)
{
	int device, major, minor;

	if (!a->gradient || a->type != MP_BF16 || a->size != SIZE || a->dropout > 0 || a->alignment % 16 || blocks_of(a) > 0xffff)
		return false;
	CUDA(cudaGetDevice(&device));
	CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
	CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
	return major == 9 && minor == 0;
}

extern "C" size_t mp_attention_sm90_bytes(const struct mp_attention *a, int units)
{
	const size_t blocks = (size_t)units * (size_t)a->queries * blocks_of(a);
	return blocks * (BLOCK * (SIZE + 2) * sizeof(float) + sizeof(unsigned)) + sizeof(unsigned);
}

extern "C" void mp_attention_sm90_prepare(void)
{
	CUDA(cudaFuncSetAttribute((const void *)prepare, cudaFuncAttributeMaxDynamicSharedMemorySize, 0));
	CUDA(cudaFuncSetAttribute((const void *)attention_grad, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)sizeof(memory)));
}

// Boxes of a block of tokens of one head, of heads[tokens,heads of all,SIZE] from `first` on. What lies behind the last token reads as 0.
static CUtensorMap describe(const mp_bf16 *first, int heads, int tokens, size_t token)
{
	static PFN_cuTensorMapEncodeTiled_v12000 encode;
	CUtensorMap map;
	const cuuint64_t extents[] = {SIZE, (cuuint64_t)heads, (cuuint64_t)tokens};
	const cuuint64_t strides[] = {SIZE * sizeof(mp_bf16), token * sizeof(mp_bf16)};
	const cuuint32_t box[] = {SIZE, 1, BLOCK}, ones[] = {1, 1, 1};
	cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSuccess;

	if (!encode)
		CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", (void **)&encode, 12000, cudaEnableDefault, &found));
	if (found != cudaDriverEntryPointSuccess)
		mp_fail(MP_DEVICE_FAILED, "the driver has no cuTensorMapEncodeTiled, which CUDA 12 brought");
	if (encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)first, extents, strides, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE,
	           CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
		mp_fail(MP_BUG, "a tensor map of %d heads and %d tokens is refused", heads, tokens);
	return map;
}

extern "C" void mp_attention_sm90_grad(const struct mp_attention *a, int first, int units, const void *d_o, const void *qkv, const void *o,
                                       const void *lse, void *dqkv, void *workspace, cudaStream_t stream)
{
	const int heads = units * a->queries, packed = units * (a->queries + 2), blocks = (int)blocks_of(a);
	const size_t slots = (size_t)heads * (size_t)blocks, all = (size_t)a->batch * (size_t)a->groups, offset = (size_t)first * SIZE;
	const size_t o_token = all * (size_t)a->queries * SIZE, qkv_token = all * (size_t)(a->queries + 2) * SIZE;
	const mp_bf16 *of_o = (const mp_bf16 *)o + offset * (size_t)a->queries, *of_d_o = (const mp_bf16 *)d_o + offset * (size_t)a->queries;
	const float *of_lse = (const float *)lse + (size_t)first * (size_t)a->queries * (size_t)a->tokens;
	int device, multiprocessors;

	CUDA(cudaGetDevice(&device));
	CUDA(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
	job j = {};
	j.units = units;
	j.queries = a->queries;
	j.tokens = a->tokens;
	j.blocks = blocks;
	const int most = SUMS_IN_FLIGHT / (a->queries * blocks), groups = most > 0 ? (units + most - 1) / most : units;
	j.group = (units + groups - 1) / groups;
	j.sums = (float *)workspace;
	float *rows = j.sums + slots * BLOCK * SIZE;
	j.rows = rows;
	j.added = (unsigned *)(rows + slots * 2 * BLOCK);
	j.given = j.added + slots;
	j.token = qkv_token;
	j.dqkv = (mp_bf16 *)dqkv + offset * (size_t)(a->queries + 2);
	j.scale = (float)(1 / sqrt((double)SIZE));
	j.scale_2 = (float)(M_LOG2E / sqrt((double)SIZE));

	size_t token = o_token;
	void *preparation[] = {&j, &rows, &of_o, &of_d_o, &of_lse, &token};
	const dim3 grid((unsigned)(heads + ROW_HEADS - 1) / ROW_HEADS, (unsigned)(blocks * BLOCK / ROW_TOKENS));
	CUDA(cudaLaunchKernel((const void *)prepare, grid, dim3(ROW_THREADS), preparation, 0, stream));

	CUtensorMap of_qkv = describe((const mp_bf16 *)qkv + offset * (size_t)(a->queries + 2), packed, a->tokens, qkv_token);
	CUtensorMap of_results = describe(of_d_o, heads, a->tokens, o_token);
	void *arguments[] = {&j, &of_qkv, &of_results};
	const int items = units * blocks, grids = items < multiprocessors ? items : multiprocessors;
	CUDA(cudaLaunchKernel((const void *)attention_grad, dim3((unsigned)grids), dim3(THREADS), arguments, sizeof(memory), stream));
}
