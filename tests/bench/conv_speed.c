// The host's mp_conv: GFLOP/s of each kind on one core, beside OpenBLAS's sgemm of the product that it amounts to (its
// columns lie ready there). tests/bench/build.sh builds it; OPENBLAS_NUM_THREADS changes nothing, mp_gemm uses one thread.
#define _POSIX_C_SOURCE 200809L
#include "mp.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void mp_gemm_prepare(struct mp_rank *r);
void mp_conv_prepare(struct mp_rank *r);
void mp_conv_release(struct mp_rank *r);

struct shape {
	int n, h, w, c, k, window, stride, padding, groups;
};

static const struct shape shapes[] = {
	{16, 28, 28, 1, 16, 3, 1, 1, 1},        // a first layer
	{1, 112, 112, 3, 64, 7, 2, 3, 1},
	{16, 28, 28, 16, 32, 3, 1, 1, 1},
	{16, 28, 28, 32, 64, 3, 1, 1, 1},
	{16, 14, 14, 64, 128, 3, 1, 1, 1},
	{4, 56, 56, 64, 64, 3, 1, 1, 1},        // resnets
	{4, 56, 56, 64, 64, 3, 2, 1, 1},
	{4, 56, 56, 64, 64, 1, 1, 0, 1},
	{4, 56, 56, 64, 128, 1, 2, 0, 1},
	{4, 28, 28, 128, 128, 3, 1, 1, 1},
	{2, 14, 14, 256, 256, 3, 1, 1, 1},
	{1, 56, 56, 128, 256, 3, 1, 1, 1},
	{4, 28, 28, 128, 128, 3, 1, 1, 32},     // groups
	{4, 28, 28, 128, 128, 3, 1, 1, 128},
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *values(size_t count)
{
	float *x = malloc(count * sizeof *x);
	for (size_t i = 0; i < count; i++)
		x[i] = (float)(i * 7919 % 1009) / 1009 - 0.5f;
	return x;
}

// The shortest of the runs that fit into a quarter of a second.
#define SHORTEST(best, call) do { \
	best = 1e9; \
	for (double start_ = now(); now() - start_ < 0.25;) { \
		double begin_ = now(); \
		call; \
		double took_ = now() - begin_; \
		best = took_ < best ? took_ : best; \
	} } while (0)

static double time_conv(const struct mp_conv *conv, const float *a, const float *b, float *result)
{
	struct mp_program program = {.convs = conv, .conv_count = 1};
	struct mp_rank rank = {.program = &program};
	double best;
	mp_gemm_prepare(&rank);
	mp_conv_prepare(&rank);
	SHORTEST(best, mp_conv(&rank, conv, a, b, NULL, result, false, NULL));
	mp_conv_release(&rank);
	return best;
}

static double time_product(const struct mp_conv *v)
{
	int m = v->n * v->p * v->q, n = v->k / v->groups, k = v->r * v->s * (v->c / v->groups);
	float *a = values((size_t)m * (size_t)k), *b = values((size_t)n * (size_t)k), *c = values((size_t)m * (size_t)n);
	double best;
	SHORTEST(best, cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a, k, b, k, 0, c, n));
	free(a), free(b), free(c);
	return best * v->groups;
}

static void run_shape(const struct shape *s)
{
	struct mp_conv v = {"conv", MP_CONV_FORWARD, s->n, s->h, s->w, s->c, s->k, s->window, s->window, 0, 0,
	                    {s->stride, s->stride}, {s->padding, s->padding}, {1, 1}, s->groups, false, MP_F32, false, 16, 0};
	v.p = (v.h + 2 * s->padding - v.r) / s->stride + 1;
	v.q = (v.w + 2 * s->padding - v.s) / s->stride + 1;
	size_t pixels = (size_t)v.n * (size_t)v.p * (size_t)v.q;
	size_t weights = (size_t)v.k * (size_t)v.r * (size_t)v.s * (size_t)(v.c / v.groups);
	double work = 2e-9 * (double)pixels * (double)weights;
	float *x = values((size_t)v.n * (size_t)v.h * (size_t)v.w * (size_t)v.c);
	float *w = values(weights), *y = values(pixels * (size_t)v.k);
	const float *a[] = {x, y, y}, *b[] = {w, w, x};
	float *result[] = {y, x, w};

	printf("%2d x %3d x %3d x %3d -> %3d  k%d /%d g%-3d", v.n, v.h, v.w, v.c, v.k, v.r, s->stride, v.groups);
	for (int kind = 0; kind < 3; kind++) {
		v.kind = (enum mp_conv_kind)kind;
		printf(" %9.1f", work / time_conv(&v, a[kind], b[kind], result[kind]));
	}
	printf(" %9.1f\n", work / time_product(&v));
	fflush(stdout);
	free(x), free(w), free(y);
}

int main(void)
{
	printf("GFLOP/s %29s %9s %9s %9s %9s\n", "", "forward", "input", "weights", "sgemm");
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		run_shape(&shapes[i]);
	return 0;
}
