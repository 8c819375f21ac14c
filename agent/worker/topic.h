/* Topics that the configuration names, with specifiers: ProveTopic=, RetireTopic=. */
#pragma once

#include "common/failure.h"
#include "common/specifier.h"

/* Expands a topic to publish to; the caller frees *ret. Class `invalid`, step STEP_CONFIGURATION, for a specifier
 * without a value and for what AWS IoT Core refuses: more than 256 bytes, more than 7 slashes behind those of Basic
 * Ingest ($aws/rules/NAME/), wildcards. `name` is the key to blame. */
int topic_expand(const char *pattern, const struct specifier_values *values, const char *name, char **ret,
                 struct failure *failure);

/* Pure: the topic behind $aws/rules/NAME/ of a Basic Ingest topic, which nobody can subscribe to (AWS IoT Developer
 * Guide, "Reducing messaging costs with Basic Ingest"); any other one is itself. Borrowed. */
const char *topic_without_rule(const char *topic);
