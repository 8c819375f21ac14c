#include "json_read.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_LIMIT (16 * 1024 * 1024)

struct json_object *json_parse(const void *bytes, size_t size) {
    struct json_tokener *tokener = size <= INT_MAX - 1 ? json_tokener_new_ex(32) : NULL;
    if (tokener == NULL)
        return NULL;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *object = json_tokener_parse_ex(tokener, bytes, (int)size);
    /* A number ends only where something else begins. */
    if (object == NULL && json_tokener_get_error(tokener) == json_tokener_continue)
        object = json_tokener_parse_ex(tokener, " ", 1);
    else if (object != NULL && json_tokener_get_parse_end(tokener) != size)
        object = (json_object_put(object), NULL);
    json_tokener_free(tokener);
    return object;
}

static ssize_t read_all(int fd, char *bytes, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t count = read(fd, bytes + done, size - done);
        if (count < 0 && errno != EINTR)
            return -1;
        if (count == 0)
            break;
        done += count > 0 ? (size_t)count : 0;
    }
    return (ssize_t)done;
}

struct json_object *json_parse_file(const char *path) {
    struct stat status;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        return NULL;
    if (!S_ISREG(status.st_mode) || status.st_size > FILE_LIMIT) {
        errno = EFBIG;
        return NULL;
    }
    AUTO_FREE char *bytes = malloc((size_t)status.st_size + 1);
    ssize_t size = bytes != NULL ? read_all(fd, bytes, (size_t)status.st_size) : -1;
    if (size < 0)
        return NULL;
    while (size > 0 && (bytes[size - 1] == '\n' || bytes[size - 1] == ' '))
        size--;
    errno = 0;
    return json_parse(bytes, (size_t)size);
}
