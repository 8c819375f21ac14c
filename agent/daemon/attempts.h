/* How many attempts have failed in a row, and when the next one may come. Enrolments and renewals are on record on the
 * disk, in one file each, so that a boot loop does not hammer the cloud; what costs the cloud nothing (checks, the
 * configuration) is only counted. */
#pragma once

#include "common/settings.h"
#include "daemon/retry.h"
#include "daemon/store.h"

struct attempts {
    struct store *store;
    const char *record; /* STORE_RETRY or STORE_RETRY_RENEWAL */
    struct retry retry; /* of enrolments or renewals, as on disk */
    uint32_t local;     /* failures in a row that cost the cloud nothing */
};

/* What an attempt that failed leads to. */
struct attempt_end {
    uint32_t number;
    uint64_t delay_ms;
    uint64_t next_usec; /* CLOCK_REALTIME */
};

/* Takes over the record of the time before this start; settings NULL: there are none yet. An attempt that never ended,
 * by a crash or a power cut, has failed: otherwise a device that reboots in each attempt would make one at each boot.
 * True if there is a failure to show. */
bool attempts_load(struct attempts *attempts, const struct settings *settings, struct failure *ret_failure);

/* Puts an enrolment or renewal on record before it begins: if power fails in the middle, the next start knows of it. */
int attempts_begin(struct attempts *attempts, struct failure *failure);

/* The attempt has failed: one on record that has begun, or else one that is only counted. row: of the retry table. */
struct attempt_end attempts_fail(struct attempts *attempts, const struct settings *settings, enum failure_class row,
                                 uint32_t retry_after_s);

/* How long to wait after so many failures in a row that are on no record. */
uint64_t attempts_delay_ms(const struct settings *settings, enum failure_class row, uint32_t number,
                           uint32_t retry_after_s);
/* Some span up to that. */
uint64_t attempts_random_ms(uint64_t longest_ms);

/* A short wait, random, for an attempt that there is a new reason for. */
uint64_t attempts_soon_ms(const struct settings *settings);

/* The next enrolment or renewal comes at another time. */
void attempts_move(struct attempts *attempts, uint64_t next_usec);

/* None has failed. */
void attempts_forget(struct attempts *attempts);

/* True if the time of the next one has not come yet. Should the clock have been set back since, the time is
 * brought back to what it can be. */
bool attempts_must_wait(struct attempts *attempts, const struct settings *settings);
