// diagnostics.c: messages to the user.
//
// Every mistake is reported in one form, so that editors can jump to it and people learn to read it once:
//
//     mlp.lua:9: error: matmul: the last dim of the first is 784, the last dim of the second is 785
//         9 |   local h = nn.linear("fc1", t.image, 500, { weight = w })
//           | note: further lines of the message
//     mlp.lua:31: note: called from here
//
// Text from a spec may hold anything: control characters are shown as \xNN so that a message cannot repaint the
// terminal, and overlong lines are cut. Messages are formatted into fixed space: a report of running out of
// memory must not need memory.
#define _POSIX_C_SOURCE 200809L
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_MESSAGE = 8192, LONGEST_SOURCE_LINE = 160, MOST_CALLERS = 8 };

static struct {
	bool quiet;
} diagnostics;

void diagnostics_quiet(bool quiet)
{
	diagnostics.quiet = quiet;
}

// Length of the bidirectional control (U+200E/F, U+202A-E, U+2066-9) that `at` begins with, or 0: such characters
// make a line read differently from what it is.
static int bidirectional(const unsigned char *at)
{
	if (at[0] != 0xe2)
		return 0;
	bool marks = at[1] == 0x80 && (at[2] == 0x8e || at[2] == 0x8f || (at[2] >= 0xaa && at[2] <= 0xae));
	bool isolates = at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9;
	return marks || isolates ? 3 : 0;
}

static void print_clean(const char *text, size_t length)
{
	for (const unsigned char *at = (const unsigned char *)text, *end = at + length; at < end; at++) {
		int hidden = end - at >= 3 ? bidirectional(at) : 0;
		bool c1 = at[0] == 0xc2 && end - at >= 2 && at[1] >= 0x80 && at[1] < 0xa0;
		if (hidden || c1) {
			for (int i = 0; i < (hidden ? hidden : 2); i++)
				fprintf(stderr, "\\x%02x", at[i]);
			at += (hidden ? hidden : 2) - 1;
		} else if (*at == '\t') {
			fputc(' ', stderr);
		} else if (*at < 0x20 || *at == 0x7f) {
			fprintf(stderr, "\\x%02x", *at);
		} else {
			fputc(*at, stderr);
		}
	}
}

static void print_place(const Location *location)
{
	print_clean(location->file, strlen(location->file));
	if (location->line > 0)
		fprintf(stderr, ":%d", location->line);
}

// The source line under a message, behind a gutter with its number. A file that cannot be read shows nothing.
static void print_source_line(const Location *location)
{
	FILE *file = location->line > 0 ? fopen(location->file, "r") : NULL;
	if (!file)
		return;
	char *line = NULL;
	size_t capacity = 0;
	ssize_t length = -1;
	for (int i = 0; i < location->line; i++)
		if ((length = getline(&line, &capacity, file)) < 0)
			break;
	while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
		length--;
	if (length > 0) {
		bool cut = length > LONGEST_SOURCE_LINE;
		fprintf(stderr, "%5d | ", location->line);
		print_clean(line, cut ? LONGEST_SOURCE_LINE : (size_t)length);
		fputs(cut ? "…\n" : "\n", stderr);
	}
	free(line);
	fclose(file);
}

static void print_callers(const Location *location)
{
	int shown = 0;
	for (const Location *inner = location, *caller; (caller = inner->caller) && shown < MOST_CALLERS; inner = caller) {
		if (caller->line == inner->line && !strcmp(caller->file, inner->file))
			continue; // a recursion
		print_place(caller);
		fputs(": note: called from here\n", stderr);
		shown++;
	}
}

// The first line of the message, the source line, the further lines as notes, then the call chain.
static void report(const Location *location, const char *kind, const char *format, va_list arguments)
{
	char message[LONGEST_MESSAGE];
	vsnprintf(message, sizeof message, format, arguments);
	fflush(stdout);
	if (location)
		print_place(location);
	else
		fputs("mpgen", stderr);
	fprintf(stderr, ": %s: ", kind);
	const char *line = message;
	for (bool first = true; line; first = false) {
		const char *end = strchr(line, '\n');
		if (!first)
			fputs("      | note: ", stderr);
		print_clean(line, end ? (size_t)(end - line) : strlen(line));
		fputc('\n', stderr);
		if (first && location)
			print_source_line(location);
		line = end && end[1] ? end + 1 : NULL;
	}
	if (!location)
		return;
	if (location->library) {
		print_place(location->library);
		fputs(": note: found in the library here\n", stderr);
	}
	print_callers(location);
}

void fail_at(const Location *location, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	report(location, "error", format, arguments);
	va_end(arguments);
	exit(EXIT_SPEC);
}

void fail(int status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	report(NULL, "error", format, arguments);
	va_end(arguments);
	exit(status);
}

void warn_at(const Location *location, const char *format, ...)
{
	if (diagnostics.quiet)
		return;
	va_list arguments;
	va_start(arguments, format);
	report(location, "warning", format, arguments);
	va_end(arguments);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int least(int a, int b, int c)
{
	int m = a < b ? a : b;
	return m < c ? m : c;
}

// Edit distance with swaps of neighbours (optimal string alignment) as one step: "imgae" is one step from "image".
static int edit_distance(const char *a, int a_length, const char *b, int b_length)
{
	enum { LONGEST = 64 };
	if (a_length > LONGEST || b_length > LONGEST)
		return LONGEST;
	int row[3][LONGEST + 1]; // rows i - 2, i - 1 and i of the table, at i % 3
	for (int j = 0; j <= b_length; j++)
		row[0][j] = j;
	for (int i = 1; i <= a_length; i++) {
		int *now = row[i % 3], *before = row[(i + 2) % 3], *two_before = row[(i + 1) % 3];
		now[0] = i;
		for (int j = 1; j <= b_length; j++) {
			char x = lower(a[i - 1]), y = lower(b[j - 1]);
			now[j] = least(before[j] + 1, now[j - 1] + 1, before[j - 1] + (x != y));
			bool swapped = i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y;
			if (swapped && two_before[j - 2] + 1 < now[j])
				now[j] = two_before[j - 2] + 1;
		}
	}
	return row[a_length % 3][b_length];
}

const char *nearest_name(const char *name, const char *const *candidates, int count)
{
	const char *nearest = NULL;
	int length = (int)strnlen(name, 1000), best = length < 3 ? 1 : (length + 2) / 3;
	for (int i = 0; i < count; i++) {
		int other = (int)strnlen(candidates[i], 1000);
		int distance = edit_distance(name, length, candidates[i], other);
		bool shares_a_letter = distance < (length > other ? length : other);
		if (shares_a_letter && (distance < best || (distance == best && !nearest))) {
			best = distance;
			nearest = candidates[i];
		}
	}
	return nearest;
}
