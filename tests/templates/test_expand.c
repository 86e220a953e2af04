// gcc -std=c11 -Wall -Wextra -Werror tests/templates/test_expand.c gen/emit/template.c gen/common.c gen/diagnostics.c -o T && T
// T NAME writes tests/templates/expected/NAME.* anew, for review; T --all FILE writes every template, instantiated.
//
// Expansion of templates: each case's kernel and declaration are compared with the files of its name in expected/;
// wrong bindings must end the program with EXIT_BUG and the message in expected/errors.txt. Run in the repository's
// root. What the expected kernels compute is tested by test_instances.cu.
#define _POSIX_C_SOURCE 200809L
#include "../../gen/emit/template.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
	const char *name, *template_name, *type;
	Binding slots[9];
} Case;

static const Case cases[] = {
	{"row_sum", "sum", "float", {{0}}},
	{"update", "sgd", "double", {{0}}},
	// bias add and relu over [rows, columns]
	{"bias_relu", "elementwise_rows", "float", {
		{"kernel_parameters", "float *__restrict__ y0, const float *__restrict__ x0, const float *__restrict__ x1,"},
		{"parameters", "float *y0, const float *x0, const float *x1,"},
		{"arguments", "y0, x0, x1,"},
		{"body", "const auto in0 = mp_load<width>(x0 + i), in1 = mp_load<width>(x1 + column);\n"
			"float out0[width];\nMP_EACH_OF_STRIP(e, width) {\n\tfloat t0 = mp_add(in0[e], in1[e]);\n\tout0[e] = mp_relu(t0);\n}\n"
			"mp_store<width>(y0 + i, out0, width);"},
		{"addresses", "y0, x0, x1"},
		{"comment", "// y0: float[rows, columns] = relu(add(x0, x1)); x0: float[rows, columns]; x1: float[columns]"},
	}},
	// a product with a scalar in device memory
	{"mul_scalar", "elementwise", "float", {
		{"kernel_parameters", "float *__restrict__ y0, const float *__restrict__ x0, const float *__restrict__ x1,"},
		{"parameters", "float *y0, const float *x0, const float *x1,"},
		{"arguments", "y0, x0, x1,"},
		{"body", "const auto in0 = mp_load<width>(x0 + i);\n"
			"float out0[width];\nMP_EACH_OF_STRIP(e, width)\n\tout0[e] = mp_mul(in0[e], x1[0]);\nmp_store<width>(y0 + i, out0, width);"},
		{"addresses", "y0, x0"},
		{"comment", "// y0: float[n] = mul(x0, x1); x0: float[n]; x1: float[1]"},
	}},
	// expand [outer, inner] -> [outer, n, inner], times a tensor, in place: rows = outer * n, columns = inner
	{"expand_mul", "elementwise_rows", "float", {
		{"kernel_parameters", "float *__restrict__ y0, const float *__restrict__ x0, long n0,"},
		{"parameters", "float *y0, const float *x0, long n0,"},
		{"arguments", "y0, x0, n0,"},
		{"body", "const auto in0 = mp_load<width>(x0 + row / n0 * columns + column), was0 = mp_load<width>(y0 + i);\n"
			"float out0[width];\nMP_EACH_OF_STRIP(e, width) {\n\tfloat t0 = mp_copy(in0[e]);\n\tout0[e] = mp_mul(was0[e], t0);\n}\n"
			"mp_store<width>(y0 + i, out0, width);"},
		{"addresses", "y0, x0"},
		{"comment", "// y0: float[outer, n0, columns] *= expand(x0), rows = outer * n0; x0: float[outer, columns]"},
	}},
	// elements of two types: strips of the narrower one's
	{"widen", "elementwise", "mp_bf16", {
		{"kernel_parameters", "float *__restrict__ y0, const mp_bf16 *__restrict__ x0, const float *__restrict__ x1,"},
		{"parameters", "float *y0, const mp_bf16 *x0, const float *x1,"},
		{"arguments", "y0, x0, x1,"},
		{"body", "const auto in0 = mp_load<width>(x0 + i);\nconst auto in1 = mp_load<width>(x1 + i);\n"
			"float out0[width];\nMP_EACH_OF_STRIP(e, width)\n\tout0[e] = mp_add((float)in0[e], in1[e]);\n"
			"mp_store<width>(y0 + i, out0, width);"},
		{"addresses", "y0, x0, x1"},
		{"comment", "// y0: float[n] = add(x0, x1); x0: mp_bf16[n]; x1: float[n]"},
	}},
	// two outputs; an operand for each row, as in the gradient of a mean over columns
	{"gelu_two", "elementwise_rows", "float", {
		{"kernel_parameters", "float *__restrict__ y0, float *__restrict__ y1, const float *__restrict__ x0,\n"
			"const float *__restrict__ x1,"},
		{"parameters", "float *y0, float *y1, const float *x0, const float *x1,"},
		{"arguments", "y0, y1, x0, x1,"},
		{"body", "const auto in0 = mp_load<width>(x0 + i);\nfloat out0[width], out1[width];\n"
			"MP_EACH_OF_STRIP(e, width) {\n\tfloat t0 = mp_scale(x1[row], 0.25f);\n\n\tout0[e] = mp_gelu_erf_grad(t0, in0[e]);\n"
			"\tout1[e] = mp_gelu_tanh(in0[e]);\n}\nmp_store<width>(y0 + i, out0, width);\nmp_store<width>(y1 + i, out1, width);"},
		{"addresses", "y0, y1, x0"},
		{"comment", ""},
	}},
	// optional slots: a sum in front of a norm, a sum behind its gradient
	{"add_layer_norm", "layer_norm", "float", {
		{"kernel_parameters", "float *__restrict__ x, const float *__restrict__ x0, const float *__restrict__ x1,"},
		{"parameters", "float *x, const float *x0, const float *x1,"},
		{"arguments", "x, x0, x1,"},
		{"addresses", "x, x0, x1"},
		{"row", "const auto held0 = mp_hold<width, MP_HELD>(team, x0 + first);\nconst auto held1 = mp_hold<width, MP_HELD>(team, x1 + first);\n"
			"const auto row = mp_make<width>(team, x + first, [](auto strip, auto &to, auto in0, auto in1) {\n"
			"\tfor (int e = 0; e < strip; e++) {\n\t\tfloat t0 = mp_add(in0[e], in1[e]);\n\t\tto[e] = t0;\n\t}\n}, held0, held1);"},
		{"comment", "// x is made here: add(x0, x1)"},
	}},
	{"layer_norm_grad_add", "layer_norm_grad", "float", {
		{"kernel_parameters", "const float *__restrict__ x0,"},
		{"parameters", "const float *x0,"},
		{"arguments", "x0,"},
		{"addresses", "x0,"},
		{"reads", "const auto held0 = mp_hold<width, held>(team, x0 + first);"},
		{"strips", "const auto in0 = held0.at(k, c);"},
		{"result", "float t1 = mp_add(in0[e], t0);\nto[e] = t1;"},
		{"comment", "// With t0 for what is dx above, dx = add(x0, t0); x0 and so on have its shape"},
	}},
};

