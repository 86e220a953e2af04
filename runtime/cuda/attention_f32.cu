// mp_attention and mp_attention_grad in f32 on GPUs, with kernels of our own: cuDNN's attention knows 16-bit types alone.
//
// Dao et al. (2022): a block of threads keeps a tile of queries and visits the tiles of keys up to the mask, with the maximum and
// the sum of exponentials of each row so far; scores never leave the chip. The gradient is two such kernels, one that keeps
// keys and gives dk and dv, one that keeps queries and gives dq: each computes the scores anew, so nothing is added by
// more than one block and every sum has one order. Products use no tensor cores: f32 means f32.
//
// Threads lie in a square of 16 x 16. Of a tile of scores thread (y, x) has the ROWS rows from ROWS y on, and every 16th
// column from x on; of a tile of outputs the same rows. Rows in shared memory are one element longer than a head, so that
// 16 rows of one column lie in different banks. With dropout, the block draws which weights of a tile are kept, a bit each, before
// it computes them.
#include "mp_kept.h"

#include <math.h>
#include <stdlib.h>

enum { SIDE = 16, THREADS = SIDE * SIDE, WARP = 32 };

// What a kernel works on. A unit is a pair of a sample and a group.
struct job {
	const float *d_o, *qkv, *o, *lse, *delta;
	float *o_out, *lse_out, *dqkv, *delta_out;
	int tokens, units, queries, size;
	float scale;
	bool drops;
	float raise;            // what kept weights are multiplied with
	struct mp_kept kept;
};

// A head in a packed tensor: token t is at at[t * stride].
struct head {
	const float *at;
	size_t stride;
};

static __device__ head head_of(const job &j, const float *tensor, int heads, int unit, int index)
{
	return {tensor + ((size_t)unit * heads + index) * j.size, (size_t)j.units * heads * j.size};
}

// Tokens `first` and following into rows of `size` + 1 elements; zeros behind the last token.
template <int TILE> static __device__ void load(const job &j, float *rows, head from, int first)
{
	for (int e = threadIdx.x; e < TILE * j.size; e += THREADS) {
		int row = e / j.size, column = e % j.size;
		rows[row * (j.size + 1) + column] = first + row < j.tokens ? from.at[(first + row) * from.stride + column] : 0;
	}
}

// s = the dot products of the thread's rows of a and columns' rows of b.
template <int ROWS> static __device__ void score(const job &j, float s[ROWS][ROWS], const float *a, const float *b)
{
	int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE, width = j.size + 1;
	for (int i = 0; i < ROWS; i++)
		for (int k = 0; k < ROWS; k++)
			s[i][k] = 0;
	for (int d = 0; d < j.size; d++) {
		float left[ROWS], right[ROWS];
		for (int i = 0; i < ROWS; i++) {
			left[i] = a[(y * ROWS + i) * width + d];
			right[i] = b[(x + SIDE * i) * width + d];
		}
		for (int i = 0; i < ROWS; i++)
			for (int k = 0; k < ROWS; k++)
				s[i][k] = fmaf(left[i], right[k], s[i][k]);
	}
}

// Which weights of a tile are kept: bit k % 8 of byte q * TILE / 8 + k / 8 for its query q and key k.
template <int TILE> static __device__ void draw(const job &j, uint8_t *bits, int unit, int index, int first_query, int first_key)
{
	const int EACH = TILE / MP_KEPT_KEYS;
	for (int e = threadIdx.x; j.drops && e < TILE * EACH; e += THREADS) {
		uint32_t word[4][MP_PHILOX_STRIP];
		mp_kept_words(word, &j.kept, mp_kept_number(&j.kept, unit, index, first_query + e / EACH) + first_key / MP_KEPT_KEYS + e % EACH, 1);
		unsigned byte = 0;
		for (int k = 0; k < MP_KEPT_KEYS; k++)
			byte |= (unsigned)mp_is_kept(&j.kept, word, 0, k) << k;
		bits[e] = (uint8_t)byte;
	}
}

// What a weight of the tile is multiplied with.
template <int TILE> static __device__ float kept_of(const job &j, const uint8_t *bits, int query, int key)
{
	return !j.drops ? 1 : bits[query * (TILE / MP_KEPT_KEYS) + key / MP_KEPT_KEYS] >> key % MP_KEPT_KEYS & 1 ? j.raise : 0;
}

