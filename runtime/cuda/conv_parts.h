// conv_parts.h: f32 numbers as sums of two that tensor cores multiply exactly. (conv_parts.cu)
#ifndef MP_CONV_PARTS_H
#define MP_CONV_PARTS_H

#include "mp.h"

#ifdef __cplusplus
extern "C" {
#endif

// x: f32[rows, channels] as high + low, TF32 each: high is x to the nearest such number, low what is left, to the nearest again.
// both: f32[rows, 2, channels], low before high, or, with high_first, after it; highs: f32[channels / width, rows, width], the high
// parts of `width` channels at a time. channels and width are multiples of 4, addresses of 16 bytes.
void mp_conv_parts(const float *x, size_t rows, size_t channels, size_t width, bool high_first, float *both, float *highs, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
