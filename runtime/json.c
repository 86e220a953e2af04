// json.c: the strict JSON cursor of json.h.
//
// Emitted programs read headers that anyone may have written, and must not link a JSON library. A cursor needs no
// memory of its own, so hostile input can cost neither more memory than its size nor, because nesting is bounded,
// stack. Everything that RFC 8259 does not allow is an error: leading zeros, trailing commas, raw control characters,
// lone surrogates, malformed UTF-8. NUL characters in strings are refused too, because the names end in C strings.
#include "json.h"

#include <string.h>

void mp_json_refuse(struct mp_json *j, const char *error)
{
	if (!j->error)
		j->error = error;
}

void mp_json_start(struct mp_json *j, char *text, size_t size)
{
	*j = (struct mp_json){.text = text, .at = text, .end = text + size};
}

long mp_json_at(const struct mp_json *j) { return (long)(j->at - j->text); }

static void skip_space(struct mp_json *j)
{
	while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r'))
		j->at++;
}

// Consumes c, after white space, when it is next.
static bool take(struct mp_json *j, char c)
{
	if (j->error)
		return false;
	skip_space(j);
	if (j->at == j->end || *j->at != c)
		return false;
	j->at++;
	return true;
}

static bool open_container(struct mp_json *j, char c, const char *error)
{
	if (!take(j, c)) {
		mp_json_refuse(j, error);
		return false;
	}
	if (++j->depth > MP_JSON_DEPTH) {
		mp_json_refuse(j, "it is nested too deeply");
		return false;
	}
	j->comma = false;
	return true;
}

// Moves to the next item of a container; false at its end or on an error.
static bool next_item(struct mp_json *j, char close)
{
	if (j->error)
		return false;
	if (take(j, close)) {
		j->depth--;
		j->comma = true;
		return false;
	}
	if (j->comma && !take(j, ',')) {
		mp_json_refuse(j, "a comma or a closing bracket is missing");
		return false;
	}
	return true;
}

bool mp_json_object(struct mp_json *j) { return open_container(j, '{', "an object is missing"); }
bool mp_json_array(struct mp_json *j) { return open_container(j, '[', "an array is missing"); }
bool mp_json_element(struct mp_json *j) { return next_item(j, ']'); }

char *mp_json_key(struct mp_json *j)
{
	if (!next_item(j, '}'))
		return NULL;
	char *key = mp_json_string(j);
	if (key && !take(j, ':')) {
		mp_json_refuse(j, "a colon is missing");
		return NULL;
	}
	return key;
}

// Four hexadecimal digits, or -1.
static int read_hex(struct mp_json *j)
{
	int value = 0;
	if (j->end - j->at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = *j->at++;
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
		            c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

static char *write_utf8(char *out, int c)
{
	if (c < 0x80) {
		*out++ = (char)c;
	} else if (c < 0x800) {
		*out++ = (char)(0xC0 | c >> 6);
		*out++ = (char)(0x80 | (c & 0x3F));
	} else if (c < 0x10000) {
		*out++ = (char)(0xE0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 0x3F));
		*out++ = (char)(0x80 | (c & 0x3F));
	} else {
		*out++ = (char)(0xF0 | c >> 18);
		*out++ = (char)(0x80 | (c >> 12 & 0x3F));
		*out++ = (char)(0x80 | (c >> 6 & 0x3F));
		*out++ = (char)(0x80 | (c & 0x3F));
	}
	return out;
}

// \uXXXX after the u, with its second half when it is a surrogate. At least as many bytes are read as written.
static char *read_unicode(struct mp_json *j, char *out)
{
	int c = read_hex(j);
	if (c >= 0xD800 && c < 0xDC00 && j->end - j->at >= 6 && j->at[0] == '\\' && j->at[1] == 'u') {
		j->at += 2;
		int low = read_hex(j);
		c = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00) : -1;
	}
	if (c <= 0 || (c >= 0xD800 && c < 0xE000)) {
		mp_json_refuse(j, c == 0 ? "a string holds a NUL character" : "a \\u escape is malformed");
		return out;
	}
	return write_utf8(out, c);
}

static char *read_escape(struct mp_json *j, char *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char c = j->at < j->end ? *j->at++ : 0;
	if (c == 'u')
		return read_unicode(j, out);
	const char *found = c ? strchr(from, c) : NULL;
	if (!found)
		mp_json_refuse(j, "an escape is malformed");
	else
		*out++ = to[found - from];
	return out;
}