template <int ROWS> static __device__ void keep(float *tile, const float s[ROWS][ROWS])
{
	int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
	for (int i = 0; i < ROWS; i++)
		for (int k = 0; k < ROWS; k++)
			tile[(y * ROWS + i) * (ROWS * SIDE + 1) + x + SIDE * k] = s[i][k];
}

// out += tile rows: [TILE, TILE] [TILE, size].
template <int ROWS, int COLUMNS> static __device__ void add_product(const job &j, float out[ROWS][COLUMNS], const float *tile, const float *rows)
{
	int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE, width = j.size + 1;
	for (int k = 0; k < ROWS * SIDE; k++) {
		float left[ROWS];
		for (int i = 0; i < ROWS; i++)
			left[i] = tile[(y * ROWS + i) * (ROWS * SIDE + 1) + k];
		for (int c = 0; c < COLUMNS; c++) {
			float right = x + SIDE * c < j.size ? rows[k * width + x + SIDE * c] : 0;
			for (int i = 0; i < ROWS; i++)
				out[i][c] = fmaf(left[i], right, out[i][c]);
		}
	}
}

// Rows of out, times factors, to the tokens from `first` on.
template <int ROWS, int COLUMNS> static __device__ void store(const job &j, head to, int first, const float out[ROWS][COLUMNS], const float factor[ROWS])
{
	int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLUMNS; c++) {
			int token = first + y * ROWS + i, column = x + SIDE * c;
			if (token < j.tokens && column < j.size)
				const_cast<float *>(to.at)[token * to.stride + column] = factor ? out[i][c] * factor[i] : out[i][c];
		}
}

// Over the 16 threads that share rows.
static __device__ float row_max(float value)
{
	for (int lane = SIDE / 2; lane > 0; lane /= 2)
		value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, lane));
	return value;
}

static __device__ float row_sum(float value)
{
	for (int lane = SIDE / 2; lane > 0; lane /= 2)
		value += __shfl_xor_sync(0xffffffffu, value, lane);
	return value;
}

// Scores of one more tile of keys become exponentials; what was summed before is rescaled to the new maximum.
template <int ROWS, int COLUMNS>
static __device__ void soften(const job &j, float s[ROWS][ROWS], float out[ROWS][COLUMNS], float most[ROWS], float sum[ROWS], int first_query, int first_key)
{
	int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
	for (int i = 0; i < ROWS; i++) {
		int query = first_query + y * ROWS + i;
		float highest = most[i], added = 0;
		for (int k = 0; k < ROWS; k++) {
			s[i][k] = first_key + x + SIDE * k <= query ? s[i][k] * j.scale : -INFINITY;
			highest = fmaxf(highest, s[i][k]);
		}
		highest = row_max(highest);
		for (int k = 0; k < ROWS; k++) {
			s[i][k] = expf(s[i][k] - highest);
			added += s[i][k];
		}
		float factor = expf(most[i] - highest);
		sum[i] = sum[i] * factor + row_sum(added);
		most[i] = highest;
		for (int c = 0; c < COLUMNS; c++)
			out[i][c] *= factor;
	}
}

