/* What is kept beside the identities: for workers, unread, and the records of the daemon. */
#include "daemon/store-private.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"
#include "daemon/directory.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what is kept for workers --- */

/* "staged", "staged.7", "renewal-METHOD", "renewal-METHOD.7", "retry-renewal.7" */
static bool waits_for_successor(const char *name) {
    size_t length = sizeof STORE_STAGED - 1;
    return strncmp(name, STORE_RENEWAL_PREFIX, sizeof STORE_RENEWAL_PREFIX - 1) == 0 ||
           strncmp(name, STORE_RETRY_RENEWAL, sizeof STORE_RETRY_RENEWAL - 1) == 0 ||
           (strncmp(name, STORE_STAGED, length) == 0 && (name[length] == '\0' || name[length] == '.'));
}

/* What waits for a successor to an identity bears the number of that: what a commit has made needless can so be told
 * from what came after it, wherever power was cut. */
static void kept_name(const struct store *store, const char *name, const char *suffix, char text[STORE_KEPT_NAME_MAX]) {
    if (store->current != 0 && waits_for_successor(name))
        snprintf(text, STORE_KEPT_NAME_MAX, "%s.%u%s", name, store->current, suffix);
    else
        snprintf(text, STORE_KEPT_NAME_MAX, "%s%s", name, suffix);
}

int store_keep(struct store *store, const char *name, int file, struct failure *failure) {
    char kept[STORE_KEPT_NAME_MAX], temporary[STORE_KEPT_NAME_MAX];
    AUTO_FREE char *data = NULL;
    size_t size = 0;
    int r = memfd_read(file, &data, &size);
    kept_name(store, name, "", kept);
    kept_name(store, name, ".new", temporary);
    if (r == 0) {
        r = directory_replace(store->directory, kept, temporary, data, size);
        explicit_bzero(data, size);
    }
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT,
                           "cannot write the file `%s` in the state directory: %s", name, strerror(-r));
    return 0;
}

int store_open_kept(struct store *store, const char *name, int *ret_file, struct failure *failure) {
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    char kept[STORE_KEPT_NAME_MAX];
    kept_name(store, name, "", kept);
    AUTO_CLOSE int file = openat(store->directory, kept, flags);
    struct stat status;
    *ret_file = -1;
    if (file < 0 && errno == ENOENT)
        return 0;
    if ((file < 0 && errno != ELOOP) || (file >= 0 && fstat(file, &status) < 0))
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT,
                           "cannot open the file `%s` in the state directory: %s", name, strerror(errno));
    if (file >= 0 && S_ISREG(status.st_mode) && status.st_size <= MEMFD_SIZE_MAX) {
        *ret_file = take_fd(&file);
        return 0;
    }
    log_message(LOG_WARNING, "`%s` in the state directory is no file of at most 64 KiB, and is removed", name);
    store_drop_kept(store, name);
    return 0;
}

static void drop(struct store *store, const char *name) {
    int r = directory_remove(store->directory, name);
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove the file `%s` in the state directory: %s", name, strerror(-r));
}

/* Not durable on purpose, as with the record of attempts below. */
void store_drop_kept(struct store *store, const char *name) {
    char kept[STORE_KEPT_NAME_MAX];
    kept_name(store, name, "", kept);
    drop(store, kept);
}

bool store_is_kept(const char *name) {
    return strncmp(name, STORE_CHECKPOINT_PREFIX, sizeof STORE_CHECKPOINT_PREFIX - 1) == 0 || waits_for_successor(name);
}

/* True if it was made while another identity was in use, or none. */
static bool is_stale(const struct store *store, const char *name) {
    char suffix[16];
    const char *dot = strrchr(name, '.');
    snprintf(suffix, sizeof suffix, ".%u", store->current);
    return dot == NULL || strcmp(dot, suffix) != 0;
}

static int drop_entry(const char *name, void *data) {
    const struct store *store = data;
    if (store_is_kept(name) && is_stale(store, name))
        drop(data, name);
    return 0;
}

void store_drop_all_kept(struct store *store) {
    int r = directory_walk(store->directory, drop_entry, store);
    if (r < 0)
        log_message(LOG_WARNING, "cannot look through the state directory: %s", strerror(-r));
}

/* --- the newest certificate --- */

