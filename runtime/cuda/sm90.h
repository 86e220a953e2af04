// sm90.h: Hopper's instructions for kernels of our own, as PTX has them: barriers in shared memory, copies by the tensor memory
// accelerator (TMA), matrix products of a warpgroup (wgmma). For files that are compiled for sm_90a; tests have all of it on the CPU.
//
// Tiles in shared memory have rows of 128 bytes, 64 numbers in bf16, in the 128-byte swizzle: of row r, the 16 bytes c lie where
// c ^ r % 8 would. They begin at multiples of 1024 bytes.
#ifndef MP_SM90_H
#define MP_SM90_H

#include "mp_math.h"

#include <cudaTypedefs.h>
#include <cuda_runtime.h>
#include <stdint.h>

MP_DEVICE uint32_t mp_shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

// ---------------------------------------------------------------------------------------------------------
// Barriers: a phase ends when as many have arrived as it was made for, and the bytes that were announced

MP_DEVICE void mp_barrier_make(uint64_t *b, int arrivals)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(mp_shared_address(b)), "r"(arrivals));
}

// Behind the making of barriers, before __syncthreads().
MP_DEVICE void mp_barriers_made()
{
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

MP_DEVICE void mp_barrier_arrive(uint64_t *b)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(mp_shared_address(b)) : "memory");
}

// Arrives, and announces bytes that copies to shared memory will count off.
MP_DEVICE void mp_barrier_expect(uint64_t *b, int bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(mp_shared_address(b)), "r"(bytes) : "memory");
}

// Until the phase of this parity has ended; of a new barrier, that of parity 1 has.
MP_DEVICE void mp_barrier_wait(uint64_t *b, int parity)
{
	uint32_t over;
	do
		asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
		             : "=r"(over) : "r"(mp_shared_address(b)), "r"(parity) : "memory");
	while (!over);
}

// ---------------------------------------------------------------------------------------------------------
// Copies from device memory, which a barrier counts

// The box of a tensor of three dims at 0, y, z.
MP_DEVICE void mp_load_box(void *to, const CUtensorMap *tensor, int y, int z, uint64_t *b)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
	             ::"r"(mp_shared_address(to)), "l"(tensor), "r"(mp_shared_address(b)), "r"(0), "r"(y), "r"(z) : "memory");
}

// bytes: a multiple of 16, as are the addresses.
MP_DEVICE void mp_load_bytes(void *to, const void *from, int bytes, uint64_t *b)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
	             ::"r"(mp_shared_address(to)), "l"(from), "r"(bytes), "r"(mp_shared_address(b)) : "memory");
}

// Makes what this thread has stored in shared memory visible to products.
MP_DEVICE void mp_stores_for_products()
{
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Four 8 x 8 matrices of bf16 to shared memory; lane l gives where row l % 8 of matrix l / 8 goes, 16 bytes.
MP_DEVICE void mp_store_matrices(uint32_t to, const uint32_t x[4])
{
	asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
	             ::"r"(to), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]) : "memory");
}

// The same transposed: where column l % 8 goes.
MP_DEVICE void mp_store_transposed(uint32_t to, const uint32_t x[4])
{
	asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
	             ::"r"(to), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]) : "memory");
}

// ---------------------------------------------------------------------------------------------------------
// Products d += a b of a warpgroup in bf16, summed in f32, which go on while it does something else
//
// d has 64 rows. Thread t holds of it d[4 n + 2 h + c]: row 16 (t / 32) + t % 32 / 4 + 8 h, column 8 n + 2 (t % 4) + c. A factor
// that is held in registers is spread likewise, two columns in each.

// A factor in shared memory, at a multiple of 8 rows of its tile. Where its rows are what is summed over, mp_factor_rows says where
// the next come; where its columns are, mp_factor_columns does.
MP_DEVICE uint64_t mp_factor(const void *tile)
{
	const uint64_t groups = 1024 >> 4, swizzle_128 = 1;
	return (uint64_t)((mp_shared_address(tile) & 0x3ffff) >> 4) | 1ull << 16 | groups << 32 | swizzle_128 << 62;
}

