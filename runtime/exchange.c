// exchange.c: collectives of large tensors and messages between stages: by copy engines where the ranks of the axis reach each other's
// memory, by NCCL elsewhere.
#include "engines.h"

static ncclDataType_t nccl_type(enum mp_type type)
{
	return type == MP_BF16 ? ncclBfloat16 : type == MP_F64 ? ncclFloat64 : type == MP_I32 ? ncclInt32 : ncclFloat32;
}

void mp_all_reduce(struct mp_rank *r, enum mp_axis axis, void *data, long count, enum mp_type type)
{
	if (r->engines[axis])
		mp_engines_all_reduce(r->engines[axis], data, (size_t)count * mp_type_bytes(type), type);
	else
		NCCL(ncclAllReduce(data, data, (size_t)count, nccl_type(type), ncclSum, mp_communicator(r, axis), mp_axis_stream(r, axis)));
}

void mp_reduce_scatter(struct mp_rank *r, enum mp_axis axis, const void *from, void *to, long count, enum mp_type type)
{
	if (r->engines[axis])
		mp_engines_reduce_scatter(r->engines[axis], from, to, (size_t)count * mp_type_bytes(type), type);
	else
		NCCL(ncclReduceScatter(from, to, (size_t)count, nccl_type(type), ncclSum, mp_communicator(r, axis), mp_axis_stream(r, axis)));
}

void mp_all_gather(struct mp_rank *r, enum mp_axis axis, const void *from, void *to, long count, enum mp_type type, bool own)
{
	if (r->engines[axis])
		mp_engines_all_gather(r->engines[axis], from, to, (size_t)count * mp_type_bytes(type), own);
	else
		NCCL(ncclAllGather(from, to, (size_t)count, nccl_type(type), mp_communicator(r, axis), mp_axis_stream(r, axis)));
}

void mp_gather_rows(struct mp_rank *r, enum mp_axis axis, void *data, long count, long apart, enum mp_type type)
{
	int n = r->model->axis[axis], me = mp_coordinate(r, axis);
	size_t bytes = (size_t)count * mp_type_bytes(type), rows = (size_t)apart * mp_type_bytes(type);
	char *own = (char *)data + (size_t)me * rows;

	if (r->engines[axis]) {
		mp_engines_all_gather(r->engines[axis], own, own - (size_t)me * bytes, bytes, false); // the own part goes where it lies
		return;
	}
	NCCL(ncclGroupStart());
	for (int peer = 0; peer < n; peer++) {
		if (peer == me)
			continue;
		NCCL(ncclSend(own, (size_t)count, nccl_type(type), peer, mp_communicator(r, axis), mp_axis_stream(r, axis)));
		NCCL(ncclRecv((char *)data + (size_t)peer * rows, (size_t)count, nccl_type(type), peer, mp_communicator(r, axis), mp_axis_stream(r, axis)));
	}
	NCCL(ncclGroupEnd());
}

void mp_shift(struct mp_rank *r, enum mp_axis axis, const void *from, void *to, long count, enum mp_type type, int by)
{
	int n = r->model->axis[axis], me = mp_coordinate(r, axis);

	if (r->engines[axis]) {
		mp_engines_shift(r->engines[axis], from, to, (size_t)count * mp_type_bytes(type), by);
		return;
	}
	NCCL(ncclGroupStart());
	NCCL(ncclSend(from, (size_t)count, nccl_type(type), (me + by) % n, mp_communicator(r, axis), mp_axis_stream(r, axis)));
	NCCL(ncclRecv(to, (size_t)count, nccl_type(type), (me + n - by) % n, mp_communicator(r, axis), mp_axis_stream(r, axis)));
	NCCL(ncclGroupEnd());
}

void mp_messages(struct mp_rank *r, const struct mp_message *messages, int count)
{
	if (r->engines[MP_PP]) {
		mp_engines_messages(r->engines[MP_PP], messages, count);
		return;
	}
	NCCL(ncclGroupStart());
	for (int i = 0; i < count; i++) {
		const struct mp_message *m = &messages[i];
		if (m->send)
			NCCL(ncclSend(m->at, (size_t)m->count, nccl_type(m->type), m->stage, r->pp_comm, r->pp_stream));
		else
			NCCL(ncclRecv(m->at, (size_t)m->count, nccl_type(m->type), m->stage, r->pp_comm, r->pp_stream));
	}
	NCCL(ncclGroupEnd());
}
