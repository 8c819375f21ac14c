#include "ctl/wipe.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void wipe_clear(struct wipe *wipe) {
    cleanup_close(&wipe->directory);
    cleanup_close(&wipe->file);
    free(wipe->name);
    *wipe = (struct wipe)WIPE_NONE;
}

static bool is_same(const struct stat *one, const struct stat *other) {
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* Opens the directory of the path, and gives the last part of it. */
static int open_directory(const char *path, struct wipe *wipe) {
    AUTO_FREE char *for_directory = strdup(path),
                   *for_name = strdup(path); /* basename(3) and dirname(3) write to them */
    if (for_directory == NULL || for_name == NULL || (wipe->name = strdup(basename(for_name))) == NULL)
        return -ENOMEM;
    wipe->directory = open(dirname(for_directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return wipe->directory < 0 ? -errno : 0;
}

const char *wipe_prepare(const char *path, int fd, struct wipe *ret) {
    AUTO_WIPE struct wipe wipe = WIPE_NONE;
    struct stat named, read, opened;
    int r = open_directory(path, &wipe);
    if (r < 0)
        return strerror(-r);
    if (fstatat(wipe.directory, wipe.name, &named, AT_SYMLINK_NOFOLLOW) < 0 || fstat(fd, &read) < 0)
        return strerror(errno);
    if (S_ISLNK(named.st_mode))
        return "it is a symbolic link";
    if (!S_ISREG(named.st_mode))
        return "it is not a regular file";
    if (named.st_nlink != 1)
        return "it has more than one name (hard link)";
    if (faccessat(wipe.directory, ".", W_OK | X_OK, AT_EACCESS) < 0)
        return "its directory cannot be written";
    wipe.file = openat(wipe.directory, wipe.name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (wipe.file < 0 || fstat(wipe.file, &opened) < 0)
        return strerror(errno);
    if (!is_same(&opened, &named) || !is_same(&opened, &read))
        return "it was replaced while it was read";
    *ret = wipe;
    wipe = (struct wipe)WIPE_NONE;
    return NULL;
}

static int overwrite(int file, off_t size) {
    static const char zeros[4096];
    for (off_t done = 0; done < size;) {
        size_t piece = size - done < (off_t)sizeof zeros ? (size_t)(size - done) : sizeof zeros;
        ssize_t n = pwrite(file, zeros, piece, done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += n;
    }
    return fsync(file) < 0 ? -errno : 0;
}

int wipe_run(struct wipe *wipe) {
    struct stat opened, named;
    if (fstat(wipe->file, &opened) < 0 || fstatat(wipe->directory, wipe->name, &named, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!is_same(&opened, &named))
        return -ESTALE;
    if (opened.st_nlink != 1)
        return -EEXIST;
    int r = overwrite(wipe->file, opened.st_size);
    if (r < 0)
        return r;
    if (unlinkat(wipe->directory, wipe->name, 0) < 0 || fsync(wipe->directory) < 0)
        return -errno;
    return 0;
}
