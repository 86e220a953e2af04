// session.h: what the files of the spec room share: the state of one run of a spec, and their functions.
//
// A Session is reachable from every Lua state of the run (session_of), also from coroutines. A mistake of the user
// ends mpgen at once through spec_error or fail_at, so pcall in a spec never hides one.
#ifndef SESSION_H
#define SESSION_H

#include <lua.h>

#include "spec.h"

typedef LIST(const char *) Names;

// What the spec room knows about a tensor beyond the graph.
typedef struct {
	const char *scope;                      // the layer it was made in: "h3.attn", "" outside of layers
	Tensor *count;                          // of a mean over valid labels: their number
	const Location *pinned[PLACED_AXES];    // where the spec fixed its placement, or NULL
} TensorInfo;

typedef struct {
	const char *name;       // as shown: "specs/mlp.lua", "nn.lua (built in)"
	const char *short_name; // as Lua shortens it in its own messages
	bool library;
} SourceFile;

typedef struct {
	const char *name;
	const Location *location;
	const char *value;      // as text, for Spec.options
} Option;

// One declared input: "image" = f32[784] for each sample.
typedef struct {
	const char *name;
	bool real;              // of the compute type; else i32
	bool next_tokens;       // token data: the labels, which are ids of the vocabulary or -1
	int dims;
	long shape[MAX_DIMS];
} InputDeclaration;

typedef struct {
	DataKind kind;
	LIST(InputDeclaration) inputs; // sorted by name
	long vocabulary;        // DATA_TOKENS: ids are below it
	const Location *location;
} DataDeclaration;

// What mp.program said. forward and the function itself stay in Lua's registry.
typedef struct {
	const char *name;
	const DataDeclaration *data;
	const Optimizer *optimizer; // NULL: none
	long batch;
	int microbatches, steps;
	int mesh[ALL_AXES];
	const Location *location;
} Program;

// The stretch of the graph that the next node begins, decided by mp.block, mp.cut and layers and made by the first
// node: so no block is ever empty.
typedef struct {
	bool wanted, cut, unit;
	const char *name;       // NULL: that of its first node
	const Location *location;
} PendingBlock;

typedef struct {
	Arena *arena;
	const SpecOptions *options;
	Spec *spec;
	Graph *graph;           // NULL until forward runs
	lua_State *state;       // the main one

	size_t memory;          // bytes that Lua holds
	long instructions;      // executed, in steps of the hook
	Location refused;       // where memory was refused last

	LIST(SourceFile) files;
	Names loading;          // modules being loaded, outermost first
	LIST(Option) declared;  // options, in order of declaration
	Program *program;

	bool reads_sequence_parallel; // the spec asked whether sequences are split
	const char *scope;      // path of the open scopes: "h3.attn"; "" outside
	int open_blocks;        // mp.block calls around the running code
	bool block_used;        // the last block of the graph has nodes that do work
	PendingBlock pending;
	LIST(TensorInfo *) tensors; // by tensor id; NULL where nothing is known
} Session;

Session *session_of(lua_State *L);

// ---- sandbox.c: limits on memory and time

// A Lua state whose memory and instructions are bounded. `session` must stay where it is.
lua_State *sandbox_open(Session *session);

// Counts work that C does for the spec as so many instructions.
void charge(lua_State *L, long instructions);

// Ends mpgen with a message when the code until deadline_stop takes too long, whatever it does.
void deadline_start(const char *file);
void deadline_stop(void);

// ---- library.c, ordered.c, modules.c: the standard library that a spec sees

void open_safe_library(lua_State *L);
void open_ordered(lua_State *L);                // pairs, next, table.sort
int ordered_keys(lua_State *L, int table);      // pushes an array of the table's keys in order; returns their number
void open_modules(lua_State *L);                // require
void load_file(lua_State *L, const char *path); // pushes the chunk of the spec; ends mpgen when it is not Lua

// ---- locations.c: the user's line

