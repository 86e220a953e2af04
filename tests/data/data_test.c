// data_test.c: data sets in safetensors files and synthetic ones.
#include "test.h"

#include <math.h>

static const struct mp_input inputs[] = {
	{"image", MP_F32, 3, {1, 4, 3}, 0},
	{"label", MP_I32, 0, {0}, 3},
};
static const struct mp_model training = {.name = "test", .training = true, .axis = {1, 1, 1}, .batch = 4, .microbatches = 1,
	.inputs = inputs, .input_count = 2};
static const struct mp_model inference = {.name = "test", .training = false, .axis = {1, 1, 1}, .batch = 4, .microbatches = 1,
	.inputs = inputs, .input_count = 2};

// A data file of two tensors given as JSON without offsets; the bytes of the data count up from 0.
static const char *make(const char *first, size_t first_bytes, const char *second, size_t second_bytes)
{
	char header[512], *data;
	int n = snprintf(header, sizeof header, "{\"%s,\"data_offsets\":[0,%zu]}", first, first_bytes);
	if (second)
		n += snprintf(header + n, sizeof header - (size_t)n, ",\"%s,\"data_offsets\":[%zu,%zu]}", second, first_bytes,
		              first_bytes + second_bytes);
	n += snprintf(header + n, sizeof header - (size_t)n, "}");
	size_t total = 8 + (size_t)n + first_bytes + second_bytes;
	data = calloc(1, total);
	data[0] = (char)(n & 0xFF), data[1] = (char)(n >> 8);
	memcpy(data + 8, header, (size_t)n);
	for (size_t i = 0; i < first_bytes; i++)
		data[8 + n + i] = (char)i;
	for (size_t i = 0; i < second_bytes; i++)
		data[8 + n + (int)first_bytes + (int)i] = (char)(i % 3);
	write_file(at("data.safetensors"), data, total);
	free(data);
	return at("data.safetensors");
}

#define IMAGE "image\":{\"dtype\":\"U8\",\"shape\":[5,12]"
#define LABEL "label\":{\"dtype\":\"U8\",\"shape\":[5]"

static void values(void)
{
	struct mp_dataset *d = mp_dataset_open(&training, make(IMAGE, 60, LABEL, 5), false);
	static const long index[] = {4, 0, -1};
	float image[36];
	int32_t label[3];
	CHECK(mp_dataset_samples(d) == 5 && mp_dataset_has(d, "image") && mp_dataset_has(d, "label") && !mp_dataset_has(d, "x"));
	mp_column_gather(&inputs[0], &d->columns[0], index, 3, image);
	mp_column_gather(&inputs[1], &d->columns[1], index, 3, label);
	CHECK(image[0] == 48 && image[11] == 59 && image[12] == 0 && image[13] == 1 && image[24] == 0 && image[35] == 0);
	CHECK(label[0] == 1 && label[1] == 0 && label[2] == -1);
	mp_dataset_close(d);
	d = mp_dataset_open(&inference, make(IMAGE, 60, NULL, 0), false);
	CHECK(!mp_dataset_has(d, "label"));
	mp_column_gather(&inputs[1], &d->columns[1], index, 3, label);
	CHECK(label[0] == -1 && label[1] == -1 && label[2] == -1);
	mp_dataset_close(d);
	d = mp_dataset_open(&training, make("image\":{\"dtype\":\"F32\",\"shape\":[5,1,4,3]", 240, LABEL, 5), false);
	CHECK(mp_dataset_samples(d) == 5);
	mp_dataset_close(d);
	d = mp_dataset_open(&training, make("image\":{\"dtype\":\"F32\",\"shape\":[5,4,3]", 240, "label\":{\"dtype\":\"U8\",\"shape\":[5,1]", 5), true);
	CHECK(mp_dataset_samples(d) == 5);
	mp_dataset_close(d);
}

