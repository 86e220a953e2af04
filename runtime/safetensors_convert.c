// safetensors_convert.c: values of a file's type as values of the program's type.
//
// Files hold what other programs wrote: weights in half precision, labels in 64 bits. A conversion is allowed when it
// keeps what the number means: a float stays a float up to rounding, an integer stays the same integer. Bytes are
// integers that may also be read as floats (images), unscaled. Anything else is refused by the callers.
#include "safetensors.h"

#include <math.h>
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

// IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits.
static double half_value(uint16_t h)
{
	int exponent = h >> 10 & 31, fraction = h & 1023;
	double value = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY) :
	               exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
	return h >> 15 ? -value : value;
}

static double float_value(enum mp_file_type from, const char *at)
{
	double d;
	float f;
	uint16_t h;
	uint32_t word;
	switch (from) {
	case MP_FILE_F64:
		memcpy(&d, at, 8);
		return d;
	case MP_FILE_F32:
		memcpy(&f, at, 4);
		return f;
	case MP_FILE_F16:
		memcpy(&h, at, 2);
		return half_value(h);
	case MP_FILE_BF16:      // the upper half of an f32
		memcpy(&h, at, 2);
		word = (uint32_t)h << 16;
		memcpy(&f, &word, 4);
		return f;
	default:                // MP_FILE_U8
		return *(const unsigned char *)at;
	}
}

static int64_t integer_value(enum mp_file_type from, const char *at)
{
	int64_t l;
	int32_t i;
	int16_t s;
	uint16_t u;
	switch (from) {
	case MP_FILE_I64:
		memcpy(&l, at, 8);
		return l;
	case MP_FILE_I32:
		memcpy(&i, at, 4);
		return i;
	case MP_FILE_I16:
		memcpy(&s, at, 2);
		return s;
	case MP_FILE_U16:
		memcpy(&u, at, 2);
		return u;
	case MP_FILE_I8:
		return *(const signed char *)at;
	default:                // MP_FILE_U8
		return *(const unsigned char *)at;
	}
}

long mp_file_convert(enum mp_file_type from, const void *in, long n, enum mp_type to, void *out)
{
	const char *at = in;
	size_t size = mp_file_type_bytes(from);
	if (from == mp_file_type_of(to)) {
		memcpy(out, in, (size_t)n * size);
		return -1;
	}
	for (long i = 0; i < n; i++, at += size) {
		if (to == MP_F32) {
			((float *)out)[i] = (float)float_value(from, at);
		} else if (to == MP_F64) {
			((double *)out)[i] = float_value(from, at);
		} else {
			int64_t value = integer_value(from, at);
			if (value != (int32_t)value)
				return i;
			((int32_t *)out)[i] = (int32_t)value;
		}
	}
	return -1;
}
