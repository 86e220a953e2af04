// reduce.c: the arithmetic of reductions.
//
// Every element is combined in rank order, so its bits do not depend on who computes it or when. The result is
// built block by block in a buffer that stays in the first-level cache: the inputs are then read once, and a
// result may overwrite one of its inputs. The inner loops are plain so that compilers vectorize them.
#include "comm.h"

#include <string.h>

enum { BLOCK = 1024 };          // elements

#define COMBINE(NAME, TYPE, EXPRESSION) \
	static void NAME(TYPE *restrict sum, const TYPE *restrict in, size_t count) \
	{ \
		for (size_t i = 0; i < count; i++) { \
			TYPE a = sum[i], b = in[i]; \
			sum[i] = (EXPRESSION); \
		} \
	}

// A NaN wins a maximum, as on the GPU's side of NCCL for floats: a gradient's NaN must not vanish.
#define NAN_MAX (a > b || a != a ? a : b)

COMBINE(sum_float, float, a + b)
COMBINE(sum_double, double, a + b)
COMBINE(max_float, float, NAN_MAX)
COMBINE(max_double, double, NAN_MAX)
COMBINE(sum_int32, int32_t, (int32_t)((uint32_t)a + (uint32_t)b))
COMBINE(sum_int64, int64_t, (int64_t)((uint64_t)a + (uint64_t)b))
COMBINE(max_int32, int32_t, a > b ? a : b)
COMBINE(max_int64, int64_t, a > b ? a : b)

static float widen(uint16_t value)
{
	uint32_t bits = (uint32_t)value << 16;
	float wide;
	memcpy(&wide, &bits, sizeof wide);
	return wide;
}

static uint16_t narrow(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	if (value != value)
		return (uint16_t)(bits >> 16 | 0x40); // stays a NaN
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); // to nearest, ties to even
}

// Sums of bfloat16 are kept in float and rounded once.
static void reduce_bfloat16_block(bool sum, void *const *from, int size, size_t at, size_t count, uint16_t *out)
{
	float total[BLOCK], in[BLOCK];
	for (int k = 0; k < size; k++) {
		const uint16_t *values = (const uint16_t *)from[k] + at;
		float *wide = k ? in : total;
		for (size_t i = 0; i < count; i++)
			wide[i] = widen(values[i]);
		if (k && sum)
			sum_float(total, in, count);
		else if (k)
			max_float(total, in, count);
	}
	for (size_t i = 0; i < count; i++)
		out[i] = narrow(total[i]);
}

static void combine(ncclDataType_t type, bool sum, void *total, const void *in, size_t count)
{
	switch (type) {
	case ncclFloat32:
		(sum ? sum_float : max_float)(total, in, count);
		break;
	case ncclFloat64:
		(sum ? sum_double : max_double)(total, in, count);
		break;
	case ncclInt32:
		(sum ? sum_int32 : max_int32)(total, in, count);
		break;
	default:
		(sum ? sum_int64 : max_int64)(total, in, count);
	}
}

bool host_can_reduce(ncclDataType_t type, ncclRedOp_t op)
{
	return (op == ncclSum || op == ncclMax) && (type == ncclFloat32 || type == ncclFloat64 ||
		type == ncclInt32 || type == ncclInt64 || type == ncclBfloat16);
}

void host_reduce(ncclDataType_t type, ncclRedOp_t op, void *const *to, int copies, void *const *from, int size,
                 size_t offset, size_t count)
{
	_Alignas(64) unsigned char total[BLOCK * sizeof(double)];
	size_t bytes = host_type_bytes(type);
	for (size_t done = 0; done < count; done += BLOCK) {
		size_t at = offset + done, now = count - done < BLOCK ? count - done : BLOCK;
		if (type == ncclBfloat16) {
			reduce_bfloat16_block(op == ncclSum, from, size, at, now, (uint16_t *)(void *)total);
		} else {
			memcpy(total, (const char *)from[0] + at * bytes, now * bytes);
			for (int k = 1; k < size; k++)
				combine(type, op == ncclSum, total, (const char *)from[k] + at * bytes, now);
		}
		for (int j = 0; j < copies; j++)
			memcpy((char *)to[j] + at * bytes, total, now * bytes);
	}
}
