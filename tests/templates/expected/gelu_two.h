void gelu_two(float *y0, float *y1, const float *x0, const float *x1, long rows, long columns, cudaStream_t stream);
