// mp_addends.h: sums down the columns of several tensors of the same extents, made by one launch (column_sums of kernels.cu).
#ifndef MP_ADDENDS_H
#define MP_ADDENDS_H

struct mp_addend {
	void *sums, *partials;          // of the columns of all rows; of those of each chunk of rows, working memory, NULL: one chunk
	const void *x;
};

enum { MP_ADDENDS = 4 };

struct mp_addends {
	struct mp_addend of[MP_ADDENDS]; // sums is NULL behind the last
};

#endif
