// checkpoint_test.c: initial values, files and meshes. One model of awkward shapes is initialised, saved and loaded on
// several meshes: the files must have the same bytes, and every rank must find what it had, zeros in the padding.
#include "test.h"

#include "mp_halves.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>

enum { STATES = 23, STAGES = 2 };
enum { W = MP_WHOLE, D = MP_DP, T = MP_TP };

static const struct mp_piece pieces[] = {
	{"filters", NULL, {0}, {7, 3, 2, 5}, {0, 3, 1, 2}, 4, {7, 5, 3, 2}},
	{"filters.momentum", NULL, {0}, {7, 3, 2, 5}, {0, 3, 1, 2}, 4, {7, 5, 3, 2}},
	{"pixels", NULL, {0}, {2, 7, 5, 3}, {0, 3, 1, 2}, 4, {2, 3, 7, 5}},
	{"many", NULL, {0}, {151, 7, 5, 101}, {0, 3, 1, 2}, 4, {151, 101, 7, 5}},
	{"q", NULL, {0}, {3, 2, 4, 5}, {0, 1, 2, 3}, 2, {24, 5}},
	{"k", NULL, {0, 2}, {3, 1, 4, 5}, {0, 1, 2, 3}, 2, {12, 5}},
	{"v", NULL, {0, 3}, {3, 1, 4, 5}, {0, 1, 2, 3}, 2, {12, 5}},
	{"c_attn", NULL, {0}, {5, 3, 4, 6}, {3, 1, 0, 2}, 2, {6, 60}},
	{"c_attn.bias", NULL, {0}, {5, 3, 4}, {1, 0, 2}, 1, {60}},
	{"gate", NULL, {0}, {1, 7, 5}, {0, 1, 2}, 2, {7, 5}},
	{"up", NULL, {1}, {1, 7, 5}, {0, 1, 2}, 2, {7, 5}},
	{"wte", "lm_head", {0}, {13, 3}, {0, 1}, 2, {13, 3}},
	{"padded.momentum", NULL, {0}, {13, 3}, {0, 1}, 2, {13, 3}},
	{"wide", NULL, {0}, {607, 1003}, {1, 0}, 2, {1003, 607}},
};

