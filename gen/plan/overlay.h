// overlay.h: bytes that gradients and activations of a step share.
#ifndef OVERLAY_H
#define OVERLAY_H

#include "plan.h"

// Bytes that a buffer takes in the arena, all slots and what aligns the next one included. (memory.c)
size_t room_of(const Buffer *buffer);

// Puts it at *at, and sets that behind it. (memory.c)
void place_buffer(Buffer *buffer, size_t *at);

// Whether gradients may lie where activations were.
bool may_share(const Plan *plan, const Role *role);

// Gives gradients and activations their places from *at on, and sets it behind them; counts what they share in role->shared.
void share_bytes(const Plan *plan, Role *role, size_t *at);

#endif
