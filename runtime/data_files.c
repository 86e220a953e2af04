// data_files.c: reading and writing files such that nothing is half done.
//
// POSIX calls may be interrupted, may transfer less than asked and may fail anywhere; readers and writers that
// check each call drown in it. These wrappers either do the whole thing or end the program with a line that names the
// file, so the code above them only says what happens.
#define _POSIX_C_SOURCE 200809L
#include "data_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

MP_NORETURN static void io_failed(const char *verb, const char *path)
{
	mp_fail(MP_IO_FAILED, "cannot %s %s: %s", verb, path, strerror(errno));
}

static char *format_text(const char *format, va_list arguments)
{
	va_list again;
	va_copy(again, arguments);
	int n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	char *text = mp_allocate((size_t)n + 1);
	vsnprintf(text, (size_t)n + 1, format, arguments);
	return text;
}

char *mp_text(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	char *text = format_text(format, arguments);
	va_end(arguments);
	return text;
}

enum { NAMES_SHOWN = 10 };

void mp_names_add(struct mp_names *names, const char *format, ...)
{
	if (names->count++ >= NAMES_SHOWN)
		return;
	va_list arguments;
	va_start(arguments, format);
	char *name = format_text(format, arguments), *before = names->text;
	va_end(arguments);
	names->text = mp_text("%s%s%s", before ? before : "", before ? ", " : "", name);
	free(before);
	free(name);
}

void mp_names_end(struct mp_names *names)
{
	char *before = names->text;
	if (names->count > NAMES_SHOWN) {
		names->text = mp_text("%s and %ld more", before, names->count - NAMES_SHOWN);
		free(before);
	}
}

int mp_open_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		mp_fail(errno == ENOENT || errno == ENOTDIR ? MP_BAD_INPUT : MP_IO_FAILED,
		        "cannot open %s: %s", path, strerror(errno));
	return fd;
}

uint64_t mp_file_bytes(int fd, const char *path)
{
	struct stat status;
	if (fstat(fd, &status))
		io_failed("examine", path);
	if (!S_ISREG(status.st_mode))
		mp_fail(MP_BAD_INPUT, "%s is not a regular file", path);
	return (uint64_t)status.st_size;
}

bool mp_is_folder(const char *path)
{
	struct stat status;
	return !stat(path, &status) && S_ISDIR(status.st_mode);
}

bool mp_exists(const char *path)
{
	struct stat status;
	return !stat(path, &status);
}

void mp_read_at(int fd, const char *path, void *bytes, size_t n, uint64_t offset)
{
	char *at = bytes;
	while (n > 0) {
		ssize_t got = pread(fd, at, n, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			io_failed("read", path);
		if (got == 0)
			mp_fail(MP_IO_FAILED, "%s ends at byte %llu; %zu more bytes were expected", path,
			        (unsigned long long)offset, n);
		at += got, n -= (size_t)got, offset += (uint64_t)got;
	}
}

void mp_write_at(int fd, const char *path, const void *bytes, size_t n, uint64_t offset)
{
	const char *at = bytes;
	while (n > 0) {
		ssize_t done = pwrite(fd, at, n, (off_t)offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			io_failed("write", path);
		at += done, n -= (size_t)done, offset += (uint64_t)done;
	}
}

int mp_create(const char *path, uint64_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (fd < 0)
		io_failed("create", path);
	mp_resize(fd, path, bytes);
	return fd;
}

void mp_resize(int fd, const char *path, uint64_t bytes)
{
	if (ftruncate(fd, (off_t)bytes))
		io_failed("resize", path);
}

int mp_open_write(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		io_failed("open", path);
	return fd;
}

void mp_sync_and_close(int fd, const char *path)
{
	if (fsync(fd))
		io_failed("flush", path);
	if (close(fd))
		io_failed("close", path);
}

void mp_make_folders(const char *path)
{
	char *copy = mp_text("%s", path);
	for (char *at = copy + 1; copy[0]; at++) {
		char c = *at;
		if (c != '/' && c != 0)
			continue;
		*at = 0;
		if (mkdir(copy, 0777) && !(errno == EEXIST && mp_is_folder(copy)))
			io_failed("create the folder", copy);
		*at = c;
		if (c == 0)
			break;
	}
	free(copy);
}

void mp_sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		io_failed("open the folder", path);
	// Some network file systems cannot flush a folder and say so with EINVAL; there is nothing more to do then.
	if (fsync(fd) && errno != EINVAL)
		io_failed("flush the folder", path);
	close(fd);
}

void mp_sync_parent(const char *path)
{
	char *parent = mp_text("%s", path), *slash;
	while ((slash = strrchr(parent, '/')) && slash != parent && slash[1] == 0)
		*slash = 0;
	if (!slash)
		strcpy(parent, ".");
	else
		slash[slash == parent] = 0;
	mp_sync_folder(parent);
	free(parent);
}

void mp_rename(const char *from, const char *to)
{
	if (rename(from, to))
		mp_fail(MP_IO_FAILED, "cannot rename %s to %s: %s", from, to, strerror(errno));
}

void mp_remove_folder(const char *path)
{
	DIR *folder = opendir(path);
	if (!folder && errno == ENOENT)
		return;
	if (!folder)
		io_failed("open the folder", path);
	for (struct dirent *entry; (entry = readdir(folder)); )
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")
		    && unlinkat(dirfd(folder), entry->d_name, 0))
			io_failed("empty the folder", path);
	closedir(folder);
	if (rmdir(path))
		io_failed("remove the folder", path);
}
