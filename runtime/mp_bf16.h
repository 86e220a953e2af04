// mp_bf16.h: bfloat16 values in memory: the upper half of an f32. Kernels read them into float, compute, and round
// once when they store, to the nearest value and ties to even.
#ifndef MP_BF16_H
#define MP_BF16_H

#include <stdint.h>
#include <string.h>

#ifndef __cplusplus

typedef struct { uint16_t bits; } mp_bf16;

#else

#ifdef __CUDACC__
#include <cuda_bf16.h>
#define MP_BF16_FUNCTION __host__ __device__ __forceinline__
#else
#define MP_BF16_FUNCTION inline __attribute__((always_inline))
#endif

struct mp_bf16 {
	uint16_t bits;

	mp_bf16() = default;
	MP_BF16_FUNCTION mp_bf16(float value) : bits(round(value)) {}
	MP_BF16_FUNCTION operator float() const
	{
		uint32_t whole = (uint32_t)bits << 16;
		float value;
		memcpy(&value, &whole, sizeof value);
		return value;
	}

private:
	static MP_BF16_FUNCTION uint16_t round(float value)
	{
#ifdef __CUDA_ARCH__
		return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
		uint32_t whole;
		memcpy(&whole, &value, sizeof whole);
		uint32_t rounded = (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
		return (uint16_t)(value == value ? rounded : 0x7fff); // a NaN stays one
#endif
	}
};

#endif
#endif