static const char *const build_paths[] = {
	"program_0.cu", "kernels.cu", "kernels.h", "devices.c", "main.c", "plan.txt", "runtime/mp.h", "runtime/launch.c",
	"runtime/cuda/gemm.c", "runtime/cuda/products_sm90.cu", "runtime/host/device.c", "runtime/host/nccl.h",
};

static char *read_file(Arena *arena, const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return NULL;
	Text text = {.arena = arena};
	for (int byte; (byte = fgetc(file)) != EOF;)
		text_add(&text, "%c", byte);
	fclose(file);
	return text.length ? text.at : "";
}

static char *read_template(Arena *arena, const char *name)
{
	char *text = read_file(arena, arena_printf(arena, "templates/%s", name));
	if (!text) {
		fprintf(stderr, "cannot read templates/%s: run in the repository's root\n", name);
		exit(1);
	}
	return text;
}

static int slot_count(const Case *c)
{
	int count = 0;
	while (c->slots[count].name)
		count++;
	return count;
}

// Compares with the expected file, or writes it.
static bool settle(Arena *arena, const char *file, const Text *got, bool write)
{
	const char *path = arena_printf(arena, "tests/templates/expected/%s", file);
	if (write) {
		FILE *out = fopen(path, "w");
		if (!out || fwrite(got->at, 1, got->length, out) != got->length || fclose(out)) {
			perror(path);
			exit(1);
		}
		printf("wrote %s\n", path);
		return true;
	}
	const char *want = read_file(arena, path);
	bool same = want && strcmp(want, got->at) == 0;
	printf("%-24s %s\n", file, same ? "ok" : "FAILED");
	if (!same)
		fprintf(stderr, "expected %s, got:\n%s\n", path, got->at);
	return same;
}

static bool run_case(Arena *arena, const Case *c, bool write)
{
	const char *text = read_template(arena, arena_printf(arena, "%s.cu", c->template_name));
	Binding types[] = {{"real", c->type}, {"full", c->type}};
	int count = strstr(text, " full; //@ param") ? 2 : 1;
	Text kernel = {.arena = arena}, declaration = {.arena = arena};
	expand_template(&kernel, c->template_name, text, c->name, types, count, c->slots, slot_count(c));
	template_declaration(&declaration, c->template_name, text, c->name, types, count, c->slots, slot_count(c));
	bool kernel_ok = settle(arena, arena_printf(arena, "%s.cu", c->name), &kernel, write);
	return settle(arena, arena_printf(arena, "%s.h", c->name), &declaration, write) && kernel_ok;
}

