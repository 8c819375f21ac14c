/* Cleanup attributes: a local that owns something releases it when it goes out of scope. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

static inline void cleanup_free(void *pointer) {
    free(*(void **)pointer);
}

static inline void cleanup_close(int *fd) {
    if (*fd >= 0)
        close(*fd);
}

/* Memory from malloc(). */
#define AUTO_FREE CLEANUP(cleanup_free)
/* A file descriptor, -1 for none. */
#define AUTO_CLOSE CLEANUP(cleanup_close)

/* Hands a pointer or descriptor over to somebody else: the local no longer owns it. */
#define TAKE_POINTER(pointer)                                                                                          \
    ({                                                                                                                 \
        __typeof__(pointer) taken_ = (pointer);                                                                        \
        (pointer) = NULL;                                                                                              \
        taken_;                                                                                                        \
    })

static inline int take_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}
