// random_test.c: Philox against the vectors that its authors publish (Random123, kat_vectors), and the properties that
// initial values and orders need.
#include "test.h"

#include <math.h>

static void known_answers(void)
{
	static const uint32_t vectors[][10] = { // counter, key, result
		{0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
		{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
	};
	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
		uint32_t out[4];
		mp_philox(vectors[i], vectors[i] + 4, out);
		CHECK(!memcmp(out, vectors[i] + 6, sizeof out));
	}
}

static void slices_agree(void)
{
	enum { N = 150000, PART = 3701 };
	static const struct mp_init inits[] = {{MP_CONSTANT, 3, 0}, {MP_UNIFORM, -0.25, 0.5}, {MP_NORMAL, 1, 0.02}};
	static float whole[N], part[N];
	static double wide[N];
	uint64_t key = mp_random_key(7, "fc1.weight");
	CHECK(key != mp_random_key(8, "fc1.weight") && key != mp_random_key(7, "fc1.bias"));
	for (int k = 0; k < 3; k++) {
		mp_random_fill(&inits[k], key, MP_F32, 0, N, whole);
		mp_random_fill(&inits[k], key, MP_F64, 0, N, wide);
		for (long first = 0; first < N; first += PART) {
			long count = first + PART < N ? PART : N - first;
			mp_random_fill(&inits[k], key, MP_F32, first, count, part + first);
		}
		CHECK(!memcmp(whole, part, sizeof whole));
		for (int i = 0; i < N; i++)
			CHECK(whole[i] == (float)wide[i]);
	}
}

static void moments(void)
{
	enum { N = 200000 };
	static double v[N];
	static const struct mp_init inits[] = {{MP_UNIFORM, -1, 3}, {MP_NORMAL, 2, 0.5}};
	static const double mean[] = {1, 2}, variance[] = {16 / 12.0, 0.25};
	for (int k = 0; k < 2; k++) {
		double sum = 0, squares = 0, pairs = 0;
		mp_random_fill(&inits[k], 99, MP_F64, 0, N, v);
		for (int i = 0; i < N; i++) {
			sum += v[i];
			squares += (v[i] - mean[k]) * (v[i] - mean[k]);
			pairs += (v[i] - mean[k]) * (v[(i + 1) % N] - mean[k]);
		}
		CHECK(fabs(sum / N - mean[k]) < 0.01);
		CHECK(fabs(squares / N - variance[k]) < 0.01);
		CHECK(fabs(pairs / N) < 0.01);
	}
}

// No f32 may be rounded onto the open end: 2^26 values of [0, 1) would show it, and so does a coarse interval.
static void open_end(void)
{
	enum { N = 1 << 16 };
	static const struct mp_init coarse = {MP_UNIFORM, 16777216, 16777218};
	static float v[N];
	mp_random_fill(&coarse, 5, MP_F32, 0, N, v);
	for (int i = 0; i < N; i++)
		CHECK(v[i] >= 16777216 && v[i] < 16777218);
}

static void orders(void)
{
	enum { N = 1001 };
	long a[N], b[N], seen[N] = {0}, fixed = 0;
	mp_random_order(3, 0, N, a);
	for (int i = 0; i < N; i++) {
		seen[a[i]]++;
		fixed += a[i] == i;
	}
	for (int i = 0; i < N; i++)
		CHECK(seen[i] == 1);
	CHECK(fixed < 10);
	mp_random_order(3, 0, N, b);
	CHECK(!memcmp(a, b, sizeof a));
	mp_random_order(3, 1, N, b);
	CHECK(memcmp(a, b, sizeof a));
	mp_random_order(4, 0, N, b);
	CHECK(memcmp(a, b, sizeof a));
}

// Every permutation of 3 is as likely as the others.
static void fairness(void)
{
	int count[9] = {0};
	for (int epoch = 0; epoch < 6000; epoch++) {
		long p[3];
		mp_random_order(1, epoch, 3, p);
		count[p[0] * 3 + p[1]]++;
	}
	for (int i = 0; i < 9; i++)
		CHECK(i % 4 == 0 ? count[i] == 0 : abs(count[i] - 1000) < 120);
}

void test_random(void)
{
	known_answers();
	slices_agree();
	moments();
	open_end();
	orders();
	fairness();
}
