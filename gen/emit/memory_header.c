// memory_header.c: memory.h, an accessor for every buffer of every program, grouped by what the bytes are for.
#include <string.h>

#include "source.h"

static const char *heading(Class class)
{
	return class == CLASS_OPTIMIZER ? "optimizer state" : class_names[class];
}

static const char *type_in(const Buffer *buffer)
{
	return buffer->tensor->in_halves ? "uint16_t" : c_type(buffer->tensor->type);
}

static const char *content_of(const Emit *emit, const Buffer *buffer)
{
	return arena_printf(emit->arena, "%s%s", buffer->tensor->in_halves ? "the lower halves of " : "", local_shape(emit, buffer->tensor));
}

// Where in its function a scratch buffer lives.
static const char *life(const Emit *emit, const Role *role, const Buffer *buffer)
{
	if (buffer->function < 0)
		return "";
	return arena_printf(emit->arena, ", %s steps %d to %d", role->functions.at[buffer->function].name, buffer->first, buffer->last);
}

static const char *place_of_slot(const Emit *emit, const Buffer *buffer)
{
	return buffer->slots > 1 ? arena_printf(emit->arena, " + mb %% %d * (size_t)%zu", buffer->slots, buffer->stride) : "";
}

static void emit_buffer(Text *out, const Emit *emit, const Role *role, const Buffer *buffer)
{
	const char *type = type_in(buffer);
	text_add(out, "static inline %s *%s(const struct mp_rank *r%s) { return (%s *)(r->arena + %zu%s); } // %s, %zu bytes%s\n", type, buffer->name,
	         buffer->slots > 1 ? ", int mb" : "", type, buffer->offset, place_of_slot(emit, buffer), content_of(emit, buffer),
	         buffer->bytes, life(emit, role, buffer));
}

// ---- families

// By place, from 0 on, as everything here that does not say "number".
static const Buffer *member(const Role *role, const Family *family, int layer)
{
	return &role->buffers.at[family->buffers[layer]];
}

// The number of a layer, counted from `from` on.
static const char *layer_from(const Emit *emit, int from)
{
	return from ? arena_printf(emit->arena, "(layer - %d)", from) : "layer";
}

// Whether one formula gives the addresses of layers [from, to).
static bool rises_evenly(const Role *role, const Family *family, int from, int to)
{
	const Buffer *first = member(role, family, from);
	for (int k = from + 1; k < to; k++) {
		const Buffer *buffer = member(role, family, k);
		if (buffer->offset - member(role, family, k - 1)->offset != member(role, family, from + 1)->offset - first->offset || buffer->slots != first->slots
		    || (buffer->slots > 1 && buffer->stride != first->stride))
			return false;
	}
	return true;
}

// The layer whose address no formula gives though it gives those of all others: the first or the last; -1: there is none.
static int odd_layer(const Role *role, const Family *family)
{
	int n = family->count;
	if (family->common || n < 3 || rises_evenly(role, family, 0, n))
		return -1;
	return rises_evenly(role, family, 0, n - 1) ? n - 1 : rises_evenly(role, family, 1, n) ? 0 : -1;
}

// By buffer: the family that says where it lies, and the layer's number; NULL: the buffer has an address of its own.
typedef struct {
	const Family *family;
	int number;
} Home;

static Home *find_homes(const Emit *emit, const Role *role)
{
	Home *homes = arena_alloc(emit->arena, (size_t)(role->buffers.count + 1) * sizeof *homes);
	for (int i = 0; i < role->families.count; i++) {
		const Family *family = &role->families.at[i];
		int odd = odd_layer(role, family);
		for (int k = 0; k < family->count && family->neighbour < 0; k++)
			if (k != odd && !homes[family->buffers[k]].family)
				homes[family->buffers[k]] = (Home){family, family->base + k};
	}
	return homes;
}

static const char *name_alone(const Emit *emit, const Buffer *buffer)
{
	((Buffer *)buffer)->alone = true;
	return arena_printf(emit->arena, "%s(r%s)", buffer->name, buffer->slots > 1 ? ", mb" : "");
}

