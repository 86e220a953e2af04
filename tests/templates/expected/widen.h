// y0: float[n] = add(x0, x1); x0: mp_bf16[n]; x1: float[n]
void widen(float *y0, const mp_bf16 *x0, const float *x1, long n, cudaStream_t stream);
