// idx.c: data sets in the IDX format of MNIST and its successors, gzipped or not.
//
// A folder holds images and labels in two files; the spec names its inputs as it likes. Images go to the float input,
// labels to the integer one. Files are small, so each is decompressed into memory as bytes, once, and every promise
// of the header is checked against what came. Format: a big-endian magic number 0x0000TTDD (TT = 8: bytes, DD dims),
// DD big-endian 32-bit extents, the bytes. http://yann.lecun.com/exdb/mnist
#include "data.h"

#include <stdlib.h>
#include <zlib.h>

enum { IMAGE_MAGIC = 0x803, LABEL_MAGIC = 0x801, IDX_DIMS = 3, GZIP_RATIO = 1032 };

struct idx_file {
	char *path;
	int dims;
	long shape[IDX_DIMS];
	unsigned char *bytes;
};

// DIR/NAME or DIR/NAME.gz, whichever is there; NULL: neither.
static char *find_file(const char *folder, const char *name)
{
	for (int gzip = 0; gzip < 2; gzip++) {
		char *path = mp_text("%s/%s%s", folder, name, gzip ? ".gz" : "");
		if (mp_exists(path))
			return path;
		free(path);
	}
	return NULL;
}

// Reads n bytes, decompressed; fails when there are fewer.
static void read_bytes(gzFile f, const char *path, void *out, size_t n, uint64_t total)
{
	size_t done = 0;
	while (done < n) {
		unsigned part = n - done < 1 << 20 ? (unsigned)(n - done) : 1 << 20;
		int got = gzread(f, (char *)out + done, part), error;
		const char *text = gzerror(f, &error);
		if (got < 0 || (error != Z_OK && error != Z_BUF_ERROR))
			mp_fail(MP_BAD_INPUT, "%s cannot be decompressed: %s", path, text);
		if (got == 0)
			mp_fail(MP_BAD_INPUT, "%s is truncated: it has %llu bytes, its header promises %llu", path,
			        (unsigned long long)(total - n + done), (unsigned long long)total);
		done += (size_t)got;
	}
}

static uint32_t big_endian(const unsigned char *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

// Takes path over. Returns the whole file.
static struct idx_file read_file(char *path, unsigned magic)
{
	struct idx_file file = {.path = path, .dims = magic & 0xFF};
	unsigned char header[4 + 4 * IDX_DIMS], extra;
	size_t header_bytes = 4 + 4 * (size_t)file.dims;
	uint64_t count = 1;
	int fd = mp_open_read(path);
	uint64_t stored = mp_file_bytes(fd, path);
	gzFile f = gzdopen(fd, "rb");
	if (!f)
		mp_fail(MP_IO_FAILED, "no memory to read %s", path);
	read_bytes(f, path, header, 4, header_bytes);
	if (big_endian(header) != magic)
		mp_fail(MP_BAD_INPUT, "%s has the magic number 0x%08x, 0x%08x was expected", path,
		        (unsigned)big_endian(header), magic);
	read_bytes(f, path, header + 4, header_bytes - 4, header_bytes);
	bool overflow = false;
	for (int d = 0; d < file.dims; d++) {
		file.shape[d] = big_endian(header + 4 + 4 * d);
		overflow |= __builtin_mul_overflow(count, (uint64_t)file.shape[d], &count);
	}
	// Refused before memory is asked for: gzip cannot shrink bytes by more than GZIP_RATIO.
	if (overflow || count / GZIP_RATIO > stored)
		mp_fail(MP_BAD_INPUT, "%s is truncated: its header promises %ld samples, but it has only %llu bytes", path,
		        file.shape[0], (unsigned long long)stored);
	file.bytes = mp_allocate(count + 1);
	read_bytes(f, path, file.bytes, count, header_bytes + count);
	if (gzread(f, &extra, 1) == 1)
		mp_fail(MP_BAD_INPUT, "%s holds more than the %llu bytes that its header promises", path,
		        (unsigned long long)(header_bytes + count));
	if (gzclose(f) != Z_OK)
		mp_fail(MP_BAD_INPUT, "%s cannot be decompressed: its end is damaged", path);
	return file;
}

// The one input of the spec that is of float type (images) or not (labels); -1: none.
static int pick_input(const struct mp_dataset *d, bool image)
{
	int found = -1;
	for (int i = 0; i < d->model->input_count; i++) {
		const struct mp_input *in = &d->model->inputs[i];
		if ((in->type != MP_I32) != image)
			continue;
		if (found >= 0)
			mp_fail(MP_BAD_INPUT, "%s: IDX files hold one image and one label a sample, but the spec has two %s "
			        "inputs, %s and %s", d->path, image ? "float" : "i32", d->model->inputs[found].name, in->name);
		found = i;
	}
	return found;
}

static void take_column(struct mp_dataset *d, int i, const struct idx_file *file)
{
	const struct mp_input *in = &d->model->inputs[i];
	char have[MP_SHAPE_TEXT], want[MP_SHAPE_TEXT];
	if (!mp_input_fits(in, file->dims - 1, file->shape + 1))
		mp_fail(MP_BAD_INPUT, "%s: a sample is %s, but the spec's input %s is %s", file->path,
		        mp_shape_text(have, "U8", file->dims - 1, file->shape + 1), in->name,
		        mp_shape_text(want, mp_file_type_name(mp_file_type_of(in->type)), in->dims, in->shape));
	d->columns[i] = (struct mp_column){file->bytes, MP_FILE_U8, in->type != MP_I32};
	d->memory[i] = file->bytes;
	mp_column_check(d->model, in, &d->columns[i], file->shape[0], file->path);
}

void mp_idx_open(struct mp_dataset *d, bool evaluation)
{
	struct idx_file files[2] = {0};
	for (int label = 0; label < 2; label++) {
		char *name = mp_text("%s-%s-ubyte", evaluation ? "t10k" : "train", label ? "labels-idx1" : "images-idx3");
		int i = pick_input(d, !label);
		char *path = i >= 0 ? find_file(d->path, name) : NULL;
		if (i >= 0 && !path && !mp_input_optional(d->model, &d->model->inputs[i]))
			mp_fail(MP_BAD_INPUT, "%s holds neither %s nor %s.gz; Debian's package dataset-fashion-mnist installs "
			        "such files in /usr/share/datasets/fashion-mnist", d->path, name, name);
		if (path) {
			files[label] = read_file(path, label ? LABEL_MAGIC : IMAGE_MAGIC);
			take_column(d, i, &files[label]);
			d->samples = files[label].shape[0];
		}
		free(name);
	}
	if (files[0].path && files[1].path && files[0].shape[0] != files[1].shape[0])
		mp_fail(MP_BAD_INPUT, "%s holds %ld images, but %s holds %ld labels", files[0].path,
		        files[0].shape[0], files[1].path, files[1].shape[0]);
	if (d->samples <= 0)
		mp_fail(MP_BAD_INPUT, "%s holds no samples for the spec's inputs", d->path);
	free(files[0].path);
	free(files[1].path);
}
