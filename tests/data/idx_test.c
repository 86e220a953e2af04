// idx_test.c: IDX files, plain and gzipped, good and bad; Fashion-MNIST where it is installed.
#include "test.h"

#include <sys/stat.h>
#include <zlib.h>

static const struct mp_input inputs[] = {{"label", MP_I32, 0, {0}, 10}, {"image", MP_F32, 1, {6}, 0}};
static const struct mp_model model = {.name = "test", .training = true, .axis = {1, 1, 1}, .batch = 2, .microbatches = 1,
	.inputs = inputs, .input_count = 2};

static void write_idx(const char *name, bool gzip, uint32_t magic, const uint32_t *shape, int dims, size_t n)
{
	static unsigned char bytes[1 << 12];
	size_t size = 0;
	char path[128];
	for (int k = -1; k < dims; k++)
		for (int shift = 24; shift >= 0; shift -= 8)
			bytes[size++] = (unsigned char)((k < 0 ? magic : shape[k]) >> shift);
	for (size_t i = 0; i < n; i++)
		bytes[size++] = (unsigned char)(dims == 1 ? i % 10 : i * 5);
	snprintf(path, sizeof path, "idx/%s%s", name, gzip ? ".gz" : "");
	gzFile f = gzopen(at(path), gzip ? "wb" : "wbT");       // T: as it is
	if (gzwrite(f, bytes, (unsigned)size) != (int)size || gzclose(f) != Z_OK)
		abort();
}

// A folder with `images` of 2 x 3 and `labels`, as the headers say, and so many bytes in fact.
static const char *make(bool gzip, uint32_t images, size_t image_bytes, uint32_t labels, size_t label_bytes)
{
	if (mp_exists(at("idx")))
		mp_remove_folder(at("idx"));
	mkdir(at("idx"), 0777);
	write_idx("train-images-idx3-ubyte", gzip, 0x803, (uint32_t[]){images, 2, 3}, 3, image_bytes);
	write_idx("train-labels-idx1-ubyte", gzip, 0x801, &labels, 1, label_bytes);
	return at("idx");
}

static void good(void)
{
	for (int gzip = 0; gzip < 2; gzip++) {
		struct mp_dataset *d = mp_dataset_open(&model, make(gzip, 7, 42, 7, 7), false);
		static const long index[] = {6, 0, -1};
		float image[18];
		int32_t label[3];
		CHECK(mp_dataset_samples(d) == 7 && mp_dataset_has(d, "image") && mp_dataset_has(d, "label"));
		mp_column_gather(&inputs[1], &d->columns[1], index, 3, image);
		mp_column_gather(&inputs[0], &d->columns[0], index, 3, label);
		CHECK(image[0] == 180 / 255.0f && image[5] == 205 / 255.0f && image[6] == 0 && image[7] == 5 / 255.0f && image[17] == 0);
		CHECK(label[0] == 6 && label[1] == 0 && label[2] == -1);
		mp_dataset_close(d);
	}
	struct mp_model inference = model;
	inference.training = false;
	const char *folder = make(false, 7, 42, 7, 7);
	unlink(at("idx/train-labels-idx1-ubyte"));
	struct mp_dataset *d = mp_dataset_open(&inference, folder, false);
	CHECK(mp_dataset_samples(d) == 7 && !mp_dataset_has(d, "label"));
	mp_dataset_close(d);
}

// Every shape that a 28 x 28 image may be given in a spec, and some that it may not: no image is resized or turned.
static void shapes(void)
{
	static const struct {
		int dims;
		long shape[4];
		const char *refused;            // how a message prints it; NULL: read
	} cases[] = {
		{1, {784}, NULL}, {2, {28, 28}, NULL}, {3, {1, 28, 28}, NULL}, {3, {28, 28, 1}, NULL}, {2, {784, 1}, NULL}, {3, {1, 1, 784}, NULL},
		{3, {3, 28, 28}, "[3, 28, 28]"}, {3, {1, 32, 32}, "[1, 32, 32]"}, {2, {14, 56}, "[14, 56]"}, {3, {4, 14, 14}, "[4, 14, 14]"},
		{1, {783}, "[783]"}, {3, {1, 28, 27}, "[1, 28, 27]"}, {0, {0}, "[]"},
	};
	if (mp_exists(at("idx")))
		mp_remove_folder(at("idx"));
	mkdir(at("idx"), 0777);
	write_idx("train-images-idx3-ubyte", true, 0x803, (uint32_t[]){3, 28, 28}, 3, 3 * 784);
	write_idx("train-labels-idx1-ubyte", true, 0x801, (uint32_t[]){3}, 1, 3);
	for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
		struct mp_input in[] = {inputs[0], {"image", MP_F32, cases[k].dims, {0}, 0}};
		struct mp_model m = model;
		char part[128];
		memcpy(in[1].shape, cases[k].shape, sizeof cases[k].shape);
		m.inputs = in;
		if (cases[k].refused) {
			snprintf(part, sizeof part, "a sample is U8 [28, 28], but the spec's input image is F32 %s", cases[k].refused);
			REFUSES(1, part, mp_dataset_open(&m, at("idx"), false));
			continue;
		}
		struct mp_dataset *d = mp_dataset_open(&m, at("idx"), false);
		static const long index[] = {2};
		float image[784];
		long wrong = 0;
		mp_column_gather(&in[1], &d->columns[1], index, 1, image);
		for (int i = 0; i < 784; i++)
			wrong += image[i] != (float)((2 * 784 + i) * 5 % 256) / 255.0f;
		CHECK(wrong == 0 && mp_dataset_samples(d) == 3);
		mp_dataset_close(d);
	}
}

