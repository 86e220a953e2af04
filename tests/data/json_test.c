// json_test.c: what the reader accepts and what it must refuse. Each document is also cut after every byte.
#include "test.h"

static bool accepts(const char *text, size_t n)
{
	struct mp_json j;
	char *copy = malloc(n ? n : 1);         // exact, so that ASan sees a step beyond the end
	memcpy(copy, text, n);
	mp_json_start(&j, copy, n);
	mp_json_skip(&j);
	bool good = mp_json_end(&j);
	free(copy);
	return good;
}

static void documents(void)
{
	static const char *const good[] = {
		"{}", " [ ] ", "[1,2]", "{\"a\":{\"b\":[true,false,null]},\"c\":\"\"}", "-0.5e+10", "0", "[1e5,1E-5,-0,10.25]",
		"\"\\u0041\\uD83D\\uDE00\\n\\\\\\/\\\"\"", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"", "\"\x7F\"",
	};
	static const char *const bad[] = {
		"", " ", "{", "[1,]", "[,1]", "{\"a\":1,}", "{\"a\"}", "{\"a\" 1}", "{a:1}", "{'a':1}", "[1 2]", "01", "+1", ".5", "1.",
		"1e", "--1", "tru", "nul", "True", "NaN", "\"", "\"\\x\"", "\"\\u12\"", "\"\\u12G4\"", "\"\n\"", "\"\t\"", "\"\\uD83D\"",
		"\"\\uDE00\"", "\"\\uD83D\\u0041\"", "\"\\u0000\"", "\"\x80\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"",
		"\"\xE2\x82\"", "{} {}", "[]]", "{]", "[}", "1 2", "{\"a\":1 \"b\":2}", "[1]x", "\"\xFF\"", "{1:2}", "/* */ 1",
	};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		check(accepts(good[i], strlen(good[i])), good[i], __FILE__, __LINE__);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		check(!accepts(bad[i], strlen(bad[i])), bad[i], __FILE__, __LINE__);
	const char *whole = "{\"a\":{\"b\":[true,-1.5e3,\"\\u00e9\\ud83d\\ude00\"]}}";
	for (size_t n = 0; n < strlen(whole); n++)
		CHECK(!accepts(whole, n));
}

static void nesting(void)
{
	enum { DEEP = 1 << 20 };
	char *deep = malloc(DEEP);
	memset(deep, '[', DEEP);
	CHECK(!accepts(deep, DEEP));
	free(deep);
	char fits[2 * MP_JSON_DEPTH];
	memset(fits, '[', MP_JSON_DEPTH);
	memset(fits + MP_JSON_DEPTH, ']', MP_JSON_DEPTH);
	CHECK(accepts(fits, sizeof fits));
	CHECK(!accepts(fits, sizeof fits - 1));
}

static void values(void)
{
	char text[] = "{ \"n\\u00e9\" : \"x\\ty\\ud83d\\ude00\", \"big\":18446744073709551615 , \"list\":[1,2,3], \"skip\":{\"a\":[{}]} }";
	struct mp_json j;
	mp_json_start(&j, text, strlen(text));
	CHECK(mp_json_object(&j));
	CHECK(!strcmp(mp_json_key(&j), "n\xC3\xA9"));
	CHECK(!strcmp(mp_json_string(&j), "x\ty\xF0\x9F\x98\x80"));
	CHECK(!strcmp(mp_json_key(&j), "big"));
	CHECK(mp_json_integer(&j) == UINT64_MAX);
	CHECK(!strcmp(mp_json_key(&j), "list"));
	mp_json_array(&j);
	uint64_t sum = 0;
	while (mp_json_element(&j))
		sum = sum * 10 + mp_json_integer(&j);
	CHECK(sum == 123);
	CHECK(!strcmp(mp_json_key(&j), "skip"));
	mp_json_skip(&j);
	CHECK(!mp_json_key(&j));
	CHECK(mp_json_end(&j));
	static const char *const bad[] = {"18446744073709551616", "-1", "1.0", "1e3", "01", "x", "\"1\""};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char copy[32];
		strcpy(copy, bad[i]);
		mp_json_start(&j, copy, strlen(copy));
		CHECK(mp_json_integer(&j) == 0 && j.error);
		CHECK(!mp_json_object(&j) && !mp_json_key(&j) && !mp_json_string(&j) && !mp_json_end(&j));
	}
}

void test_json(void)
{
	documents();
	nesting();
	values();
}
