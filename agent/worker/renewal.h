/* Could the identity in use be renewed, as things are set up? What a check tells beside its facts, so that a device
 * which nothing will renew is noticed long before its certificate ends. No network and no credentials: only what the
 * option table of the method says, and what is set. */
#pragma once

#include "common/configuration.h"
#include "common/failure.h"
#include "common/settings.h"
#include "worker/current.h"

/* By which method: RenewMethod=, else the one that has issued it; "" for none. Borrowed from the arguments. */
const char *renewal_method(const struct settings *settings, const struct identity *identity);

/* Why it cannot be renewed, one sentence for people; "" if it can. True if it can by a certificate that was imported
 * for that. Never fails: the method is loaded in a process of its own, so that a module which crashes or hangs costs a
 * renewal at most. The job has what is staged, if there is something. */
bool renewal_judge(const struct message *job, const struct configuration *configuration,
                   const struct settings *settings, const struct current *current, char hindrance[FAILURE_MESSAGE_MAX]);
