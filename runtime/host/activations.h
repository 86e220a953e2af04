// activations.h: the epilogues of mp_gemm on rows of the host's types.
#ifndef MP_ACTIVATIONS_H
#define MP_ACTIVATIONS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void mp_gelu_float(float *x, size_t count);                             // x = gelu(x)
void mp_gelu_double(double *x, size_t count);
void mp_gelu_grad_float(float *dy, const float *x, size_t count);       // dy = dy gelu'(x)
void mp_gelu_grad_double(double *dy, const double *x, size_t count);

#ifdef __cplusplus
}
#endif
#endif
