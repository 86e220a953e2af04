// safetensors.c: reading tensor files that anyone may have written.
//
// A file is trusted only after everything that the format promises was checked: the header's length, strict JSON, no
// name twice, byte ranges that cover the data exactly, sizes that match dtype and shape. After that, slices can be
// read with no further checks. Headers are parsed in place and names point into them, so a hostile header costs no
// more memory than its own size plus one table, which is capped.
#define _POSIX_C_SOURCE 200809L
#include "safetensors.h"
#include "data_files.h"
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct mp_tensor_file {
	char *path;
	int fd;
	uint64_t bytes;
	char *header;
	void *map;              // NULL until mp_tensors_map
};

static const struct {
	const char *name;
	size_t bytes;
} types[MP_FILE_TYPES] = {
	[MP_FILE_F64] = {"F64", 8}, [MP_FILE_F32] = {"F32", 4}, [MP_FILE_F16] = {"F16", 2}, [MP_FILE_BF16] = {"BF16", 2},
	[MP_FILE_I64] = {"I64", 8}, [MP_FILE_I32] = {"I32", 4}, [MP_FILE_I16] = {"I16", 2}, [MP_FILE_I8] = {"I8", 1},
	[MP_FILE_U64] = {"U64", 8}, [MP_FILE_U32] = {"U32", 4}, [MP_FILE_U16] = {"U16", 2}, [MP_FILE_U8] = {"U8", 1},
	[MP_FILE_BOOL] = {"BOOL", 1}, [MP_FILE_F8_E4M3] = {"F8_E4M3", 1}, [MP_FILE_F8_E5M2] = {"F8_E5M2", 1},
};

const char *mp_file_type_name(enum mp_file_type type) { return types[type].name; }
size_t mp_file_type_bytes(enum mp_file_type type) { return types[type].bytes; }

enum mp_file_type mp_file_type_of(enum mp_type type)
{
	return type == MP_F64 ? MP_FILE_F64 : type == MP_F32 ? MP_FILE_F32 : MP_FILE_I32;
}

const char *mp_shape_text(char text[MP_SHAPE_TEXT], const char *type, int dims, const long *shape)
{
	int n = snprintf(text, MP_SHAPE_TEXT, "%s [", type);
	for (int d = 0; d < dims && n < MP_SHAPE_TEXT - 24; d++)
		n += snprintf(text + n, (size_t)(MP_SHAPE_TEXT - n), "%s%ld", d ? ", " : "", shape[d]);
	snprintf(text + n, (size_t)(MP_SHAPE_TEXT - n), "]");
	return text;
}

// ---------------------------------------------------------------------------------------------------------
// The header

