// dnn.h: cuDNN's graph interface, as conv.c and attention.c use it. A graph of operations is described once, at start; the
// first engine of the heuristics that may be used becomes its plan; a plan is enqueued with the addresses of its tensors.
#ifndef MP_DNN_H
#define MP_DNN_H

#include "mp_run.h"

#include <cudnn.h>

typedef cudnnBackendDescriptor_t mp_descriptor;

enum { MP_DNN_TEXT = 512, MP_DNN_PARTS = 128, MP_DNN_OPERATIONS = 32 };

// What is computed, for messages: describe writes "conv conv1 (forward, x [..], ..)".
struct mp_dnn_subject {
	const void *call;                       // an entry of the program's table
	void (*describe)(char *text, size_t size, const void *call);
};

struct mp_dnn {
	cudnnHandle_t library;
	cudaStream_t stream;                    // that library enqueues on
	mp_descriptor device;
};

struct mp_dnn_engine {
	mp_descriptor plan;                     // NULL: there is none
	size_t workspace;
};

// A graph under construction, and which engines may be its plan.
struct mp_dnn_graph {
	struct mp_dnn_subject of;
	int alignment;                          // bytes that every tensor's address is a multiple of
	bool tensor_cores;                      // may compute it
	bool any_order;                         // sums need no fixed order
	mp_descriptor parts[MP_DNN_PARTS];      // all descriptors
	int part_count;
	mp_descriptor operations[MP_DNN_OPERATIONS];
	int operation_count;
};

MP_NORETURN void mp_dnn_failed(const struct mp_dnn_subject *of, cudnnStatus_t status, const char *call, const char *file, int line);

#define DNN(subject, call) do { cudnnStatus_t status_ = (call); \
	if (status_ != CUDNN_STATUS_SUCCESS) mp_dnn_failed(subject, status_, #call, __FILE__, __LINE__); } while (0)

void mp_dnn_open(struct mp_dnn *dnn, const struct mp_dnn_subject *first, cudaStream_t stream);
void mp_dnn_close(struct mp_dnn *dnn, const struct mp_dnn_subject *first);

// Descriptors of a graph; it owns them all.
mp_descriptor mp_dnn_create(struct mp_dnn_graph *g, cudnnBackendDescriptorType_t type);
void mp_dnn_set(struct mp_dnn_graph *g, mp_descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *value);
void mp_dnn_set_part(struct mp_dnn_graph *g, mp_descriptor d, cudnnBackendAttributeName_t name, mp_descriptor part);
mp_descriptor mp_dnn_finish(struct mp_dnn_graph *g, mp_descriptor d);          // finalizes
mp_descriptor mp_dnn_finish_operation(struct mp_dnn_graph *g, mp_descriptor d); // and adds it to the graph's operations
void mp_dnn_destroy(struct mp_dnn_graph *g);

// A tensor: REAL ones have addresses, VIRTUAL ones exist inside of an engine, a BY_VALUE one is a scalar of the host.
enum mp_dnn_kind { MP_DNN_REAL, MP_DNN_VIRTUAL, MP_DNN_BY_VALUE };
mp_descriptor mp_dnn_tensor(struct mp_dnn_graph *g, enum mp_dnn_kind kind, cudnnDataType_t type, int64_t id, int dims,
                            const int64_t *extents, const int64_t *strides);

// y = mode(x), mode(x, b) or mode(x, b, t), element by element, computed in `type`. axis: of CUDNN_POINTWISE_GEN_INDEX, else -1.
void mp_dnn_pointwise(struct mp_dnn_graph *g, cudnnPointwiseMode_t mode, cudnnDataType_t type, mp_descriptor x, mp_descriptor b,
                      mp_descriptor t, mp_descriptor y, int64_t axis);

// Plans the graph with a workspace of at most so many bytes. Without a usable engine the result has no plan, and why (of
// MP_DNN_TEXT bytes) says what the last one lacked.
struct mp_dnn_engine mp_dnn_plan(const struct mp_dnn *dnn, struct mp_dnn_graph *g, size_t workspace, char *why);
// Plans what mode A of the heuristics proposes, in its order, at once: up to `most` usable engines, or number `only` alone. Those
// that cannot be planned have no plan. Gives the number of proposals.
int mp_dnn_candidates(const struct mp_dnn *dnn, struct mp_dnn_graph *g, size_t workspace, int only, int most, struct mp_dnn_engine *found);
void mp_dnn_forget(const struct mp_dnn_subject *of, struct mp_dnn_engine *e);

// Enqueues a plan whose `count` tensors are where the addresses say.
void mp_dnn_execute(struct mp_dnn *dnn, const struct mp_dnn_subject *of, const struct mp_dnn_engine *e, int64_t count, const int64_t *ids,
                    const void *const *addresses, void *workspace, cudaStream_t stream);

#endif
