/* Files that travel over the channel: sealed memfds, so that what the receiver reads is what it judged. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Largest file on the channel, in bytes. */
#define MEMFD_SIZE_MAX (64 * 1024)

/* Makes a sealed (no write, grow, shrink, no further seals) memfd with this content, read offset 0. Returns the
 * descriptor, -EFBIG above MEMFD_SIZE_MAX, or another negative errno. The name shows in /proc only. */
int memfd_create_sealed(const char *name, const void *data, size_t size);

/* True if no one can change the content any more. */
bool memfd_is_sealed(int fd);

/* Reads a whole memfd or regular file from its start by pread(2), at most MEMFD_SIZE_MAX bytes, into memory from
 * malloc() with a NUL behind it. Returns 0, -EFBIG, -ENOTSUP for anything but a regular file, or another errno. */
int memfd_read(int fd, char **ret_data, size_t *ret_size);
