/* The section of a plugin: checked against the plugin's option table, specifiers expanded, files and credentials
 * read. All before the first byte from the network, so that a bad value costs nothing in the cloud. */
#pragma once

#include "common/configuration.h"
#include "common/failure.h"
#include "common/specifier.h"

#include <enrolld/plugin.h>

/* What is to be added where a method is `unusable` and KeepClaim=no: the file was perhaps never there. */
#define OPTIONS_CLAIM_GONE "; KeepClaim=no may have destroyed it: put it there"

struct options;

/* Reads what is there for this use, ENROLLD_USE_ENROLL or ENROLLD_USE_RENEW. Class `invalid` with FILE:LINE for a key
 * that the method does not know, one that is missing for this use, a bad value, or a file or credential that cannot be
 * read (at most 64 KiB; then the method is `unusable`). Credentials come from $CREDENTIALS_DIRECTORY (systemd.exec(5)).
 * method: the name of the section. */
int options_read(const struct configuration *configuration, const struct enrolld_plugin *plugin, const char *method,
                 enum enrolld_option_use use, const struct specifier_values *values, struct options **ret,
                 struct failure *failure);

/* What can be judged without a value for %s and without opening a file: names, choices, time spans, specifiers,
 * defaults of all keys, and that those are there that this use requires. For check-config. */
int options_check(const struct configuration *configuration, const struct enrolld_plugin *plugin, const char *method,
                  enum enrolld_option_use use, struct failure *failure);

/* Prints the keys of the method's section that are not set, with their defaults, as --check-config prints settings. */
void options_print_unset(const struct configuration *configuration, const struct enrolld_plugin *plugin,
                         const char *method);

/* As enrolld_host.option and enrolld_host.span_ms. */
const char *options_get(const struct options *options, const char *name);
uint64_t options_get_span_ms(const struct options *options, const char *name);

/* As enrolld_host.next_option: of what is set, without defaults. */
bool options_next(const struct options *options, const char *prefix, size_t *position, const char **name,
                  const char **value);

/* True if the value came from a file or a credential. */
bool options_is_secret(const struct options *options, const char *name);

/* True for an ENROLLD_OPTION_FILE that is set. */
bool options_is_file(const struct options *options, const char *name);

/* Wipes the values. Accepts NULL, returns NULL. */
struct options *options_free(struct options *options);
