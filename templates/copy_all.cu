// copy_all.cu: the template of small copies between pinned memory of the host and the device, several at once. A copy engine takes
// longer to start than a kernel takes to copy a few hundred kilobytes, and a graph with a copy of its kind in it takes longer to launch.
#include "mp_kernel.h"

// 16 bytes of any type, and 4.
struct __attribute__((may_alias, aligned(16))) tmpl_copy_all_strip {
	uint32_t word[4];
};
typedef uint32_t __attribute__((may_alias)) tmpl_copy_all_word;

// Strip `at` of a copy, whose last one may be shorter. A copy that is not aligned to 16 bytes goes by 4, or by single ones.
MP_DEVICE void tmpl_copy_all_one(const struct mp_copy &copy, long at)
{
	char *to = (char *)copy.to + 16 * at;
	const char *from = (const char *)copy.from + 16 * at;
	const size_t left = copy.bytes - 16 * (size_t)at, bytes = left < 16 ? left : 16;
	const uintptr_t odd = (uintptr_t)to | (uintptr_t)from | bytes;
	if (odd % 16 == 0)
		*(tmpl_copy_all_strip *)to = *(const tmpl_copy_all_strip *)from;
	else if (odd % 4 == 0)
		for (size_t i = 0; i < bytes; i += 4)
			*(tmpl_copy_all_word *)(to + i) = *(const tmpl_copy_all_word *)(from + i);
	else
		for (size_t i = 0; i < bytes; i++)
			to[i] = from[i];
}

static __global__ void tmpl_copy_all_kernel(struct mp_copies copies, long strips)
{
	for (long i = mp_first(); i < strips; i += mp_stride()) {
		long at = i;
		int k = 0;
		for (long own; at >= (own = (long)(copies.at[k].bytes + 15) / 16); k++)
			at -= own;
		tmpl_copy_all_one(copies.at[k], at);
	}
}

// Every one of copies; no two overlap
void tmpl_copy_all(struct mp_copies copies, cudaStream_t stream)
{
	long strips = 0;
	for (int k = 0; k < MP_COPIES; k++)
		strips += (long)(copies.at[k].bytes + 15) / 16;
	MP_LAUNCH(tmpl_copy_all_kernel, mp_blocks(strips), MP_THREADS, stream, copies, strips);
}
