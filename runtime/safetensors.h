// safetensors.h: reading and writing tensors in files.
//
// The format: 8 bytes of header length (little-endian), a JSON header that maps names to dtype, shape and byte range,
// then the data, row-major and little-endian, without holes. https://github.com/huggingface/safetensors
#ifndef MP_SAFETENSORS_H
#define MP_SAFETENSORS_H

#include "mp.h"

#include <stdio.h>

enum mp_file_type {
	MP_FILE_F64, MP_FILE_F32, MP_FILE_F16, MP_FILE_BF16, MP_FILE_I64, MP_FILE_I32, MP_FILE_I16, MP_FILE_I8,
	MP_FILE_U64, MP_FILE_U32, MP_FILE_U16, MP_FILE_U8, MP_FILE_BOOL, MP_FILE_F8_E4M3, MP_FILE_F8_E5M2, MP_FILE_TYPES
};

enum {
	MP_FILE_DIMS = 8,
	MP_FILE_TENSORS = 1 << 20,              // most tensors of a file
	MP_FILE_HEADER = 100 * 1000 * 1000      // most bytes of a header
};

const char *mp_file_type_name(enum mp_file_type type);          // "F32"
size_t mp_file_type_bytes(enum mp_file_type type);
enum mp_file_type mp_file_type_of(enum mp_type type);           // MP_F32 -> MP_FILE_F32

// Whether every value of a file's type can become the program's type by rounding alone: floats to floats, integers to
// i32 (out of range is refused when it is met), u8 to anything.
bool mp_file_type_fits(enum mp_file_type from, enum mp_type to);

// Converts n values. Returns the index of the first that does not fit into an i32, or -1. `from` need not be aligned.
long mp_file_convert(enum mp_file_type from, const void *in, long n, enum mp_type to, void *out);

// ---------------------------------------------------------------------------------------------------------
// Reading

struct mp_tensor {
	const char *name;
	enum mp_file_type type;
	int dims;
	long shape[MP_FILE_DIMS];
	uint64_t offset, bytes;                 // in the file
	int file;                               // index in mp_tensors.files
};

// One file, or a set of files that an index joins.
struct mp_tensors {
	const char *path;
	struct mp_tensor *tensors;              // sorted by name
	long count;
	struct mp_tensor_file *files;
	int file_count;
};

// Opens FILE.safetensors or NAME.safetensors.index.json and checks everything that the format promises; what is
// malformed ends the program with MP_BAD_INPUT.
struct mp_tensors *mp_tensors_open(const char *path);
void mp_tensors_close(struct mp_tensors *t);

// NULL when there is none.
const struct mp_tensor *mp_tensors_find(const struct mp_tensors *t, const char *name);

// Reads elements first .. first + count - 1 as they are in the file.
void mp_tensors_read(const struct mp_tensors *t, const struct mp_tensor *tensor, long first, long count, void *out);

// Maps the tensor's bytes into memory, read-only, until mp_tensors_close. Not aligned.
const void *mp_tensors_map(struct mp_tensors *t, const struct mp_tensor *tensor);

// "F32 [10, 784]" into text, which is returned. For messages.
enum { MP_SHAPE_TEXT = 200 };
const char *mp_shape_text(char text[MP_SHAPE_TEXT], const char *type, int dims, const long *shape);

// ---------------------------------------------------------------------------------------------------------
// Writing: the header is known before any data, so that ranks can write their slices in place.

struct mp_layout_tensor {
	const char *name;
	enum mp_file_type type;
	int dims;
	long shape[MP_FILE_DIMS];
	uint64_t offset;                        // in the file; set by mp_layout_finish
};

struct mp_layout {
	struct mp_layout_tensor *tensors;       // sorted by element size, descending, then name
	long count, capacity;
	char *header;                           // with its length; header_bytes is a multiple of 8
	size_t header_bytes;
	uint64_t file_bytes;
};

void mp_layout_add(struct mp_layout *l, const char *name, enum mp_file_type type, int dims, const long *shape);

// Sorts and places the tensors and writes the header. The bytes depend on the set of tensors alone, not on the order
// in which they were added. Two tensors of one name are a bug of the generator (MP_BUG).
void mp_layout_finish(struct mp_layout *l);

const struct mp_layout_tensor *mp_layout_find(const struct mp_layout *l, const char *name);
void mp_layout_free(struct mp_layout *l);

// Prints a JSON string.
void mp_print_string(FILE *f, const char *text);

#endif