// Stage 0 and 1 of pp = 2. "shared" is on both and owned by the first.
static const struct mp_state table[STATES] = {
	{"rows", MP_PARAMETER, MP_F32, 2, {7, 5}, {T, W}, 0, -1, NULL, 0, {MP_UNIFORM, -1, 1}, true},
	{"columns", MP_PARAMETER, MP_F32, 2, {5, 7}, {W, T}, 0, -1, NULL, 0, {MP_NORMAL, 0, 1}, true},
	{"middle", MP_PARAMETER, MP_F32, 3, {3, 5, 4}, {W, T, W}, 0, -1, NULL, 0, {MP_NORMAL, 0, 1}, true},
	{"nested", MP_PARAMETER, MP_F64, 4, {3, 5, 2, 7}, {D, W, T, W}, 0, -1, NULL, 0, {MP_UNIFORM, 0, 1}, true},
	{"shared", MP_PARAMETER, MP_F32, 1, {11}, {T}, 0, -1, NULL, 0, {MP_UNIFORM, 0, 1}, true},
	{"scalar", MP_OPTIMIZER, MP_I32, 0, {0}, {W}, 0, -1, NULL, 0, {MP_CONSTANT, 42, 0}, true},
	{"rows.momentum", MP_OPTIMIZER, MP_F32, 2, {7, 5}, {D, T}, 0, -1, NULL, 0, {MP_NORMAL, 0, 1}, true},
	{"bias", MP_PARAMETER, MP_F32, 1, {9}, {W}, 0, -1, NULL, 0, {MP_CONSTANT, 0.5, 0}, true},
	{"large", MP_PARAMETER, MP_F32, 2, {1201, 1003}, {W, T}, 0, -1, NULL, 0, {MP_UNIFORM, 0, 1}, true},
	// Filters, as [o,h,w,i] on the device: every dim is sharded and padded once; "many" takes several pieces.
	{"filters", MP_PARAMETER, MP_F32, 4, {7, 3, 2, 5}, {T, W, W, W}, 0, -1, &pieces[0], 1, {MP_NORMAL, 0, 1}, true},
	{"filters.momentum", MP_OPTIMIZER, MP_F64, 4, {7, 3, 2, 5}, {D, W, W, T}, 0, -1, &pieces[1], 1, {MP_NORMAL, 0, 1}, true},
	{"pixels", MP_PARAMETER, MP_F64, 4, {2, 7, 5, 3}, {W, D, T, W}, 0, -1, &pieces[2], 1, {MP_UNIFORM, 0, 1}, true},
	{"many", MP_PARAMETER, MP_F64, 4, {151, 7, 5, 101}, {W, W, W, T}, 0, -1, &pieces[3], 1, {MP_UNIFORM, 0, 1}, true},
	// Buffers; the integer ones are wider in files.
	{"mean", MP_BUFFER, MP_F32, 1, {9}, {D}, 0, -1, NULL, 0, {MP_CONSTANT, 0.25, 0}, true},
	{"batches", MP_BUFFER, MP_I32, 0, {0}, {W}, 0, -1, NULL, 0, {MP_CONSTANT, -3, 0}, true},
	{"counts", MP_BUFFER, MP_I32, 2, {3, 7}, {W, T}, 0, -1, NULL, 0, {MP_UNIFORM, -2147483648.0, 2147483647.0}, true},
	// What several tensors of files are, in other orders and with padding of its own.
	{"qkv", MP_PARAMETER, MP_F32, 4, {3, 4, 4, 5}, {T, W, W, W}, 0, -1, &pieces[4], 3, {MP_NORMAL, 0, 1}, true},
	{"attention", MP_PARAMETER, MP_F64, 4, {5, 3, 4, 6}, {T, W, W, W}, 0, -1, &pieces[7], 1, {MP_NORMAL, 0, 1}, true},
	{"attention.bias", MP_PARAMETER, MP_F32, 3, {5, 3, 4}, {T, W, W}, 0, -1, &pieces[8], 1, {MP_UNIFORM, 0, 1}, true},
	{"swiglu", MP_PARAMETER, MP_F32, 3, {2, 7, 5}, {W, T, D}, 0, -1, &pieces[9], 2, {MP_NORMAL, 0, 1}, true},
	{"padded", MP_PARAMETER, MP_F32, 2, {16, 3}, {T, W}, 0, -1, &pieces[11], 1, {MP_NORMAL, 1, 1}, true},
	{"padded.momentum", MP_OPTIMIZER, MP_F32, 2, {16, 3}, {T, D}, 0, -1, &pieces[12], 1, {MP_NORMAL, 1, 1}, true},
	{"transposed", MP_PARAMETER, MP_F64, 2, {607, 1003}, {W, T}, 0, -1, &pieces[13], 1, {MP_NORMAL, 1, 1}, true},
};
static const int stage_of[STATES] = {0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0};

// The roles of the mesh that is set up; constant while ranks run.
static struct mp_state states[STAGES][STATES];
static struct mp_program programs[STAGES];
static struct mp_model model;

static const struct mp_program *program_of(int stage) { return &programs[stage]; }

static void add_state(struct mp_program *p, struct mp_state *to, int k, bool owned)
{
	size_t elements = 1;
	*to = table[k];
	for (int d = 0; d < to->dims; d++)
		elements *= (size_t)mp_shard_extent(to->shape[d], to->axis[d] == W ? 1 : model.axis[to->axis[d]]);
	to->offset = p->arena_bytes;
	to->owned = owned;
	if (k % 2 == 0 && to->type == MP_F32 && to->kind == MP_PARAMETER) { // its upper halves, and behind them the lower ones
		p->arena_bytes += (2 * elements + MP_ALIGN - 1) / MP_ALIGN * MP_ALIGN;
		to->lower = (long)p->arena_bytes;
		p->arena_bytes += (2 * elements + MP_ALIGN - 1) / MP_ALIGN * MP_ALIGN;
	} else {
		p->arena_bytes += (elements * mp_type_bytes(to->type) + MP_ALIGN - 1) / MP_ALIGN * MP_ALIGN;
	}
	p->state_count++;
}

static void set_mesh(int dp, int tp, int pp)
{
	model = (struct mp_model){.name = "test", .training = true, .axis = {dp, tp, pp}, .program = program_of};
	for (int stage = 0; stage < pp; stage++) {
		struct mp_program *p = &programs[stage];
		*p = (struct mp_program){.name = "role", .states = states[stage]};
		for (int k = 0; k < STATES; k++) {
			bool here = pp == 1 || stage_of[k] == stage;
			if (here || !strcmp(table[k].name, "shared"))
				add_state(p, &states[stage][p->state_count], k, here);
		}
	}
}

