// mp_copies.h: small copies between pinned memory of the host and the device, made by one launch (copy_all of kernels.cu).
#ifndef MP_COPIES_H
#define MP_COPIES_H

#include <stddef.h>

struct mp_copy {
	void *to;
	const void *from;
	size_t bytes;
};

enum { MP_COPIES = 8 };

struct mp_copies {
	struct mp_copy at[MP_COPIES];   // bytes is 0 behind the last
};

#endif
