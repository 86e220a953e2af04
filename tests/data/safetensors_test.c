// safetensors_test.c: every malformed file is refused with its reason; a written file reads back.
#include "test.h"

#include <math.h>

// A file with this header, `length` written as its length, and `data` zero bytes.
static const char *make(const char *header, uint64_t length, size_t data)
{
	const char *path = at("case.safetensors");
	size_t n = strlen(header), size = 8 + n + data;
	char *bytes = calloc(1, size);
	for (int i = 0; i < 8; i++)
		bytes[i] = (char)(length >> 8 * i & 0xFF);
	memcpy(bytes + 8, header, n);
	write_file(path, bytes, size);
	free(bytes);
	return path;
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define B(begin, end) "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[" #begin "," #end "]}"

static void malformed(void)
{
	static const struct {
		const char *header;
		size_t data;
		const char *part;
	} cases[] = {
		{"{" A "}", 7, "its header describes 8"},
		{"{" A "}", 9, "its header describes 8"},
		{"{" A "," B(8, 12) "}", 8, "its header describes 12"},
		{"{" A "," B(9, 13) "}", 13, "a hole"},
		{"{" A "," B(7, 11) "}", 11, "an overlap"},
		{"{" A "," B(4, 8) "}", 8, "an overlap"},
		{"{" B(1, 5) "}", 5, "a hole"},
		{"{" B(0, 5) "}", 5, "U8 [4], but has 5 bytes"},
		{"{" B(4, 0) "}", 4, "not [begin, end]"},
		{"{" A "," A "}", 16, "overlap"},
		{"{" A ",\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16, "tensor a is there twice"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
		 0, "there twice"},
		{" {" A "}", 8, "does not start with {"},
		{"[]", 0, "does not start with {"},
		{"{" A "} x", 8, "something follows"},
		{"{" A ",}", 8, "at byte"},
		{"{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype is unknown"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,-1],\"data_offsets\":[0,8]}}", 8, "integer"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "integer"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,4],\"data_offsets\":[0,8]}}", 8, "but has 8 bytes"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "but has 0 bytes"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,0]}}", 0, "too large"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "8 dims"},
		{"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "lacks dtype"},
		{"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "a key twice"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"more\":1}}", 8, "unknown key"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, "data_offsets"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "an array is missing"},
		{"{\"a\":[]}", 0, "an object is missing"},
		{"{\"__metadata__\":{\"x\":1}}", 0, "a string is missing"},
		{"{\"__metadata__\":{\"x\":{}}}", 0, "a string is missing"},
		{"{\"__metadata__\":{\"x\":\"1\",\"x\":\"2\"}}", 0, "key \"x\" twice"},
		{"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ is there twice"},
		{"{\"__metadata__\":[]}", 0, "an object is missing"},
		{"{\"\xFF\":{}}", 0, "not UTF-8"},
		{"{", 0, "a string is missing"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		REFUSES(MP_BAD_INPUT, cases[i].part, mp_tensors_open(make(cases[i].header, strlen(cases[i].header), cases[i].data)));
	REFUSES(MP_BAD_INPUT, "a header of", mp_tensors_open(make("{}", 3, 0)));
	REFUSES(MP_BAD_INPUT, "a header of", mp_tensors_open(make("{}", UINT64_MAX, 0)));
	REFUSES(MP_BAD_INPUT, "a header of", mp_tensors_open(make("{}", UINT64_MAX - 7, 0)));
	REFUSES(MP_BAD_INPUT, "does not start", mp_tensors_open(make("{}", 0, 0)));
	write_file(at("short"), "1234567", 7);
	REFUSES(MP_BAD_INPUT, "it has 7 bytes", mp_tensors_open(at("short")));
	REFUSES(MP_BAD_INPUT, "No such file", mp_tensors_open(at("none")));
	REFUSES(MP_BAD_INPUT, "not a regular file", mp_tensors_open("/tmp"));
}

// The cap of 100,000,000 bytes: the length is refused, although the (sparse) file is as long.
static void header_cap(void)
{
	const char *path = at("cap.safetensors");
	const unsigned char length[8] = {0x01, 0xE1, 0xF5, 0x05};       // 100,000,001
	int fd = mp_create(path, 100000009);
	mp_write_at(fd, path, length, 8, 0);
	close(fd);
	REFUSES(MP_BAD_INPUT, "a header of 100000001", mp_tensors_open(path));
	unlink(path);
}

static void well_formed(void)
{
	static const char header[] = "{\"__metadata__\":{\"k\":\"v\",\"l\":\"\"}," B(8, 12) "," A
	                             ",\"empty\":{\"dtype\":\"F16\",\"shape\":[3,0],\"data_offsets\":[8,8]}"
	                             ",\"scalar\":{\"shape\":[],\"data_offsets\":[12,20],\"dtype\":\"I64\"}}   \n";
	struct mp_tensors *t = mp_tensors_open(make(header, strlen(header), 20));
	CHECK(t->count == 4);
	const struct mp_tensor *b = mp_tensors_find(t, "b"), *s = mp_tensors_find(t, "scalar"), *e = mp_tensors_find(t, "empty");
	CHECK(b && b->type == MP_FILE_U8 && b->dims == 1 && b->shape[0] == 4 && b->offset == 8 + strlen(header) + 8);
	CHECK(s && s->dims == 0 && s->bytes == 8);
	CHECK(e && e->bytes == 0 && e->dims == 2);
	CHECK(!mp_tensors_find(t, "c") && !mp_tensors_find(t, "__metadata__"));
	mp_tensors_close(t);
	t = mp_tensors_open(make("{}", 2, 0));
	CHECK(t->count == 0 && !mp_tensors_find(t, "a"));
	mp_tensors_close(t);
}

// Cutting a good file anywhere, or changing the bits of any byte of its header, never crashes.
static void damaged(void)
{
	static const char header[] = "{\"__metadata__\":{\"k\":\"v\"}," B(8, 12) "," A "}";
	size_t n;
	char *bytes = read_file(make(header, strlen(header), 12), &n);
	for (size_t cut = 0; cut < n; cut++) {
		write_file(at("damaged"), bytes, cut);
		REFUSES(MP_BAD_INPUT, "", mp_tensors_open(at("damaged")));
	}
	int survived = 0;
	for (size_t i = 0; i < n - 12; i++) {
		bytes[i] ^= 1 << i % 8;
		write_file(at("damaged"), bytes, n);
		bytes[i] ^= 1 << i % 8;
		if (refuse_child()) {
			mp_tensors_open(at("damaged"));
			mp_fail(MP_BAD_INPUT, "survived");
		}
		survived++;
		refuse_check(MP_BAD_INPUT, "", __FILE__, __LINE__);
	}
	CHECK(survived > 100);
	free(bytes);
}

static void conversions(void)
{
	static const uint16_t halves[] = {0x3C00, 0xC000, 0x0001, 0x7BFF, 0x8000, 0x7C00};
	static const float floats[] = {1, -2, 0x1p-24f, 65504, -0.0f, INFINITY};
	float out[6];
	mp_file_convert(MP_FILE_F16, halves, 6, MP_F32, out);
	CHECK(!memcmp(out, floats, sizeof out));
	static const uint16_t brains[] = {0x3F80, 0xC000, 0x4049};
	mp_file_convert(MP_FILE_BF16, brains, 3, MP_F32, out);
	CHECK(out[0] == 1 && out[1] == -2 && out[2] == 3.140625f);
	static const int64_t wide[] = {1, -1, INT32_MAX, (int64_t)INT32_MAX + 1};
	int32_t narrow[4];
	CHECK(mp_file_convert(MP_FILE_I64, wide, 4, MP_I32, narrow) == 3 && narrow[1] == -1 && narrow[2] == INT32_MAX);
	static const unsigned char bytes[] = {0, 128, 255};
	mp_file_convert(MP_FILE_U8, bytes, 3, MP_F32, out);
	CHECK(out[1] == 128 && out[2] == 255);
	double wider[2];
	mp_file_convert(MP_FILE_F32, floats, 2, MP_F64, wider);
	CHECK(wider[0] == 1 && wider[1] == -2);
	CHECK(!mp_file_type_fits(MP_FILE_F32, MP_I32) && !mp_file_type_fits(MP_FILE_I64, MP_F32) && !mp_file_type_fits(MP_FILE_BOOL, MP_I32));
	CHECK(mp_file_type_fits(MP_FILE_U8, MP_F32) && mp_file_type_fits(MP_FILE_I64, MP_I32) && mp_file_type_fits(MP_FILE_F64, MP_F32));
}

// Every half and bfloat16, and every pair of types at an odd address, against the definition of the types.
static void every_conversion(void)
{
	static uint16_t halves[65536];
	static float f32[65536], brains[65536];
	static double f64[65536];
	for (int i = 0; i < 65536; i++)
		halves[i] = (uint16_t)i;
	mp_file_convert(MP_FILE_F16, halves, 65536, MP_F32, f32);
	mp_file_convert(MP_FILE_F16, halves, 65536, MP_F64, f64);
	mp_file_convert(MP_FILE_BF16, halves, 65536, MP_F32, brains);
	long wrong = 0;
	for (int i = 0; i < 65536; i++) {
		int exponent = i >> 10 & 31, fraction = i & 1023;
		double value = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY) :
		               exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
		uint32_t word;
		memcpy(&word, &brains[i], 4);
		wrong += word != (uint32_t)i << 16;
		wrong += isnan(value) ? !isnan(f32[i]) || !isnan(f64[i]) : f32[i] != (float)(i >> 15 ? -value : value) || f64[i] != f32[i];
		wrong += !signbit(f32[i]) != !(i >> 15);
	}
	CHECK(wrong == 0);
	static const struct {
		enum mp_file_type from;
		unsigned char bytes[17];        // of two values, after one that is skipped
		double a, b;
	} cases[] = {
		{MP_FILE_F64, {0, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F, 0, 0, 0, 0, 0, 0, 0, 0xC0}, 1.5, -2},
		{MP_FILE_F32, {0, 0, 0, 0xC0, 0x3F, 0, 0, 0, 0xC0}, 1.5, -2}, {MP_FILE_F16, {0, 0, 0x3E, 0, 0xC0}, 1.5, -2},
		{MP_FILE_BF16, {0, 0xC0, 0x3F, 0, 0xC0}, 1.5, -2}, {MP_FILE_U8, {0, 200, 7}, 200, 7}, {MP_FILE_I8, {0, 200, 7}, -56, 7},
		{MP_FILE_I16, {0, 0xFF, 0xFF, 1, 2}, -1, 513}, {MP_FILE_U16, {0, 0xFF, 0xFF, 1, 2}, 65535, 513},
		{MP_FILE_I32, {0, 0xFE, 0xFF, 0xFF, 0xFF, 0, 1, 0, 0}, -2, 256},
		{MP_FILE_I64, {0, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1, 0, 0, 0, 0, 0, 0}, -2, 256},
	};
	for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
		float f[2];
		double d[2];
		int32_t n[2];
		if (mp_file_type_fits(cases[k].from, MP_F32)) {
			CHECK(mp_file_convert(cases[k].from, cases[k].bytes + 1, 2, MP_F32, f) == -1 && f[0] == cases[k].a && f[1] == cases[k].b);
			CHECK(mp_file_convert(cases[k].from, cases[k].bytes + 1, 2, MP_F64, d) == -1 && d[0] == cases[k].a && d[1] == cases[k].b);
		}
		if (mp_file_type_fits(cases[k].from, MP_I32))
			CHECK(mp_file_convert(cases[k].from, cases[k].bytes + 1, 2, MP_I32, n) == -1 && n[0] == cases[k].a && n[1] == cases[k].b);
	}
}