static const int meshes[][3] = {{1, 1, 1}, {1, 2, 1}, {2, 1, 2}, {1, 3, 1}, {2, 2, 2}, {1, 4, 1}, {3, 2, 1}, {5, 1, 1}};
enum { MESHES = sizeof meshes / sizeof meshes[0] };

// ---------------------------------------------------------------------------------------------------------

static double element(const struct mp_state *s, const void *values, long i)
{
	return s->type == MP_F64 ? ((const double *)values)[i] : s->type == MP_F32 ? ((const float *)values)[i] : ((const int32_t *)values)[i];
}

// The same of what a rank holds.
static double held(const struct mp_rank *r, const struct mp_state *s, long i)
{
	const char *values = r->arena + s->offset;
	return s->lower < 0 ? element(s, values, i) : mp_join_halves(((const mp_bf16 *)values)[i], ((const uint16_t *)(r->arena + s->lower))[i]);
}

// The piece of a state that holds an index of it, and which element of it that is; NULL: padding.
static const struct mp_piece *piece_at(const struct mp_piece *piece, int count, int dims, const long *index, long *element)
{
	for (int i = 0; i < count; i++, piece++) {
		bool inside = true;
		*element = 0;
		for (int k = 0; k < dims; k++) {
			int d = piece->order[k];
			long at = index[d] - piece->from[d];
			inside &= at >= 0 && at < piece->extent[d];
			*element = *element * piece->extent[d] + at;
		}
		if (inside)
			return piece;
	}
	return NULL;
}

// Compares a rank's part with the tensors of files, element by element, by plain index arithmetic.
static bool part_is_right(const struct mp_rank *r, const struct mp_state *s, void *const *files, double tolerance)
{
	long local[MP_DIMS], count = 1;
	int at_axis[] = {r->dp, r->tp, r->pp}, pieces;
	struct mp_piece own;
	const struct mp_piece *piece = mp_pieces_of(s, &own, &pieces);
	for (int d = 0; d < s->dims; d++)
		count *= local[d] = mp_shard_extent(s->shape[d], s->axis[d] == W ? 1 : r->model->axis[s->axis[d]]);
	for (long i = 0; i < count; i++) {
		long rest = i, index[MP_DIMS], at;
		for (int d = s->dims; d-- > 0; rest /= local[d])
			index[d] = rest % local[d] + (s->axis[d] == W ? 0 : at_axis[s->axis[d]] * local[d]);
		const struct mp_piece *found = piece_at(piece, pieces, s->dims, index, &at);
		double have = held(r, s, i), want = found ? element(s, files[found - piece], at) : 0;
		if (!(fabs(have - want) <= (found ? tolerance : 0)))
			return false;
	}
	return true;
}

static long count_elements(int dims, const long *shape)
{
	long count = 1;
	for (int d = 0; d < dims; d++)
		count *= shape[d];
	return count;
}

// The initial values of a piece as they lie in files, drawn once for all ranks and runs: they depend on nothing else.
static void *drawn(const struct mp_state *s, const struct mp_piece *piece, uint64_t seed)
{
	static struct { const char *name; uint64_t seed; long elements; void *values; } kept[512];
	static int count;
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	long elements = count_elements(piece->dims, piece->shape);
	int i = 0;
	pthread_mutex_lock(&lock);
	while (i < count && (strcmp(kept[i].name, piece->name) || kept[i].seed != seed || kept[i].elements != elements))
		i++;
	if (i == count) {
		assert(count++ < 512);
		kept[i].name = piece->name;
		kept[i].seed = seed;
		kept[i].elements = elements;
		kept[i].values = malloc((size_t)elements * 8);
		mp_random_fill(&s->init, mp_random_key(seed, piece->name), s->type, 0, elements, kept[i].values);
	}
	pthread_mutex_unlock(&lock);
	return kept[i].values;
}

