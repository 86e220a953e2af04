// random.c: random numbers for initial weights, shuffling and synthetic data.
//
// A partitioned program must start from the bits that one device would start from. Sequential generators make a
// value depend on how many were drawn before it; Philox computes value i from a key and i, so a rank draws exactly the
// elements that it stores. All arithmetic on values is in double, and f32 is the rounded result: a program in f64
// starts from the same numbers as one in f32.
#include "random.h"

#include <math.h>

// FNV-1a over the seed's bytes, least significant first, and the name; then the finalizer of splitmix64, because
// FNV-1a leaves the high bits of short inputs nearly equal and Philox uses them as half of its key.
uint64_t mp_random_key(uint64_t seed, const char *name)
{
	uint64_t h = 0xCBF29CE484222325;
	for (int i = 0; i < 8; i++)
		h = (h ^ (seed >> 8 * i & 0xFF)) * 0x100000001B3;
	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001B3;
	h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9;
	h = (h ^ h >> 27) * 0x94D049BB133111EB;
	return h ^ h >> 31;
}

void mp_random_block(uint64_t key, uint64_t stream, uint64_t block, uint32_t out[4])
{
	const uint32_t words[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
	const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
	mp_philox(counter, words, out);
}

// Two independent standard normal values (Box and Muller 1958).
static void normal_pair(uint32_t a, uint32_t b, double out[2])
{
	double radius = sqrt(-2 * log(mp_unit(a))), angle = 6.283185307179586477 * mp_unit(b);
	out[0] = radius * cos(angle);
	out[1] = radius * sin(angle);
}

// Values of n blocks from `block` on, n <= MP_PHILOX_STRIP.
static void block_values(const struct mp_init *init, uint64_t key, uint64_t block, int n, double *v)
{
	uint32_t x[4][MP_PHILOX_STRIP];
	const uint32_t words[4] = {(uint32_t)key, (uint32_t)(key >> 32), 0, 0};
	double scale = init->kind == MP_NORMAL ? init->b : init->b - init->a;
	mp_philox_numbers(x, block, words, n);
	for (int j = 0; j < n; j++) {
		if (init->kind == MP_NORMAL) {
			normal_pair(x[0][j], x[1][j], v + 4 * j);
			normal_pair(x[2][j], x[3][j], v + 4 * j + 2);
		} else {
			for (int i = 0; i < 4; i++)
				v[4 * j + i] = mp_unit(x[i][j]);
		}
	}
	for (int i = 0; i < 4 * n; i++)
		v[i] = init->a + scale * v[i];
}

static void store(const struct mp_init *init, enum mp_type type, void *out, long i, double v)
{
	if (type == MP_I32) {
		((int32_t *)out)[i] = (int32_t)v;
	} else if (type == MP_F64) {
		((double *)out)[i] = v;
	} else {
		float f = (float)v;
		// Rounding may reach the open end of the interval.
		if (init->kind == MP_UNIFORM && init->b > init->a && f >= (float)init->b)
			f = nextafterf((float)init->b, (float)init->a);
		((float *)out)[i] = f;
	}
}

void mp_random_fill(const struct mp_init *init, uint64_t key, enum mp_type type, long first, long count, void *out)
{
	double v[4 * MP_PHILOX_STRIP];
	for (long done = 0, n; done < count; done += n) {
		long element = first + done, skip = element % 4;
		n = 4 * MP_PHILOX_STRIP - skip < count - done ? 4 * MP_PHILOX_STRIP - skip : count - done;
		if (init->kind != MP_CONSTANT)
			block_values(init, key, (uint64_t)element / 4, (int)((skip + n + 3) / 4), v);
		for (long i = 0; i < n; i++)
			store(init, type, out, done + i, init->kind == MP_CONSTANT ? init->a : v[skip + i]);
	}
}

// Fisher and Yates, from the last element down. The remainder of a 64-bit word favours small values by n / 2^64.
void mp_random_order(uint64_t seed, long epoch, long n, long *order)
{
	uint64_t key = mp_random_key(seed, "order");
	uint32_t x[4] = {0};
	for (long i = 0; i < n; i++)
		order[i] = i;
	for (long i = n - 1, draw = 0; i > 0; i--, draw++) {
		if (draw % 2 == 0)
			mp_random_block(key, (uint64_t)epoch, (uint64_t)draw / 2, x);
		uint64_t word = (uint64_t)x[draw % 2 * 2] << 32 | x[draw % 2 * 2 + 1];
		long j = (long)(word % (uint64_t)(i + 1)), swap = order[i];
		order[i] = order[j];
		order[j] = swap;
	}
}
