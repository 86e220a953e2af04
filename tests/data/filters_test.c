// filters_test.c: a convolutional model between files and devices. make.py wrote it, outside in PyTorch's order; here
// each rank must find filters channels-last, and saving must give back what was written, which check.py compares.
//
// A real convolutional program has the same tables; what it stores is checked here by the number that stands for each
// place (make.py): a filter's element [o,i,h,w] is start + 1000 o + 100 i + 10 h + w.
#include "test.h"

enum { STATES = 9, STEP = 5 };
enum { W = MP_WHOLE, D = MP_DP, T = MP_TP };

// Filters lie as [o,h,w,i] on the device.
static const struct mp_piece last[] = {
	{"conv1.weight", NULL, {0}, {7, 3, 2, 5}, {0, 3, 1, 2}, 4, {7, 5, 3, 2}},
	{"conv2.weight", NULL, {0}, {3, 5, 5, 7}, {0, 3, 1, 2}, 4, {3, 7, 5, 5}},
	{"conv3.weight", NULL, {0}, {4, 1, 1, 6}, {0, 3, 1, 2}, 4, {4, 6, 1, 1}},
	{"conv1.weight.momentum", NULL, {0}, {7, 3, 2, 5}, {0, 3, 1, 2}, 4, {7, 5, 3, 2}},
	{"conv2.weight.momentum", NULL, {0}, {3, 5, 5, 7}, {0, 3, 1, 2}, 4, {3, 7, 5, 5}},
	{"conv3.weight.momentum", NULL, {0}, {4, 1, 1, 6}, {0, 3, 1, 2}, 4, {4, 6, 1, 1}},
};

// `a` of the initial values is the start; conv3's filters are of one pixel.
static const struct mp_state table[STATES] = {
	{"conv1.weight", MP_PARAMETER, MP_F32, 4, {7, 3, 2, 5}, {T, W, W, W}, 0, -1, &last[0], 1, {MP_CONSTANT, 0.5, 0}, true},
	{"conv2.weight", MP_PARAMETER, MP_F64, 4, {3, 5, 5, 7}, {W, W, W, T}, 0, -1, &last[1], 1, {MP_CONSTANT, 10000.5, 0}, true},
	{"conv3.weight", MP_PARAMETER, MP_F32, 4, {4, 1, 1, 6}, {D, W, W, T}, 0, -1, &last[2], 1, {MP_CONSTANT, 20000.5, 0}, true},
	{"bn1.running_mean", MP_BUFFER, MP_F32, 1, {7}, {T}, 0, -1, NULL, 0, {MP_CONSTANT, 0.25, 0}, true},
	{"bn1.num_batches_tracked", MP_BUFFER, MP_I32, 0, {0}, {W}, 0, -1, NULL, 0, {MP_CONSTANT, 1234567, 0}, true},
	{"bn2.counts", MP_BUFFER, MP_I32, 2, {5, 3}, {T, W}, 0, -1, NULL, 0, {MP_CONSTANT, -2000, 0}, true},
	{"conv1.weight.momentum", MP_OPTIMIZER, MP_F32, 4, {7, 3, 2, 5}, {D, W, W, T}, 0, -1, &last[3], 1, {MP_CONSTANT, -5000.5, 0}, true},
	{"conv2.weight.momentum", MP_OPTIMIZER, MP_F64, 4, {3, 5, 5, 7}, {W, T, W, D}, 0, -1, &last[4], 1, {MP_CONSTANT, -10000.5, 0}, true},
	{"conv3.weight.momentum", MP_OPTIMIZER, MP_F32, 4, {4, 1, 1, 6}, {W, W, W, T}, 0, -1, &last[5], 1, {MP_CONSTANT, -20000.5, 0}, true},
};

static struct mp_state states[STATES];
static struct mp_program program;
static struct mp_model model;

static const struct mp_program *program_of(int stage) { return stage ? NULL : &program; }