static void layouts(void)
{
	struct mp_layout l = {0}, m = {0};
	static const long shape[] = {3, 2};
	mp_layout_add(&l, "z", MP_FILE_F64, 1, shape);
	mp_layout_add(&l, "b\"\\\n", MP_FILE_I32, 0, shape);
	mp_layout_add(&l, "a", MP_FILE_F32, 2, shape);
	mp_layout_finish(&l);
	mp_layout_add(&m, "a", MP_FILE_F32, 2, shape);
	mp_layout_add(&m, "z", MP_FILE_F64, 1, shape);
	mp_layout_add(&m, "b\"\\\n", MP_FILE_I32, 0, shape);
	mp_layout_finish(&m);
	CHECK(l.header_bytes == m.header_bytes && !memcmp(l.header, m.header, l.header_bytes) && l.header_bytes % 8 == 0);
	CHECK(l.file_bytes == l.header_bytes + 24 + 24 + 4);
	for (long i = 0; i < l.count; i++)
		CHECK(l.tensors[i].offset % mp_file_type_bytes(l.tensors[i].type) == 0);
	const char *path = at("layout.safetensors");
	int fd = mp_create(path, l.file_bytes);
	mp_write_at(fd, path, l.header, l.header_bytes, 0);
	mp_write_at(fd, path, "\7\0\0\0", 4, mp_layout_find(&l, "b\"\\\n")->offset);
	mp_sync_and_close(fd, path);
	struct mp_tensors *t = mp_tensors_open(path);
	const struct mp_tensor *b = mp_tensors_find(t, "b\"\\\n");
	int32_t value = 0;
	CHECK(t->count == 3 && b && b->type == MP_FILE_I32 && b->dims == 0);
	mp_tensors_read(t, b, 0, 1, &value);
	CHECK(value == 7);
	CHECK(!memcmp(mp_tensors_map(t, b), &value, 4));
	mp_tensors_close(t);
	mp_layout_free(&l);
	mp_layout_add(&m, "a", MP_FILE_F32, 2, shape);
	REFUSES(MP_BUG, "named a", mp_layout_finish(&m));
	mp_layout_free(&m);
}

