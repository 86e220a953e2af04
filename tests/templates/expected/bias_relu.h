// y0: float[rows, columns] = relu(add(x0, x1)); x0: float[rows, columns]; x1: float[columns]
void bias_relu(float *y0, const float *x0, const float *x1, long rows, long columns, cudaStream_t stream);