static const char *call_of(const Emit *emit, const Family *family, const char *slot, const char *layer)
{
	return arena_printf(emit->arena, "%s(r%s%s%s%s)", family->name, family->slots > 1 ? ", " : "", family->slots > 1 ? slot : "", family->common ? "" : ", ", family->common ? "" : layer);
}

static const char *formula(const Emit *emit, const Role *role, const Family *family, int from)
{
	const Buffer *first = member(role, family, from), *second = member(role, family, from + 1);
	const char *type = type_in(first), *slot = place_of_slot(emit, first);
	bool falls = second->offset < first->offset;
	if (first->offset == second->offset)
		return arena_printf(emit->arena, "(%s *)(r->arena + %zu%s)", type, first->offset, slot);
	return arena_printf(emit->arena, "(%s *)(r->arena + %zu %s %s * (size_t)%zu%s)", type, first->offset, falls ? "-" : "+", layer_from(emit, family->base + from),
	                    falls ? first->offset - second->offset : second->offset - first->offset, slot);
}

static const char *address(const Emit *emit, const Buffer *buffer)
{
	return arena_printf(emit->arena, "(%s *)(r->arena + %zu%s)", type_in(buffer), buffer->offset, place_of_slot(emit, buffer));
}

static void emit_table(Text *out, const Emit *emit, const Role *role, const Family *family)
{
	const char *row = family->base ? arena_printf(emit->arena, "layer - %d", family->base) : "layer";
	text_add(out, "static const struct mp_place at[] = {");
	for (int k = 0; k < family->count; k++) {
		const Buffer *buffer = member(role, family, k);
		text_add(out, "%s{%zu, %d, %zu}", k ? ", " : "", buffer->offset, buffer->slots, buffer->stride);
	}
	text_add(out, "}; return (%s *)(r->arena + at[%s].offset%s);", type_in(member(role, family, 0)), row,
	         family->slots > 1 ? arena_printf(emit->arena, " + mb %% at[%s].slots * at[%s].stride", row, row) : "");
}

// The odd layer's address: by its accessor when that stands before the family's.
static const char *odd_address(const Emit *emit, const Role *role, const Family *family, int layer, const Home *homes)
{
	const Buffer *buffer = member(role, family, layer);
	if (!homes[family->buffers[layer]].family && buffer->class <= member(role, family, family->count - 1)->class)
		return name_alone(emit, buffer);
	return address(emit, buffer);
}

static void emit_address(Text *out, const Emit *emit, const Role *role, const Family *family, const Home *homes)
{
	const Family *neighbour = family->neighbour >= 0 ? &role->families.at[family->neighbour] : NULL;
	int last = family->count - 1, odd = odd_layer(role, family), apart = family->shift > 0 ? last : 0;
	const char *beside = neighbour ? call_of(emit, neighbour, "mb", family->shift > 0 ? "layer + 1" : "layer - 1") : NULL;
	if (neighbour && told_by(family, neighbour, family->base + apart, family->shift))
		text_add(out, "return %s;", beside);
	else if (neighbour)
		text_add(out, "return layer %c %d ? %s : %s;", family->shift > 0 ? '<' : '>', family->base + apart, beside, name_alone(emit, member(role, family, apart)));
	else if (rises_evenly(role, family, 0, family->count))
		text_add(out, "return %s;", formula(emit, role, family, 0));
	else if (odd >= 0)
		text_add(out, "return layer == %d ? %s : %s;", family->base + odd, odd_address(emit, role, family, odd, homes), formula(emit, role, family, odd == 0));
	else
		emit_table(out, emit, role, family);
}

static void emit_family(Text *out, const Emit *emit, const Role *role, const Family *family, const Home *homes)
{
	const Buffer *first = member(role, family, 0);
	text_add(out, "static inline %s *%s(const struct mp_rank *r%s%s) { ", type_in(first), family->name, family->slots > 1 ? ", int mb" : "",
	         family->common ? "" : ", int layer");
	emit_address(out, emit, role, family, homes);
	text_add(out, " } // %s, %zu bytes, ", content_of(emit, first), first->bytes);
	if (family->base)
		text_add(out, "layers %d to %d\n", family->base, family->base + family->count - 1);
	else
		text_add(out, "%d layers\n", family->count);
}