// Whether a state holds the initial values of this seed.
static bool has_values(const struct mp_rank *r, const struct mp_state *s, uint64_t seed, double tolerance)
{
	struct mp_piece own;
	int pieces;
	const struct mp_piece *piece = mp_pieces_of(s, &own, &pieces);
	void *files[4];
	for (int i = 0; i < pieces; i++)
		files[i] = drawn(s, &piece[i], seed);
	return part_is_right(r, s, files, tolerance);
}

static bool all_pieces_are_right(const struct mp_rank *r, uint64_t seed)
{
	bool good = true;
	for (int i = 0; i < r->program->state_count; i++)
		good &= has_values(r, &r->program->states[i], seed, 0);
	return good;
}

struct job {
	const char *load, *save;
	uint64_t seed, expect;          // of the values after loading
	long step, found;               // to save; r->step after loading
	unsigned allow;
	uint64_t most;                  // bytes of a file of weights
	bool wrong;
};

static void run_job(struct mp_rank *r, void *context)
{
	struct job *j = context;
	mp_state_init(r, j->seed);
	bool good = all_pieces_are_right(r, j->seed);
	if (j->load) {
		mp_checkpoint_load(r, j->load, j->allow);
		good &= all_pieces_are_right(r, j->expect);
	}
	if (j->save)
		mp_checkpoint_save(r, j->save, j->step, j->seed, j->most);
	if (!good)
		j->wrong = true;
	if (r->rank == 0)
		j->found = r->step;
}

static void run(int mesh, struct job *j)
{
	set_mesh(meshes[mesh][0], meshes[mesh][1], meshes[mesh][2]);
	run_ranks(&model, run_job, j);
}

static bool same_files(const char *a, const char *b)
{
	size_t n, m;
	char *x = read_file(a, &n), *y = read_file(b, &m);
	bool same = x && y && n == m && !memcmp(x, y, n);
	free(x);
	free(y);
	return same;
}

static void any_mesh_to_any(void)
{
	for (int i = 0; i < MESHES; i++) {
		char first[64], dir[64], path[128];
		snprintf(dir, sizeof dir, "mesh%d", i);
		struct job save = {.save = at(dir), .seed = 11, .step = 3};
		run(i, &save);
		CHECK(!save.wrong);
		for (int k = 0; k < 3; k++) {
			static const char *const names[] = {"model.safetensors", "optimizer.safetensors", "state.json"};
			snprintf(first, sizeof first, "mesh0/step_3/%s", names[k]);
			snprintf(path, sizeof path, "%s/step_3/%s", dir, names[k]);
			CHECK(same_files(at(first), at(path)));
		}
		snprintf(path, sizeof path, "%s/step_3.tmp", dir);
		CHECK(!mp_exists(at(path)));
		for (int k = 0; k < MESHES; k += 1 + (i + k) % 2) {
			struct job load = {.load = at(dir), .seed = 12, .expect = 11};
			run(k, &load);
			CHECK(!load.wrong && load.found == 3);
		}
	}
}

// ---------------------------------------------------------------------------------------------------------

static void change_byte(const char *path, long offset)
{
	size_t n;
	char *bytes = read_file(path, &n);
	bytes[offset < 0 ? (long)n + offset : offset] ^= 1;
	write_file(path, bytes, n);
	free(bytes);
}

static void load_newest(const char *dir, uint64_t expect, long step)
{
	struct job load = {.load = at(dir), .seed = 1, .expect = expect};
	run(4, &load);
	CHECK(!load.wrong && load.found == step);
}

static void newest_valid(void)
{
	for (int step = 8; step <= 12; step++) {
		struct job save = {.save = at("many"), .seed = (uint64_t)step, .step = step};
		run(step % 2, &save);
	}
	mkdir(at("many/step_99.tmp"), 0777);
	mkdir(at("many/step_x"), 0777);
	load_newest("many", 12, 12);
	load_newest("many/step_9", 9, 9);
	quiet(true);
	change_byte(at("many/step_12/model.safetensors"), -5);
	load_newest("many", 11, 11);
	change_byte(at("many/step_11/optimizer.safetensors"), 20);
	load_newest("many", 10, 10);
	unlink(at("many/step_10/state.json"));
	load_newest("many", 9, 9);
	CHECK(!truncate(at("many/step_9/model.safetensors"), 100));
	load_newest("many", 8, 8);
	quiet(false);
	struct job load = {.load = at("many/step_12")};
	REFUSES(MP_BAD_INPUT, "is damaged", run(0, &load));
	load.load = at("many/step_10");
	REFUSES(MP_BAD_INPUT, "no state.json", run(0, &load));
	load.load = at("many/step_9");
	REFUSES(MP_BAD_INPUT, "has 100 bytes", run(0, &load));
	write_file(at("many/step_8/state.json"), "{\"step\":8}", 10);
	load.load = at("many");
	REFUSES(MP_BAD_INPUT, "none of the 5 checkpoints", run(0, &load));
	load.load = at("many/step_x");
	REFUSES(MP_BAD_INPUT, "holds no step_N folder", run(0, &load));
	load.load = at("nothing");
	REFUSES(MP_BAD_INPUT, "No such file", run(0, &load));
}

