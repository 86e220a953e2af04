// outputs_test.c: the file of inference has the same bytes on every mesh, holds real samples only, and is there only
// when it was closed.
#include "test.h"

enum { SAMPLES = 29, BATCH = 12, WIDTH = 5 };

static const struct mp_output outputs[] = {{"logits", MP_F32, 1, {WIDTH}}, {"class", MP_I32, 0, {0}}};
static const struct mp_program last = {.name = "last", .outputs = outputs, .output_count = 2};
static const struct mp_program first = {.name = "first"};
static const struct mp_program *program_of_two(int stage) { return stage ? &last : &first; }
static const struct mp_program *program_of_one(int stage) { return stage ? &first : &last; }

struct job {
	const char *file;
	long batches;
};

static void infer(struct mp_rank *r, void *context)
{
	const struct job *job = context;
	const struct mp_model *m = r->model;
	int logical = m->batch / m->microbatches, local = logical / m->axis[MP_DP];
	float *logits = malloc((size_t)(m->microbatches * local) * WIDTH * sizeof *logits);
	int32_t *class = malloc((size_t)(m->microbatches * local) * sizeof *class);
	void *output[] = {logits, class};
	r->output = output;
	struct mp_output_writer *w = mp_output_open(r, job->file, SAMPLES);
	for (long step = 0; step < job->batches; step++) {
		for (int k = 0; k < m->microbatches; k++)
			for (int i = 0; i < local; i++) {
				long sample = step * BATCH + k * logical + r->dp * local + i;
				class[k * local + i] = sample < SAMPLES && r->tp == 0 ? (int32_t)sample : -99;
				for (int e = 0; e < WIDTH; e++)
					logits[(k * local + i) * WIDTH + e] = (float)(sample * 10 + e);
			}
		mp_output_write(w, r, step * BATCH, step < 2 ? BATCH : SAMPLES - 2 * BATCH);
	}
	mp_output_close(w, r);
	free(class);
	free(logits);
}

static void write_mesh(const char *file, int dp, int tp, int pp, int microbatches, long batches)
{
	struct mp_model m = {.name = "test", .axis = {dp, tp, pp}, .batch = BATCH, .microbatches = microbatches,
		.program = pp == 1 ? program_of_one : program_of_two};
	run_ranks(&m, infer, &(struct job){file, batches});
}

static void contents(const char *file, long samples)
{
	struct mp_tensors *t = mp_tensors_open(file);
	const struct mp_tensor *logits = mp_tensors_find(t, "logits"), *class = mp_tensors_find(t, "class");
	float x[SAMPLES * WIDTH];
	int32_t c[SAMPLES];
	CHECK(t->count == 2 && logits->dims == 2 && logits->shape[0] == samples && logits->shape[1] == WIDTH && class->dims == 1);
	mp_tensors_read(t, logits, 0, samples * WIDTH, x);
	mp_tensors_read(t, class, 0, samples, c);
	for (int i = 0; i < samples; i++) {
		CHECK(c[i] == i);
		for (int e = 0; e < WIDTH; e++)
			CHECK(x[i * WIDTH + e] == (float)(i * 10 + e));
	}
	mp_tensors_close(t);
}

void test_outputs(void)
{
	static const int meshes[][4] = {{1, 1, 1, 1}, {2, 1, 1, 3}, {3, 2, 1, 2}, {2, 2, 2, 2}, {1, 1, 2, 4}};
	size_t n, k;
	char *one = NULL;
	for (size_t i = 0; i < sizeof meshes / sizeof meshes[0]; i++) {
		write_mesh(at("out.safetensors"), meshes[i][0], meshes[i][1], meshes[i][2], meshes[i][3], 3);
		CHECK(!mp_exists(at("out.safetensors.tmp")));
		contents(at("out.safetensors"), SAMPLES);
		char *bytes = read_file(at("out.safetensors"), &k);
		if (i == 0)
			one = bytes, n = k;
		CHECK(k == n && !memcmp(one, bytes, n));
		if (i > 0)
			free(bytes);
	}
	free(one);
	write_mesh(at("out.safetensors"), 2, 1, 2, 1, 2);        // interrupted after two batches
	contents(at("out.safetensors"), 2 * BATCH);
	write_mesh(at("out.safetensors"), 2, 1, 1, 1, 0);
	contents(at("out.safetensors"), 0);
	write_mesh(at("out.safetensors"), 1, 1, 1, 1, 3);
	REFUSES(MP_IO_FAILED, "cannot create", write_mesh(at("none/out"), 1, 1, 1, 1, 3));
	REFUSES(MP_IO_FAILED, "is a folder", write_mesh("/tmp", 1, 1, 1, 1, 3));
	struct mp_model m = {.name = "test", .axis = {1, 1, 1}, .batch = BATCH, .microbatches = 1, .program = program_of_two};
	REFUSES(MP_BAD_INPUT, "names no outputs", run_ranks(&m, infer, &(struct job){at("x"), 1}));
}
