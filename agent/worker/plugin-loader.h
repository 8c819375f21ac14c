/* The one place that knows dlopen. A plugin is trusted code with the worker's rights, so what is loaded must be
 * as hard to replace as the worker itself. */
#pragma once

#include "common/failure.h"

#include <enrolld/plugin.h>

/* $ENROLLD_PLUGIN_DIR, or the directory of the installation. */
const char *plugin_directory(void);

/* Loads NAME.so from the plugin directory; it stays loaded until exit. Each part of
 * the path must belong to root or to the worker's own user and be writable by nobody else. Class `invalid`. */
int plugin_load(const char *name, const struct enrolld_plugin **ret, struct failure *failure);
