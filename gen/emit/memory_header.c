// memory_header.c: memory.h, an accessor for every buffer of every program, grouped by what the bytes are for.
#include "source.h"

static const char *const class_names[] = {"parameters", "gradients", "optimizer state", "activations", "communication", "scratch", "workspace"};

// Where in its function a scratch buffer lives.
static const char *life(const Emit *emit, const Role *role, const Buffer *buffer)
{
	if (buffer->function < 0)
		return "";
	return arena_printf(emit->arena, ", %s steps %d to %d", role->functions.at[buffer->function].name, buffer->first, buffer->last);
}

static void emit_buffer(Text *out, const Emit *emit, const Role *role, const Buffer *buffer)
{
	const char *type = c_type(buffer->tensor->type);
	text_add(out, "static inline %s *%s(const struct mp_rank *r%s) { return (%s *)(r->arena + %zu%s); } // %s, %zu bytes%s\n", type, buffer->name,
	         buffer->slots > 1 ? ", int mb" : "", type, buffer->offset,
	         buffer->slots > 1 ? arena_printf(emit->arena, " + mb %% %d * (size_t)%zu", buffer->slots, buffer->stride) : "", local_shape(emit, buffer->tensor),
	         buffer->bytes, life(emit, role, buffer));
}

static void emit_class(Text *out, const Emit *emit, const Role *role, Class class)
{
	int slots = 0;
	for (;;) { // by number of slots, ascending
		int next = 0;
		for (int i = 0; i < role->buffers.count; i++) {
			const Buffer *b = &role->buffers.at[i];
			if (b->class == class && b->slots > slots && (!next || b->slots < next))
				next = b->slots;
		}
		if (!next)
			return;
		slots = next;
		text_add(out, "\n// %s%s\n", class_names[class], slots > 1 ? arena_printf(emit->arena, ": %d slots, micro-batch mb in slot mb %% %d", slots, slots) : "");
		for (int i = 0; i < role->buffers.count; i++)
			if (role->buffers.at[i].class == class && role->buffers.at[i].slots == slots)
				emit_buffer(out, emit, role, &role->buffers.at[i]);
	}
}

void emit_memory_header(Text *out, const Emit *emit)
{
	emit_banner(out, emit);
	text_add(out, "// The memory of each program: one arena a device, every address known. A program defines MP_PROGRAM first.\n#include \"mp.h\"\n\n");
	for (int s = 0; s < emit->plan->stages; s++) {
		const Role *role = &emit->plan->roles[s];
		text_add(out, "#%s MP_PROGRAM == %d // %zu bytes\n", s ? "elif" : "if", s, role->arena);
		for (int class = 0; class < CLASS_WORKSPACE; class++)
			emit_class(out, emit, role, class);
		text_add(out, "\n");
	}
	text_add(out, "#endif\n");
}
