// synthetic.c: data from a seed, for runs without files: first steps, benchmarks, tests.
//
// It must be learnable, or a broken gradient looks like a working one: each sample has a hidden class; integer inputs
// are that class (counted on along the sample, modulo their limit), float inputs are the class's prototype, constant
// over short runs of elements so that convolutions find structure, mixed half and half with noise. Everything is a
// function of seed, input name, sample and element, so it depends neither on mesh nor on type. Values are kept as f32
// for every program type. Training and evaluation share the prototypes, not the samples.
#include "data.h"
#include "random.h"

#include <stdlib.h>

enum { SAMPLES = 4096, CLASSES = 10, RUN = 8 };
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

// The prototypes of an input: class_count rows of one value for each run of elements.
static float *draw_prototypes(const struct mp_input *in, uint64_t seed, int class_count, long *runs)
{
	static const struct mp_init unit = {MP_UNIFORM, 0, 1};
	*runs = (mp_input_elements(in) + RUN - 1) / RUN;
	float *prototypes = mp_allocate((size_t)(class_count * *runs) * sizeof *prototypes);
	mp_random_fill(&unit, key_of(seed, in->name, "prototypes"), MP_F32, 0, class_count * *runs, prototypes);
	return prototypes;
}

static void fill_floats(const struct mp_input *in, uint64_t seed, uint64_t classes, int class_count, long samples,
                        const char *part, float *out)
{
	static const struct mp_init unit = {MP_UNIFORM, 0, 1};
	long elements = mp_input_elements(in), runs;
	float *prototypes = draw_prototypes(in, seed, class_count, &runs);
	uint64_t noise = key_of(seed, in->name, part);
	for (long k = 0; k < samples; k++, out += elements) {
		const float *prototype = prototypes + class_of(classes, k) % (uint32_t)class_count * (uint64_t)runs;
		mp_random_fill(&unit, noise, MP_F32, k * elements, elements, out);
		for (long i = 0; i < elements; i++)
			out[i] = 0.5f * out[i] + 0.5f * prototype[i / RUN];
	}
	free(prototypes);
}

// The number of hidden classes: the smallest limit of an integer input, within reason.
static int count_classes(const struct mp_model *m)
{
	int classes = 0;
	for (int i = 0; i < m->input_count; i++) {
		const struct mp_input *in = &m->inputs[i];
		if (in->type == MP_I32 && in->limit > 0 && (classes == 0 || in->limit < classes))
			classes = in->limit < 1 << 10 ? (int)in->limit : 1 << 10;
	}
	return classes ? classes : CLASSES;
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
	int class_count = count_classes(m);
	d->samples = count_samples(m);
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
