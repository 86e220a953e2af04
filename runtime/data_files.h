// data_files.h: files and texts for the readers and writers of data. All functions end the program on failure.
#ifndef MP_DATA_FILES_H
#define MP_DATA_FILES_H

#include "mp_run.h"

// printf into new memory.
char *mp_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

// A list of names for a message: the first 10, then how many more there are. Free `text`.
struct mp_names {
	char *text;
	long count;
};
void mp_names_add(struct mp_names *names, const char *format, ...) __attribute__((format(printf, 2, 3)));
void mp_names_end(struct mp_names *names);

// Opens a file to read it. One that does not exist is MP_BAD_INPUT, everything else MP_IO_FAILED.
int mp_open_read(const char *path);
uint64_t mp_file_bytes(int fd, const char *path);
bool mp_is_folder(const char *path);
bool mp_exists(const char *path);

// All n bytes or the end of the program.
void mp_read_at(int fd, const char *path, void *bytes, size_t n, uint64_t offset);
void mp_write_at(int fd, const char *path, const void *bytes, size_t n, uint64_t offset);

// Creates a file of `bytes` zero bytes, replacing one of that name; opens a file to write into it; gives it another
// size; flushes it to the disk and closes it.
int mp_create(const char *path, uint64_t bytes);
int mp_open_write(const char *path);
void mp_resize(int fd, const char *path, uint64_t bytes);
void mp_sync_and_close(int fd, const char *path);

void mp_make_folders(const char *path);         // with its parents
void mp_sync_folder(const char *path);
void mp_sync_parent(const char *path);          // the folder that holds path
void mp_rename(const char *from, const char *to);
void mp_remove_folder(const char *path);        // one without sub-folders, and the files in it; missing is fine

#endif