static void bad(void)
{
	for (int gzip = 0; gzip < 2; gzip++) {
		REFUSES(1, "is truncated", mp_dataset_open(&model, make(gzip, 7, 41, 7, 7), false));
		REFUSES(1, "has 57 bytes, its header promises 58", mp_dataset_open(&model, make(gzip, 7, 41, 7, 7), false));
		REFUSES(1, "holds more than", mp_dataset_open(&model, make(gzip, 7, 43, 7, 7), false));
		REFUSES(1, "holds 7 images, but", mp_dataset_open(&model, make(gzip, 7, 42, 6, 6), false));
		REFUSES(1, "promises 4294967295 samples", mp_dataset_open(&model, make(gzip, UINT32_MAX, 42, 7, 7), false));
		REFUSES(1, "holds no samples", mp_dataset_open(&model, make(gzip, 0, 0, 0, 0), false));
		struct mp_input narrow[] = {inputs[0], inputs[1]};
		struct mp_model m = model;
		m.inputs = narrow;
		narrow[0].limit = 5;
		REFUSES(1, "label of sample 5 is 5, but the spec allows 0 to 4", mp_dataset_open(&m, make(gzip, 7, 42, 7, 7), false));
		narrow[0].limit = 10;
		narrow[1].shape[0] = 784;
		REFUSES(1, "a sample is U8 [2, 3], but the spec's input image is F32 [784]", mp_dataset_open(&m, make(gzip, 7, 42, 7, 7), false));
		narrow[0].type = MP_F32;
		REFUSES(1, "two float inputs, label and image", mp_dataset_open(&m, make(gzip, 7, 42, 7, 7), false));
	}
	make(false, 7, 42, 7, 7);
	REFUSES(1, "dataset-fashion-mnist", mp_dataset_open(&model, at("idx"), true));
	write_idx("train-labels-idx1-ubyte", false, 0x803, (uint32_t[]){7}, 1, 7);
	REFUSES(1, "0x00000803, 0x00000801 was expected", mp_dataset_open(&model, at("idx"), false));
	write_file(at("idx/train-labels-idx1-ubyte"), "\0\0", 2);
	REFUSES(1, "is truncated", mp_dataset_open(&model, at("idx"), false));
}

// Every cut of a gzipped file and every changed byte of it is noticed or changes nothing that is read.
static void damaged(void)
{
	size_t n;
	make(true, 7, 42, 7, 7);
	char *bytes = read_file(at("idx/train-images-idx3-ubyte.gz"), &n);
	for (size_t cut = 0; cut < n; cut++) {
		write_file(at("idx/train-images-idx3-ubyte.gz"), bytes, cut);
		REFUSES(1, "train-images", mp_dataset_open(&model, at("idx"), false));
	}
	for (size_t i = 10; i < n; i++) {       // after the gzip header, whose time and flags may be anything
		bytes[i] ^= 0x10;
		write_file(at("idx/train-images-idx3-ubyte.gz"), bytes, n);
		REFUSES(1, "train-images", mp_dataset_open(&model, at("idx"), false));
		bytes[i] ^= 0x10;
	}
	free(bytes);
}

static void fashion_mnist(void)
{
	static const char folder[] = "/usr/share/datasets/fashion-mnist";
	static const struct mp_input real[] = {{"image", MP_F32, 3, {1, 28, 28}, 0}, {"label", MP_I32, 0, {0}, 10}};
	struct mp_model m = model;
	m.inputs = real;
	if (!mp_is_folder(folder)) {
		printf("skipped: Debian's package dataset-fashion-mnist is not installed\n");
		return;
	}
	for (int evaluation = 0; evaluation < 2; evaluation++) {
		struct mp_dataset *d = mp_dataset_open(&m, folder, evaluation);
		const unsigned char *label = d->columns[1].values, *pixel = d->columns[0].values;
		long count[10] = {0}, sum = 0;
		CHECK(mp_dataset_samples(d) == (evaluation ? 10000 : 60000));
		for (long i = 0; i < d->samples; i++)
			count[label[i]]++;
		for (int c = 0; c < 10; c++)
			CHECK(count[c] == d->samples / 10);
		for (long i = 0; i < d->samples * 784; i++)
			sum += pixel[i];
		CHECK(evaluation || (label[0] == 9 && label[1] == 0 && sum * 10 / (d->samples * 784) == 729));  // mean 72.94
		mp_dataset_close(d);
	}
}

void test_idx(void)
{
	good();
	shapes();
	bad();
	damaged();
	fashion_mnist();
}
