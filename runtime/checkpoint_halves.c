// checkpoint_halves.c: floats of a slab, and their halves as devices hold them. (mp_halves.h)
//
// Both take the same bytes: all upper halves, then all lower ones. The lower ones pass through memory of their own, so that the upper ones can be moved
// where they stand: forth in ascending order, back in descending order, each reads what it overwrites before.
#include "checkpoint.h"
#include "mp_halves.h"

#include <string.h>

void mp_slab_split(char *values, long count, char *room)
{
	for (long i = 0; i < count; i++) {
		float value;
		memcpy(&value, values + 4 * i, 4);
		mp_bf16 upper = mp_upper_half(value);
		uint16_t lower = mp_lower_half(value);
		memcpy(values + 2 * i, &upper, 2);
		memcpy(room + 2 * i, &lower, 2);
	}
	memcpy(values + 2 * count, room, 2 * (size_t)count);
}

void mp_slab_join(char *values, long count, char *room)
{
	memcpy(room, values + 2 * count, 2 * (size_t)count);
	for (long i = count; i-- > 0; ) {
		mp_bf16 upper;
		uint16_t lower;
		memcpy(&upper, values + 2 * i, 2);
		memcpy(&lower, room + 2 * i, 2);
		float value = mp_join_halves(upper, lower);
		memcpy(values + 4 * i, &value, 4);
	}
}
