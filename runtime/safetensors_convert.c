// safetensors_convert.c: values of a file's type as values of the program's type.
//
// Files hold what other programs wrote: weights in half precision, labels in 64 bits. A conversion is allowed when it
// keeps what the number means: a float stays a float up to rounding, an integer stays the same integer. Bytes are
// integers that may also be read as floats (images), unscaled. Anything else is refused by the callers.
#include "safetensors.h"

#include <string.h>

bool mp_file_type_fits(enum mp_file_type from, enum mp_type to)
{
	switch (from) {
	case MP_FILE_F64: case MP_FILE_F32: case MP_FILE_F16: case MP_FILE_BF16:
		return to != MP_I32;
	case MP_FILE_I64: case MP_FILE_I32: case MP_FILE_I16: case MP_FILE_I8: case MP_FILE_U16:
		return to == MP_I32;
	case MP_FILE_U8:
		return true;
	default:
		return false;
	}
}

// Values at a place of a file's bytes, which need not be aligned.
static double load_f64(const char *at, long i)
{
	double value;
	memcpy(&value, at + 8 * i, 8);
	return value;
}

static float load_f32(const char *at, long i)
{
	float value;
	memcpy(&value, at + 4 * i, 4);
	return value;
}

// IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits. They become those of an f32 with an exponent that is 112
// too small, which the product corrects, exactly, for subnormal numbers too; infinity and NaN get f32's exponent.
static float load_f16(const char *at, long i)
{
	uint16_t half;
	memcpy(&half, at + 2 * i, 2);
	uint32_t word = (uint32_t)(half & 0x7FFF) << 13;
	float value;
	memcpy(&value, &word, 4);
	value *= 0x1p112f;
	memcpy(&word, &value, 4);
	word |= (value >= 0x1p16f ? 0x7F800000u : 0) | (uint32_t)(half & 0x8000) << 16;
	memcpy(&value, &word, 4);
	return value;
}

// The upper half of an f32.
static float load_bf16(const char *at, long i)
{
	uint16_t half;
	memcpy(&half, at + 2 * i, 2);
	uint32_t word = (uint32_t)half << 16;
	float value;
	memcpy(&value, &word, 4);
	return value;
}

static uint8_t load_u8(const char *at, long i) { return (uint8_t)at[i]; }
static int8_t load_i8(const char *at, long i) { return (int8_t)at[i]; }

static uint16_t load_u16(const char *at, long i)
{
	uint16_t value;
	memcpy(&value, at + 2 * i, 2);
	return value;
}

static int16_t load_i16(const char *at, long i)
{
	int16_t value;
	memcpy(&value, at + 2 * i, 2);
	return value;
}

static int64_t load_i64(const char *at, long i)
{
	int64_t value;
	memcpy(&value, at + 8 * i, 8);
	return value;
}

// One loop for each pair of types: a batch of images is millions of values.
#define CONVERT(type, load) do { \
	for (long i = 0; i < n; i++) \
		((type *)out)[i] = (type)load(in, i); \
	} while (0)

static void to_f32(enum mp_file_type from, const char *in, long n, void *out)
{
	switch (from) {
	case MP_FILE_F64: CONVERT(float, load_f64); break;
	case MP_FILE_F16: CONVERT(float, load_f16); break;
	case MP_FILE_BF16: CONVERT(float, load_bf16); break;
	default: CONVERT(float, load_u8); break;
	}
}

static void to_f64(enum mp_file_type from, const char *in, long n, void *out)
{
	switch (from) {
	case MP_FILE_F32: CONVERT(double, load_f32); break;
	case MP_FILE_F16: CONVERT(double, load_f16); break;
	case MP_FILE_BF16: CONVERT(double, load_bf16); break;
	default: CONVERT(double, load_u8); break;
	}
}

// Returns the first value that does not fit, or -1.
static long to_i32(enum mp_file_type from, const char *in, long n, void *out)
{
	switch (from) {
	case MP_FILE_I16: CONVERT(int32_t, load_i16); break;
	case MP_FILE_I8: CONVERT(int32_t, load_i8); break;
	case MP_FILE_U16: CONVERT(int32_t, load_u16); break;
	case MP_FILE_U8: CONVERT(int32_t, load_u8); break;
	default:                // MP_FILE_I64
		for (long i = 0; i < n; i++) {
			int64_t value = load_i64(in, i);
			if (value != (int32_t)value)
				return i;
			((int32_t *)out)[i] = (int32_t)value;
		}
	}
	return -1;
}

long mp_file_convert(enum mp_file_type from, const void *in, long n, enum mp_type to, void *out)
{
	if (from == mp_file_type_of(to))
		memcpy(out, in, (size_t)n * mp_file_type_bytes(from));
	else if (to == MP_I32)
		return to_i32(from, in, n, out);
	else if (to == MP_F64)
		to_f64(from, in, n, out);
	else
		to_f32(from, in, n, out);
	return -1;
}