const Location *here(lua_State *L);
_Noreturn void spec_error(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3)));
void add_source(lua_State *L, const char *name, bool library);  // before its chunk is loaded
const char *chunk_name(lua_State *L, const char *name, bool library);
// Calls like lua_call; an error of the user's code ends mpgen with its message and line.
void call_spec(lua_State *L, int arguments, int results);
_Noreturn void report_message(lua_State *L, const char *message); // "file:line: …" as Lua words it

// ---- arguments.c: reading what the user passed

const char *describe(lua_State *L, int index);  // "nil", "the string 'abc'", "a tensor f32[64,10]"
const char *did_you_mean(Session *session, const char *name, const Names *candidates); // "\ndid you mean 'x'?" or ""
void add_sorted_keys(lua_State *L, int table, Names *names);    // the table's string keys
void check_fields(lua_State *L, int table, const char *what, const char *const *known); // known: ends with NULL
long take_integer(lua_State *L, int index, const char *what, long least);
double take_number(lua_State *L, int index, const char *what);
const char *take_string(lua_State *L, int index, const char *what);
const char *take_name(lua_State *L, int index, const char *what);   // "fc1", "h.3.attn"
long field_integer(lua_State *L, int table, const char *what, const char *name, long least, long missing);
double field_number(lua_State *L, int table, const char *what, const char *name, double missing);
int take_dim(lua_State *L, int index, const char *what, const Tensor *t); // 1-based or negative -> 0-based
int take_shape(lua_State *L, int table, const char *what, long least, long *shape); // extents; returns dims

// Values that mp makes and takes back: data declarations, optimizers, inits, the program.
typedef enum { HANDLE_DATA, HANDLE_OPTIMIZER, HANDLE_INIT, HANDLE_PROGRAM } HandleKind;
void push_handle(lua_State *L, HandleKind kind, const void *object);
const void *take_handle(lua_State *L, int index, HandleKind kind);  // NULL when it is something else
void open_handles(lua_State *L);

// ---- the functions of mp: each adds its own to the table on top of the stack

void open_options(lua_State *L);
void open_program(lua_State *L);
void open_optimizers(lua_State *L);      // mp.sgd, mp.adamw
void open_operations(lua_State *L);
void open_images(lua_State *L);
void open_norms(lua_State *L);
void open_parameters(lua_State *L);
void open_blocks(lua_State *L);
void open_tensors(lua_State *L);        // the metatable of tensors; adds nothing to mp
int refuse_unknown_field(lua_State *L); // __index of mp and its modules; upvalue 1: the table's name

void check_defines(Session *session);   // after the spec ran: every -D names an option
void read_mesh(lua_State *L, int table, int mesh[ALL_AXES]);

// Scopes, blocks and names. (blocks.c)
const char *scoped(Session *session, const char *name);
void begin_node(lua_State *L);          // before the graph gets a node that does work: makes a pending block
void end_node(Session *session, const Node *node);

// Tensors. (tensors.c)
void push_tensor(lua_State *L, Tensor *tensor);
Tensor *to_tensor(lua_State *L, int index);     // NULL when it is something else
Tensor *take_tensor(lua_State *L, int index, const char *what);
TensorInfo *tensor_info(Session *session, const Tensor *tensor);
Graph *graph_of(lua_State *L, const char *what); // an error while forward does not run

// How weights lie in files. (files.c)
void read_pieces(lua_State *L, Parameter *parameter);   // the list on top of the stack
void refuse_common_file_names(Session *session);        // after forward ran
void read_program_files(lua_State *L, int table, Spec *spec);
const char *read_config(lua_State *L);                  // the table on top of the stack as the text of config.json

// Operations. (operations.c)
Tensor *take_operand(lua_State *L, int index, const char *what);    // a tensor argument
// The path of an operation: in the layer of its one operand, or in the open scope.
const char *name_after(Session *session, Tensor *const *in, int ins, const char *name);
// Makes the node and pushes its first output; name is the last part of its path.
Tensor *make_operation(lua_State *L, Op op, const char *name, Tensor *const *in, int ins, const Attributes *attributes);

// The arithmetic metamethods, into the table on top of the stack. (operations.c)
void add_arithmetic(lua_State *L);

// A Lua function: runs the spec's forward over its inputs and fills the graph's results. (forward.c)
int run_forward(lua_State *L);

#endif
