// y0: float[n] = mul(x0, x1); x0: float[n]; x1: float[1]
void mul_scalar(float *y0, const float *x0, const float *x1, long n, cudaStream_t stream);
