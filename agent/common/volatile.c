#include "common/volatile.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

const char *volatile_name(enum volatility volatility) {
    switch (volatility) {
    case VOLATILE_NO:
        return "no";
    case VOLATILE_YES:
        return "yes";
    case VOLATILE_UNKNOWN:
        return "unknown";
    }
    return "";
}

static void cleanup_file(FILE **file) {
    if (*file != NULL)
        fclose(*file);
}

/* --- the lines of mountinfo --- */

/* The kernel writes blanks, tabs, line breaks, backslashes and commas as a backslash and three octal digits. */
static int unescape(const char *text, size_t length, char *ret, size_t size) {
    size_t written = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned character = (unsigned char)text[i];
        if (text[i] == '\\') {
            if (length - i < 4 || strspn(text + i + 1, "01234567") < 3)
                return -ENODATA;
            character = (unsigned)((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
            i += 3;
        }
        if (character == 0 || character > UCHAR_MAX || written + 1 >= size)
            return -ENODATA;
        ret[written++] = (char)character;
    }
    ret[written] = '\0';
    return 0;
}

/* 36 35 0:31 / /var/lib rw,relatime shared:1 - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c */
int volatile_parse_upper(const char *line, unsigned mount_id, char *ret, size_t size) {
    static const char key[] = "upperdir=";
    char path[PATH_MAX];
    unsigned id;
    int end = 0;
    const char *options = strstr(line, " - overlay ");
    if (sscanf(line, "%9u %n", &id, &end) != 1 || end == 0 || id != mount_id)
        return 0;
    if (options == NULL)
        return -ENODATA;
    options += strlen(" - overlay ");
    options += strcspn(options, " \n"); /* the source */
    for (options += strspn(options, " "); *options != '\0' && *options != '\n'; options += *options == ',') {
        size_t length = strcspn(options, ",\n");
        if (length >= sizeof key && strncmp(options, key, sizeof key - 1) == 0) {
            const char *value = options + sizeof key - 1;
            int r = unescape(value, length - (sizeof key - 1), path, sizeof path);
            if (r < 0 || path[0] != '/' || strlen(path) >= size)
                return -ENODATA;
            memcpy(ret, path, strlen(path) + 1);
            return 1;
        }
        options += length;
    }
    return -ENODATA;
}

/* --- the file system --- */

/* Of the mount that the file was opened through (proc(5), fdinfo): statx(2) tells it since Linux 5.8 only. */
static int read_mount_id(int fd, unsigned *ret) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    CLEANUP(cleanup_file) FILE *file = fopen(path, "re");
    if (file == NULL)
        return -errno;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "mnt_id: %9u", ret) == 1)
            return 0;
    return -ENODATA;
}

static int find_upper(int fd, char *ret, size_t size) {
    AUTO_FREE char *line = NULL;
    size_t line_size = 0;
    unsigned mount_id = 0;
    int r = read_mount_id(fd, &mount_id);
    if (r < 0)
        return r;
    CLEANUP(cleanup_file) FILE *file = fopen("/proc/self/mountinfo", "re");
    if (file == NULL)
        return -errno;
    while (getline(&line, &line_size, file) > 0) {
        r = volatile_parse_upper(line, mount_id, ret, size);
        if (r != 0)
            return r < 0 ? r : 0;
    }
    return -ENODATA;
}

static bool is_in_memory(const struct statfs *status) {
    return (unsigned long)status->f_type == TMPFS_MAGIC || (unsigned long)status->f_type == RAMFS_MAGIC;
}

/* The upper directory is named as the one who has mounted it saw it: what is not there from here, or is an overlay
 * itself, stays unknown. */
enum volatility volatile_judge(int fd) {
    char upper[PATH_MAX];
    struct statfs status;
    if (fstatfs(fd, &status) < 0)
        return VOLATILE_UNKNOWN;
    if (is_in_memory(&status))
        return VOLATILE_YES;
    if ((unsigned long)status.f_type != OVERLAYFS_SUPER_MAGIC)
        return VOLATILE_NO;
    if (find_upper(fd, upper, sizeof upper) < 0 || statfs(upper, &status) < 0)
        return VOLATILE_UNKNOWN;
    if (is_in_memory(&status))
        return VOLATILE_YES;
    return (unsigned long)status.f_type == OVERLAYFS_SUPER_MAGIC ? VOLATILE_UNKNOWN : VOLATILE_NO;
}
