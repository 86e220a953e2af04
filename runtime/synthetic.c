// synthetic.c: data from a seed, for runs without files: first steps, benchmarks, tests.
//
// It must be learnable, or a broken gradient looks like a working one: each sample has a hidden class; integer inputs
// are that class (counted on along the sample, modulo their limit), float inputs are the class's prototype mixed half
// and half with noise. A prototype is constant over short runs of elements. That of an image is a small tile, repeated
// all over it: convolutions that end in a mean over all pixels cannot tell where something is. Everything is a function
// of seed, input name, sample and element, so it depends neither on mesh nor on type. Values are kept as f32 for every
// program type. Training and evaluation share the prototypes, not the samples.
//
// The samples are made once, at the start: a batch takes some fifty times as long to draw as to copy, and longer than a
// GPU takes to train on it.
#include "data.h"
#include "random.h"

#include <stdlib.h>

enum { SAMPLES = 4096, OF_A_CLASS = 8, CLASSES = 10, RUN = 8, TILE = 4, CELL = 2 };
static const long most_bytes = 256 << 20;

static uint64_t key_of(uint64_t seed, const char *name, const char *what)
{
	char *text = mp_text("synthetic.%s.%s", name, what);
	uint64_t key = mp_random_key(seed, text);
	free(text);
	return key;
}

static uint32_t class_of(uint64_t key, long sample)
{
	uint32_t x[4];
	mp_random_block(key, 0, (uint64_t)sample, x);
	return x[0];
}

static void fill_integers(const struct mp_input *in, uint64_t classes, int class_count, long samples, int32_t *out)
{
	long elements = mp_input_elements(in), limit = in->limit > 0 ? in->limit : 2;
	for (long k = 0; k < samples; k++) {
		long class = class_of(classes, k) % (uint32_t)class_count;
		for (long i = 0; i < elements; i++)
			*out++ = (int32_t)((class + i) % limit);
	}
}

// Which of a prototype's values each element of a sample shows, and how many values there are. Images [c,h,w] show TILE x
// TILE cells of CELL x CELL pixels in each channel; other samples a value for each run of elements.
static int *map_elements(const struct mp_input *in, long *values)
{
	long elements = mp_input_elements(in), width = in->shape[2], area = in->shape[1] * width;
	int *map = mp_allocate((size_t)elements * sizeof *map);
	bool image = in->dims == 3;
	for (long i = 0; i < elements; i++) {
		long row = image ? i % area / width / CELL % TILE : 0, column = image ? i % width / CELL % TILE : 0;
		map[i] = (int)(image ? i / area * TILE * TILE + row * TILE + column : i / RUN);
	}
	*values = image ? in->shape[0] * TILE * TILE : (elements + RUN - 1) / RUN;
	return map;
}

static void fill_floats(const struct mp_input *in, uint64_t seed, uint64_t classes, int class_count, long samples,
                        const char *part, float *out)
{
	static const struct mp_init unit = {MP_UNIFORM, 0, 1};
	long elements = mp_input_elements(in), values;
	int *map = map_elements(in, &values);
	float *prototypes = mp_allocate((size_t)(class_count * values) * sizeof *prototypes);
	mp_random_fill(&unit, key_of(seed, in->name, "prototypes"), MP_F32, 0, class_count * values, prototypes);
	uint64_t noise = key_of(seed, in->name, part);
	for (long k = 0; k < samples; k++, out += elements) {
		const float *prototype = prototypes + class_of(classes, k) % (uint32_t)class_count * (uint64_t)values;
		mp_random_fill(&unit, noise, MP_F32, k * elements, elements, out);
		for (long i = 0; i < elements; i++)
			out[i] = 0.5f * out[i] + 0.5f * prototype[map[i]];
	}
	free(prototypes);
	free(map);
}

// The number of hidden classes: the smallest limit of an integer input, but few enough that each is seen several times.
static int count_classes(const struct mp_model *m, long samples)
{
	long most = samples / OF_A_CLASS > 2 ? samples / OF_A_CLASS : 2, classes = 0;
	for (int i = 0; i < m->input_count; i++) {
		const struct mp_input *in = &m->inputs[i];
		if (in->type == MP_I32 && in->limit > 0 && (classes == 0 || in->limit < classes))
			classes = in->limit;
	}
	classes = classes ? classes : CLASSES;
	return (int)(classes < most ? classes : most);
}

// At least 4 batches; fewer samples than usual where they are large.
static long count_samples(const struct mp_model *m)
{
	long samples = SAMPLES, bytes = 0;
	for (int i = 0; i < m->input_count; i++)
		bytes += mp_input_elements(&m->inputs[i]) * 4;
	while (samples > 4L * m->batch && samples * bytes > most_bytes)
		samples /= 2;
	return samples > 4L * m->batch ? samples : 4L * m->batch;
}

void mp_synthetic_open(struct mp_dataset *d, uint64_t seed, bool evaluation)
{
	const struct mp_model *m = d->model;
	const char *part = evaluation ? "evaluation" : "training";
	uint64_t classes = key_of(seed, "class", part);
	d->samples = count_samples(m);
	int class_count = count_classes(m, d->samples);
	for (int i = 0; i < m->input_count; i++) {
		const struct mp_input *in = &m->inputs[i];
		d->memory[i] = mp_allocate((size_t)(d->samples * mp_input_elements(in)) * 4);
		d->columns[i] = (struct mp_column){d->memory[i], in->type == MP_I32 ? MP_FILE_I32 : MP_FILE_F32, false};
		if (in->type == MP_I32)
			fill_integers(in, classes, class_count, d->samples, d->memory[i]);
		else
			fill_floats(in, seed, classes, class_count, d->samples, part, d->memory[i]);
	}
}
