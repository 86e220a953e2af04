// check.c: --check, whether a directory is what would be emitted now.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

// The line that starts at c, without its newline.
static int line_length(const char *c)
{
	return (int)strcspn(c, "\n");
}

// Prints the first lines that differ: enough to see what changed.
static void print_difference(const char *path, const char *old, const char *new)
{
	int line = 1;
	while (*old && *new && line_length(old) == line_length(new) && !strncmp(old, new, (size_t)line_length(old))) {
		old += line_length(old) + (old[line_length(old)] == '\n');
		new += line_length(new) + (new[line_length(new)] == '\n');
		line++;
	}
	printf("%s:%d differs\n", path, line);
	if (*old)
		printf("-%.*s\n", line_length(old), old);
	if (*new)
		printf("+%.*s\n", line_length(new), new);
}

// Manifests that differ in mpgen's version alone, and the hashes that follow from it, count as equal.
static bool is_version_only(const char *path)
{
	return !strcmp(path, "manifest.txt");
}

bool check_output(Arena *arena, const Output *output, const char *directory, bool ignore_version)
{
	int root = open_output(arena, directory);
	if (root < 0) {
		printf("%s does not exist\n", directory);
		return false;
	}
	bool same = true;
	for (int i = 0; i < output->files.count; i++) {
		const File *file = &output->files.at[i];
		size_t length;
		const char *old = read_below(arena, root, file->path, &length);
		if (!old)
			printf("%s is missing\n", file->path);
		else if (length == file->length && !memcmp(old, file->bytes, length))
			continue;
		else if (ignore_version && is_version_only(file->path))
			continue;
		else
			print_difference(file->path, old, arena_printf(arena, "%.*s", (int)file->length, file->bytes));
		same = false;
	}
	Paths ours = listed_files(arena, root);
	for (int i = 0; i < ours.count; i++) {
		bool wanted = false;
		for (int k = 0; k < output->files.count; k++)
			wanted |= !strcmp(ours.at[i], output->files.at[k].path);
		if (!wanted) {
			printf("%s is no longer part of the program\n", ours.at[i]);
			same = false;
		}
	}
	close(root);
	return same;
}
