// y0: float[outer, n0, columns] *= expand(x0), rows = outer * n0; x0: float[outer, columns]
void expand_mul(float *y0, const float *x0, long n0, long rows, long columns, cudaStream_t stream);
