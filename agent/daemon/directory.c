#include "daemon/directory.h"

#include "common/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 4

int directory_open(int fd, const char *name) {
    int directory = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return directory < 0 ? -errno : directory;
}

int directory_make(int fd, const char *name, unsigned mode) {
    bool made = mkdirat(fd, name, mode) == 0;
    if (!made && errno != EEXIST)
        return -errno;
    AUTO_CLOSE int directory = directory_open(fd, name);
    if (directory >= 0 && made && fchmod(directory, mode) < 0)
        return -errno;
    return take_fd(&directory);
}

int directory_walk(int fd, int (*entry)(const char *name, void *data), void *data) {
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *stream = copy < 0 ? NULL : fdopendir(copy);
    if (stream == NULL) {
        r = -errno;
        cleanup_close(&copy);
        return r;
    }
    errno = 0;
    for (struct dirent *item = readdir(stream); item != NULL && r >= 0; item = readdir(stream))
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0)
            r = entry(item->d_name, data);
    closedir(stream);
    return r < 0 ? r : 0;
}

struct removal {
    int fd;
    unsigned depth;
};

static int remove_entry(const char *name, void *data) {
    const struct removal *removal = data;
    if (unlinkat(removal->fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM) /* Linux says EISDIR, POSIX EPERM */
        return -errno;
    if (removal->depth == DEPTH_MAX)
        return -ELOOP;
    AUTO_CLOSE int directory = directory_open(removal->fd, name);
    if (directory < 0)
        return directory;
    int r = directory_walk(directory, remove_entry, &(struct removal){directory, removal->depth + 1});
    if (r < 0)
        return r;
    return unlinkat(removal->fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int directory_remove(int fd, const char *name) {
    return remove_entry(name, &(struct removal){fd, 0});
}

static int write_all(int fd, const char *data, size_t size) {
    for (size_t written = 0; written < size;) {
        ssize_t n = write(fd, data + written, size - written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        written += (size_t)n;
    }
    return 0;
}

int directory_create(int fd, const char *name, const void *data, size_t size) {
    AUTO_CLOSE int file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return -errno;
    int r = write_all(file, data, size);
    return r < 0 ? r : take_fd(&file);
}

int directory_replace(int fd, const char *name, const char *temporary, const void *data, size_t size) {
    int r = directory_remove(fd, temporary);
    if (r < 0)
        return r;
    AUTO_CLOSE int file = directory_create(fd, temporary, data, size);
    r = file < 0 ? file : directory_sync(file);
    if (r == 0 && renameat(fd, temporary, fd, name) < 0)
        r = -errno;
    if (r < 0) {
        directory_remove(fd, temporary);
        return r;
    }
    return directory_sync(fd);
}

int directory_read(int fd, const char *name, char *text, size_t text_size) {
    AUTO_CLOSE int file = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -ENOTSUP;
    size_t length = 0;
    while (length < text_size) {
        ssize_t n = read(file, text + length, text_size - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            text[length] = '\0';
            return 0;
        }
        length += (size_t)n;
    }
    return -EFBIG;
}

int directory_sync(int fd) {
    return fsync(fd) < 0 ? -errno : 0;
}
