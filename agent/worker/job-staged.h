/* What the jobs `request` and `import` share: what is staged, and its key. */
#pragma once

#include "common/channel.h"
#include "worker/identity.h"
#include "worker/key.h"
#include "worker/staged.h"

#include <stdbool.h>

/* Seconds for each thing that is asked of the TPM: "Create that takes 60 s", a discrete one may need a minute. */
#define STAGED_KEY_TIMEOUT_S 120

/* Reads the file `staged` of the job, if there is one. What cannot be read is as good as lost: a note says so, and
 * *ret stays without a key. The caller clears *ret. */
int staged_read(const struct message *job, struct staged *ret, struct failure *failure);

/* Makes it durable. */
int staged_store(const struct staged *staged, struct failure *failure);

/* Loads the staged key; *ret_lost: it can never work here again. */
int staged_load_key(const struct staged *staged, const struct settings *settings, struct key **ret, bool *ret_lost,
                    struct failure *failure);

/* Puts a key (made or imported just now) in the place of all that was staged before. */
int staged_take_key(struct staged *staged, const struct key *key, struct failure *failure);

/* A note of the step, in the manner of printf(3). */
void staged_note(const char *step, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Refuses what no method would ever take, class `invalid`: none of Methods= or, where an identity is in use (NULL:
 * none is), not the one that renews it. */
int staged_check_methods(const struct settings *settings, const struct identity *identity, struct failure *failure);

/* Reads the file `identity` of the job, where an identity is in use; *ret_is_there tells. The caller clears *ret. */
int staged_read_identity(const struct message *job, struct identity *ret, bool *ret_is_there, struct failure *failure);

/* Refuses %c in ThingName= or ClientId= where the certificate that is asked for has no common name: class `invalid`. */
int staged_check_names(const struct settings *settings, const struct subject *subject, struct failure *failure);

/* The lock-down of a job without network, save for a simulated TPM that is reached by TCP. */
int staged_lock_down(const struct settings *settings, struct failure *failure);
