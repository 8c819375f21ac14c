/* The one place that knows dlopen. A plugin is trusted code with the worker's rights, so what is loaded must be
 * as hard to replace as the worker itself. */
#pragma once

#include "common/configuration.h"
#include "common/failure.h"

#include <enrolld/plugin.h>

/* $ENROLLD_PLUGIN_DIR, or the directory of the installation. */
const char *plugin_directory(void);

/* Loads NAME.so from the plugin directory; it stays loaded until exit. Each part of the path must belong to root or to
 * the worker's own user and be writable by nobody else. methods: where the name was said, for messages; or NULL. Class
 * `invalid`. */
int plugin_load(const char *name, const struct configuration_entry *methods, const struct enrolld_plugin **ret,
                struct failure *failure);

/* Its method of that name, NULL if it has none. Both tables are as the plugin's own header has them, perhaps an older
 * one: they are walked by the sizes that it tells, never with ++. */
const struct enrolld_method *plugin_method(const struct enrolld_plugin *plugin, const char *name);
const struct enrolld_option *plugin_next_option(const struct enrolld_plugin *plugin,
                                                const struct enrolld_option *option);

/* Whether an option is there for this, ENROLLD_USE_ENROLL or ENROLLD_USE_RENEW. */
bool plugin_option_serves(const struct enrolld_plugin *plugin, const struct enrolld_option *option,
                          enum enrolld_option_use use);

/* Whether it has a renew(). */
bool plugin_can_renew(const struct enrolld_plugin *plugin);
