// cuda_bf16.h: nothing of it is needed where kernels are emulated: mp_bf16 rounds by itself outside of device code.
