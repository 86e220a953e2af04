// families.h: what equal layers and the buffers that stand in the same place of each are called.
#ifndef FAMILIES_H
#define FAMILIES_H

#include "plan.h"

// "h.3.attn.qkv" and "h.4.attn.qkv" -> "h.attn.qkv"; NULL when they differ in more than numbers.
const char *common_name(Arena *arena, const char *a, const char *b);

// Needs: the loops of a role and their families. Gives: the numbers of layers, Loop.base and Family.base. (numbers.c)
void number_layers(const Plan *plan, Role *role);

// Needs: numbered families. Gives: their names, and which of them are another one's members of a neighbouring layer.
void finish_families(const Plan *plan, Role *role);

#endif
