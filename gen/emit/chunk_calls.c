// chunk_calls.c: the loop of a head that makes its logits chunk by chunk of its rows (gen/graph/linear_cross_entropy.c).
//
// It is written out where the step runs, as a person would: three matrix products and the kernels of a loss with its gradient, on
// the rows of the chunk. Where tp shares out the classes, what each device knows of the rows is gathered in between. While
// evaluating there are only losses.
#include "source.h"

typedef struct {
	const Emit *emit;
	const Role *role;
	const Node *node;
	const char *slot;
	long rows, columns, classes;    // of a chunk on one device
} Chunks;

static Chunks measure(const Emit *emit, const Role *role, const Node *node, const char *slot)
{
	const Tensor *logits = node->out[CHUNKED_LOGITS];
	return (Chunks){emit, role, node, slot, local_extent(emit->plan, logits, 0), local_extent(emit->plan, node->in[0], node->in[0]->dims - 1),
	                local_extent(emit->plan, logits, 1)};
}

// Largest power of two, at most that of the whole, that the address of every chunk is a multiple of.
static int alignment_of_chunks(const Chunks *c, const Tensor *rows, int alignment)
{
	while ((size_t)(c->rows * c->columns) * type_size(rows->type) % (size_t)alignment)
		alignment /= 2;
	return alignment;
}

void describe_chunks(const Emit *emit, const Role *role, const Step *step, int alignment, Gemm gemms[3])
{
	const Node *node = step->nodes.at[0];
	Chunks c = measure(emit, role, node, "0");
	int m = (int)c.rows, n = (int)c.classes, k = (int)c.columns, aligned = alignment_of_chunks(&c, node->in[0], alignment);
	Type real = node->in[0]->type, full = node->out[CHUNKED_WEIGHT_GRAD]->type;
	gemms[0] = (Gemm){.name = arena_printf(emit->arena, "%s.logits", step->name), .m = m, .n = n, .k = k, .transpose = MATMUL_NT, .type = real, .out = real};
	gemms[1] = (Gemm){.name = arena_printf(emit->arena, "%s.x_grad", step->name), .m = m, .n = k, .k = n, .transpose = MATMUL_NN, .type = real, .out = real};
	gemms[2] = (Gemm){.name = arena_printf(emit->arena, "%s.weight_grad", step->name), .m = n, .n = k, .k = m, .transpose = MATMUL_TN, .type = real, .out = full};
	for (int i = 0; i < 3; i++)
		gemms[i].alignment = aligned;
}

static const char *place(const Chunks *c, const Tensor *t)
{
	return place_of(c->emit, c->role, t, c->slot);
}

// The chunk's rows of t, each of so many elements.
static const char *rows_of(const Chunks *c, const Tensor *t, long columns)
{
	return arena_printf(c->emit->arena, "%s + chunk * %ldL", place(c, t), c->rows * columns);
}

static void emit_product(Text *out, const Chunks *c, const Step *step, int which, const char *a, const char *b, const char *result, const char *accumulate,
                         const char *indent)
{
	text_add(out, "%s\tmp_gemm(r, &gemms[%s], %s, %s, NULL, %s, %s, r->compute);\n", indent, c->role->gemms.at[step->call + which].constant, a, b, result,
	         accumulate);
}

static long classes_of(const Node *node)
{
	return node->attributes.classes ? node->attributes.classes : node->out[CHUNKED_LOGITS]->shape[1];
}

static void emit_loss(Text *out, Kernels *kernels, const Chunks *c, const char *indent)
{
	const Node *node = c->node;
	text_add(out, "%s\t%s(%s, %s, %s, %s, %s, %ld, %ld, %ld, r->evaluating, r->compute);\n", indent,
	         launcher_of(kernels, OP_CROSS_ENTROPY_AND_GRAD, node->in[0]->type), place(c, node->out[CHUNKED_LOGITS]),
	         rows_of(c, node->out[CHUNKED_LOSSES], 1), place(c, node->out[CHUNKED_LOGITS]), rows_of(c, node->in[2], 1), place(c, node->in[3]), c->rows,
	         c->classes, classes_of(node));
	text_add(out, "%s\tif (r->evaluating)\n%s\t\tcontinue;\n", indent, indent);
}

// The same of classes that tp shares out: of its own, each device gives three numbers a row.
static void emit_shared_loss(Text *out, Kernels *kernels, const Chunks *c, const char *indent)
{
	const Node *node = c->node;
	Arena *arena = c->emit->arena;
	const Tensor *losses = node->out[CHUNKED_LOSSES];
	Type real = node->in[0]->type, full = losses->type;
	const char *logits = place(c, node->out[CHUNKED_LOGITS]), *label = rows_of(c, node->in[2], 1), *sums = place(c, node->out[CHUNKED_CLASS_SUMS]);
	const char *own = arena_printf(arena, "%s + r->tp * %ldL", sums, 3 * c->rows), *statistics = place(c, node->out[CHUNKED_STATISTICS]);
	const char *shard = arena_printf(arena, "%ld, %ld, r->tp * %ldL, mp_shard_classes(%ld, %ld, r->tp)", c->rows, c->classes, c->classes, classes_of(node),
	                                 c->classes);
	text_add(out, "%s\t%s(%s, %s, %s, %s, r->compute);\n", indent, launcher_of(kernels, OP_CLASS_SUMS, real), own, logits, label, shard);
	text_add(out, "%s\tNCCL(ncclAllGather(%s, %s, %ld, %s, r->tp_comm, r->compute));\n", indent, own, sums, 3 * c->rows, nccl_type(full));
	text_add(out, "%s\t%s(%s, %s, %s, %s, %ld, %ld, r->compute);\n", indent, launcher_of(kernels, OP_CROSS_ENTROPY_OF_SUMS, full), rows_of(c, losses, 1), statistics,
	         sums, label, node->attributes.parts, c->rows);
	text_add(out, "%s\tif (r->evaluating)\n%s\t\tcontinue;\n", indent, indent);
	text_add(out, "%s\t%s(%s, %s, %s, %s, %s, %s, 0, r->compute);\n", indent, launcher_of(kernels, OP_CROSS_ENTROPY_GRAD, real), logits, logits, label, statistics,
	         place(c, node->in[3]), shard);
}

void emit_chunks(Text *out, Kernels *kernels, const Role *role, const Step *step, const char *slot, const char *indent)
{
	const Node *node = step->nodes.at[0];
	Chunks c = measure(kernels->emit, role, node, slot);
	const char *x = rows_of(&c, node->in[0], c.columns), *weight = place(&c, node->in[1]), *logits = place(&c, node->out[CHUNKED_LOGITS]);
	const char *accumulate = step->accumulate ? arena_printf(c.emit->arena, "%s > 0 || chunk > 0", slot) : "chunk > 0";
	text_add(out, "%sfor (int chunk = 0; chunk < %ld; chunk++) {\n", indent, node->attributes.chunks);
	emit_product(out, &c, step, 0, x, weight, logits, "false", indent);
	(node->attributes.parts ? emit_shared_loss : emit_loss)(out, kernels, &c, indent);
	emit_product(out, &c, step, 1, logits, weight, rows_of(&c, node->out[CHUNKED_X_GRAD], c.columns), "false", indent);
	emit_product(out, &c, step, 2, logits, x, place(&c, node->out[CHUNKED_WEIGHT_GRAD]), accumulate, indent);
	text_add(out, "%s}\n", indent);
}