static bool run_build_file(Arena *arena, bool write)
{
	Text out = {.arena = arena};
	expand_build_file(&out, read_template(arena, "build.ninja"),
	                  "# Code generated by mpgen from two words.lua; DO NOT EDIT.", "two words", build_paths,
	                  sizeof build_paths / sizeof *build_paths);
	return settle(arena, "build.ninja", &out, write);
}

static const Binding float_types[] = {{"real", "float"}, {"full", "float"}, {"imaginary", "float"}};
static const Binding bad_slot[] = {{"nonsense", ""}};

static void wrong_use(Arena *arena, int which)
{
	const char *sum = read_template(arena, "sum.cu"), *rows = read_template(arena, "elementwise_rows.cu");
	Text out = {.arena = arena};
	switch (which) {
	case 0: expand_template(&out, "sum", sum, "s", NULL, 0, NULL, 0); break;
	case 1: expand_template(&out, "sum", sum, "s", float_types, 3, NULL, 0); break;
	case 2: expand_template(&out, "sum", sum, "s", float_types, 2, bad_slot, 1); break;
	case 3: expand_template(&out, "elementwise_rows", rows, "s", float_types, 1, NULL, 0); break;
	case 4: expand_template(&out, "product", sum, "s", float_types, 2, NULL, 0); break;
	case 5: expand_template(&out, "t", "int x; //@ parameter\n", "s", NULL, 0, NULL, 0); break;
	case 6: expand_template(&out, "t", "//@ slot nonsense\nint x;\n", "s", NULL, 0, bad_slot, 1); break;
	case 7: expand_template(&out, "t", "//@ slots\n", "s", NULL, 0, NULL, 0); break;
	case 8: template_declaration(&out, "t", "int x;\n", "s", NULL, 0, NULL, 0); break;
	}
}

// The messages of all wrong uses, one a line, with the exit status when it is not EXIT_BUG.
static bool run_errors(Arena *arena, bool write)
{
	Text out = {.arena = arena};
	for (int which = 0; which <= 8; which++) {
		int ends[2];
		if (pipe(ends))
			exit(1);
		fflush(stdout);
		pid_t child = fork();
		if (child == 0) {
			dup2(ends[1], 2);
			wrong_use(arena, which);
			fputs("accepted\n", stderr);
			_exit(0);
		}
		close(ends[1]);
		char bytes[512];
		for (ssize_t count; (count = read(ends[0], bytes, sizeof bytes)) > 0;)
			text_add_bytes(&out, bytes, count);
		close(ends[0]);
		int status;
		waitpid(child, &status, 0);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_BUG)
			text_add(&out, "status %d\n", status);
	}
	return settle(arena, "errors.txt", &out, write);
}

// Every kernel template with the slots' own demo lines replaced by those of the cases.
static void write_all(Arena *arena, const char *path)
{
	Text source = {.arena = arena}, header = {.arena = arena};
	DIR *folder = opendir("templates");
	for (struct dirent *entry; folder && (entry = readdir(folder));) {
		size_t length = strlen(entry->d_name);
		if (length < 4 || strcmp(entry->d_name + length - 3, ".cu") != 0)
			continue;
		char *name = arena_printf(arena, "%.*s", (int)length - 3, entry->d_name);
		const char *text = read_template(arena, entry->d_name);
		bool rows = strcmp(name, "elementwise_rows") == 0;
		const Case *c = rows ? &cases[2] : strcmp(name, "elementwise") == 0 ? &cases[3] : &cases[0];
		const Binding *types = float_types + !strstr(text, " real; //@ param"); // some compute in full precision alone
		int count = (int)(float_types + 1 + !!strstr(text, " full; //@ param") - types);
		expand_template(&source, name, text, name, types, count, c->slots, slot_count(c));
		template_declaration(&header, name, text, name, types, count, c->slots, slot_count(c));
	}
	closedir(folder);
	FILE *out = fopen(path, "w");
	if (!out)
		exit(1);
	fprintf(out, "#include \"mp_kernel.h\"\n\n%s\n%s", header.at, source.at);
	fclose(out);
}

int main(int argc, char **argv)
{
	Arena *arena = arena_new();
	bool ok = true;
	if (argc == 3 && strcmp(argv[1], "--all") == 0) {
		write_all(arena, argv[2]);
		return 0;
	}
	const char *only = argc > 1 ? argv[1] : NULL;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (!only || strcmp(only, cases[i].name) == 0)
			ok &= run_case(arena, &cases[i], only != NULL);
	if (!only || strcmp(only, "build.ninja") == 0)
		ok &= run_build_file(arena, only != NULL);
	if (!only || strcmp(only, "errors") == 0)
		ok &= run_errors(arena, only != NULL);
	arena_free(arena);
	return !ok;
}
