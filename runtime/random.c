// random.c: random numbers for initial weights, shuffling and synthetic data.
//
// A partitioned program must start from the bits that one device would start from. Sequential generators make a
// value depend on how many were drawn before it; Philox computes value i from a key and i, so a rank draws exactly the
// elements that it stores. All arithmetic on values is in double, and f32 is the rounded result: a program in f64
// starts from the same numbers as one in f32.
#include "random.h"

#include <math.h>
#include <pthread.h>
#include <unistd.h>

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

static void block_values(const struct mp_init *init, uint64_t key, uint64_t block, double v[4])
{
	uint32_t x[4];
	mp_random_block(key, 0, block, x);
	if (init->kind == MP_NORMAL) {
		normal_pair(x[0], x[1], v);
		normal_pair(x[2], x[3], v + 2);
	}
	for (int i = 0; i < 4; i++)
		v[i] = init->kind == MP_NORMAL ? init->a + init->b * v[i] : init->a + (init->b - init->a) * mp_unit(x[i]);
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

// Elements that one thread draws.
struct span {
	const struct mp_init *init;
	uint64_t key;
	enum mp_type type;
	long first, count;
	void *out;
	pthread_t thread;
};

static void *fill_span(void *argument)
{
	const struct span *span = argument;
	const struct mp_init *init = span->init;
	double v[4] = {init->a, init->a, init->a, init->a};

	for (long i = 0; i < span->count; i++) {
		long element = span->first + i;
		if (init->kind != MP_CONSTANT && (i == 0 || element % 4 == 0))
			block_values(init, span->key, (uint64_t)element / 4, v);
		store(init, span->type, span->out, i, v[element % 4]);
	}
	return NULL;
}

// A normal value takes 20 ns or more: a billion of them are worth all processors of a machine.
void mp_random_fill(const struct mp_init *init, uint64_t key, enum mp_type type, long first, long count, void *out)
{
	enum { LEAST = 1 << 15, THREADS = 16 }; // values that pay for a thread; the most threads
	struct span span[THREADS];
	long processors = sysconf(_SC_NPROCESSORS_ONLN), threads = count / LEAST;
	bool started[THREADS] = {false};

	threads = threads > processors ? processors : threads;
	threads = threads < 1 ? 1 : threads > THREADS ? THREADS : threads;
	for (long t = 0; t < threads; t++) {
		long begin = count * t / threads, end = count * (t + 1) / threads;
		span[t] = (struct span){init, key, type, first + begin, end - begin, (char *)out + (size_t)begin * (type == MP_F64 ? 8 : 4), 0};
		started[t] = t + 1 < threads && pthread_create(&span[t].thread, NULL, fill_span, &span[t]) == 0;
		if (!started[t])
			fill_span(&span[t]);
	}
	for (long t = 0; t < threads; t++)
		if (started[t])
			pthread_join(span[t].thread, NULL);
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
