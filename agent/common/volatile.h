/* Whether files outlive the next boot: not on a file system in memory, which images with a read-only root put over
 * /var/lib or /etc. */
#pragma once

#include <stddef.h>

enum volatility {
    VOLATILE_NO,
    VOLATILE_YES,     /* on tmpfs or ramfs, or on an overlay that is written there */
    VOLATILE_UNKNOWN, /* on an overlay, and where that is written cannot be seen from here */
};

/* "no", "yes", "unknown" */
const char *volatile_name(enum volatility volatility);

/* Judges the file system of an open file or directory. */
enum volatility volatile_judge(int fd);

/* Pure: if this line of /proc/PID/mountinfo (proc(5)) is of the mount with that id, and of an overlay that is written:
 * its upper directory. Returns 1; 0 if it is another line; -ENODATA if it is the line, but names no absolute path of
 * less than `size` bytes. */
int volatile_parse_upper(const char *line, unsigned mount_id, char *ret, size_t size);