static int compare_texts(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// The first name that is there twice, or NULL. Sorts the names.
static const char *find_duplicate(char **names, long count)
{
	if (count > 1)
		qsort(names, (size_t)count, sizeof *names, compare_texts);
	for (long i = 1; i < count; i++)
		if (!strcmp(names[i - 1], names[i]))
			return names[i];
	return NULL;
}

// An object of strings; what they say is of no use here.
static void read_metadata(struct mp_json *j, const char *path)
{
	char **keys = NULL;
	long count = 0, capacity = 0;
	mp_json_object(j);
	for (char *key; (key = mp_json_key(j)); ) {
		if (count == capacity) {
			capacity = capacity ? 2 * capacity : 16;
			keys = realloc(keys, (size_t)capacity * sizeof *keys);
			if (!keys)
				mp_fail(MP_IO_FAILED, "no memory for the metadata of %s", path);
		}
		keys[count++] = key;
		mp_json_string(j);
	}
	const char *twice = find_duplicate(keys, count);
	if (twice && !j->error)
		mp_fail(MP_BAD_INPUT, "%s: __metadata__ has the key \"%s\" twice", path, twice);
	free(keys);
}

static void read_shape(struct mp_json *j, struct mp_tensor *t)
{
	mp_json_array(j);
	for (t->dims = 0; mp_json_element(j); ) {
		uint64_t extent = mp_json_integer(j);
		if (t->dims == MP_FILE_DIMS || extent > INT64_MAX)
			mp_json_refuse(j, "a shape has more than 8 dims or too large an extent");
		else
			t->shape[t->dims++] = (long)extent;
	}
}

static void read_offsets(struct mp_json *j, struct mp_tensor *t)
{
	uint64_t at[2] = {0};
	int n = 0;
	mp_json_array(j);
	for (; mp_json_element(j); n++) {
		uint64_t offset = mp_json_integer(j);
		if (n < 2)
			at[n] = offset;
	}
	if (n != 2 || at[0] > at[1])
		mp_json_refuse(j, "data_offsets are not [begin, end]");
	t->offset = at[0];
	t->bytes = at[1] - at[0];
}

static void read_type(struct mp_json *j, struct mp_tensor *t)
{
	const char *name = mp_json_string(j);
	for (int i = 0; name && i < MP_FILE_TYPES; i++)
		if (!strcmp(name, types[i].name)) {
			t->type = (enum mp_file_type)i;
			return;
		}
	mp_json_refuse(j, "a dtype is unknown");
}

static void read_tensor(struct mp_json *j, struct mp_tensor *t)
{
	enum { TYPE = 1, SHAPE = 2, OFFSETS = 4 };
	int seen = 0;
	mp_json_object(j);
	for (char *key; (key = mp_json_key(j)); ) {
		int bit = !strcmp(key, "dtype") ? TYPE : !strcmp(key, "shape") ? SHAPE :
		          !strcmp(key, "data_offsets") ? OFFSETS : 0;
		if (bit == 0)
			mp_json_refuse(j, "a tensor has an unknown key");
		if (seen & bit)
			mp_json_refuse(j, "a tensor has a key twice");
		seen |= bit;
		if (bit == TYPE)
			read_type(j, t);
		else if (bit == SHAPE)
			read_shape(j, t);
		else
			read_offsets(j, t);
	}
	if (seen != (TYPE | SHAPE | OFFSETS))
		mp_json_refuse(j, "a tensor lacks dtype, shape or data_offsets");
}

static void append_tensor(struct mp_tensors *set, const struct mp_tensor *t)
{
	if (set->count == MP_FILE_TENSORS)
		mp_fail(MP_BAD_INPUT, "%s holds more than %d tensors", set->path, MP_FILE_TENSORS);
	if ((set->count & (set->count + 1)) == 0) {     // 0, 1, 3, 7, …: the table is full
		set->tensors = realloc(set->tensors, (size_t)(set->count * 2 + 1) * sizeof *set->tensors);
		if (!set->tensors)
			mp_fail(MP_IO_FAILED, "no memory for the table of tensors of %s", set->path);
	}
	set->tensors[set->count++] = *t;
}

static void read_header(struct mp_tensors *set, const struct mp_tensor_file *f, char *text, size_t size)
{
	struct mp_json j;
	bool metadata = false;
	if (size == 0 || text[0] != '{')
		mp_fail(MP_BAD_INPUT, "%s is not a safetensors file: its header does not start with {", f->path);
	mp_json_start(&j, text, size);
	mp_json_object(&j);
	for (char *key; (key = mp_json_key(&j)); ) {
		struct mp_tensor t = {.name = key, .file = set->file_count - 1};
		if (strcmp(key, "__metadata__")) {
			read_tensor(&j, &t);
			if (!j.error)
				append_tensor(set, &t);
			continue;
		}
		if (metadata)
			mp_json_refuse(&j, "__metadata__ is there twice");
		metadata = true;
		read_metadata(&j, f->path);
	}
	if (!mp_json_end(&j))
		mp_fail(MP_BAD_INPUT, "%s is not a safetensors file: %s at byte %ld of its header", f->path, j.error,
		        mp_json_at(&j));
}

// ---------------------------------------------------------------------------------------------------------
// The data

static int compare_offsets(const void *a, const void *b)
{
	const struct mp_tensor *x = a, *y = b;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static void check_size(const struct mp_tensor *t, const char *path)
{
	uint64_t bytes = types[t->type].bytes;
	bool overflow = false;
	for (int d = 0; d < t->dims; d++)
		overflow |= __builtin_mul_overflow(bytes, (uint64_t)t->shape[d], &bytes);
	char shape[MP_SHAPE_TEXT];
	if (overflow || bytes != t->bytes)
		mp_fail(MP_BAD_INPUT, "%s: tensor %s is %s, but has %llu bytes of data", path, t->name,
		        mp_shape_text(shape, types[t->type].name, t->dims, t->shape), (unsigned long long)t->bytes);
}

// The tensors from `first` on are those of f, whose data starts at byte `data`: they must fill the rest of it exactly.
static void check_data(struct mp_tensors *set, long first, const struct mp_tensor_file *f, uint64_t data)
{
	uint64_t end = 0;
	if (set->count > first)
		qsort(set->tensors + first, (size_t)(set->count - first), sizeof *set->tensors, compare_offsets);
	for (long i = first; i < set->count; i++) {
		struct mp_tensor *t = &set->tensors[i];
		check_size(t, f->path);
		if (t->offset != end)
			mp_fail(MP_BAD_INPUT, "%s: the data of %s begins at byte %llu, where %llu was expected: %s", f->path,
			        t->name, (unsigned long long)t->offset, (unsigned long long)end,
			        t->offset < end ? "an overlap" : "a hole");
		end = t->offset + t->bytes;
		if (end > f->bytes - data)
			break;
		t->offset += data;
	}
	if (end != f->bytes - data)
		mp_fail(MP_BAD_INPUT, "%s holds %llu bytes of data, but its header describes %llu", f->path,
		        (unsigned long long)(f->bytes - data), (unsigned long long)end);
}

static void open_file(struct mp_tensors *set, char *path)
{
	struct mp_tensor_file *f = &set->files[set->file_count++];
	unsigned char length[8] = {0};
	uint64_t size = 0;
	long first = set->count;
	*f = (struct mp_tensor_file){.path = path, .fd = mp_open_read(path)};
	f->bytes = mp_file_bytes(f->fd, path);
	if (f->bytes < 8)
		mp_fail(MP_BAD_INPUT, "%s is not a safetensors file: it has %llu bytes", path, (unsigned long long)f->bytes);
	mp_read_at(f->fd, path, length, 8, 0);
	for (int i = 7; i >= 0; i--)
		size = size << 8 | length[i];
	if (size > MP_FILE_HEADER || size > f->bytes - 8)
		mp_fail(MP_BAD_INPUT, "%s is not a safetensors file: a header of %llu bytes in a file of %llu (at most %d)",
		        path, (unsigned long long)size, (unsigned long long)f->bytes, MP_FILE_HEADER);
	f->header = mp_allocate(size + 1);
	mp_read_at(f->fd, path, f->header, size, 8);
	read_header(set, f, f->header, size);
	check_data(set, first, f, 8 + size);
}

// ---------------------------------------------------------------------------------------------------------
// Sets

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct mp_tensor *)a)->name, ((const struct mp_tensor *)b)->name);
}

