// count_valid.cu: the template that counts the labels that losses and accuracies divide by.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_count_valid_kernel(real *__restrict__ count, const int *__restrict__ label, long n)
{
	long valid = mp_sum_over<long>(n, [=](long i) { return label[i] >= 0 ? 1L : 0L; });
	if (threadIdx.x == 0)
		*count = (real)valid;
}

// count: real[1] = how many of label: int[n] are not negative
void tmpl_count_valid(real *count, const int *label, long n, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_count_valid_kernel, 1, mp_row_threads(n), stream, count, label, n);
}
