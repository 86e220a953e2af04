// checkpoint_init.c: the state that training starts from.
//
// Every rank computes the elements that it stores and no others, straight from seed, name and logical index: no
// messages, no broadcast from one rank, and the same bits whatever the mesh.
#include "checkpoint.h"
#include "random.h"

static void draw(void *context, const struct mp_state *s, void *bytes, long first, long count)
{
	const uint64_t *key = context;
	mp_random_fill(&s->init, *key, s->type, first, count, bytes);
}

void mp_state_init(struct mp_rank *r, uint64_t seed)
{
	for (int i = 0; i < r->program->state_count; i++) {
		const struct mp_state *s = &r->program->states[i];
		uint64_t key = mp_random_key(seed, s->name);
		mp_shard_fill(r, s, draw, &key);
	}
}
