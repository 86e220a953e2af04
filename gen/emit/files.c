// files.c: writing the emitted directory.
//
// The previous manifest lists what is ours: only those files are overwritten or removed. Everything is checked before
// anything is written; each file is written under a temporary name and renamed, and a file that would not change is left
// alone, so that ninja has nothing to do. The manifest goes last. Paths are opened below a directory handle, and links
// are not followed.
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_directory(Arena *arena, const char *path, bool create)
{
	char *partial = arena_strdup(arena, path);
	for (char *c = partial + 1; create && *c; c++)
		if (*c == '/') {
			*c = 0;
			mkdir(partial, 0777);
			*c = '/';
		}
	if (create && mkdir(path, 0777) && errno != EEXIST)
		fail(EXIT_IO, "cannot create %s: %s", path, strerror(errno));
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && create)
		fail(EXIT_IO, "cannot open the folder %s: %s", path, strerror(errno));
	return fd;
}

// The folder of a path below root: a handle that the caller closes; creates it when told to. name receives the last part.
static int open_parent(Arena *arena, int root, const char *path, bool create, const char **name)
{
	int fd = dup(root);
	char *rest = arena_strdup(arena, path);
	for (char *slash; fd >= 0 && (slash = strchr(rest, '/')); rest = slash + 1) {
		*slash = 0;
		if (create)
			mkdirat(fd, rest, 0777);
		int next = openat(fd, rest, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	*name = rest;
	return fd;
}

const char *read_below(Arena *arena, int root, const char *path, size_t *length)
{
	const char *name;
	int folder = open_parent(arena, root, path, false, &name);
	int fd = folder < 0 ? -1 : openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (folder >= 0)
		close(folder);
	if (fd < 0)
		return NULL;
	Text text = {.arena = arena};
	char buffer[16384];
	for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;)
		text_add_bytes(&text, buffer, (size_t)n);
	close(fd);
	*length = text.length;
	return text.at ? text.at : "";
}

// Paths that the manifest of the directory lists, and the manifest itself.
Paths listed_files(Arena *arena, int root)
{
	Paths paths = {0};
	size_t length;
	const char *manifest = read_below(arena, root, "manifest.txt", &length);
	if (!manifest)
		return paths;
	list_add(arena, &paths, "manifest.txt");
	char *copy = arena_strdup(arena, manifest);
	int line_number = 0;
	for (char *line = copy, *end; *line && (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		char *path = strchr(line, ' ');
		if (++line_number <= 3 || !path || path[1] == '/' || strstr(path, ".."))
			continue;
		list_add(arena, &paths, path + 1);
	}
	return paths;
}

static bool contains(const Paths *paths, const char *path)
{
	for (int i = 0; i < paths->count; i++)
		if (!strcmp(paths->at[i], path))
			return true;
	return false;
}

// Whether every folder on the way to path is absent or a real folder; else *part is the first that is not.
static bool parents_are_folders(Arena *arena, int root, const char *path, const char **part)
{
	char *prefix = arena_strdup(arena, path);
	for (char *slash = strchr(prefix, '/'); slash; slash = strchr(slash + 1, '/')) {
		struct stat info;
		*slash = 0;
		*part = prefix;
		if (fstatat(root, prefix, &info, AT_SYMLINK_NOFOLLOW))
			return errno == ENOENT;
		if (!S_ISDIR(info.st_mode))
			return false;
		*slash = '/';
	}
	return true;
}

// Finds whatever would stop the writing half-way, before anything is written: files that are not ours, and folders or
// links where files or folders are to be.
static void refuse_foreign(Arena *arena, int root, const Output *output, const Paths *ours, const char *directory)
{
	for (int i = 0; i < output->files.count; i++) {
		const char *path = output->files.at[i].path, *part = path;
		struct stat info;
		if (!parents_are_folders(arena, root, path, &part))
			fail(EXIT_IO, "%s/%s is not a folder: nothing was changed\nmove it away, or choose another folder with -o", directory, part);
		if (fstatat(root, path, &info, AT_SYMLINK_NOFOLLOW))
			continue;
		if (!contains(ours, path))
			fail(EXIT_IO, "%s/%s exists and was not written by mpgen: nothing was changed\nmove it away, or choose another folder with -o",
			     directory, path);
		if (S_ISDIR(info.st_mode))
			fail(EXIT_IO, "%s/%s is a folder: nothing was changed\nmove it away, or choose another folder with -o", directory, path);
	}
}

static void write_all(int fd, const File *file, const char *directory)
{
	for (size_t done = 0; done < file->length;) {
		ssize_t n = write(fd, file->bytes + done, file->length - done);
		if (n < 0)
			fail(EXIT_IO, "cannot write %s/%s: %s", directory, file->path, strerror(errno));
		done += (size_t)n;
	}
}

static void write_file(Arena *arena, int root, const File *file, const char *directory)
{
	size_t length;
	const char *old = read_below(arena, root, file->path, &length), *name;
	if (old && length == file->length && !memcmp(old, file->bytes, length))
		return;
	int folder = open_parent(arena, root, file->path, true, &name);
	if (folder < 0)
		fail(EXIT_IO, "cannot open the folder of %s/%s: %s", directory, file->path, strerror(errno));
	const char *temporary = arena_printf(arena, ".%s.mpgen-new", name);
	int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		fail(EXIT_IO, "cannot write %s/%s: %s", directory, file->path, strerror(errno));
	write_all(fd, file, directory);
	if (close(fd) || renameat(folder, temporary, folder, name))
		fail(EXIT_IO, "cannot write %s/%s: %s", directory, file->path, strerror(errno));
	close(folder);
}

void write_output(Arena *arena, const Output *output, const char *directory)
{
	int root = open_directory(arena, directory, true);
	Paths ours = listed_files(arena, root);
	refuse_foreign(arena, root, output, &ours, directory);
	for (int i = 0; i < output->files.count; i++)
		write_file(arena, root, &output->files.at[i], directory);
	for (int i = 0; i < ours.count; i++) {
		bool kept = false;
		for (int k = 0; k < output->files.count; k++)
			kept |= !strcmp(ours.at[i], output->files.at[k].path);
		const char *name;
		int folder = kept ? -1 : open_parent(arena, root, ours.at[i], false, &name);
		if (folder >= 0) {
			unlinkat(folder, name, 0);
			close(folder);
		}
	}
	close(root);
}

int open_output(Arena *arena, const char *directory)
{
	return open_directory(arena, directory, false);
}