// Families of a class, which is that of the last layer's buffer; those that another one tells come apart.
static void emit_families(Text *out, const Emit *emit, const Role *role, Class class, const Home *homes)
{
	bool any = false;
	for (int i = 0; i < role->families.count; i++) {
		const Family *family = &role->families.at[i];
		if (member(role, family, family->count - 1)->class != class || family->neighbour >= 0)
			continue;
		if (!any)
			text_add(out, "\n// %s of equal layers\n", heading(class));
		any = true;
		emit_family(out, emit, role, family, homes);
	}
}

static void emit_told_families(Text *out, const Emit *emit, const Role *role, const Home *homes)
{
	bool any = false;
	for (int i = 0; i < role->families.count; i++) {
		if (role->families.at[i].neighbour < 0)
			continue;
		if (!any)
			text_add(out, "\n// of the layer before, or the next one\n");
		any = true;
		emit_family(out, emit, role, &role->families.at[i], homes);
	}
}

// ---- a program

static void emit_class(Text *out, const Emit *emit, const Role *role, Class class, const Home *homes)
{
	int slots = 0;
	for (;;) { // by number of slots, ascending
		int next = 0;
		for (int i = 0; i < role->buffers.count; i++) {
			const Buffer *b = &role->buffers.at[i];
			if (b->class == class && b->slots > slots && !homes[i].family && (!next || b->slots < next))
				next = b->slots;
		}
		if (!next)
			return;
		slots = next;
		text_add(out, "\n// %s%s\n", heading(class), slots > 1 ? arena_printf(emit->arena, ": %d slots, micro-batch mb in slot mb %% %d", slots, slots) : "");
		for (int i = 0; i < role->buffers.count; i++)
			if (role->buffers.at[i].class == class && role->buffers.at[i].slots == slots && !homes[i].family)
				emit_buffer(out, emit, role, &role->buffers.at[i]);
	}
}

// Buffers of families that emitted code also names outside of the layers.
static void emit_named_members(Text *out, const Emit *emit, const Role *role, const Home *homes)
{
	bool any = false;
	for (int i = 0; i < role->buffers.count; i++) {
		const Buffer *buffer = &role->buffers.at[i];
		if (!buffer->alone || !homes[i].family)
			continue;
		if (!any)
			text_add(out, "\n// of one layer\n");
		any = true;
		text_add(out, "static inline %s *%s(const struct mp_rank *r%s) { return %s; } // %s, %zu bytes\n", type_in(buffer), buffer->name,
		         buffer->slots > 1 ? ", int mb" : "", call_of(emit, homes[i].family, buffer->slots > 1 ? "mb" : "0", arena_printf(emit->arena, "%d", homes[i].number)),
		         content_of(emit, buffer), buffer->bytes);
	}
}

static void emit_role(Text *out, const Emit *emit, const Role *role)
{
	const Home *homes = find_homes(emit, role);
	Text families[CLASS_WORKSPACE], told = {.arena = emit->arena};
	for (int class = 0; class < CLASS_WORKSPACE; class++) { // first: they may name buffers that stand alone
		families[class] = (Text){.arena = emit->arena};
		emit_families(&families[class], emit, role, class, homes);
	}
	emit_told_families(&told, emit, role, homes);
	for (int class = 0; class < CLASS_WORKSPACE; class++) {
		emit_class(out, emit, role, class, homes);
		text_add(out, "%s", families[class].length ? families[class].at : "");
	}
	emit_named_members(out, emit, role, homes);
	text_add(out, "%s\n", told.length ? told.at : "");
}

void emit_memory_header(Text *out, const Emit *emit)
{
	emit_banner(out, emit);
	text_add(out, "// The memory of each program: one arena a device, every address known. A program defines MP_PROGRAM first.\n#include \"mp.h\"\n\n");
	for (int s = 0; s < emit->plan->stages; s++) {
		const Role *role = &emit->plan->roles[s];
		text_add(out, "#%s MP_PROGRAM == %d // %zu bytes\n", s ? "elif" : "if", s, role->arena);
		emit_role(out, emit, role);
	}
	text_add(out, "#endif\n");
}
