/* Destroys the file that a private key came from. */
#pragma once

#include <stdbool.h>

/* A file that may be destroyed. Closed by wipe_clear(). */
struct wipe {
    int directory, file; /* -1 for none */
    char *name;          /* in the directory */
};

#define WIPE_NONE                                                                                                      \
    { .directory = -1, .file = -1 }
#define AUTO_WIPE __attribute__((cleanup(wipe_clear)))
void wipe_clear(struct wipe *wipe);

/* Judges the file of that path, from which was read by the descriptor `fd`: it must be a regular file, no symbolic
 * link, have no second name, be writable and removable. Otherwise NULL is not returned, but what is in the way. */
const char *wipe_prepare(const char *path, int fd, struct wipe *ret);

/* Overwrites it, so that the data is on the disk (fsync), and removes its name, durably too. Returns 0 or a negative
 * errno; -EEXIST: it has got a second name meanwhile, -ESTALE: the name is another file's; then nothing was done. */
int wipe_run(struct wipe *wipe);
