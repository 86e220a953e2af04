// source.h: the parts that emit_program puts together, and the words they share.
#ifndef SOURCE_H
#define SOURCE_H

#include "emit.h"
#include "template.h"

// An instantiated kernel template.
typedef struct {
	const char *name;       // of the launcher
	const char *template_name;
	Type type;              // of its elements; of element-wise templates, the narrowest
	bool narrow;            // what its template calls full has the type of its elements too
	Binding slots[8];       // of templates that compute element-wise nodes
	int slot_count;
} Kernel;

typedef struct {
	const Emit *emit;
	LIST(Kernel) kernels;   // of all programs, in order of first use
} Kernels;

// Names of types and numbers in emitted code.
const char *c_type(Type type);          // "float"
const char *nccl_type(Type type);       // "ncclFloat32"
const char *mp_type(Type type);         // "MP_F32"
const char *c_number(Arena *arena, Type type, double value);    // "0.5f"
const char *c_string(Arena *arena, const char *text);           // quoted, escaped
const char *c_comment(Arena *arena, const char *text);          // safe inside a comment
const char *stream_name(Stream stream); // "dp_stream", a field of struct mp_rank
const char *local_shape(const Emit *emit, const Tensor *t);     // "f32[16,784]": what one device holds
const char *axis_name(int axis);        // "dp"
const char *axis_constant(int axis);    // "MP_DP"

// The expression for a tensor's bytes: "fc1_relu(r, mb)"; while a step's call is written, for the rows that it uses.
const char *place_of(const Emit *emit, const Role *role, const Tensor *t, const char *slot);
const char *whole_place(const Emit *emit, const Role *role, const Tensor *t, const char *slot); // that of all rows of the tensor that t lies in

long pieces_written(const Role *role);  // into which the rows of the step whose call is written are cut; 1: none

// The launcher of an element-wise step; adds its kernel when it is new. *call receives the call but for the stream. (elementwise.c)
const char *elementwise_call(Kernels *kernels, const Role *role, const Step *step, const char *slot);

// The launcher of a kernel whose template computes the element-wise nodes of its step as well; adds it when it is new. Appends what
// they read, ", h_add(r)", to *operands. (elementwise.c)
const char *joined_launcher(Kernels *kernels, const Role *role, const Step *step, const char *slot, Text *operands);

// The call of a step's template kernel but for the stream; adds the kernel when it is new. (calls.c)
// Appends the extents that the kernel of an op on images takes; false: it is another kind of op. (image_calls.c)
bool add_image_extents(Text *call, const Emit *emit, const Role *role, const Node *node, const char *slot);
bool add_language_extents(Text *call, const Emit *emit, const Node *node, const char *slot); // the same of language models (language_calls.c)
// Likewise of norms and other kernels on rows. (row_calls.c)
bool add_row_extents(Text *call, const Emit *emit, const Role *role, const Node *node, const char *slot);
// The index in the whole tensor of this device's first element of a dim in the micro-batch, times `each`. (image_calls.c)
const char *layer_number(const Emit *emit, const Role *role, unsigned number);
const char *first_index(const Emit *emit, const Tensor *x, int dim, long each, const char *slot);
const char *kernel_call(Kernels *kernels, const Role *role, const Function *function, const Step *step, const char *slot);

// The calls of the optimizer's kernels but for the stream; the table "updated" of what they go through: its tensor, or NULL where
// the role updates nothing. (optimizer_calls.c)
const char *update_call(const Emit *emit, const Role *role, const Step *step, const char *launcher);
const char *norm_call(const Emit *emit, const Role *role, const Node *node, const char *launcher);
const Tensor *emit_updated(Text *out, const Emit *emit, const Role *role);

// The loop of a STEP_CHUNKS, and its three matrix products but for their constants. alignment: of its operands. (chunk_calls.c)
void emit_chunks(Text *out, Kernels *kernels, const Role *role, const Step *step, const char *slot, const char *indent);
void describe_chunks(const Emit *emit, const Role *role, const Step *step, int alignment, Gemm gemms[3]);

// The launcher of an op's template for elements of a type. (calls.c)
const char *launcher_of(Kernels *kernels, Op op, Type type);

// Makes sure that a template with these functions is instantiated; returns the launcher's name.
const char *use_kernel(Kernels *kernels, const Kernel *kernel);

void emit_collective(Text *out, const Emit *emit, const Role *role, const Step *step, const char *slot, const char *indent); // communicate.c
void emit_messages(Text *out, const Emit *emit, const Role *role, const Step *step, const char *const slots[2], const char *indent);

// Fills the role's tables of GEMMs and convolutions and the steps' indices into them; writes them. (library.c)
void number_library_calls(const Emit *emit, Role *role);
void emit_library_tables(Text *out, const Emit *emit, const Role *role);
void emit_steps(Text *out, Kernels *kernels, Role *role, const Function *function);      // steps.c
void emit_program_file(Text *out, Kernels *kernels, const Role *role);                         // program.c
void emit_tables(Text *out, const Emit *emit, const Role *role);                               // tables.c
void emit_pieces(Text *out, const Emit *emit, const Role *role);        // the table "pieces" (pieces.c)
int count_pieces(const Emit *emit, const Node *node);   // rows of a PARAMETER or STATE node in it
bool emit_file_rules(Text *out, const Emit *emit);      // struct mp_files "files"; false: the spec says nothing
int emit_inputs(Text *out, const Emit *emit, const Role *role);   // the table "inputs" of a role; NULL: of the whole model; returns its rows
void emit_memory_header(Text *out, const Emit *emit);                                          // memory_header.c
void emit_kernels(Text *source, Text *header, const Kernels *kernels);                         // kernels.c
void emit_devices(Text *out, const Emit *emit, const char *build);                             // devices.c
void emit_banner(Text *out, const Emit *emit);          // "// Code generated by mpgen from …"
const char *read_template(const Emit *emit, const char *name); // of --templates or embedded; NUL-terminated (output.c)

#endif