// Saving a step again replaces it; a left-over .tmp is no obstacle.
static void save_again(void)
{
	struct job save = {.save = at("again/deep"), .seed = 5, .step = 1};
	run(0, &save);
	mkdir(at("again/deep/step_1.tmp"), 0777);
	write_file(at("again/deep/step_1.tmp/stale"), "{", 1);
	save.seed = 6;
	run(4, &save);
	CHECK(!save.wrong && !mp_exists(at("again/deep/step_1.tmp")) && !mp_exists(at("again/deep/step_1/stale")));
	load_newest("again/deep", 6, 1);
}

// ---------------------------------------------------------------------------------------------------------

// The state that a tensor of files is a piece of; NULL: none.
static const struct mp_state *state_of(const char *name)
{
	for (int k = 0; k < STATES; k++) {
		struct mp_piece own;
		int pieces;
		const struct mp_piece *piece = mp_pieces_of(&table[k], &own, &pieces);
		for (int i = 0; i < pieces; i++)
			if (!strcmp(piece[i].name, name))
				return &table[k];
	}
	return NULL;
}

// A file with the whole model but the tensor that is named; `also` is one more. Integers are I64.
static void write_weights(const char *path, enum mp_type type, const char *without, const char *also, const char *longer)
{
	struct mp_layout l = {0};
	for (int k = 0; k < STATES; k++) {
		struct mp_piece own;
		int pieces;
		const struct mp_piece *piece = mp_pieces_of(&table[k], &own, &pieces);
		for (int i = 0; i < pieces && table[k].kind != MP_OPTIMIZER; i++) {
			long shape[MP_DIMS];
			memcpy(shape, piece[i].shape, sizeof shape);
			if (without && !strcmp(piece[i].name, without))
				continue;
			if (longer && !strcmp(piece[i].name, longer))
				shape[0]++;
			mp_layout_add(&l, piece[i].name, table[k].type == MP_I32 ? MP_FILE_I64 : mp_file_type_of(type), piece[i].dims, shape);
		}
	}
	if (also)
		mp_layout_add(&l, also, mp_file_type_of(type), 0, NULL);
	mp_layout_finish(&l);
	int fd = mp_create(path, l.file_bytes);
	mp_write_at(fd, path, l.header, l.header_bytes, 0);
	for (long i = 0; i < l.count; i++) {
		const struct mp_layout_tensor *t = &l.tensors[i];
		const struct mp_state *s = state_of(t->name);
		bool integer = t->type == MP_FILE_I64;
		long count = count_elements(t->dims, t->shape);
		void *values = calloc((size_t)count, 8);
		if (s)
			mp_random_fill(&s->init, mp_random_key(31, t->name), integer ? MP_I32 : type, 0, count, values);
		for (long e = count; integer && e-- > 0; )
			((int64_t *)values)[e] = ((int32_t *)values)[e];
		mp_write_at(fd, path, values, (size_t)count * mp_file_type_bytes(t->type), t->offset);
		free(values);
	}
	mp_sync_and_close(fd, path);
	mp_layout_free(&l);
}

// The model has the values of seed 31 up to rounding; optimizer state those of seed 1.
static void compare_weights(struct mp_rank *r, void *context)
{
	const char *path = context;
	mp_state_init(r, 1);
	mp_checkpoint_load(r, path, 0);
	CHECK(r->step == 0);
	for (int i = 0; i < r->program->state_count; i++) {
		const struct mp_state *s = &r->program->states[i];
		CHECK(has_values(r, s, s->kind == MP_OPTIMIZER ? 1 : 31, 1e-6));
	}
}