static void write_part(const char *name, const char *tensor)
{
	struct mp_layout l = {0};
	static const long shape[] = {2};
	mp_layout_add(&l, tensor, MP_FILE_F32, 1, shape);
	mp_layout_finish(&l);
	int fd = mp_create(at(name), l.file_bytes);
	mp_write_at(fd, name, l.header, l.header_bytes, 0);
	close(fd);
	mp_layout_free(&l);
}

static void sets(void)
{
	static const struct {
		const char *index, *part;       // part NULL: good
	} cases[] = {
		{"{\"metadata\":{\"total_size\":16},\"weight_map\":{\"y\":\"model-00002-of-00002.safetensors\",\"x\":\"model-00001-of-00002.safetensors\"}}", NULL},
		{"{\"weight_map\":{\"x\":\"model-00001-of-00002.safetensors\"}}", NULL},
		{"{\"weight_map\":{\"x\":\"model-00002-of-00002.safetensors\"}}", "but it is not"},
		{"{\"weight_map\":{\"x\":\"model-00001-of-00002.safetensors\",\"w\":\"model-00001-of-00002.safetensors\"}}", "w is in"},
		{"{\"weight_map\":{\"x\":\"../model-00001-of-00002.safetensors\"}}", "outside of its folder"},
		{"{\"weight_map\":{\"x\":\"/etc/passwd\"}}", "outside of its folder"},
		{"{\"weight_map\":{\"x\":\"model-00009-of-00002.safetensors\"}}", "No such file"},
		{"{\"weight_map\":{\"x\":1}}", "a string is missing"},
		{"{\"weight_map\":{},\"weight_map\":{}}", "there twice"},
		{"{\"weight_map\":{\"x\":\"model-00001-of-00002.safetensors\",\"x\":\"model-00001-of-00002.safetensors\"}}", "lists 2 tensors"},
		{"{}", "weight_map is missing"},
		{"", "an object is missing"},
	};
	write_part("model-00001-of-00002.safetensors", "x");
	write_part("model-00002-of-00002.safetensors", "y");
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *path = at("model.safetensors.index.json");
		write_file(path, cases[i].index, strlen(cases[i].index));
		if (cases[i].part) {
			REFUSES(MP_BAD_INPUT, cases[i].part, mp_tensors_open(path));
			continue;
		}
		struct mp_tensors *t = mp_tensors_open(path);
		CHECK(t->count == 2 - (long)i && mp_tensors_find(t, "x"));
		mp_tensors_close(t);
	}
}

void test_safetensors(void)
{
	malformed();
	header_cap();
	well_formed();
	damaged();
	conversions();
	every_conversion();
	layouts();
	sets();
}