// A block: one head, one tile of queries. Tiles with many keys come first.
template <int ROWS, int COLUMNS> static __global__ void __launch_bounds__(THREADS) forward(job j)
{
	extern __shared__ float shared[];
	const int TILE = ROWS * SIDE;
	float *q = shared, *kv = q + TILE * (j.size + 1), *p = kv + TILE * (j.size + 1);
	uint8_t *bits = (uint8_t *)(p + TILE * (TILE + 1));
	int unit = blockIdx.x / j.queries, index = blockIdx.x % j.queries, first = (gridDim.y - 1 - blockIdx.y) * TILE;
	float s[ROWS][ROWS], out[ROWS][COLUMNS] = {}, most[ROWS], sum[ROWS], factor[ROWS];
	for (int i = 0; i < ROWS; i++) {
		most[i] = -INFINITY;
		sum[i] = 0;
	}
	load<TILE>(j, q, head_of(j, j.qkv, j.queries + 2, unit, index), first);
	for (int key = 0; key <= first; key += TILE) {
		load<TILE>(j, kv, head_of(j, j.qkv, j.queries + 2, unit, j.queries), key);
		draw<TILE>(j, bits, unit, index, first, key);
		__syncthreads();
		score<ROWS>(j, s, q, kv);
		soften<ROWS, COLUMNS>(j, s, out, most, sum, first, key);
		for (int i = 0; i < ROWS; i++)
			for (int k = 0; k < ROWS; k++)
				s[i][k] *= kept_of<TILE>(j, bits, threadIdx.x / SIDE * ROWS + i, threadIdx.x % SIDE + SIDE * k);
		keep<ROWS>(p, s);
		__syncthreads();
		load<TILE>(j, kv, head_of(j, j.qkv, j.queries + 2, unit, j.queries + 1), key);
		__syncthreads();
		add_product<ROWS, COLUMNS>(j, out, p, kv);
		__syncthreads();
	}
	for (int i = 0; i < ROWS; i++) {
		int token = first + threadIdx.x / SIDE * ROWS + i;
		if (threadIdx.x % SIDE == 0 && token < j.tokens)
			j.lse_out[(size_t)blockIdx.x * j.tokens + token] = most[i] + logf(sum[i]);
		factor[i] = 1 / sum[i];
	}
	store<ROWS, COLUMNS>(j, head_of(j, j.o_out, j.queries, unit, index), first, out, factor);
}

// delta[t] = do[t] . o[t]: a warp for each token of each head.
static __global__ void __launch_bounds__(THREADS) row_products(job j)
{
	size_t heads = (size_t)j.units * j.queries, row = blockIdx.x * (size_t)(THREADS / WARP) + threadIdx.x / WARP;
	if (row >= heads * j.tokens)
		return;
	float sum = 0;
	for (int d = threadIdx.x % WARP; d < j.size; d += WARP)
		sum = fmaf(j.d_o[row * j.size + d], j.o[row * j.size + d], sum);
	for (int lane = WARP / 2; lane > 0; lane /= 2)
		sum += __shfl_xor_sync(0xffffffffu, sum, lane);
	if (threadIdx.x % WARP == 0)
		j.delta_out[row % heads * j.tokens + row / heads] = sum;
}

// Scores s and the gradient of weights d become weights, times `kept`, and the gradient of scores.
static __device__ void differentiate(const job &j, float *s, float *d, size_t head, int query, int key, float kept)
{
	bool seen = key <= query && query < j.tokens;
	float p = seen ? expf(*s * j.scale - j.lse[head * j.tokens + query]) : 0;
	*d = seen ? p * (*d * kept - j.delta[head * j.tokens + query]) * j.scale : 0;
	*s = p * kept;
}

// A block: one group, one tile of keys; every query of every head that sees them.
template <int ROWS, int COLUMNS> static __global__ void __launch_bounds__(THREADS) gradient_of_keys(job j)
{
	extern __shared__ float shared[];
	const int TILE = ROWS * SIDE;
	int width = TILE * (j.size + 1), unit = blockIdx.x, first = blockIdx.y * TILE, packed = j.queries + 2;
	float *k = shared, *v = k + width, *q = v + width, *d_o = q + width, *p = d_o + width, *ds = p + TILE * (TILE + 1);
	uint8_t *bits = (uint8_t *)(ds + TILE * (TILE + 1));
	float s[ROWS][ROWS], d[ROWS][ROWS], dk[ROWS][COLUMNS] = {}, dv[ROWS][COLUMNS] = {};
	load<TILE>(j, k, head_of(j, j.qkv, packed, unit, j.queries), first);
	load<TILE>(j, v, head_of(j, j.qkv, packed, unit, j.queries + 1), first);
	for (int index = 0; index < j.queries; index++)
		for (int query = first; query < j.tokens; query += TILE) {
			load<TILE>(j, q, head_of(j, j.qkv, packed, unit, index), query);
			load<TILE>(j, d_o, head_of(j, j.d_o, j.queries, unit, index), query);
			draw<TILE>(j, bits, unit, index, query, first);
			__syncthreads();
			score<ROWS>(j, s, k, q);
			score<ROWS>(j, d, v, d_o);
			for (int i = 0; i < ROWS; i++)
				for (int c = 0; c < ROWS; c++) {
					int row = threadIdx.x % SIDE + SIDE * c, column = threadIdx.x / SIDE * ROWS + i;
					differentiate(j, &s[i][c], &d[i][c], (size_t)unit * j.queries + index, query + row, first + column,
					              kept_of<TILE>(j, bits, row, column));
				}
			keep<ROWS>(p, s);
			keep<ROWS>(ds, d);
			__syncthreads();
			add_product<ROWS, COLUMNS>(j, dv, p, d_o);
			add_product<ROWS, COLUMNS>(j, dk, ds, q);
			__syncthreads();
		}
	store<ROWS, COLUMNS>(j, head_of(j, j.dqkv, packed, unit, j.queries), first, dk, NULL);
	store<ROWS, COLUMNS>(j, head_of(j, j.dqkv, packed, unit, j.queries + 1), first, dv, NULL);
}

