#include "common/memfd.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

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

int memfd_create_sealed(const char *name, const void *data, size_t size) {
    if (size > MEMFD_SIZE_MAX)
        return -EFBIG;
    AUTO_CLOSE int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int r = write_all(fd, data, size);
    if (r < 0)
        return r;
    if (lseek(fd, 0, SEEK_SET) < 0 || fcntl(fd, F_ADD_SEALS, ALL_SEALS) < 0)
        return -errno;
    return take_fd(&fd);
}

bool memfd_is_sealed(int fd) {
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 &&
           (seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
}

int memfd_read(int fd, char **ret_data, size_t *ret_size) {
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -ENOTSUP;
    if (status.st_size > MEMFD_SIZE_MAX)
        return -EFBIG;
    size_t size = (size_t)status.st_size, done = 0;
    AUTO_FREE char *data = malloc(size + 1);
    if (data == NULL)
        return -ENOMEM;
    while (done < size) {
        ssize_t n = pread(fd, data + done, size - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO; /* it shrank while it was read */
        done += (size_t)n;
    }
    data[size] = '\0';
    *ret_data = TAKE_POINTER(data);
    *ret_size = size;
    return 0;
}
