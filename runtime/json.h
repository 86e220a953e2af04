// json.h: a strict reader of JSON (RFC 8259) for the small documents that the runtime reads.
//
// It is a cursor, not a tree: the caller asks for what its format allows and gets an error for everything else.
//
//     mp_json_start(&j, text, size);
//     mp_json_object(&j);
//     for (char *key; (key = mp_json_key(&j)); )
//             if (!strcmp(key, "step")) step = mp_json_integer(&j);
//             else mp_json_skip(&j);
//     if (!mp_json_end(&j)) mp_fail(…, j.error, mp_json_at(&j));
//
// The first error sticks: every later call does nothing and returns 0, NULL or false, so loops end by themselves.
// Strings are decoded in place and point into the text, which must stay alive and writable.
#ifndef MP_JSON_H
#define MP_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_json {
	char *text, *at, *end;
	const char *error;      // NULL while all is well; a phrase like "a comma is missing"
	bool comma;             // the next member or element needs a comma before it
	int depth;              // open containers; at most MP_JSON_DEPTH
};

enum { MP_JSON_DEPTH = 64 };

void mp_json_start(struct mp_json *j, char *text, size_t size);

// Enters an object; then call mp_json_key until it returns NULL, reading one value after each key.
bool mp_json_object(struct mp_json *j);
char *mp_json_key(struct mp_json *j);

// Enters an array; then call mp_json_element until it returns false, reading one value after each true.
bool mp_json_array(struct mp_json *j);
bool mp_json_element(struct mp_json *j);

char *mp_json_string(struct mp_json *j);        // without NUL characters; NULL on error
uint64_t mp_json_integer(struct mp_json *j);    // 0 .. 2^64-1, digits only
void mp_json_skip(struct mp_json *j);           // any value

// Whether the document ended here, well-formed. Only white space may follow.
bool mp_json_end(struct mp_json *j);

// Byte offset of the cursor: where the error is.
long mp_json_at(const struct mp_json *j);

// Records an error of the caller's own ("unknown key"), unless there is one.
void mp_json_refuse(struct mp_json *j, const char *error);

#endif