// A block: one head, one tile of queries; every key that they see.
template <int ROWS, int COLUMNS> static __global__ void __launch_bounds__(THREADS) gradient_of_queries(job j)
{
	extern __shared__ float shared[];
	const int TILE = ROWS * SIDE;
	int width = TILE * (j.size + 1), unit = blockIdx.x / j.queries, index = blockIdx.x % j.queries, packed = j.queries + 2;
	int first = (gridDim.y - 1 - blockIdx.y) * TILE;
	float *q = shared, *d_o = q + width, *k = d_o + width, *v = k + width, *ds = v + width;
	uint8_t *bits = (uint8_t *)(ds + TILE * (TILE + 1));
	float s[ROWS][ROWS], d[ROWS][ROWS], dq[ROWS][COLUMNS] = {};
	load<TILE>(j, q, head_of(j, j.qkv, packed, unit, index), first);
	load<TILE>(j, d_o, head_of(j, j.d_o, j.queries, unit, index), first);
	for (int key = 0; key <= first; key += TILE) {
		load<TILE>(j, k, head_of(j, j.qkv, packed, unit, j.queries), key);
		load<TILE>(j, v, head_of(j, j.qkv, packed, unit, j.queries + 1), key);
		draw<TILE>(j, bits, unit, index, first, key);
		__syncthreads();
		score<ROWS>(j, s, q, k);
		score<ROWS>(j, d, d_o, v);
		for (int i = 0; i < ROWS; i++)
			for (int c = 0; c < ROWS; c++) {
				int row = threadIdx.x / SIDE * ROWS + i, column = threadIdx.x % SIDE + SIDE * c;
				differentiate(j, &s[i][c], &d[i][c], blockIdx.x, first + row, key + column, kept_of<TILE>(j, bits, row, column));
			}
		keep<ROWS>(ds, d);
		__syncthreads();
		add_product<ROWS, COLUMNS>(j, dq, ds, k);
		__syncthreads();
	}
	store<ROWS, COLUMNS>(j, head_of(j, j.dqkv, packed, unit, index), first, dq, NULL);
}

// ---------------------------------------------------------------------------------------------------------

// Kernels for tiles of 16 `rows` tokens and heads of at most 16 `columns` elements.
struct variant {
	int rows, columns;
	void (*forward)(job), (*of_keys)(job), (*of_queries)(job);
};

#define VARIANT(ROWS, COLUMNS) \
	{ROWS, COLUMNS, forward<ROWS, COLUMNS>, gradient_of_keys<ROWS, COLUMNS>, gradient_of_queries<ROWS, COLUMNS>}
static const variant variants[] = {VARIANT(4, 4), VARIANT(4, 8), VARIANT(2, 8), VARIANT(2, 16)};

// Bytes of shared memory: heads of so many tiles, so many tiles of scores, and the bits of one.
static size_t shared_bytes(const variant *v, int size, int heads, int scores)
{
	size_t tile = (size_t)v->rows * SIDE;
	return (heads * tile * (size + 1) + scores * tile * (tile + 1)) * sizeof(float) + tile * tile / 8;
}

// The first that fits on the device.
static const variant *choose(const struct mp_attention *a)
{
	int device, most;
	CUDA(cudaGetDevice(&device));
	CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
	for (const variant &v : variants)
		if (a->size <= SIDE * v.columns && shared_bytes(&v, a->size, 4, 2) <= (size_t)most)
			return &v;
	mp_fail(MP_USAGE, "attention %s in f32: heads of %d elements are too large for this device's %d bytes of shared memory\n"
	        "use heads of at most 128 elements, or generate for bf16", a->name, a->size, most);
}

