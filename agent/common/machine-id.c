#include "common/machine-id.h"

#include "common/cleanup.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/vfs.h>

/* systemd mounts a file in memory over it where /etc cannot be written. An overlay is no sign: the id may come from
 * below it. */
static bool is_in_memory(int fd) {
    struct statfs status;
    return fstatfs(fd, &status) == 0 &&
           ((unsigned long)status.f_type == TMPFS_MAGIC || (unsigned long)status.f_type == RAMFS_MAGIC);
}

const char *machine_id_read(const char *path, char ret[MACHINE_ID_SIZE]) {
    char text[64] = "";
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (size < 0)
        return "it cannot be read";
    text[strcspn(text, "\n")] = '\0';
    if (text[0] == '\0' || strcmp(text, "uninitialized") == 0)
        return "it is not initialized: systemd gives it at the first boot, if /etc can be written";
    if (strlen(text) != MACHINE_ID_SIZE - 1 || strspn(text, "0123456789abcdef") != MACHINE_ID_SIZE - 1)
        return "it is not 32 hexadecimal digits";
    if (is_in_memory(fd))
        return "it is transient, another one at each boot: /etc cannot be written, so it is kept in memory (if the "
               "boot "
               "loader gives it, systemd.machine_id=, SerialNumber=file:/etc/machine-id takes it)";
    memcpy(ret, text, MACHINE_ID_SIZE);
    return NULL;
}
