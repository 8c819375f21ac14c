#include "daemon/runtime.h"

#include "common/cleanup.h"
#include "daemon/directory.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int runtime_open(const char *path) {
    bool made = mkdir(path, 0755) == 0;
    if (!made && errno != EEXIST)
        return -errno;
    AUTO_CLOSE int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || (made && fchmod(directory, 0755) < 0)) /* whatever the umask */
        return -errno;
    return take_fd(&directory);
}

static void log_failure(const char *name, int error) {
    log_message(LOG_WARNING, "cannot change %s in the runtime directory: %s", name, strerror(-error));
}

/* In one write(2) into the file that is there, so that a reader never finds it empty. */
static int write_generation(int directory, const char *text) {
    ssize_t length = (ssize_t)strlen(text);
    AUTO_CLOSE int file = openat(directory, "generation", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (file < 0 || pwrite(file, text, (size_t)length, 0) != length || ftruncate(file, length) < 0 ||
        fchmod(file, 0644) < 0)
        return -errno;
    return 0;
}

/* Not if the number is the same, unless something else has changed: a restart of the daemon restarts no application. */
static void set_generation(int directory, uint32_t generation, bool always) {
    char text[16], old[16];
    snprintf(text, sizeof text, "%u\n", generation);
    if (!always && directory_read(directory, "generation", old, sizeof old) == 0 && strcmp(old, text) == 0)
        return;
    int r = write_generation(directory, text);
    if (r < 0)
        log_failure("generation", r);
}

void runtime_write_generation(int directory, uint32_t generation) {
    if (directory >= 0)
        set_generation(directory, generation, true);
}

static int touch(int directory, const char *name) {
    AUTO_CLOSE int file = openat(directory, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    return file < 0 || fchmod(file, 0644) < 0 ? -errno : 0;
}

void runtime_set_provisioned(int directory, uint32_t generation) {
    if (directory < 0)
        return;
    set_generation(directory, generation, false);
    if (unlinkat(directory, "lost", 0) < 0 && errno != ENOENT)
        log_failure("lost", -errno);
    int r = touch(directory, "provisioned");
    if (r < 0)
        log_failure("provisioned", r);
}

void runtime_set_discard_claim(int directory) {
    int r = directory >= 0 ? touch(directory, "discard-claim") : 0;
    if (r < 0)
        log_failure("discard-claim", r);
}

/* `lost` first: cut off in between, the next start does both again, which the other way round would see nothing to do.
 */
void runtime_set_lost(int directory) {
    if (directory < 0 || faccessat(directory, "provisioned", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    int r = touch(directory, "lost");
    if (r < 0)
        log_failure("lost", r);
    if (unlinkat(directory, "provisioned", 0) < 0)
        log_failure("provisioned", -errno);
}
