// tune.h: the file of --tune: which algorithm of the library each matrix product takes, as text that can be checked in.
//
//   mpgen tune 1
//   library cuBLASLt 130100
//   device NVIDIA H100 80GB HBM3
//   NT 32768 3072 768 bf16 bf16 BIAS_GELU_AUX 16  0.2123 728.4  3 8 0.2222  0 0b00…
//
// Lines that begin with # are comments. Columns of a product: transpose; m; n; k; type of the operands; of the result; epilogue;
// alignment. Then what was measured: milliseconds; TFLOP/s; which algorithm it is of how many tried, and the milliseconds of the first,
// which is used without a file. Then what the library needs: bytes of workspace, and the algorithm in hexadecimal.
#ifndef MP_TUNE_H
#define MP_TUNE_H

#include "mp.h"

enum { MP_ALGORITHM_BYTES = 64, MP_TUNE_NAME = 160 };

// What decides about the algorithm of a product: struct mp_gemm without its name.
struct mp_tune_key {
	int m, n, k;
	enum mp_transpose transpose;
	enum mp_epilogue epilogue;
	enum mp_type type, out;
	bool tf32;
	int alignment;
};

struct mp_tune_row {
	struct mp_tune_key key;
	double ms, first_ms;            // of one product: with this algorithm, with the first candidate
	int candidate, candidates;      // from 1
	uint64_t workspace;
	unsigned char algorithm[MP_ALGORITHM_BYTES];
};

struct mp_tune_file {
	char library[MP_TUNE_NAME], device[MP_TUNE_NAME]; // "cuBLASLt 130100", "NVIDIA H100 80GB HBM3"
	struct mp_tune_row *rows;
	int count;
};

struct mp_tune_key mp_tune_key_of(const struct mp_gemm *g);
bool mp_tune_same(const struct mp_tune_key *a, const struct mp_tune_key *b);

// The row of a product; NULL: there is none.
const struct mp_tune_row *mp_tune_find(const struct mp_tune_file *file, const struct mp_tune_key *key);

// The text of a file, zero-terminated; NULL: it does not exist. Freed by the caller.
char *mp_tune_read(const char *path);

// Fails with MP_BAD_INPUT and the line where text is no such file; path is for messages. rows are freed by the caller.
struct mp_tune_file mp_tune_parse(const char *path, const char *text);

// Writes a new file, complete or not at all.
void mp_tune_write(const char *path, const struct mp_tune_file *file);

#endif