static void refusals(void)
{
	static const struct {
		const char *first;
		size_t first_bytes;
		const char *second;
		size_t second_bytes;
		const char *part;
	} cases[] = {
		{IMAGE, 60, NULL, 0, "lacks inputs of the spec: label"},
		{"label\":{\"dtype\":\"U8\",\"shape\":[3]", 3, NULL, 0, "lacks inputs of the spec: image"},
		{"image\":{\"dtype\":\"U8\",\"shape\":[5,13]", 65, LABEL, 5, "image is U8 [5, 13], but each sample of the spec's input is F32 [1, 4, 3]"},
		{"image\":{\"dtype\":\"U8\",\"shape\":[5,3,4]", 60, LABEL, 5, "image is U8 [5, 3, 4]"},
		{"image\":{\"dtype\":\"U8\",\"shape\":[5,2,4,3]", 120, LABEL, 5, "image is U8 [5, 2, 4, 3]"},
		{"image\":{\"dtype\":\"U8\",\"shape\":[5]", 5, LABEL, 5, "image is U8 [5]"},
		{"image\":{\"dtype\":\"I32\",\"shape\":[5,12]", 240, LABEL, 5, "image is I32 [5, 12]"},
		{IMAGE, 60, "label\":{\"dtype\":\"U8\",\"shape\":[4]", 4, "holds 4 samples, the inputs before it hold 5"},
		{IMAGE, 60, "label\":{\"dtype\":\"F32\",\"shape\":[5]", 20, "label is F32 [5]"},
		{IMAGE, 60, "label\":{\"dtype\":\"U8\",\"shape\":[]", 1, "label is U8 []"},
		{IMAGE, 60, "label\":{\"dtype\":\"U8\",\"shape\":[5,2]", 10, "label is U8 [5, 2]"},
		{IMAGE, 60, "label\":{\"dtype\":\"U16\",\"shape\":[5]", 10, "label of sample 0 is 256, but the spec allows 0 to 2"},
		{IMAGE, 60, "label\":{\"dtype\":\"I64\",\"shape\":[5]", 40, "label of sample 0 does not fit into 32 bits"},
		{"image\":{\"dtype\":\"U8\",\"shape\":[0,12]", 0, "label\":{\"dtype\":\"U8\",\"shape\":[0]", 0, "holds no samples"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		REFUSES(MP_BAD_INPUT, cases[i].part, mp_dataset_open(&training,
		        make(cases[i].first, cases[i].first_bytes, cases[i].second, cases[i].second_bytes), false));
	REFUSES(MP_BAD_INPUT, "No such file", mp_dataset_open(&training, at("none.safetensors"), false));
	REFUSES(MP_BAD_INPUT, "cannot open synthetix", mp_dataset_open(&training, "synthetix", false));
	REFUSES(MP_BAD_INPUT, "cannot open synthetic:1x", mp_dataset_open(&training, "synthetic:1x", false));
}

// Nearest class mean, learnt from training samples, must predict the labels of evaluation samples.
static void synthetic_is_learnable(void)
{
	struct mp_dataset *d = mp_dataset_open(&training, "synthetic:3", false), *e = mp_dataset_open(&training, "synthetic:3", true);
	double mean[3][12] = {{0}};
	int count[3] = {0}, right = 0;
	const float *x = d->columns[0].values, *y = e->columns[0].values;
	const int32_t *label = d->columns[1].values, *target = e->columns[1].values;
	CHECK(d->samples == 4096 && e->samples == 4096);
	CHECK(memcmp(x, y, 4096 * 12 * sizeof *x));
	for (long k = 0; k < d->samples; k++) {
		CHECK(label[k] >= 0 && label[k] < 3);
		count[label[k]]++;
		for (int i = 0; i < 12; i++)
			mean[label[k]][i] += x[k * 12 + i];
	}
	for (long k = 0; k < e->samples; k++) {
		double distance[3] = {0};
		for (int c = 0; c < 3; c++)
			for (int i = 0; i < 12; i++)
				distance[c] += pow(mean[c][i] / count[c] - y[k * 12 + i], 2);
		int best = distance[0] < distance[1] ? 0 : 1;
		best = distance[2] < distance[best] ? 2 : best;
		right += best == target[k];
	}
	CHECK(right > 4096 / 2);
	for (int c = 0; c < 3; c++)
		CHECK(count[c] > 1200);
	struct mp_dataset *other = mp_dataset_open(&training, "synthetic", false);
	CHECK(memcmp(x, other->columns[0].values, 4096 * 12 * sizeof *x));
	mp_dataset_close(other);
	mp_dataset_close(e);
	mp_dataset_close(d);
}

// The nearest of these class means; x holds n values.
static int nearest(const double *mean, int classes, const float *x, int n)
{
	int best = 0;
	double least = INFINITY;
	for (int c = 0; c < classes; c++) {
		double distance = 0;
		for (int i = 0; i < n; i++)
			distance += pow(mean[c * n + i] - x[i], 2);
		if (distance < least)
			least = distance, best = c;
	}
	return best;
}

enum { SIDE = 24, PART = 8, CHANNELS = 3, CORNER = CHANNELS * PART * PART, KINDS = 10 };

// One corner of an image and the mean of each channel.
static void look(const float *x, int from, float corner[CORNER], float channel[CHANNELS])
{
	for (int i = 0; i < CORNER; i++)
		corner[i] = x[(i / PART / PART * SIDE + i / PART % PART + from) * SIDE + i % PART + from];
	for (int c = 0; c < CHANNELS; c++) {
		double sum = 0;
		for (int i = 0; i < SIDE * SIDE; i++)
			sum += x[c * SIDE * SIDE + i];
		channel[c] = (float)(sum / (SIDE * SIDE));
	}
}

// What marks the class of an image is the same everywhere in it: means of one corner, learnt from training samples,
// predict the labels of evaluation samples from the opposite corner. And the mean of each channel over all pixels, which
// is what many convolutional models end with, does so too.
static void synthetic_images_are_learnable(void)
{
	static const struct mp_input images[] = {{"image", MP_F32, 3, {CHANNELS, SIDE, SIDE}, 0}, {"label", MP_I32, 0, {0}, KINDS}};
	static double corners[KINDS][CORNER], channels[KINDS][CHANNELS];
	struct mp_model m = training;
	m.inputs = images;
	struct mp_dataset *d = mp_dataset_open(&m, "synthetic:8", false), *e = mp_dataset_open(&m, "synthetic:8", true);
	const int32_t *label = d->columns[1].values, *target = e->columns[1].values;
	float corner[CORNER], channel[CHANNELS];
	long count[KINDS] = {0}, by_corner = 0, by_channel = 0;
	for (long k = 0; k < d->samples; k++)
		count[label[k]]++;
	for (long k = 0; k < d->samples; k++) {
		look((const float *)d->columns[0].values + k * CHANNELS * SIDE * SIDE, 0, corner, channel);
		for (int i = 0; i < CORNER; i++)
			corners[label[k]][i] += corner[i] / (double)count[label[k]];
		for (int c = 0; c < CHANNELS; c++)
			channels[label[k]][c] += channel[c] / (double)count[label[k]];
	}
	for (long k = 0; k < e->samples; k++) {
		look((const float *)e->columns[0].values + k * CHANNELS * SIDE * SIDE, SIDE - PART, corner, channel);
		by_corner += nearest(corners[0], KINDS, corner, CORNER) == target[k];
		by_channel += nearest(channels[0], KINDS, channel, CHANNELS) == target[k];
	}
	CHECK(by_corner > 0.95 * (double)e->samples && by_channel > 0.8 * (double)e->samples);
	mp_dataset_close(e);
	mp_dataset_close(d);
}

// The values do not depend on the type; large samples do not take much memory; there are always 4 batches.
static void synthetic_shapes(void)
{
	static const struct mp_input wide[] = {{"image", MP_F64, 3, {1, 4, 3}, 0}, {"label", MP_I32, 0, {0}, 3}};
	static const struct mp_input large[] = {{"image", MP_F32, 3, {3, 224, 224}, 0}, {"label", MP_I32, 0, {0}, 1000}};
	struct mp_model f64 = training, big = training;
	f64.inputs = wide;
	big.inputs = large;
	big.batch = 16;
	struct mp_dataset *d = mp_dataset_open(&training, "synthetic", false), *e = mp_dataset_open(&f64, "synthetic", false);
	CHECK(!memcmp(d->columns[0].values, e->columns[0].values, 4096 * 12 * sizeof(float)));
	long first = 0;
	double x[12];
	mp_column_gather(&wide[0], &e->columns[0], &first, 1, x);
	CHECK(x[3] == ((const float *)d->columns[0].values)[3]);
	mp_dataset_close(e);
	mp_dataset_close(d);
	d = mp_dataset_open(&big, "synthetic", false);
	CHECK(d->samples == 256);
	int seen[1000] = {0};
	for (long k = 0; k < 256; k++)
		seen[((const int32_t *)d->columns[1].values)[k]]++;
	for (int c = 0; c < 1000; c++)
		CHECK(c < 32 ? seen[c] > 0 : seen[c] == 0);
	mp_dataset_close(d);
	big.inputs = inputs;
	big.batch = 2000;
	d = mp_dataset_open(&big, "synthetic", false);
	CHECK(d->samples == 8000);
	mp_dataset_close(d);
}

void test_data(void)
{
	values();
	refusals();
	synthetic_is_learnable();
	synthetic_images_are_learnable();
	synthetic_shapes();
}
