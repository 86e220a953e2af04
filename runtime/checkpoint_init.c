// checkpoint_init.c: the state that training starts from.
//
// Every rank computes the elements that it stores and no others, straight from seed, name and index: no messages, no
// broadcast from one rank, and the same bits whatever the mesh. Name and index are those of the tensor in files, so that
// they do not depend on how the model joins and pads such tensors either.
#include "checkpoint.h"
#include "random.h"

struct drawing {
	uint64_t seed, key;
	const struct mp_piece *piece;   // that key is of
};

static void draw(void *context, const struct mp_state *s, const struct mp_piece *piece, void *bytes, long first, long count)
{
	struct drawing *drawing = context;
	if (drawing->piece != piece)
		drawing->key = mp_random_key(drawing->seed, piece->name);
	drawing->piece = piece;
	mp_random_fill(&s->init, drawing->key, s->type, first, count, bytes);
}

void mp_state_init(struct mp_rank *r, uint64_t seed)
{
	for (int i = 0; i < r->program->state_count; i++) {
		const struct mp_state *s = &r->program->states[i];
		if (s->init.kind != MP_CONSTANT || s->init.a != 0) // the arena starts as zeros
			mp_shard_fill(r, s, false, draw, &(struct drawing){.seed = seed});
	}
}
