// sm90_emulated.h: runtime/cuda/sm90.h on the CPU (emulate.h), so that the logic of kernels that use it can be tested where there is no
// GPU. Copies to shared memory are done at once, which is the earliest that they can be; products when a wait asks for them, which is the
// latest: what is overwritten too soon, or read, gives wrong results. What waits for what never comes ends the program.
#ifndef MP_SM90_H
#define MP_SM90_H

#include "emulate.h"
#include "mp_math.h"

#include <algorithm>
#include <deque>

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint4 { uint32_t x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline void __stcg(float4 *to, float4 x) { *to = x; }
inline int min(int a, int b) { return a < b ? a : b; }

inline float __uint_as_float(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

inline float sm90_number(uint16_t bf16) { return __uint_as_float((uint32_t)bf16 << 16); }

inline uint32_t mp_pack(float low, float high)
{
	const mp_bf16 pair[] = {low, high};
	return (uint32_t)pair[0].bits | (uint32_t)pair[1].bits << 16;
}

inline float mp_exp_2(float x) { return exp2f(x); }

#define SM90_CHECK(condition) do { if (!(condition)) { fprintf(stderr, "%s:%d: %s, in thread %u\n", __FILE__, __LINE__, #condition, emulated.current); exit(1); } } while (0)

// ---------------------------------------------------------------------------------------------------------
// Shared memory of each block, addressed from its beginning

enum { SM90_BLOCKS = 4, SM90_BYTES = 227 * 1024 };
alignas(1024) inline char sm90_memory[SM90_BLOCKS][SM90_BYTES];

inline char *sm90_shared() { return sm90_memory[blockIdx.x]; }

template <class T> T &mp_dynamic_shared()
{
	static_assert(sizeof(T) <= SM90_BYTES, "shared memory of a block");
	SM90_CHECK(blockIdx.x < SM90_BLOCKS);
	return *(T *)sm90_shared();
}

inline uint32_t mp_shared_address(const void *p)
{
	SM90_CHECK((const char *)p >= sm90_shared() && (const char *)p < sm90_shared() + SM90_BYTES);
	return (uint32_t)((const char *)p - sm90_shared());
}

// Where the swizzle puts what is at this address of a tile.
inline char *sm90_swizzled(uint32_t address)
{
	return sm90_shared() + (address ^ (address >> 7 & 7) << 4);
}

// ---------------------------------------------------------------------------------------------------------

struct Sm90Barrier {
	int16_t arrivals, pending;
	int32_t bytes_and_parity;               // twice the bytes that are still to come, and the parity of the phase
};
static_assert(sizeof(Sm90Barrier) == sizeof(uint64_t), "a barrier is 8 bytes");

inline void sm90_settle(Sm90Barrier *b)
{
	emulated.moved = true;
	SM90_CHECK(b->pending >= 0);
	if (!b->pending && b->bytes_and_parity >> 1 == 0) {
		b->pending = b->arrivals;
		b->bytes_and_parity ^= 1;
	}
}

inline void mp_barrier_make(uint64_t *b, int arrivals) { *(Sm90Barrier *)b = {(int16_t)arrivals, (int16_t)arrivals, 0}; }
inline void mp_barriers_made() {}

inline void mp_barrier_arrive(uint64_t *b)
{
	((Sm90Barrier *)b)->pending--;
	sm90_settle((Sm90Barrier *)b);
}

inline void sm90_count(uint64_t *b, int bytes)
{
	((Sm90Barrier *)b)->bytes_and_parity += 2 * bytes;
}

inline void mp_barrier_expect(uint64_t *b, int bytes)
{
	sm90_count(b, bytes);
	mp_barrier_arrive(b);
}

inline void mp_barrier_wait(uint64_t *b, int parity)
{
	while ((((Sm90Barrier *)b)->bytes_and_parity & 1) == parity)
		emulated_yield();
}

// ---------------------------------------------------------------------------------------------------------
// Tensor maps, and copies

typedef uint64_t cuuint64_t;
typedef uint32_t cuuint32_t;
typedef int CUresult;
enum { CUDA_SUCCESS, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };

struct CUtensorMap {
	const char *base;
	uint64_t extents[3], strides[2];
	uint32_t box[3];
};
typedef CUresult (*PFN_cuTensorMapEncodeTiled_v12000)(CUtensorMap *map, int type, int dims, void *base, const cuuint64_t *extents, const cuuint64_t *strides,
                                                      const cuuint32_t *box, const cuuint32_t *steps, int, int swizzle, int, int);

inline CUresult sm90_encode(CUtensorMap *map, int type, int dims, void *base, const cuuint64_t *extents, const cuuint64_t *strides, const cuuint32_t *box,
                            const cuuint32_t *, int, int swizzle, int, int)
{
	const bool known = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 && dims == 3 && swizzle == CU_TENSOR_MAP_SWIZZLE_128B && box[0] == 64 && box[1] == 1;
	if (!known || (uintptr_t)base % 16 || strides[0] % 16 || strides[1] % 16 || extents[0] != 64)
		return 1;
	*map = {(const char *)base, {extents[0], extents[1], extents[2]}, {strides[0], strides[1]}, {box[0], box[1], box[2]}};
	return CUDA_SUCCESS;
}

inline void mp_load_box(void *to, const CUtensorMap *tensor, int y, int z, uint64_t *b)
{
	SM90_CHECK(y >= 0 && (uint64_t)y < tensor->extents[1] && mp_shared_address(to) % 1024 == 0);
	for (uint32_t row = 0; row < tensor->box[2]; row++)
		for (uint32_t chunk = 0; chunk < 8; chunk++) {
			char *at = sm90_swizzled(mp_shared_address(to) + row * 128 + chunk * 16);
			if ((uint64_t)z + row < tensor->extents[2])
				memcpy(at, tensor->base + (size_t)y * tensor->strides[0] + ((size_t)z + row) * tensor->strides[1] + chunk * 16, 16);
			else
				memset(at, 0, 16);
		}
	sm90_count(b, -(int)tensor->box[2] * 128);
	sm90_settle((Sm90Barrier *)b);
}

inline void mp_load_bytes(void *to, const void *from, int bytes, uint64_t *b)
{
	SM90_CHECK(mp_shared_address(to) % 16 == 0 && (uintptr_t)from % 16 == 0 && bytes % 16 == 0);
	memcpy(to, from, (size_t)bytes);
	sm90_count(b, -bytes);
	sm90_settle((Sm90Barrier *)b);
}

inline void mp_stores_for_products() {}

inline unsigned sm90_warp() { return emulated.current / EMULATED_WARP * EMULATED_WARP; }
inline unsigned sm90_lane() { return emulated.current % EMULATED_WARP; }

// A lane holds of each matrix row l / 4, columns l % 4 * 2 and the next.
inline void mp_store_matrices(uint32_t to, const uint32_t x[4])
{
	SM90_CHECK(to % 16 == 0);
	for (unsigned i = 0; i < 4; i++) {
		const uint32_t at = emulated_exchange(to, sm90_warp() + i * 8 + sm90_lane() / 4);
		memcpy(sm90_shared() + at + sm90_lane() % 4 * 4, &x[i], 4);
	}
}

inline void mp_store_transposed(uint32_t to, const uint32_t x[4])
{
	SM90_CHECK(to % 16 == 0);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < 2; k++) {
			const uint32_t at = emulated_exchange(to, sm90_warp() + i * 8 + sm90_lane() % 4 * 2 + k);
			const uint16_t half = (uint16_t)(x[i] >> (16 * k));
			memcpy(sm90_shared() + at + sm90_lane() / 4 * 2, &half, 2);
		}
}

// ---------------------------------------------------------------------------------------------------------
// Products, of each thread those that are not done yet, and the ends of groups

struct Sm90Product {
	enum { GROUP_ENDS, COLUMNS_128, COLUMNS_64, REGISTERS_64 } kind;
	float *d;
	const uint32_t *held;                   // a in registers, which must keep it until then
	uint64_t a, b;
	bool adds;
};

inline std::vector<std::deque<Sm90Product>> sm90_products;
inline std::vector<uint32_t> sm90_offered;

inline uint64_t mp_factor(const void *tile) { return mp_shared_address(tile) >> 4; }
constexpr uint64_t mp_factor_rows(int rows) { return (uint64_t)(rows * 128 >> 4); }
constexpr uint64_t mp_factor_columns(int columns) { return (uint64_t)(columns * 2 >> 4); }

inline float sm90_element(uint64_t factor, unsigned row, unsigned column)
{
	uint16_t bits;
	memcpy(&bits, sm90_swizzled((uint32_t)(factor << 4) + row * 128 + column * 2), 2);
	return sm90_number(bits);
}

inline void sm90_compute(const Sm90Product &of)
{
	const unsigned lane = sm90_lane(), rows = emulated.current / EMULATED_WARP % 4 * 16 + lane / 4, columns = of.kind == Sm90Product::COLUMNS_128 ? 128 : 64;
	float a[2][16];
	if (of.kind == Sm90Product::REGISTERS_64) {
		memcpy(&sm90_offered[emulated.current * 4], of.held, 16);
		__syncwarp();
	}
	for (unsigned half = 0; half < 2; half++)
		for (unsigned k = 0; k < 16; k++)
			if (of.kind == Sm90Product::REGISTERS_64) {
				const uint32_t pair = sm90_offered[(sm90_warp() + lane / 4 * 4 + k % 8 / 2) * 4 + half + k / 8 * 2];
				a[half][k] = sm90_number((uint16_t)(pair >> (16 * (k % 2))));
			} else {
				a[half][k] = sm90_element(of.a, rows + half * 8, k);
			}
	if (of.kind == Sm90Product::REGISTERS_64)
		__syncwarp();
	for (unsigned n = 0; n < columns / 8; n++)
		for (unsigned c = 0; c < 2; c++) {
			const unsigned column = n * 8 + lane % 4 * 2 + c;
			float b[16];
			for (unsigned k = 0; k < 16; k++)
				b[k] = of.kind == Sm90Product::COLUMNS_128 ? sm90_element(of.b, column, k) : sm90_element(of.b, k, column);
			for (unsigned half = 0; half < 2; half++) {
				float *d = &of.d[n * 4 + half * 2 + c], sum = of.adds ? *d : 0;
				for (unsigned k = 0; k < 16; k++)
					sum += a[half][k] * b[k];
				*d = sum;
			}
		}
}

inline void sm90_add(const Sm90Product &product)
{
	if (sm90_products.size() < emulated.threads.size()) {
		sm90_products.resize(emulated.threads.size());
		sm90_offered.resize(emulated.threads.size() * 4);
	}
	sm90_products[emulated.current].push_back(product);
}

inline void mp_products_begin() {}
inline void mp_products_end() { sm90_add({Sm90Product::GROUP_ENDS, NULL, NULL, 0, 0, false}); }
inline void mp_product_128(float (&d)[64], uint64_t a, uint64_t b, bool adds) { sm90_add({Sm90Product::COLUMNS_128, d, NULL, a, b, adds}); }
inline void mp_product_64(float (&d)[32], uint64_t a, uint64_t b) { sm90_add({Sm90Product::COLUMNS_64, d, NULL, a, b, true}); }
inline void mp_product_64(float (&d)[32], const uint32_t a[4], uint64_t b, bool adds) { sm90_add({Sm90Product::REGISTERS_64, d, a, 0, b, adds}); }
template <int N> void mp_products_done(float (&)[N]) {}

template <int Left> void mp_products_wait()
{
	std::deque<Sm90Product> &mine = sm90_products[emulated.current];
	long groups = std::count_if(mine.begin(), mine.end(), [](const Sm90Product &p) { return p.kind == Sm90Product::GROUP_ENDS; });
	while (groups > Left) {
		const Sm90Product product = mine.front();
		mine.pop_front();
		if (product.kind == Sm90Product::GROUP_ENDS)
			groups--;
		else
			sm90_compute(product);
	}
}

template <int N> void mp_keep_registers() {}
template <int N> void mp_get_registers() {}

// ---------------------------------------------------------------------------------------------------------

inline void mp_add_to(float *p, float a, float b, float c, float d)
{
	p[0] += a;
	p[1] += b;
	p[2] += c;
	p[3] += d;
}

inline void mp_read_four(float *x, const float *p) { memcpy(x, p, 4 * sizeof *x); }

inline void mp_await(const unsigned *p, unsigned n)
{
	while (*p < n)
		emulated_yield();
}

inline void mp_tell(unsigned *p, unsigned n)
{
	*p = n;
	emulated.moved = true;
}

#endif