static __device__ constexpr uint64_t mp_factor_rows(int rows) { return (uint64_t)(rows * 128 >> 4); }
static __device__ constexpr uint64_t mp_factor_columns(int columns) { return (uint64_t)(columns * 2 >> 4); }

// Before products, where their registers have been written.
MP_DEVICE void mp_products_begin()
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// Ends a group of products.
MP_DEVICE void mp_products_end()
{
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until all groups but the last `Left` are done.
template <int Left> MP_DEVICE void mp_products_wait()
{
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
}

// Behind a wait: from here on x may be read.
template <int N> MP_DEVICE void mp_products_done(float (&x)[N])
{
#pragma unroll
	for (int i = 0; i < N; i++)
		asm volatile("" : "+f"(x[i])::"memory");
}

#define MP_4(x, i) "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3])
#define MP_16(x, i) MP_4(x, i), MP_4(x, i + 4), MP_4(x, i + 8), MP_4(x, i + 12)
#define MP_32(x, i) MP_16(x, i), MP_16(x, i + 16)
#define MP_NAMES_32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, " \
	"%25, %26, %27, %28, %29, %30, %31"

// d[64,128] = a[64,16] b[128,16]' (+ d, where `adds`): of both, the columns are summed over.
MP_DEVICE void mp_product_128(float (&d)[64], uint64_t a, uint64_t b, bool adds)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" MP_NAMES_32
	             ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "
	             "%56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, p, 1, 1, 0, 0;\n}"
	             : MP_32(d, 0), MP_32(d, 32) : "l"(a), "l"(b), "r"((int)adds));
}

// d[64,64] += a[64,16] b[16,64]: a's columns and b's rows are summed over.
MP_DEVICE void mp_product_64(float (&d)[32], uint64_t a, uint64_t b)
{
	asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" MP_NAMES_32 "}, %32, %33, 1, 1, 1, 0, 1;"
	             : MP_32(d, 0) : "l"(a), "l"(b));
}

// The same with a in registers, and d = a b where it does not add.
MP_DEVICE void mp_product_64(float (&d)[32], const uint32_t a[4], uint64_t b, bool adds)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" MP_NAMES_32
	             "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}"
	             : MP_32(d, 0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)adds));
}

// Numbers to bf16, rounded to the nearest and ties to even: `low` in the lower half.
MP_DEVICE uint32_t mp_pack(float low, float high)
{
	uint32_t y;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
	return y;
}

// 2^x to 2 units in the last place; 0 in place of denormal numbers.
MP_DEVICE float mp_exp_2(float x)
{
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// The block's dynamic shared memory, from a multiple of 1024 bytes on.
template <class T> MP_DEVICE T &mp_dynamic_shared()
{
	extern __shared__ __align__(1024) uint8_t mp_shared_bytes[];
	return *(T *)mp_shared_bytes;
}

// Registers that each thread of the warpgroup keeps, or gets from those that keep fewer; a multiple of 8.
template <int N> MP_DEVICE void mp_keep_registers()
{
	asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N> MP_DEVICE void mp_get_registers()
{
	asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

// ---------------------------------------------------------------------------------------------------------
// Device memory that other blocks read and write meanwhile

MP_DEVICE void mp_add_to(float *p, float a, float b, float c, float d)
{
	asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}

MP_DEVICE void mp_read_four(float *x, const float *p)
{
	asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
	             : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3]) : "l"(p) : "memory");
}

// Until *p is at least n; what was written before it was set is seen then.
MP_DEVICE void mp_await(const unsigned *p, unsigned n)
{
	unsigned seen = 0;
	while (seen < n)
		asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(p) : "memory");
}

// Sets *p behind all that this thread has written or seen written.
MP_DEVICE void mp_tell(unsigned *p, unsigned n)
{
	asm volatile("fence.acq_rel.gpu;\nst.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(n) : "memory");
}

#endif