static void set_mesh(int dp, int tp)
{
	model = (struct mp_model){.name = "test", .training = true, .axis = {dp, tp, 1}, .program = program_of};
	program = (struct mp_program){.name = "role", .states = states, .state_count = STATES};
	for (int k = 0; k < STATES; k++) {
		size_t bytes = mp_type_bytes(table[k].type);
		states[k] = table[k];
		states[k].init.a = 0;
		states[k].offset = program.arena_bytes;
		for (int d = 0; d < table[k].dims; d++)
			bytes *= (size_t)mp_shard_extent(table[k].shape[d], table[k].axis[d] == W ? 1 : model.axis[table[k].axis[d]]);
		program.arena_bytes += (bytes + MP_ALIGN - 1) / MP_ALIGN * MP_ALIGN;
	}
}

// What stands at a place of the rank's part; 0 in the padding.
static double expected(const struct mp_rank *r, int k, const long local[4], const long index[4])
{
	static const long in_order[] = {1000, 100, 10, 1}, channels_last[] = {1000, 10, 1, 100};
	const long *unit = table[k].pieces ? channels_last : in_order;
	const int at_axis[] = {r->dp, r->tp};
	double value = table[k].init.a;
	for (int d = 0; d < table[k].dims; d++) {
		long whole = index[d] + (table[k].axis[d] == W ? 0 : at_axis[table[k].axis[d]] * local[d]);
		if (whole >= table[k].shape[d])
			return 0;
		value += (double)(whole * unit[d]);
	}
	return value;
}

// Compares a state with what its numbers say, in the order of the device.
static void check_state(const struct mp_rank *r, int k)
{
	const struct mp_state *s = &states[k];
	long n[4] = {1, 1, 1, 1}, at[4], wrong = 0;
	const char *bytes = r->arena + s->offset;
	const float *f32 = (const void *)bytes;
	const double *f64 = (const void *)bytes;
	const int32_t *i32 = (const void *)bytes;
	for (int d = 0; d < s->dims; d++)
		n[d] = mp_shard_extent(s->shape[d], s->axis[d] == W ? 1 : r->model->axis[s->axis[d]]);
	long place = 0;
	for (at[0] = 0; at[0] < n[0]; at[0]++)
		for (at[1] = 0; at[1] < n[1]; at[1]++)
			for (at[2] = 0; at[2] < n[2]; at[2]++)
				for (at[3] = 0; at[3] < n[3]; at[3]++, place++) {
					double have = s->type == MP_F32 ? f32[place] : s->type == MP_F64 ? f64[place] : i32[place];
					wrong += have != expected(r, k, n, at);
				}
	check(wrong == 0, s->name, __FILE__, __LINE__);
}

struct job {
	const char *load, *save;
};

static void load_and_save(struct mp_rank *r, void *context)
{
	const struct job *job = context;
	mp_state_init(r, 1);
	mp_checkpoint_load(r, job->load, 0);
	CHECK(r->step == STEP);
	for (int k = 0; k < STATES; k++)
		check_state(r, k);
	mp_checkpoint_save(r, job->save, STEP, 9, 0);
}

// Loads what the mesh before saved, so that all meshes but the first also read what another wrote.
void test_filters(void)
{
	static const int meshes[][2] = {{1, 1}, {1, 2}, {2, 1}, {3, 2}, {1, 5}, {2, 4}};
	char save[32], load[32] = "python";
	if (!mp_exists(at(load))) {
		printf("skipped: make.py has not written a checkpoint\n");
		return;
	}
	for (size_t i = 0; i < sizeof meshes / sizeof meshes[0]; i++) {
		set_mesh(meshes[i][0], meshes[i][1]);
		snprintf(save, sizeof save, "filters%d", (int)i);
		run_ranks(&model, load_and_save, &(struct job){at(load), at(save)});
		memcpy(load, save, sizeof load);
	}
}
