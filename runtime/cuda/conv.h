// conv.h: what convolutions by one engine of cuDNN (conv.c) and those made of several (conv_split.c) share.
#ifndef MP_CONV_H
#define MP_CONV_H

#include "dnn.h"

// Names of tensors within a graph. A sum is left + right.
enum mp_conv_id { MP_CONV_X = 1, MP_CONV_W, MP_CONV_Y, MP_CONV_BIAS, MP_CONV_WITHOUT_BIAS, MP_CONV_LEFT, MP_CONV_RIGHT, MP_CONV_SUM };

// v, of the table or like one of it, for messages.
struct mp_dnn_subject mp_conv_subject(const struct mp_conv *v);

// Plans result = the convolution (+ bias) + beta result within a workspace; see mp_dnn_plan.
struct mp_dnn_engine mp_conv_plan_engine(const struct mp_dnn *dnn, const struct mp_conv *v, bool bias, float beta, size_t workspace, char *why);

// Of a convolution with a slice: the engines for so many samples.
struct mp_conv_split {
	struct mp_dnn_engine small;             // products with a low part, and the bias
	struct mp_dnn_engine large;             // adds those of some channels' high parts
};

// False, and neither is planned, where cuDNN has no engine for one of them.
bool mp_conv_split_plan(const struct mp_rank *r, const struct mp_dnn *dnn, const struct mp_conv *v, struct mp_conv_split *split);

// As mp_conv.
void mp_conv_split_run(struct mp_rank *r, struct mp_dnn *dnn, const struct mp_conv *v, const struct mp_conv_split *split, const void *a,
                       const void *b, const void *bias, void *result, cudaStream_t stream);

void mp_conv_split_forget(const struct mp_conv *v, struct mp_conv_split *split);

#endif