// Bytes of the UTF-8 character at s (shortest form, no surrogates, at most U+10FFFF), or 0.
static int utf8_length(const char *s, const char *end)
{
	const unsigned char *u = (const unsigned char *)s;
	int n = u[0] < 0x80 ? 1 : u[0] >= 0xC2 && u[0] < 0xE0 ? 2 : u[0] >= 0xE0 && u[0] < 0xF0 ? 3 :
	        u[0] >= 0xF0 && u[0] < 0xF5 ? 4 : 0;
	if (n == 0 || end - s < n)
		return 0;
	for (int i = 1; i < n; i++)
		if ((u[i] & 0xC0) != 0x80)
			return 0;
	bool overlong = (u[0] == 0xE0 && u[1] < 0xA0) || (u[0] == 0xF0 && u[1] < 0x90);
	bool beyond = (u[0] == 0xED && u[1] >= 0xA0) || (u[0] == 0xF4 && u[1] >= 0x90);
	return overlong || beyond ? 0 : n;
}

char *mp_json_string(struct mp_json *j)
{
	if (!take(j, '"')) {
		mp_json_refuse(j, "a string is missing");
		return NULL;
	}
	char *start = j->at, *out = start;
	while (!j->error) {
		if (j->at == j->end) {
			mp_json_refuse(j, "a string does not end");
		} else if (*j->at == '"') {
			j->at++;
			*out = 0;       // at most over the closing quote
			j->comma = true;
			return start;
		} else if (*j->at == '\\') {
			j->at++;
			out = read_escape(j, out);
		} else if ((unsigned char)*j->at < 0x20) {
			mp_json_refuse(j, "a string holds a control character");
		} else {
			int n = utf8_length(j->at, j->end);
			if (n == 0)
				mp_json_refuse(j, "a string is not UTF-8");
			for (int i = 0; i < n; i++)
				*out++ = *j->at++;
		}
	}
	return NULL;
}

static bool at_digit(const struct mp_json *j) { return j->at < j->end && *j->at >= '0' && *j->at <= '9'; }

uint64_t mp_json_integer(struct mp_json *j)
{
	if (j->error)
		return 0;
	skip_space(j);
	uint64_t value = 0;
	const char *start = j->at;
	for (; at_digit(j); j->at++) {
		uint64_t digit = (uint64_t)(*j->at - '0');
		if (value > (UINT64_MAX - digit) / 10)
			mp_json_refuse(j, "an integer is too large");
		value = value * 10 + digit;
	}
	bool fraction = j->at < j->end && (*j->at == '.' || *j->at == 'e' || *j->at == 'E');
	if (j->at == start || fraction || (*start == '0' && j->at - start > 1))
		mp_json_refuse(j, "an integer that is not negative is missing");
	j->comma = true;
	return j->error ? 0 : value;
}

static void skip_digits(struct mp_json *j)
{
	if (!at_digit(j))
		mp_json_refuse(j, "a number is malformed");
	while (at_digit(j))
		j->at++;
}

static void skip_number(struct mp_json *j)
{
	if (*j->at == '-')
		j->at++;
	if (at_digit(j) && *j->at == '0')
		j->at++;
	else
		skip_digits(j);
	if (j->at < j->end && *j->at == '.') {
		j->at++;
		skip_digits(j);
	}
	if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
		j->at++;
		if (j->at < j->end && (*j->at == '+' || *j->at == '-'))
			j->at++;
		skip_digits(j);
	}
	j->comma = true;
}

static void skip_word(struct mp_json *j)
{
	static const char *const words[] = {"true", "false", "null"};
	for (int i = 0; i < 3; i++) {
		size_t n = strlen(words[i]);
		if ((size_t)(j->end - j->at) >= n && !memcmp(j->at, words[i], n)) {
			j->at += n;
			j->comma = true;
			return;
		}
	}
	mp_json_refuse(j, "a value is missing");
}

// Recursion is bounded by MP_JSON_DEPTH.
void mp_json_skip(struct mp_json *j)
{
	if (j->error)
		return;
	skip_space(j);
	char c = j->at < j->end ? *j->at : 0;
	if (c == '{') {
		mp_json_object(j);
		while (mp_json_key(j))
			mp_json_skip(j);
	} else if (c == '[') {
		mp_json_array(j);
		while (mp_json_element(j))
			mp_json_skip(j);
	} else if (c == '"') {
		mp_json_string(j);
	} else if (c == '-' || (c >= '0' && c <= '9')) {
		skip_number(j);
	} else {
		skip_word(j);
	}
}

bool mp_json_end(struct mp_json *j)
{
	if (!j->error) {
		skip_space(j);
		if (j->at != j->end)
			mp_json_refuse(j, "something follows the end");
	}
	return !j->error;
}
