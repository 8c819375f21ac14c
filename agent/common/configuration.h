/* The configuration: enrolld.conf and its drop-ins, INI as in systemd. This module knows files, sections and keys;
 * what the keys mean is in settings.h, and in each plugin's own option table. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>

#define CONFIGURATION_ENTRIES_MAX 512
#define CONFIGURATION_VALUE_MAX 4096

struct configuration_entry {
    char *section;
    char *key;
    char *value;
    char *file; /* where it was said, for messages and `enrollctl config` */
    unsigned line;
};

struct configuration {
    struct configuration_entry *entries; /* in the order in which they apply: the last one of a key wins */
    size_t count;
};

/* Reads a configuration. With a path: that file and PATH.d/ *.conf. With NULL: SYSCONFDIR/enrolld/enrolld.conf (may be
 * missing) and enrolld.conf.d/ *.conf in SYSCONFDIR/enrolld, /run/enrolld and LIBDIR's /usr/lib/enrolld, by file name;
 * the same name in an earlier directory hides the later one. Class `invalid`, with file and line, for what is not INI.
 */
int configuration_load(const char *path, struct configuration **ret, struct failure *failure);

/* The same without /run/enrolld, which is the daemon's own directory: for a process that may do more than the daemon.
 */
int configuration_load_of_root(const char *path, struct configuration **ret, struct failure *failure);

/* Pure: adds the entries of one INI text. Lines are bounded by the INI library (200 bytes in a stock build). */
int configuration_parse(struct configuration *configuration, const char *text, size_t size, const char *file,
                        struct failure *failure);

/* For the channel: the worker judges by the very configuration that the daemon has. The caller frees the text.
 * Returns 0 or -ENOMEM. */
int configuration_serialize(const struct configuration *configuration, char **ret_text, size_t *ret_size);

/* Pure: the reverse; -EBADMSG for anything that configuration_serialize() does not write. */
int configuration_deserialize(const char *text, size_t size, struct configuration **ret);

struct configuration *configuration_new(void);
struct configuration *configuration_free(struct configuration *configuration);
void configuration_cleanup(struct configuration **configuration);
#define AUTO_CONFIGURATION __attribute__((cleanup(configuration_cleanup)))

/* The entry that counts, NULL if there is none or its value is empty (an empty value restores the default). Borrowed.
 */
const struct configuration_entry *configuration_find(const struct configuration *configuration, const char *section,
                                                     const char *key);