static void sort_tensors(struct mp_tensors *set)
{
	if (set->count > 1)
		qsort(set->tensors, (size_t)set->count, sizeof *set->tensors, compare_names);
	for (long i = 1; i < set->count; i++)
		if (!strcmp(set->tensors[i - 1].name, set->tensors[i].name))
			mp_fail(MP_BAD_INPUT, "%s: tensor %s is there twice", set->path, set->tensors[i].name);
}

// One entry of an index's weight_map.
struct mapping {
	char *name, *file;
};

static int compare_mappings(const void *a, const void *b)
{
	const struct mapping *x = a, *y = b;
	int order = strcmp(x->file, y->file);
	return order ? order : strcmp(x->name, y->name);
}

static long read_weight_map(struct mp_json *j, struct mapping **map)
{
	long count = 0;
	mp_json_object(j);
	for (char *key; (key = mp_json_key(j)); count++) {
		if (count == MP_FILE_TENSORS)
			mp_json_refuse(j, "weight_map has too many tensors");
		else if ((count & (count + 1)) == 0)
			*map = realloc(*map, (size_t)(count * 2 + 1) * sizeof **map);
		if (!*map)
			mp_fail(MP_IO_FAILED, "no memory for a weight_map");
		char *file = mp_json_string(j);
		if (file && (strchr(file, '/') || file[0] == '.'))
			mp_json_refuse(j, "weight_map names a file outside of its folder");
		if (!j->error)
			(*map)[count] = (struct mapping){key, file};
	}
	return count;
}

static long read_index(const char *path, char *text, size_t size, struct mapping **map)
{
	struct mp_json j;
	long count = -1;
	mp_json_start(&j, text, size);
	mp_json_object(&j);
	for (char *key; (key = mp_json_key(&j)); ) {
		if (strcmp(key, "weight_map"))
			mp_json_skip(&j);
		else if (count >= 0)
			mp_json_refuse(&j, "weight_map is there twice");
		else
			count = read_weight_map(&j, map);
	}
	if (!j.error && count < 0)
		mp_json_refuse(&j, "weight_map is missing");
	if (!mp_json_end(&j))
		mp_fail(MP_BAD_INPUT, "%s is not an index of safetensors: %s at byte %ld", path, j.error, mp_json_at(&j));
	if (count > 1)
		qsort(*map, (size_t)count, sizeof **map, compare_mappings);
	return count;
}