static void foreign_files(void)
{
	static const enum mp_type types[] = {MP_F32, MP_F64};
	const char *path = at("weights.safetensors");
	for (int k = 0; k < 2; k++) {
		write_weights(path, types[k], NULL, "bn1.num_batches_tracked", NULL);
		set_mesh(1, 2, 1);
		run_ranks(&model, compare_weights, (void *)path);
	}
	struct job load = {.load = path, .seed = 31, .expect = 31};
	write_weights(path, MP_F32, "columns", NULL, NULL);
	REFUSES(MP_BAD_INPUT, "lacks tensors of the model: columns", run(0, &load));
	write_weights(path, MP_F32, NULL, "extra", NULL);
	REFUSES(MP_BAD_INPUT, "does not use: extra", run(0, &load));
	write_weights(path, MP_F32, NULL, NULL, "bias");
	REFUSES(MP_BAD_INPUT, "tensor bias is F32 [10], but the model's is F32 [9]", run(0, &load));
	load.allow = MP_ALLOW_MISSING | MP_ALLOW_UNUSED;
	REFUSES(MP_BAD_INPUT, "tensor bias is F32 [10], but the model's is F32 [9]", run(0, &load));
	write_weights(path, MP_I32, NULL, NULL, NULL);
	REFUSES(MP_BAD_INPUT, "is I32 [7, 5], but the model's is F32 [7, 5]", run(0, &load));
	write_weights(path, MP_F64, "columns", "extra", NULL);  // the other values become those of seed 31 exactly
	quiet(true);
	struct job missing = {.load = path, .seed = 31, .expect = 31, .allow = MP_ALLOW_MISSING | MP_ALLOW_UNUSED};
	run(1, &missing);
	CHECK(!missing.wrong && missing.found == 0);
	quiet(false);
}

// A buffer is part of the model: it must be there, with values that the program can hold.
static void buffers(void)
{
	const char *path = at("buffers.safetensors");
	struct job load = {.load = path, .seed = 31, .expect = 31};
	write_weights(path, MP_F32, "batches", NULL, NULL);
	REFUSES(MP_BAD_INPUT, "lacks tensors of the model: batches (--allow-missing", run(0, &load));
	write_weights(path, MP_F32, "mean", NULL, NULL);
	REFUSES(MP_BAD_INPUT, "lacks tensors of the model: mean (--allow-missing", run(0, &load));
	write_weights(path, MP_F32, NULL, NULL, "counts");
	REFUSES(MP_BAD_INPUT, "tensor counts is I64 [4, 7], but the model's is I64 [3, 7]", run(0, &load));
	write_weights(path, MP_F64, "mean", NULL, NULL);
	quiet(true);
	load.allow = MP_ALLOW_MISSING;
	run(1, &load);
	CHECK(!load.wrong);
	quiet(false);
	static const int64_t bad[] = {(int64_t)INT32_MAX + 1, (int64_t)INT32_MIN - 1, INT64_MIN};
	for (int k = 0; k < 3; k++) {
		write_weights(path, MP_F64, NULL, NULL, NULL);
		struct mp_tensors *t = mp_tensors_open(path);
		int fd = mp_open_write(path);
		mp_write_at(fd, path, &bad[k], 8, mp_tensors_find(t, "counts")->offset + 8 * 12);
		close(fd);
		mp_tensors_close(t);
		REFUSES(MP_BAD_INPUT, "element 12 of tensor counts does not fit into 32 bits", run(1, &load));
	}
}

// Sums over parts, in any order, are that of the whole; moved words are noticed.
static void checksums(void)
{
	unsigned char bytes[64];
	for (int i = 0; i < 64; i++)
		bytes[i] = (unsigned char)(i * 37);
	uint64_t whole = mp_checksum(bytes, 64, 128);
	CHECK(whole == mp_checksum(bytes + 20, 44, 148) + mp_checksum(bytes, 20, 128));
	CHECK(whole != mp_checksum(bytes, 64, 132));
	for (int bit = 0; bit < 512; bit++) {
		bytes[bit / 8] ^= 1 << bit % 8;
		CHECK(whole != mp_checksum(bytes, 64, 128));
		bytes[bit / 8] ^= 1 << bit % 8;
	}
}

void test_checkpoint(void)
{
	checksums();
	any_mesh_to_any();
	newest_valid();
	save_again();
	foreign_files();
	buffers();
}
