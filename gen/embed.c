// embed.c: the tool that turns files into C source at build time, so that mpgen is one self-contained program.
//
//   embed OUT.c PATH...
//
// writes OUT.c, which defines the functions of gen/embedded.h over the named files, under the names given (run it
// in the repository's root). Each file is a string literal, one C line for each of its lines: quick to compile, and
// no tool beyond the C compiler. Files are sorted by path, so the order of the arguments does not matter.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void stop(const char *what, const char *path)
{
	fprintf(stderr, "embed: %s: ", path);
	perror(what);
	exit(1);
}

// One byte of a string literal. Three octal digits always: a digit may follow. '?' could start a trigraph.
static void write_byte(FILE *out, int byte)
{
	if (byte == '\t')
		fputs("\\t", out);
	else if (byte == '"' || byte == '\\' || byte == '?')
		fprintf(out, "\\%c", byte);
	else if (byte < ' ' || byte > '~')
		fprintf(out, "\\%03o", (unsigned)byte);
	else
		fputc(byte, out);
}

// Writes `static const char file_INDEX[] = "…";` and returns the number of bytes of the file.
static size_t write_array(FILE *out, const char *path, int index)
{
	FILE *in = fopen(path, "rb");
	if (!in)
		stop("cannot read", path);
	size_t size = 0;
	bool open = false;
	fprintf(out, "// %s\nstatic const char file_%d[] =\n", path, index);
	for (int byte; (byte = fgetc(in)) != EOF; size++) {
		if (!open)
			fputs("\t\"", out);
		open = byte != '\n';
		if (open)
			write_byte(out, byte);
		else
			fputs("\\n\"\n", out);
	}
	if (ferror(in))
		stop("cannot read", path);
	fclose(in);
	fputs(open ? "\";\n\n" : "\t\"\";\n\n", out);
	return size;
}

static void write_functions(FILE *out)
{
	fputs("const char *embedded_file(const char *path, size_t *size)\n"
	      "{\n"
	      "\tfor (size_t i = 0; files[i].path; i++)\n"
	      "\t\tif (strcmp(files[i].path, path) == 0) {\n"
	      "\t\t\t*size = files[i].size;\n"
	      "\t\t\treturn files[i].bytes;\n"
	      "\t\t}\n"
	      "\treturn NULL;\n"
	      "}\n\n"
	      "const char *embedded_path(int index)\n"
	      "{\n"
	      "\treturn files[index].path;\n"
	      "}\n", out);
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fputs("usage: embed OUT.c PATH...\n", stderr);
		return 2;
	}
	char **paths = argv + 2;
	int count = argc - 2;
	qsort(paths, count, sizeof *paths, compare_paths);
	FILE *out = fopen(argv[1], "w");
	size_t *sizes = calloc(count + 1, sizeof *sizes);
	if (!out || !sizes)
		stop("cannot write", argv[1]);
	fputs("// Made by gen/embed.c from the files that it names.\n"
	      "#include \"embedded.h\"\n\n#include <string.h>\n\n", out);
	for (int i = 0; i < count; i++)
		sizes[i] = write_array(out, paths[i], i);
	fputs("// Sorted by path; the end has none.\n"
	      "static const struct {\n\tconst char *path, *bytes;\n\tsize_t size;\n} files[] = {\n", out);
	for (int i = 0; i < count; i++)
		fprintf(out, "\t{\"%s\", file_%d, %zu},\n", paths[i], i, sizes[i]);
	fputs("\t{NULL, NULL, 0},\n};\n\n", out);
	write_functions(out);
	if (fclose(out))
		stop("cannot write", argv[1]);
	free(sizes);
	return 0;
}
