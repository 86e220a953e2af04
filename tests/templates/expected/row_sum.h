// y: float[outer, inner] = scale * the sum over n of x: float[outer, n, inner]; y += when accumulate.
// A sum to one scalar is the work of one block: meant for up to a million elements.
void row_sum(float *y, const float *x, long outer, long n, long inner, float scale, bool accumulate,
		cudaStream_t stream);
