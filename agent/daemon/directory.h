/* Files below a directory descriptor: never through a symbolic link, bounded, durable where the name says so. Plain
 * helpers: 0 or a negative errno. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Opens a directory below fd. */
int directory_open(int fd, const char *name);

/* Makes it with exactly this mode, whatever the umask, or opens the one that is there. */
int directory_make(int fd, const char *name, unsigned mode);

/* Calls `entry` for each name but "." and ".."; a negative value ends the walk and is returned. */
int directory_walk(int fd, int (*entry)(const char *name, void *data), void *data);

/* Removes a file, a symbolic link or a whole directory; 0 also if it is not there. */
int directory_remove(int fd, const char *name);

/* Creates a new file (-EEXIST if it is there) of mode 0600 and writes data. Not durable. Returns the descriptor. */
int directory_create(int fd, const char *name, const void *data, size_t size);

/* Replaces a file in one step that survives a power cut: temporary name, fsync, rename, fsync of the directory. */
int directory_replace(int fd, const char *name, const char *temporary, const void *data, size_t size);

/* Reads a small regular file as text with a NUL. -EFBIG if it does not fit, -ENOTSUP if it is not a regular file. */
int directory_read(int fd, const char *name, char *text, size_t text_size);

/* fsync(2). */
int directory_sync(int fd);
