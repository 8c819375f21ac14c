/* The state directory: the only code that writes there (but for the flag files of runtime.h, which lie elsewhere).
 *
 *     current -> generations/7        the identity in use; applications resolve it once, then open files below it
 *     generations/7/                  0750, files 0640, group enrolld-identity: certificate.pem, private.pem,
 *                                     root-ca.pem, identity.json
 *     generations/6/                  its predecessor: as many of them are kept as KeepGenerations= says
 *     generations/5.broken/           was current, but found without all its files at start; kept until a predecessor
 *                                     that is whole takes its place, because a key in it may be irreplaceable
 *     generations/7.forgotten/        empty, while there is no higher number: was the highest when store_forget() was
 *                                     called
 *     incoming/                       0700: an identity that arrived and is not proven whole yet; else not there
 *     checkpoint-METHOD               0600: how far an enrolment by that method has come, in the worker's words
 *     staged                          0600: the key of a request, an imported certificate, in the worker's words; both
 *                                     only while there is no identity in use
 *     staged.7, renewal-METHOD.7      0600: the same for a successor to the identity of that number
 *     retry, retry-renewal.7          retry.h: the attempts to enrol, and those to renew
 *     retire                          retired.h: certificates that were replaced, and that the cloud is not told of yet
 *     refused                         refusal.h: the cloud refuses the identity in use
 *     clock                           0600, empty: its modification time is the notBefore of the newest certificate
 *                                     that was in use here, and no clock that is earlier can be right
 *
 * Commit: each file of incoming/ and itself are fsynced, it is renamed to generations/N, generations/ is fsynced, a
 * new symbolic link is renamed over `current`, the top directory is fsynced. The rename of the link is the only commit
 * point: at any instant `current` names a whole identity or is absent. Numbers grow and are never used twice. Of a
 * generation that is in use only root-ca.pem is ever replaced, as a whole. */
#pragma once

#include "common/channel.h"
#include "common/failure.h"
#include "common/volatile.h"
#include "daemon/refusal.h"
#include "daemon/retired.h"
#include "daemon/retry.h"

#include <stdbool.h>
#include <stdint.h>

#define STORE_GENERATIONS_MAX 8

struct store;

/* Opens the directory (its last component is made if it is missing), locks it against a second daemon, and clears away
 * what a power cut left: incoming/, generations that were never committed, a `current` that names no whole identity.
 * Class `internal`: locked, not writable, not a directory. */
int store_open(const char *path, struct store **ret, struct failure *failure);
struct store *store_close(struct store *store);

/* Whether the directory survives the next boot. */
enum volatility store_volatility(const struct store *store);

/* Number of the generation in use, 0 for none. */
uint32_t store_current(const struct store *store);

/* The number that the next commit will use. */
uint32_t store_next(const struct store *store);

/* What there is to say of the disk below it. */
struct store_space {
    uint64_t bytes, inodes; /* free; inodes 0 where the file system does not count them */
    bool counts_inodes;
};
/* 0 or a negative errno. */
int store_space(const struct store *store, struct store_space *ret);

/* Read-only descriptors of the four files of the generation in use, or of incoming/; the caller closes them. */
int store_open_current(const struct store *store, int files[FILE_ROLE_COUNT], struct failure *failure);
int store_open_staged(const struct store *store, int files[FILE_ROLE_COUNT], struct failure *failure);

/* Copies the four files (sealed memfds, borrowed) durably into a fresh incoming/. */
int store_stage(struct store *store, const int files[FILE_ROLE_COUNT], struct failure *failure);

/* How many predecessors of the identity in use (at most STORE_GENERATIONS_MAX) stay from now on: the others are removed
 * now and after each commit; before the first call none is. */
void store_keep_generations(struct store *store, unsigned keep);

/* Makes incoming/ the identity in use, then removes predecessors. If this fails, store_current() says which
 * identity is in use all the same. Warns if the group enrolld-identity is there and may not be given the files. */
int store_commit(struct store *store, struct failure *failure);

/* Replaces root-ca.pem of the identity in use, durably: whenever power fails, the old file is there or the new one.
 * `file` is a sealed memfd, borrowed. */
int store_replace_root_ca(struct store *store, int file, struct failure *failure);

/* Removes incoming/. */
void store_discard(struct store *store);

/* Removes all generations, whole or broken, and all that is kept below, for good; what is not of this program stays.
 * The fsynced removal of `current` is the only point of no return: a power cut before leaves the identity in use whole,
 * one after it a device without any, and the next start removes what there still is of it. If this fails,
 * store_current() says whether the identity is in use all the same. Nothing is overwritten: on flash memory that
 * promises nothing. */
int store_forget(struct store *store, struct failure *failure);

/* Files that are kept for workers, unread: of an enrolment, of a renewal, and what is staged. The last two are those of
 * the identity in use, and no other one ever sees them: store_commit() leaves all of them behind. */
#define STORE_CHECKPOINT_PREFIX "checkpoint-"
#define STORE_RENEWAL_PREFIX "renewal-"
#define STORE_STAGED "staged"
#define STORE_KEPT_NAME_MAX 96 /* of "checkpoint-METHOD.4294967295.new" */

/* Replaces one as a whole, and durably before this returns. `file` is a sealed memfd, borrowed. */
int store_keep(struct store *store, const char *name, int file, struct failure *failure);
/* A read-only descriptor of it, -1 if there is none. One that no worker could take is removed, and logged; one that
 * just cannot be opened now (class `internal`) stays. */
int store_open_kept(struct store *store, const char *name, int *ret_file, struct failure *failure);
void store_drop_kept(struct store *store, const char *name);
/* Removes what has led to the identity in use, or to one before: what is kept for its successor stays. */
void store_drop_all_kept(struct store *store);

/* From when the newest certificate is valid that was in use here, in microseconds since the epoch; 0: there was none.
 */
uint64_t store_newest_certificate(const struct store *store);
void store_note_certificate(struct store *store, uint64_t not_before_usec);

/* Records of the daemon: no file, or one that is not understood (logged), is a record of nothing. Saved durably. */
#define STORE_RETRY "retry"
#define STORE_RETRY_RENEWAL "retry-renewal"
#define STORE_RETIRED "retire"
#define STORE_REFUSAL "refused"

/* name: one of the first two. */
void store_load_retry(const struct store *store, const char *name, struct retry *ret);
int store_save_retry(struct store *store, const char *name, const struct retry *retry, struct failure *failure);

void store_load_retired(const struct store *store, struct retired *ret);
/* Adds one, and says so if another one had to go. What is no id of a certificate is left out. */
int store_retire(struct store *store, const char *certificate_id, struct failure *failure);
int store_save_retired(struct store *store, const struct retired *retired, struct failure *failure);

/* Only that of the identity in use. */
void store_load_refusal(const struct store *store, struct refusal *ret);
int store_save_refusal(struct store *store, const struct refusal *refusal, struct failure *failure);

/* Any of the names. */
void store_clear_record(struct store *store, const char *name);
