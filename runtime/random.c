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

enum { PAIRS = 2 * MP_PHILOX_STRIP };

// Sine and cosine of an angle in (0, 2 pi) to within 2^-47: the nearest multiple of pi is taken off, in two parts of which
// the first is exact, then come Taylor's series, to powers 19 and 18. There is nothing to branch on.
static void turn(double angle, double *sine, double *cosine)
{
	static const double pi[2] = {0x1.921fb544p+1, 0x1.0b4611a626331p-33};
	int half = (int)(angle * 0.3183098861837907 + 0.5);
	double sign = 1 - 2 * (half & 1), r = angle - half * pi[0] - half * pi[1], x = r * r, s = -1 / 121645100408832000.0,
	       c = -1 / 6402373705728000.0;
	s = s * x + 1 / 355687428096000.0, c = c * x + 1 / 20922789888000.0;
	s = s * x - 1 / 1307674368000.0, c = c * x - 1 / 87178291200.0;
	s = s * x + 1 / 6227020800.0, c = c * x + 1 / 479001600.0;
	s = s * x - 1 / 39916800.0, c = c * x - 1 / 3628800.0;
	s = s * x + 1 / 362880.0, c = c * x + 1 / 40320.0;
	s = s * x - 1 / 5040.0, c = c * x - 1 / 720.0;
	s = s * x + 1 / 120.0, c = c * x + 1 / 24.0;
	s = s * x - 1 / 6.0, c = c * x - 1 / 2.0;
	*sine = sign * (s * x * r + r);
	*cosine = sign * (c * x + 1);
}

static double normal(const struct mp_init *init, double radius, double sine)
{
	return init->a + init->b * (radius * sine);
}

// Whether all values within `error` of v are the same f32.
static bool rounds(double v, double error) { return (float)(v - error) == (float)(v + error); }

// Pairs of independent normal values (Box and Muller 1958). The library's sine and cosine take longer than all the rest.
// Where f32 is wanted, those of turn are enough to know which one the library's lead to, but once in ten thousand.
static void normal_values(const struct mp_init *init, uint32_t x[4][MP_PHILOX_STRIP], int n, enum mp_type type, double *v)
{
	double radius[PAIRS], angle[PAIRS], sine[PAIRS], cosine[PAIRS];
	for (int i = 0; i < 2 * n; i++) {
		radius[i] = sqrt(-2 * log(mp_unit(x[i % 2 * 2][i / 2])));
		angle[i] = 6.283185307179586477 * mp_unit(x[i % 2 * 2 + 1][i / 2]);
	}
	for (int i = 0; i < 2 * n && type == MP_F32; i++)
		turn(angle[i], &sine[i], &cosine[i]);
	for (int i = 0; i < 2 * n; i++) {
		double error = 0x1p-44 * (fabs(init->b) * radius[i] + fabs(init->a));
		if (type == MP_F32) {
			v[2 * i] = normal(init, radius[i], cosine[i]);
			v[2 * i + 1] = normal(init, radius[i], sine[i]);
		}
		if (type != MP_F32 || !rounds(v[2 * i], error) || !rounds(v[2 * i + 1], error)) {
			v[2 * i] = normal(init, radius[i], cos(angle[i]));
			v[2 * i + 1] = normal(init, radius[i], sin(angle[i]));
		}
	}
}

// Values of n blocks from `block` on, n <= MP_PHILOX_STRIP. Those of f32 are right when they are rounded.
static void block_values(const struct mp_init *init, uint64_t key, uint64_t block, int n, enum mp_type type, double *v)
{
	uint32_t x[4][MP_PHILOX_STRIP];
	const uint32_t words[4] = {(uint32_t)key, (uint32_t)(key >> 32), 0, 0};
	mp_philox_numbers(x, block, words, n);
	if (init->kind == MP_NORMAL)
		normal_values(init, x, n, type, v);
	for (int i = 0; i < 4 * n && init->kind == MP_UNIFORM; i++)
		v[i] = init->a + (init->b - init->a) * mp_unit(x[i % 4][i / 4]);
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
			block_values(init, key, (uint64_t)element / 4, (int)((skip + n + 3) / 4), type, v);
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
