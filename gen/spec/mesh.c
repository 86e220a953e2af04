// mesh.c: the sizes of the mesh of devices, from the spec ({dp = 2, pp = 2}) or the command line ("dp=2,pp=2").
#include <stdlib.h>
#include <string.h>

#include "session.h"

enum { MOST_DEVICES = 1 << 20 };

static const struct {
	const char *name;
	Axis axis;
} axes[] = {{"dp", AXIS_DP}, {"tp", AXIS_TP}, {"pp", AXIS_PP}};

enum { AXES = sizeof axes / sizeof *axes };

static const char axes_help[] = "its axes: dp (data), tp (tensor), pp (pipeline)";

static void one_device(int mesh[ALL_AXES])
{
	for (int i = 0; i < AXES; i++)
		mesh[axes[i].axis] = 1;
}

static bool too_large(const int mesh[ALL_AXES])
{
	double devices = 1;
	for (int i = 0; i < AXES; i++)
		devices *= mesh[axes[i].axis];
	return devices > MOST_DEVICES;
}

void read_mesh(lua_State *L, int table, int mesh[ALL_AXES])
{
	static const char *const known[] = {"dp", "tp", "pp", NULL};
	if (!lua_istable(L, table))
		spec_error(L, "mesh must be a table such as { dp = 2, pp = 2 }, not %s\n%s", describe(L, table), axes_help);
	check_fields(L, table, "mesh", known);
	for (int i = 0; i < AXES; i++)
		mesh[axes[i].axis] = (int)field_integer(L, table, "mesh", axes[i].name, 1, 1);
	if (too_large(mesh))
		spec_error(L, "mesh: more than %d devices", MOST_DEVICES);
}

static _Noreturn void refuse_axis(Arena *arena, const char *text, const char *name)
{
	const char *names[AXES];
	for (int i = 0; i < AXES; i++)
		names[i] = axes[i].name;
	const char *near = nearest_name(name, names, AXES);
	fail(EXIT_USAGE, "--mesh %s: there is no axis '%s'%s\n%s", text, name,
	     near ? arena_printf(arena, "\ndid you mean '%s'?", near) : "", axes_help);
}

// One "dp=2" of the text.
static void parse_axis(Arena *arena, const char *text, const char *part, int mesh[ALL_AXES], bool seen[ALL_AXES])
{
	const char *equals = strchr(part, '=');
	if (!equals)
		fail(EXIT_USAGE, "--mesh %s: expected AXIS=SIZE,… or 1, not '%s'\n%s", text, part, axes_help);
	const char *name = arena_printf(arena, "%.*s", (int)(equals - part), part);
	for (int i = 0; i < AXES; i++) {
		if (strcmp(axes[i].name, name))
			continue;
		char *end;
		long size = strtol(equals + 1, &end, 10);
		bool digit = equals[1] >= '0' && equals[1] <= '9';
		if (!digit || *end || size < 1 || size > MOST_DEVICES)
			fail(EXIT_USAGE, "--mesh %s: the size of '%s' must be a positive integer, not '%s'", text, name, equals + 1);
		if (seen[axes[i].axis])
			fail(EXIT_USAGE, "--mesh %s: '%s' is given twice", text, name);
		seen[axes[i].axis] = true;
		mesh[axes[i].axis] = (int)size;
		return;
	}
	refuse_axis(arena, text, name);
}

void parse_mesh(const char *text, int mesh[ALL_AXES])
{
	one_device(mesh);
	if (!strcmp(text, "1"))
		return;
	Arena *arena = arena_new();
	bool seen[ALL_AXES] = {0};
	const char *at = text;
	for (;;) {
		size_t length = strcspn(at, ",");
		parse_axis(arena, text, arena_printf(arena, "%.*s", (int)length, at), mesh, seen);
		if (!at[length])
			break;
		at += length + 1;
	}
	if (too_large(mesh))
		fail(EXIT_USAGE, "--mesh %s: more than %d devices", text, MOST_DEVICES);
	arena_free(arena);
}
