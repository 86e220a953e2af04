// cc -Igen tests/templates/test_embed.c EMBEDDED.c -o T && T PATH...      (see run.sh)
//
// The files that gen/embed.c embedded as EMBEDDED.c are the named ones, in that order (sorted), byte for byte what is on disk.
#include "embedded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int same_bytes(const char *path)
{
	size_t size = 0, at = 0;
	const char *bytes = embedded_file(path, &size);
	FILE *file = fopen(path, "rb");
	if (!bytes || !file)
		return 0;
	int byte;
	while ((byte = fgetc(file)) != EOF && at < size && (unsigned char)bytes[at] == byte)
		at++;
	fclose(file);
	return byte == EOF && at == size && bytes[size] == 0;
}

int main(int argc, char **argv)
{
	int failures = 0;
	for (int i = 1; i < argc; i++) {
		int ok = embedded_path(i - 1) && strcmp(embedded_path(i - 1), argv[i]) == 0 && same_bytes(argv[i]);
		printf("embedded %-16s %s\n", argv[i], ok ? "ok" : "FAILED");
		failures += !ok;
	}
	size_t size;
	failures += embedded_path(argc - 1) != NULL || embedded_file("nothing", &size) != NULL;
	return failures > 0;
}
