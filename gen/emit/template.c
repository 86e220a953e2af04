// template.c: expansion of templates.
//
// Kernels are files that compile as they stand, so they can be written, tested and measured without mpgen; C code that
// prints kernels can not. What may vary is little: a type, a name, the text between two markers. Hence three
// mechanisms, applied line by line in one pass: a line marked param declares a name that is replaced by a value, the
// prefix tmpl_NAME becomes the instance's name, and a marked slot is replaced by lines of the caller (an optional one keeps its
// own where the caller has none). Everything else
// passes unchanged, comments too, so the result reads as the template does. Markers start with //@ in kernels and
// with #@ in the build file.
#include "template.h"

#include <ctype.h>
#include <string.h>

typedef struct {
	const char *template_name;
	const char *marker;             // "//@" or "#@"
	const Binding *params;
	int param_count;
	const Binding *slots;
	int slot_count;
	bool *param_used, *slot_used;
	const char *old_name, *new_name;
} Expansion;

// One line without its '\n'; `text` begins after the indentation.
typedef struct {
	const char *start, *text, *end;
} Line;

// The line at *cursor, which moves to the next one; false at the end.
static bool next_line(const char **cursor, Line *line)
{
	if (!**cursor)
		return false;
	line->start = *cursor;
	line->end = strchr(*cursor, '\n');
	if (!line->end)
		line->end = *cursor + strlen(*cursor);
	*cursor = line->end + (*line->end == '\n');
	line->text = line->start;
	while (line->text < line->end && (*line->text == '\t' || *line->text == ' '))
		line->text++;
	return true;
}