// The files must hold exactly the tensors that the index says, each in its file.
static void check_index(const struct mp_tensors *set, const char *index, const struct mapping *map, long count)
{
	for (long i = 0; i < count; i++) {
		const struct mp_tensor *t = mp_tensors_find(set, map[i].name);
		const char *path = t ? set->files[t->file].path : NULL, *slash = path ? strrchr(path, '/') : NULL;
		if (!t || strcmp(slash ? slash + 1 : path, map[i].file))
			mp_fail(MP_BAD_INPUT, "%s says that %s is in %s, but it is not", index, map[i].name, map[i].file);
	}
	if (count != set->count)
		mp_fail(MP_BAD_INPUT, "%s lists %ld tensors, but its files hold %ld", index, count, set->count);
}

static void open_index(struct mp_tensors *set)
{
	int fd = mp_open_read(set->path);
	uint64_t size = mp_file_bytes(fd, set->path);
	if (size > MP_FILE_HEADER)
		mp_fail(MP_BAD_INPUT, "%s has %llu bytes; an index has at most %d", set->path,
		        (unsigned long long)size, MP_FILE_HEADER);
	char *text = mp_allocate(size + 1);
	struct mapping *map = NULL;
	mp_read_at(fd, set->path, text, size, 0);
	close(fd);
	long count = read_index(set->path, text, size, &map), files = 0;
	for (long i = 0; i < count; i++)
		files += i == 0 || strcmp(map[i - 1].file, map[i].file) != 0;
	set->files = mp_allocate((size_t)files * sizeof *set->files + 1);
	const char *slash = strrchr(set->path, '/');
	for (long i = 0; i < count; i++)
		if (i == 0 || strcmp(map[i - 1].file, map[i].file))
			open_file(set, mp_text("%.*s%s", slash ? (int)(slash + 1 - set->path) : 0, set->path, map[i].file));
	sort_tensors(set);
	check_index(set, set->path, map, count);
	free(map);
	free(text);
}

struct mp_tensors *mp_tensors_open(const char *path)
{
	static const char suffix[] = ".index.json";
	struct mp_tensors *set = mp_allocate(sizeof *set);
	size_t n = strlen(path);
	set->path = mp_text("%s", path);
	if (n >= sizeof suffix - 1 && !strcmp(path + n - (sizeof suffix - 1), suffix)) {
		open_index(set);
	} else {
		set->files = mp_allocate(sizeof *set->files);
		open_file(set, mp_text("%s", path));
		sort_tensors(set);
	}
	return set;
}

void mp_tensors_close(struct mp_tensors *set)
{
	for (int i = 0; i < set->file_count; i++) {
		struct mp_tensor_file *f = &set->files[i];
		if (f->map)
			munmap(f->map, f->bytes);
		close(f->fd);
		free(f->header);
		free(f->path);
	}
	free(set->files);
	free(set->tensors);
	free((char *)set->path);
	free(set);
}

const struct mp_tensor *mp_tensors_find(const struct mp_tensors *set, const char *name)
{
	struct mp_tensor key = {.name = name};
	return set->count ? bsearch(&key, set->tensors, (size_t)set->count, sizeof key, compare_names) : NULL;
}

void mp_tensors_read(const struct mp_tensors *set, const struct mp_tensor *t, long first, long count, void *out)
{
	const struct mp_tensor_file *f = &set->files[t->file];
	size_t size = types[t->type].bytes;
	mp_read_at(f->fd, f->path, out, (size_t)count * size, t->offset + (uint64_t)first * size);
}

const void *mp_tensors_map(struct mp_tensors *set, const struct mp_tensor *t)
{
	struct mp_tensor_file *f = &set->files[t->file];
	if (!f->map) {
		void *map = mmap(NULL, f->bytes, PROT_READ, MAP_SHARED, f->fd, 0);
		if (map == MAP_FAILED)
			mp_fail(MP_IO_FAILED, "cannot map %s into memory: %llu bytes", f->path, (unsigned long long)f->bytes);
		f->map = map;
	}
	return (const char *)f->map + t->offset;
}