// Loads the kernel now: at its first launch it would wait for the device, and with it for communication.
static void allow(void (*kernel)(job), size_t bytes)
{
	CUDA(cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

static void launch(void (*kernel)(job), size_t x, int y, size_t bytes, job j, cudaStream_t stream)
{
	void *arguments[] = {&j};
	CUDA(cudaLaunchKernel((const void *)kernel, dim3((unsigned)x, (unsigned)y), dim3(THREADS), arguments, bytes, stream));
}

static job describe(const struct mp_attention *a, const void *qkv, bool drops, const struct mp_dropped *dropped)
{
	job j = {};
	j.qkv = (const float *)qkv;
	j.tokens = a->tokens;
	j.units = a->batch * a->groups;
	j.queries = a->queries;
	j.size = a->size;
	j.scale = (float)(1 / sqrt((double)a->size));
	j.drops = drops;
	j.raise = (float)(1 / (1 - a->dropout));
	j.kept = mp_kept_of(a, dropped);
	return j;
}

static int tiles_of(const variant *v, const struct mp_attention *a)
{
	return (a->tokens + SIDE * v->rows - 1) / (SIDE * v->rows);
}

struct mp_attention_plan {
	const variant **variants;               // one for each of program->attentions
};

extern "C" void mp_attention_prepare(struct mp_rank *r)
{
	int count = r->program->attention_count;
	r->attention_plans = (struct mp_attention_plan *)calloc(1, sizeof *r->attention_plans);
	r->attention_plans->variants = (const variant **)calloc((size_t)count + 1, sizeof *r->attention_plans->variants);
	for (int i = 0; i < count; i++) {
		const struct mp_attention *a = &r->program->attentions[i];
		if (a->type != MP_F32)
			mp_fail(MP_USAGE, "attention %s is in f64, which exists on the host only: generate for f32, or build the target host", a->name);
		const variant *v = r->attention_plans->variants[i] = choose(a);
		if (!a->gradient)
			allow(v->forward, shared_bytes(v, a->size, 2, 1));
		else {
			allow(row_products, 0);
			allow(v->of_keys, shared_bytes(v, a->size, 4, 2));
			allow(v->of_queries, shared_bytes(v, a->size, 4, 1));
		}
	}
}

extern "C" void mp_attention_release(struct mp_rank *r)
{
	free(r->attention_plans->variants);
	free(r->attention_plans);
}

extern "C" void mp_attention(struct mp_rank *r, const struct mp_attention *a, const void *qkv, void *o, void *lse, struct mp_dropped dropped,
                             cudaStream_t stream)
{
	const variant *v = r->attention_plans->variants[a - r->program->attentions];
	job j = describe(a, qkv, a->dropout > 0 && !r->evaluating, &dropped);
	j.o_out = (float *)o;
	j.lse_out = (float *)lse;
	launch(v->forward, (size_t)j.units * j.queries, tiles_of(v, a), shared_bytes(v, a->size, 2, 1), j, stream);
}

extern "C" void mp_attention_grad(struct mp_rank *r, const struct mp_attention *a, const void *d_o, const void *qkv, const void *o,
                                  const void *lse, void *dqkv, struct mp_dropped dropped, cudaStream_t stream)
{
	const variant *v = r->attention_plans->variants[a - r->program->attentions];
	job j = describe(a, qkv, a->dropout > 0, &dropped);
	size_t heads = (size_t)j.units * j.queries, rows = heads * j.tokens, each = THREADS / WARP;
	if (stream != r->compute)
		mp_fail(MP_BUG, "attention %s: the workspace belongs to the compute stream", a->name);
	if (rows * sizeof(float) > r->program->workspace_bytes)
		mp_fail(MP_BUG, "attention %s: a workspace of %zu bytes is too small", a->name, r->program->workspace_bytes);
	j.d_o = (const float *)d_o;
	j.o = (const float *)o;
	j.lse = (const float *)lse;
	j.dqkv = (float *)dqkv;
	j.delta = j.delta_out = (float *)(r->arena + r->program->workspace_offset);
	launch(row_products, (rows + each - 1) / each, 1, 0, j, stream);
	launch(v->of_keys, (size_t)j.units, tiles_of(v, a), shared_bytes(v, a->size, 4, 2), j, stream);
	launch(v->of_queries, heads, tiles_of(v, a), shared_bytes(v, a->size, 4, 1), j, stream);
}