static bool starts_with(const char *text, const char *end, const char *prefix)
{
	size_t length = strlen(prefix);
	return (size_t)(end - text) >= length && memcmp(text, prefix, length) == 0;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

// The binding of the name [at, at + length), or -1.
static int find_binding(const Binding *bindings, int count, const char *at, size_t length)
{
	for (int i = 0; i < count; i++)
		if (strlen(bindings[i].name) == length && memcmp(bindings[i].name, at, length) == 0)
			return i;
	return -1;
}

static _Noreturn void template_bug(const Expansion *e, const char *what, const char *at, size_t length)
{
	fail(EXIT_BUG, "template %s: %s '%.*s'", e->template_name, what, (int)length, at);
}

// The marked declaration `typedef float real; //@ param` or `const int COLS = 768; //@ param` declares the last
// word before its ';' or '='.
static void use_param(const Expansion *e, Line line)
{
	const char *end = line.text;
	while (end < line.end && *end != ';' && *end != '=')
		end++;
	while (end > line.text && !is_word(end[-1]))
		end--;
	const char *start = end;
	while (start > line.text && is_word(start[-1]))
		start--;
	int index = find_binding(e->params, e->param_count, start, end - start);
	if (index < 0)
		template_bug(e, "no value for param", start, end - start);
	e->param_used[index] = true;
}

// Appends [text, end) with params replaced by their values and the name's prefix by the instance's.
static void add_substituted(Text *out, const Expansion *e, const char *text, const char *end)
{
	while (text < end) {
		const char *word = text;
		while (text < end && is_word(*text))
			text++;
		if (text == word) {
			text_add_bytes(out, text++, 1);
			continue;
		}
		int param = find_binding(e->params, e->param_count, word, text - word);
		size_t prefix = e->old_name ? strlen(e->old_name) : 0;
		bool named = prefix && starts_with(word, text, e->old_name) && (word + prefix == text || word[prefix] == '_');
		if (param >= 0 && e->param_used[param]) {
			text_add(out, "%s", e->params[param].value);
		} else if (named) {
			text_add(out, "%s", e->new_name);
			text_add_bytes(out, word + prefix, text - word - prefix);
		} else {
			text_add_bytes(out, word, text - word);
		}
	}
}

// Appends a slot's value in place of the lines up to the end marker. An empty value leaves no line.
static void fill_slot(Text *out, const Expansion *e, Line slot, const char *name, const char **cursor)
{
	int index = find_binding(e->slots, e->slot_count, name, slot.end - name);
	if (index < 0)
		template_bug(e, "nothing for slot", name, slot.end - name);
	e->slot_used[index] = true;
	const char *value = e->slots[index].value;
	for (Line line; next_line(&value, &line);) {
		if (line.text < line.end)
			text_add_bytes(out, slot.start, slot.text - slot.start);
		text_add_bytes(out, line.start, line.end - line.start);
		text_add(out, "\n");
	}
	for (Line line; next_line(cursor, &line);)
		if (starts_with(line.text, line.end, e->marker)) {
			if ((size_t)(line.end - line.text) != strlen(e->marker) + 4 || memcmp(line.end - 4, " end", 4) != 0)
				template_bug(e, "marker inside a slot:", line.text, line.end - line.text);
			return;
		}
	template_bug(e, "no end of slot", name, slot.end - name);
}

// Whether the caller has lines for an optional slot.
static bool is_bound(const Expansion *e, const char *name, const char *end)
{
	return find_binding(e->slots, e->slot_count, name, end - name) >= 0;
}

// Appends the lines from `cursor` on. A blank line follows neither the start nor another blank line, which a marked
// line that went may have separated.
static void expand_lines(Text *out, const Expansion *e, const char *cursor)
{
	char *slot_marker = arena_printf(out->arena, "%s slot ", e->marker), *optional_marker = arena_printf(out->arena, "%s optional ", e->marker);
	char *param_marker = arena_printf(out->arena, "%s param", e->marker), *end_marker = arena_printf(out->arena, "%s end", e->marker);
	bool after_blank = true, inside = false; // of an optional slot that keeps its lines
	for (Line line; next_line(&cursor, &line);) {
		if (line.text == line.end) {
			if (!after_blank)
				text_add(out, "\n");
			after_blank = true;
			continue;
		}
		if (starts_with(line.text, line.end, slot_marker)) {
			fill_slot(out, e, line, line.text + strlen(slot_marker), &cursor);
		} else if (starts_with(line.text, line.end, optional_marker)) {
			inside = !is_bound(e, line.text + strlen(optional_marker), line.end);
			if (!inside)
				fill_slot(out, e, line, line.text + strlen(optional_marker), &cursor);
			continue;
		} else if (inside && starts_with(line.text, line.end, end_marker)) {
			inside = false;
			continue;
		} else if (starts_with(line.text, line.end, e->marker)) {
			template_bug(e, "unknown marker", line.text, line.end - line.text);
		} else if ((size_t)(line.end - line.start) > strlen(param_marker)
		           && starts_with(line.end - strlen(param_marker), line.end, param_marker)) {
			use_param(e, line);
			continue;
		} else {
			add_substituted(out, e, line.start, line.end);
			text_add(out, "\n");
		}
		after_blank = false;
	}
}

static void expand(Text *out, Expansion *e, const char *cursor)
{
	e->param_used = arena_alloc(out->arena, e->param_count + 1);
	e->slot_used = arena_alloc(out->arena, e->slot_count + 1);
	size_t start = out->length;
	expand_lines(out, e, cursor);
	for (int i = 0; i < e->param_count; i++)
		if (!e->param_used[i])
			template_bug(e, "no param", e->params[i].name, strlen(e->params[i].name));
	for (int i = 0; i < e->slot_count; i++)
		if (!e->slot_used[i])
			template_bug(e, "no slot", e->slots[i].name, strlen(e->slots[i].name));
	const char *left = out->length > start ? strstr(out->at + start, e->marker) : NULL;
	if (left)
		template_bug(e, "a marker is left:", left, strcspn(left, "\n"));
}

// What follows the last #include.
static const char *after_includes(const char *text)
{
	const char *after = text;
	for (Line line; next_line(&text, &line);)
		if (starts_with(line.text, line.end, "#include"))
			after = text;
	return after;
}

void expand_template(Text *out, const char *template_name, const char *template_text, const char *new_name,
                     const Binding *params, int param_count, const Binding *slots, int slot_count)
{
	Expansion e = {
		.template_name = template_name, .marker = "//@",
		.params = params, .param_count = param_count, .slots = slots, .slot_count = slot_count,
		.old_name = arena_printf(out->arena, "tmpl_%s", template_name), .new_name = new_name,
	};
	text_add(out, "%s// ---- %s: from templates/%s.cu\n\n", out->length ? "\n" : "", new_name, template_name);
	size_t start = out->length;
	expand(out, &e, after_includes(template_text));
	const char *left = out->length > start ? strstr(out->at + start, "tmpl_") : NULL;
	if (left)
		template_bug(&e, "a name of another template:", left, strcspn(left, " (\n"));
}

// Appends [text, end), a function's head, on as few lines as fit, broken after commas.
static void add_joined(Text *out, const char *text, const char *end)
{
	enum { WIDTH = 120, TAB = 8 };
	int column = 0;
	while (text < end) {
		while (text < end && isspace((unsigned char)*text))
			text++;
		const char *part = text;
		while (text < end && *text != ',')
			text++;
		text += text < end;
		const char *stop = text;
		Text words = {.arena = out->arena};
		for (; part < stop; part++)
			if (!isspace((unsigned char)*part))
				text_add_bytes(&words, part, 1);
			else if (words.at[words.length - 1] != ' ' && words.at[words.length - 1] != '(')
				text_add(&words, " ");
		bool fits = column + (int)words.length + 2 <= WIDTH;
		text_add(out, "%s%s", column == 0 ? "" : fits ? " " : "\n\t\t", words.at);
		column = (fits ? column + (column > 0) : 2 * TAB) + (int)words.length;
	}
}

void template_declaration(Text *out, const char *template_name, const char *template_text, const char *new_name,
                          const Binding *params, int param_count, const Binding *slots, int slot_count)
{
	Text source = {.arena = out->arena};
	expand_template(&source, template_name, template_text, new_name, params, param_count, slots, slot_count);
	const char *launcher = strstr(source.at, arena_printf(out->arena, "\nvoid %s(", new_name));
	const char *end = launcher ? strstr(launcher, "\n{") : NULL;
	if (!end)
		fail(EXIT_BUG, "template %s: no launcher void tmpl_%s(", template_name, template_name);
	launcher++;
	const char *comment = launcher;
	for (const char *line = launcher; line > source.at + 1;) {
		line--;
		while (line > source.at && line[-1] != '\n')
			line--;
		if (line[0] != '/' || line[1] != '/')
			break;
		comment = line;
	}
	text_add(out, "%s", out->length ? "\n" : "");
	text_add_bytes(out, comment, launcher - comment);
	add_joined(out, launcher, end);
	text_add(out, ";\n");
}

// ---------------------------------------------------------------------------------------------------------
// The build file.

static bool ends_with(const char *text, const char *suffix)
{
	size_t length = strlen(text), tail = strlen(suffix);
	return length >= tail && strcmp(text + length - tail, suffix) == 0;
}

// A path as ninja reads it.
static const char *ninja_path(Arena *arena, const char *path)
{
	Text escaped = {.arena = arena};
	for (; *path; path++)
		text_add(&escaped, "%s%c", strchr("$ :", *path) ? "$" : "", *path);
	return escaped.length ? escaped.at : "";
}

typedef LIST(const char *) Paths;

// Appends the statement that makes `output` of `inputs`, one a line.
static void add_build(Text *out, const char *output, const char *rule, const Paths *inputs)
{
	text_add(out, "build %s: %s", output, rule);
	for (int i = 0; i < inputs->count; i++)
		text_add(out, " $\n    %s", inputs->at[i]);
	text_add(out, "\n");
}

// Appends the statement that compiles `path` into `folder`; the object joins `objects`. What uses instructions of one architecture alone
// is compiled for that, whatever the rest is compiled for, and the runtime asks the device before it takes it.
static void add_object(Text *out, const char *folder, const char *machine, const char *path, Paths *objects)
{
	bool is_c = ends_with(path, ".c");
	const char *stem = arena_printf(out->arena, "%.*s", (int)(strlen(path) - (is_c ? 2 : 3)), path);
	const char *object = arena_printf(out->arena, "%s/%s.o", folder, ninja_path(out->arena, stem));
	text_add(out, "build %s: %s_%s %s\n", object, machine, is_c ? "c" : "cu", ninja_path(out->arena, path));
	if (ends_with(path, "_sm90.cu"))
		text_add(out, "  target = -gencode=arch=compute_90a,code=sm_90a\n");
	list_add(out->arena, objects, object);
}

static bool in_folder(const char *path, const char *folder)
{
	return strncmp(path, folder, strlen(folder)) == 0;
}

static bool is_source(const char *path)
{
	return ends_with(path, ".c") || ends_with(path, ".cu");
}

void expand_build_file(Text *out, const char *template_text, const char *header, const char *program_name,
                       const char *const *paths, int count)
{
	Text cuda = {.arena = out->arena}, host = {.arena = out->arena};
	Paths cuda_objects = {0}, host_objects = {0}, host_runtime = {0};
	bool cudnn = false;
	for (int i = 0; i < count; i++) {
		if (!is_source(paths[i]))
			continue;
		cudnn |= !strcmp(paths[i], "runtime/cuda/dnn.c");
		if (!in_folder(paths[i], "runtime/host/"))
			add_object(&cuda, "build", "cuda", paths[i], &cuda_objects);
		if (!in_folder(paths[i], "runtime/cuda/"))
			add_object(&host, "build-host", "host", paths[i],
			           in_folder(paths[i], "runtime/") ? &host_runtime : &host_objects);
	}
	list_add(out->arena, &host_objects, "$host_runtime");
	add_build(&host, "build-host/libmp-host.a", "archive", &host_runtime);
	add_build(&host, "bin/${name}-host", "host_link", &host_objects);
	add_build(&cuda, "bin/$name", "cuda_link", &cuda_objects);
	Binding slots[] = {
		{"header", header},
		{"name", arena_printf(out->arena, "name = %s", ninja_path(out->arena, program_name))},
		{"libraries", cudnn ? "libraries = -lcudnn -lcublasLt -lnccl" : "libraries = -lcublasLt -lnccl"},
		{"cuda", cuda.at},
		{"host", host.at},
	};
	Expansion e = {.template_name = "build.ninja", .marker = "#@", .slots = slots, .slot_count = 5};
	expand(out, &e, template_text);
}
