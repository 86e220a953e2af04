// loader_test.c: which samples a step holds, on every mesh; and that prefetching changes nothing.
#include "test.h"

enum { SAMPLES = 37, BATCH = 12 };

static const struct mp_input inputs[] = {{"x", MP_F32, 1, {2}, 0}, {"label", MP_I32, 0, {0}, 100}};
static const struct mp_program program = {.name = "role", .inputs = inputs, .input_count = 2};
static const struct mp_program labels_only = {.name = "last", .inputs = inputs + 1, .input_count = 1};
static const struct mp_program *program_of(int stage) { return stage ? &labels_only : &program; }

static int32_t labels[SAMPLES];
static float values[SAMPLES * 2];
static struct mp_column columns[] = {{values, MP_FILE_F32, false}, {labels, MP_FILE_I32, false}};

// What all ranks read in some steps: seen[step][sample of the global batch].
struct record {
	struct mp_dataset d;
	bool shuffled, keep_tail;
	const long *steps;
	int count;
	int32_t label[16][BATCH];
	long real[16];
	bool wrong;
};

static void read_steps(struct mp_rank *r, void *context)
{
	struct record *rec = context;
	const struct mp_model *m = r->model;
	struct mp_loader *l = mp_loader_new(r, &rec->d, rec->shuffled, 7, rec->keep_tail);
	int logical = m->batch / m->microbatches, local = logical / m->axis[MP_DP];
	for (int s = 0; s < rec->count; s++) {
		long real = mp_loader_next(l, rec->steps[s]);
		if (r->rank == 0)
			rec->real[s] = real;
		const int32_t *label = r->input[r->program == &program];
		for (int k = 0; k < m->microbatches; k++)
			for (int i = 0; i < local; i++) {
				int32_t have = label[k * local + i];
				const float *x = r->program == &program ? (const float *)r->input[0] + 2 * (k * local + i) : NULL;
				if (x && (x[0] != (have < 0 ? 0 : have * 2) || x[1] != (have < 0 ? 0 : have * 2 + 1)))
					rec->wrong = true;
				if (r->tp == 0 && r->pp == m->axis[MP_PP] - 1)
					rec->label[s][k * logical + r->dp * local + i] = have;
			}
	}
	mp_loader_free(l);
}

static void read_mesh(struct record *rec, int dp, int tp, int pp, int microbatches)
{
	struct mp_model m = {.name = "test", .training = true, .axis = {dp, tp, pp}, .batch = BATCH, .microbatches = microbatches,
		.inputs = inputs, .input_count = 2, .program = program_of};
	rec->d = (struct mp_dataset){.model = &m, .path = "numbers", .samples = SAMPLES, .stride = 1, .columns = columns};
	rec->wrong = false;
	memset(rec->label, 0x55, sizeof rec->label);
	run_ranks(&m, read_steps, rec);
	CHECK(!rec->wrong);
}

static void file_order(void)
{
	static const long steps[] = {0, 1, 2, 3, 4, 5, 6, 7};
	struct record rec = {.steps = steps, .count = 8};
	for (int keep = 0; keep < 2; keep++) {
		rec.keep_tail = keep;
		read_mesh(&rec, 2, 1, 2, 3);
		int epoch = keep ? 4 : 3;
		for (int s = 0; s < 8; s++) {
			CHECK(rec.real[s] == (s % epoch == 3 ? 1 : BATCH));
			for (int i = 0; i < BATCH; i++)
				CHECK(rec.label[s][i] == (s % epoch * BATCH + i < SAMPLES ? s % epoch * BATCH + i : -1));
		}
	}
}

static void every_mesh_reads_the_same(void)
{
	static const long steps[] = {0, 1, 2, 3, 4, 5, 6};
	struct record one = {.steps = steps, .count = 7, .shuffled = true}, many = one;
	read_mesh(&one, 1, 1, 1, 1);
	static const int meshes[][4] = {{2, 1, 1, 1}, {2, 1, 1, 3}, {3, 2, 1, 2}, {1, 2, 2, 4}, {6, 1, 1, 2}, {2, 2, 2, 2}};
	for (size_t k = 0; k < sizeof meshes / sizeof meshes[0]; k++) {
		read_mesh(&many, meshes[k][0], meshes[k][1], meshes[k][2], meshes[k][3]);
		CHECK(!memcmp(one.label, many.label, 7 * sizeof one.label[0]));
	}
	for (int epoch = 0; epoch < 2; epoch++) {
		int seen[SAMPLES] = {0}, most = 0;
		for (int i = 0; i < 3 * BATCH; i++) {
			int count = ++seen[one.label[epoch * 3 + i / BATCH][i % BATCH]];
			most = count > most ? count : most;
		}
		CHECK(most == 1);
	}
	CHECK(memcmp(one.label[0], one.label[3], sizeof one.label[0]));
}

// Any order of steps gives what reading in order gives: the prefetched guess is thrown away.
static void jumps(void)
{
	static const long in_order[] = {0, 1, 2, 3, 4, 5, 6, 7}, jumping[] = {6, 6, 0, 7, 3, 4, 2, 5, 1, 0};
	struct record a = {.steps = in_order, .count = 8, .shuffled = true}, b = {.steps = jumping, .count = 10, .shuffled = true};
	for (int keep = 0; keep < 2; keep++) {
		a.keep_tail = b.keep_tail = keep;
		read_mesh(&a, 2, 1, 1, 2);
		read_mesh(&b, 2, 1, 1, 2);
		for (int s = 0; s < b.count; s++) {
			CHECK(!memcmp(b.label[s], a.label[jumping[s]], sizeof b.label[s]));
			CHECK(b.real[s] == a.real[jumping[s]]);
		}
	}
}

// The buffers of a step stay as they are while the thread works on the next.
static void buffers_hold(struct mp_rank *r, void *context)
{
	struct mp_dataset *d = context;
	struct mp_loader *l = mp_loader_new(r, d, false, 0, false);
	mp_loader_next(l, 0);
	const int32_t *first = r->input[1];
	int32_t copy[BATCH];
	memcpy(copy, first, sizeof copy);
	usleep(20000);
	CHECK(!memcmp(copy, first, sizeof copy));
	mp_loader_next(l, 1);
	CHECK(r->input[1] != (void *)first);
	mp_loader_free(l);
	for (int i = 0; i < 50; i++)            // ending while the thread starts or works
		mp_loader_free(mp_loader_new(r, d, true, 0, i % 2));
}

void test_loader(void)
{
	struct mp_model m = {.name = "test", .training = true, .axis = {1, 1, 1}, .batch = BATCH, .microbatches = 1,
		.inputs = inputs, .input_count = 2, .program = program_of};
	struct mp_dataset d = {.model = &m, .path = "numbers", .samples = SAMPLES, .stride = 1, .columns = columns};
	for (int i = 0; i < SAMPLES; i++) {
		labels[i] = i;
		values[2 * i] = (float)i * 2;
		values[2 * i + 1] = (float)i * 2 + 1;
	}
	file_order();
	every_mesh_reads_the_same();
	jumps();
	run_ranks(&m, buffers_hold, &d);
	d.samples = BATCH - 1;
	struct mp_rank r = {.model = &m, .program = &program};
	REFUSES(MP_BAD_INPUT, "numbers holds 11 samples, but a batch has 12", mp_loader_new(&r, &d, false, 0, false));
}
