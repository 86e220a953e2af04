// cuda_runtime.h: what NVIDIA's header of this name adds for C++: typed allocation.
#ifndef MP_HOST_CUDA_RUNTIME_H
#define MP_HOST_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
template <class T> static inline cudaError_t cudaMalloc(T **memory, size_t bytes)
{
	return ::cudaMalloc(reinterpret_cast<void **>(memory), bytes);
}

template <class T> static inline cudaError_t cudaMallocHost(T **memory, size_t bytes)
{
	return ::cudaMallocHost(reinterpret_cast<void **>(memory), bytes);
}

template <class T> static inline cudaError_t cudaHostAlloc(T **memory, size_t bytes, unsigned flags)
{
	return ::cudaHostAlloc(reinterpret_cast<void **>(memory), bytes, flags);
}
#endif
#endif