uint64_t store_newest_certificate(const struct store *store) {
    struct stat status;
    bool found = fstatat(store->directory, "clock", &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_mtim.tv_sec > 0;
    return found ? (uint64_t)status.st_mtim.tv_sec * 1000000 : 0;
}

/* Not durable on purpose: each check of the identity notes it again. Only in seconds, as a certificate says it. */
void store_note_certificate(struct store *store, uint64_t not_before_usec) {
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)(not_before_usec / 1000000)}};
    int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    if (store_newest_certificate(store) >= not_before_usec)
        return;
    AUTO_CLOSE int file = openat(store->directory, "clock", flags, 0600);
    if (file < 0 || futimens(file, times) < 0)
        log_message(LOG_WARNING, "cannot write the file `clock` in the state directory: %s", strerror(errno));
}

/* --- records --- */

static void tell_malformed(const char *name, int r) {
    if (r < 0 && r != -ENOENT)
        log_message(LOG_WARNING, "the file `%s` in the state directory is ignored: %s", name, strerror(-r));
}

/* -ENOENT if it is not there; anything else that is wrong with it is logged, and the record counts as none. */
static int load(const struct store *store, const char *name, char *text, size_t size) {
    char kept[STORE_KEPT_NAME_MAX];
    kept_name(store, name, "", kept);
    int r = directory_read(store->directory, kept, text, size);
    tell_malformed(name, r);
    return r;
}

static int save(struct store *store, const char *name, const char *text, struct failure *failure) {
    char kept[STORE_KEPT_NAME_MAX], temporary[STORE_KEPT_NAME_MAX];
    kept_name(store, name, "", kept);
    kept_name(store, name, ".new", temporary);
    int r = directory_replace(store->directory, kept, temporary, text, strlen(text));
    return r < 0 ? failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT,
                               "cannot write the file `%s` in the state directory: %s", name, strerror(-r))
                 : 0;
}

void store_load_retry(const struct store *store, const char *name, struct retry *ret) {
    char text[RETRY_TEXT_MAX];
    *ret = (struct retry){0};
    if (load(store, name, text, sizeof text) == 0)
        tell_malformed(name, retry_parse(text, ret));
}

int store_save_retry(struct store *store, const char *name, const struct retry *retry, struct failure *failure) {
    char text[RETRY_TEXT_MAX];
    retry_format(retry, text);
    return save(store, name, text, failure);
}

/* Not durable on purpose: should a power cut bring the record back, an identity that is good removes it again. */
void store_clear_record(struct store *store, const char *name) {
    char kept[STORE_KEPT_NAME_MAX];
    kept_name(store, name, "", kept);
    if (unlinkat(store->directory, kept, 0) < 0 && errno != ENOENT)
        log_message(LOG_WARNING, "cannot remove the file `%s` in the state directory: %s", name, strerror(errno));
}

void store_load_retired(const struct store *store, struct retired *ret) {
    char text[RETIRED_TEXT_MAX];
    memset(ret, 0, sizeof *ret);
    if (load(store, STORE_RETIRED, text, sizeof text) == 0)
        tell_malformed(STORE_RETIRED, retired_parse(text, ret));
}

int store_save_retired(struct store *store, const struct retired *retired, struct failure *failure) {
    char text[RETIRED_TEXT_MAX];
    retired_format(retired, text);
    return save(store, STORE_RETIRED, text, failure);
}

int store_retire(struct store *store, const char *certificate_id, struct failure *failure) {
    struct retired retired;
    char dropped[RETIRED_ID_SIZE];
    store_load_retired(store, &retired);
    if (!retired_add(&retired, certificate_id, dropped))
        return 0;
    if (dropped[0] != '\0')
        log_message(LOG_WARNING,
                    "more than %d certificates wait for their retirement: the cloud will not be told of %s, which may "
                    "stay active there",
                    RETIRED_MAX, dropped);
    return store_save_retired(store, &retired, failure);
}

void store_load_refusal(const struct store *store, struct refusal *ret) {
    char text[REFUSAL_TEXT_MAX];
    *ret = (struct refusal){0};
    if (load(store, STORE_REFUSAL, text, sizeof text) < 0)
        return;
    tell_malformed(STORE_REFUSAL, refusal_parse(text, ret));
    if (ret->generation != store->current) /* of an identity that is no more */
        *ret = (struct refusal){0};
}

int store_save_refusal(struct store *store, const struct refusal *refusal, struct failure *failure) {
    char text[REFUSAL_TEXT_MAX];
    refusal_format(refusal, text);
    return save(store, STORE_REFUSAL, text, failure);
}
