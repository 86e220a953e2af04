// template.h: expansion of the files in templates/: kernels and the build file.
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "../common.h"

typedef struct {
	const char *name;
	const char *value;
} Binding;

// Appends one kernel template, instantiated, to kernels.cu.
//
// template_name  "sum": the stem of templates/sum.cu, whose functions start with tmpl_sum
// template_text  the file, NUL-terminated (embedded_file)
// new_name       replaces tmpl_NAME: "bias_relu" makes bias_relu, the launcher, and bias_relu_kernel from
//                tmpl_elementwise and tmpl_elementwise_kernel
// params         a value for the name that each line marked //@ param declares; the line goes and the value takes
//                the name's place everywhere, comments too: {"real", "float"}
// slots          the lines that replace those from `//@ slot NAME` to `//@ end`; several lines are separated by '\n'
//                and each is indented as the marker was. Names of params mean nothing in them: write float. A slot
//                marked `//@ optional NAME` keeps the template's lines where it is not bound.
//
// What stands before the template's last #include (its opening paragraph, for readers of the template) is left out;
// a heading that names the template takes its place, after a blank line unless out is empty. A param or slot of the
// template that is not bound, or one bound that the template does not have, is a bug of mpgen (EXIT_BUG).
void expand_template(Text *out, const char *template_name, const char *template_text, const char *new_name,
                     const Binding *params, int param_count, const Binding *slots, int slot_count);

// Appends the launcher's contract, a comment, and its prototype to kernels.h, after a blank line unless out is empty.
// Arguments as for expand_template.
void template_declaration(Text *out, const char *template_name, const char *template_text, const char *new_name,
                          const Binding *params, int param_count, const Binding *slots, int slot_count);

// Appends the build file of an emitted program, from templates/build.ninja.
//
// header        comment lines for the top, each with its '#', without the last '\n'
// program_name  as in bin/NAME
// paths         the emitted files relative to the emitted directory, in the order wanted. Those ending in .c and .cu
//               are compiled: runtime/cuda/ for the CUDA build, runtime/host/ for the host, others for both. On the
//               host, what lies in runtime/ goes through the archive that can be taken prebuilt. cuDNN is linked if
//               runtime/cuda/conv.c is among them.
void expand_build_file(Text *out, const char *template_text, const char *header, const char *program_name,
                       const char *const *paths, int count);

#endif
