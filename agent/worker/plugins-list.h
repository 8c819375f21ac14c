/* The methods that are installed, for people: `enrollctl plugins`, `enrolld-worker plugins`. */
#pragma once

#include "common/failure.h"

#include <enrolld/plugin.h>

#include <stddef.h>

/* More are not told. */
#define PLUGINS_LIST_MAX 64

/* A method's sentence, then a line for each key of its section, without a line break at the end. At most 4 KiB, made
 * printable. The caller frees it; NULL when out of memory. */
char *plugins_describe(const struct enrolld_plugin *plugin, const char *method);

/* Loads each NAME.so of the plugin directory. The file of a JOB_PLUGINS (common/job.h): for each method, by name, its
 * name and its text, or why it cannot be loaded, each ended by a NUL. The caller frees it. Class `invalid` if the
 * directory cannot be read. */
int plugins_list(char **ret, size_t *ret_size, struct failure *failure);
