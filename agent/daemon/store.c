#include "daemon/store.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"
#include "common/text.h"
#include "daemon/directory.h"
#include "daemon/group.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define NAME_MAX_SIZE 32 /* of "generations/4294967295.forgotten" */

struct store {
    int directory;
    int generations;
    uint32_t current;
    uint32_t highest; /* number that was ever there */
};

/* A configuration is never stored here. */
static const char *const file_names[FILE_ROLE_COUNT] = {
    [FILE_CERTIFICATE] = "certificate.pem",
    [FILE_PRIVATE_KEY] = "private.pem",
    [FILE_ROOT_CA] = "root-ca.pem",
    [FILE_IDENTITY] = "identity.json",
};

static int store_failure(struct failure *failure, const char *what, int error) {
    return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "%s in the state directory: %s", what, strerror(-error));
}

enum kind { WHOLE, BROKEN, FORGOTTEN };

/* "7", "7.broken" or "7.forgotten"; anything else in generations/ is none of our business and stays. */
static bool parse_name(const char *name, uint32_t *ret_number, enum kind *ret_kind) {
    static const char *const suffixes[] = {[WHOLE] = "", [BROKEN] = ".broken", [FORGOTTEN] = ".forgotten"};
    char digits[11];
    uint64_t number;
    size_t length = strspn(name, "0123456789");
    if (length == 0 || length >= sizeof digits || name[0] == '0')
        return false;
    memcpy(digits, name, length);
    digits[length] = '\0';
    if (text_to_u64(digits, &number) < 0 || number > UINT32_MAX)
        return false;
    for (enum kind kind = WHOLE; kind <= FORGOTTEN; kind++)
        if (strcmp(name + length, suffixes[kind]) == 0) {
            *ret_number = (uint32_t)number;
            *ret_kind = kind;
            return true;
        }
    return false;
}

static void close_files(int files[FILE_ROLE_COUNT]) {
    for (int role = 0; role < FILE_ROLE_COUNT; role++) {
        cleanup_close(&files[role]);
        files[role] = -1;
    }
}

/* Opens the four files; -ENODATA if one is missing, empty, too large or not a regular file. */
static int open_files(int parent, const char *name, int files[FILE_ROLE_COUNT]) {
    AUTO_CLOSE int directory = directory_open(parent, name);
    struct stat status;
    int opened[FILE_ROLE_COUNT], r = 0;
    if (directory < 0)
        return directory == -ENOENT || directory == -ENOTDIR || directory == -ELOOP ? -ENODATA : directory;
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        opened[role] = -1;
    for (int role = 0; role < FILE_ROLE_COUNT && r == 0; role++) {
        if (file_names[role] == NULL)
            continue;
        opened[role] = openat(directory, file_names[role], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (opened[role] < 0)
            r = errno == ENOENT || errno == ELOOP || errno == ENXIO ? -ENODATA : -errno;
        else if (fstat(opened[role], &status) < 0)
            r = -errno;
        else if (!S_ISREG(status.st_mode) || status.st_size == 0 || status.st_size > MEMFD_SIZE_MAX)
            r = -ENODATA;
    }
    if (r < 0)
        close_files(opened);
    else
        memcpy(files, opened, sizeof opened);
    return r;
}

/* --- opening and recovery --- */

struct survey {
    uint32_t current;
    uint32_t highest;
    uint32_t kept; /* the newest of those that were in use before */
    bool kept_broken;
    int generations;
};

/* Committed before: a number below the current one, or a broken one. */
static int survey_entry(const char *name, void *data) {
    struct survey *survey = data;
    uint32_t number;
    enum kind kind;
    if (!parse_name(name, &number, &kind))
        return 0;
    if (number > survey->highest)
        survey->highest = number;
    if ((kind == BROKEN || (kind == WHOLE && number < survey->current)) && number > survey->kept) {
        survey->kept = number;
        survey->kept_broken = kind == BROKEN;
    }
    return 0;
}

static int prune_entry(const char *name, void *data) {
    const struct survey *survey = data;
    uint32_t number;
    enum kind kind;
    if (!parse_name(name, &number, &kind) || (kind == WHOLE && number == survey->current) ||
        (kind != FORGOTTEN && number == survey->kept && (kind == BROKEN) == survey->kept_broken) ||
        (kind == FORGOTTEN && number >= survey->current))
        return 0;
    int r = directory_remove(survey->generations, name);
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove generations/%s: %s", name, strerror(-r));
    return 0;
}

/* Finds the highest number; removes all generations but the one in use and one predecessor. */
static int survey_and_prune(struct store *store) {
    struct survey survey = {.current = store->current, .highest = store->highest, .generations = store->generations};
    int r = directory_walk(store->generations, survey_entry, &survey);
    if (r < 0)
        return r;
    store->highest = survey.highest;
    return directory_walk(store->generations, prune_entry, &survey);
}

/* Reads the link. 0 if there is none, 1 with its number, -EBADMSG for anything that this program did not make. */
static int read_current(const struct store *store, uint32_t *ret) {
    char target[64];
    enum kind kind;
    ssize_t n = readlinkat(store->directory, "current", target, sizeof target - 1);
    if (n < 0)
        return errno == ENOENT ? 0 : errno == EINVAL ? -EBADMSG : -errno;
    target[n] = '\0';
    if (strncmp(target, "generations/", 12) != 0 || !parse_name(target + 12, ret, &kind) || kind != WHOLE)
        return -EBADMSG;
    return 1;
}

/* The generation is set aside first: were the link removed first, a power cut between would make it look like one that
 * was never committed. */
static int set_broken_aside(struct store *store, uint32_t number) {
    char name[NAME_MAX_SIZE], aside[NAME_MAX_SIZE];
    snprintf(name, sizeof name, "%u", number);
    snprintf(aside, sizeof aside, "%u.broken", number);
    log_message(
        LOG_ERR,
        "identity %u in the state directory is missing or not whole: what there is of it is kept as generations/%s",
        number, aside);
    directory_remove(store->generations, aside);
    if (renameat(store->generations, name, store->generations, aside) < 0 && errno != ENOENT)
        return -errno;
    int r = directory_sync(store->generations);
    if (r == 0 && unlinkat(store->directory, "current", 0) < 0)
        r = -errno;
    return r < 0 ? r : directory_sync(store->directory);
}

/* Somebody else made `current`: which generation was in use is not known, so the newest is kept like a broken one. */
static int set_foreign_aside(struct store *store) {
    struct survey survey = {0};
    char name[NAME_MAX_SIZE], aside[NAME_MAX_SIZE];
    log_message(LOG_ERR, "`current` in the state directory is not a link to a generation: renamed to current.broken");
    int r = directory_walk(store->generations, survey_entry, &survey);
    if (r < 0)
        return r;
    snprintf(name, sizeof name, "%u", survey.highest);
    snprintf(aside, sizeof aside, "%u.broken", survey.highest);
    if (renameat(store->generations, name, store->generations, aside) < 0 && errno != ENOENT)
        return -errno;
    r = directory_sync(store->generations);
    if (r == 0 && renameat(store->directory, "current", store->directory, "current.broken") < 0)
        r = -errno;
    return r < 0 ? r : directory_sync(store->directory);
}

static int recover_current(struct store *store) {
    char name[NAME_MAX_SIZE];
    int files[FILE_ROLE_COUNT];
    uint32_t number = 0;
    int r = read_current(store, &number);
    if (r == -EBADMSG)
        return set_foreign_aside(store);
    if (r <= 0)
        return r;
    store->highest = number;
    snprintf(name, sizeof name, "%u", number);
    r = open_files(store->generations, name, files);
    if (r == -ENODATA)
        return set_broken_aside(store, number);
    if (r < 0)
        return r;
    close_files(files);
    store->current = number;
    return 0;
}

/* Half-written files, and an identity that was never committed. */
static bool is_leftover(const char *name) {
    size_t length = strlen(name);
    return strcmp(name, "incoming") == 0 || (length >= 4 && strcmp(name + length - 4, ".new") == 0);
}

static int remove_leftover(const char *name, void *data) {
    struct store *store = data;
    if (!is_leftover(name))
        return 0;
    int r = directory_remove(store->directory, name);
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove %s in the state directory: %s", name, strerror(-r));
    return 0;
}

static int open_directories(struct store *store, const char *path, struct failure *failure) {
    bool made = mkdir(path, 0711) == 0;
    if (!made && errno != EEXIST)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "cannot make %s: %s", path, strerror(errno));
    store->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->directory < 0 || (made && fchmod(store->directory, 0711) < 0)) /* whatever the umask */
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "cannot open %s: %s", path, strerror(errno));
    if (flock(store->directory, LOCK_EX | LOCK_NB) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "cannot lock %s: %s", path,
                           errno == EWOULDBLOCK ? "another enrolld uses it" : strerror(errno));
    store->generations = directory_make(store->directory, "generations", 0711);
    if (store->generations < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "cannot open %s/generations: %s", path,
                           strerror(-store->generations));
    return 0;
}

static void store_cleanup(struct store **store) {
    store_close(*store);
}

int store_open(const char *path, struct store **ret, struct failure *failure) {
    CLEANUP(store_cleanup) struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "out of memory");
    store->directory = store->generations = -1;
    if (open_directories(store, path, failure) < 0)
        return -1;
    int r = directory_walk(store->directory, remove_leftover, store);
    if (r == 0)
        r = recover_current(store);
    if (r == 0)
        r = survey_and_prune(store);
    if (r < 0)
        return store_failure(failure, "cannot recover `current` or `generations`", r);
    *ret = TAKE_POINTER(store);
    return 0;
}

struct store *store_close(struct store *store) {
    if (store == NULL)
        return NULL;
    cleanup_close(&store->directory);
    cleanup_close(&store->generations);
    free(store);
    return NULL;
}

enum volatility store_volatility(const struct store *store) {
    return volatile_judge(store->directory);
}

uint32_t store_current(const struct store *store) {
    return store->current;
}

uint32_t store_next(const struct store *store) {
    return store->highest + 1;
}

int store_space(const struct store *store, struct store_space *ret) {
    struct statfs status;
    if (fstatfs(store->directory, &status) < 0)
        return -errno;
    *ret = (struct store_space){
        .bytes = (uint64_t)status.f_bavail * (uint64_t)status.f_bsize,
        .inodes = status.f_ffree,
        .counts_inodes = status.f_files > 0,
    };
    return 0;
}

int store_open_current(const struct store *store, int files[FILE_ROLE_COUNT], struct failure *failure) {
    char name[NAME_MAX_SIZE];
    snprintf(name, sizeof name, "%u", store->current);
    int r = open_files(store->generations, name, files);
    return r < 0 ? store_failure(failure, "cannot read the identity", r) : 0;
}

int store_open_staged(const struct store *store, int files[FILE_ROLE_COUNT], struct failure *failure) {
    int r = open_files(store->directory, "incoming", files);
    return r < 0 ? store_failure(failure, "cannot read incoming/", r) : 0;
}

/* --- staging and commit --- */

/* Applications that may use the identity are in the group; where it does not exist, or may not be given (a daemon
 * started by hand), the files stay with the daemon's own group. Returns 1 if it may not be given. In the unit it is the
 * daemon's own group, and fchown(2) is among the calls that the unit takes away. */
static int give_to_group(int fd, mode_t mode) {
    gid_t group;
    struct stat is;
    if (fstat(fd, &is) < 0)
        return -errno;
    bool refused = group_find(GROUP_IDENTITY, &group) == 0 && is.st_gid != group && fchown(fd, (uid_t)-1, group) < 0;
    if (refused && errno != EPERM)
        return -errno;
    return fchmod(fd, mode) < 0 ? -errno : refused;
}

/* The files get their final modes at once, before the one fsync of each: incoming/ is closed to everybody anyway. */
static int stage_file(int incoming, const char *name, int source) {
    AUTO_FREE char *data = NULL;
    size_t size = 0;
    int r = memfd_read(source, &data, &size);
    if (r < 0)
        return r;
    AUTO_CLOSE int file = directory_create(incoming, name, data, size);
    explicit_bzero(data, size);
    r = file < 0 ? file : give_to_group(file, 0640);
    return r < 0 ? r : directory_sync(file);
}

int store_stage(struct store *store, const int files[FILE_ROLE_COUNT], struct failure *failure) {
    int r = directory_remove(store->directory, "incoming");
    AUTO_CLOSE int incoming = r < 0 ? r : directory_make(store->directory, "incoming", 0700);
    r = incoming < 0 ? incoming : 0;
    for (int role = 0; role < FILE_ROLE_COUNT && r == 0; role++)
        if (file_names[role] != NULL)
            r = stage_file(incoming, file_names[role], files[role]);
    if (r == 0)
        r = directory_sync(incoming);
    if (r == 0)
        return 0;
    store_discard(store);
    return store_failure(failure, "cannot write incoming/", r);
}

static int publish_generation(struct store *store, const char *name) {
    AUTO_CLOSE int incoming = directory_open(store->directory, "incoming");
    int r = incoming < 0 ? incoming : give_to_group(incoming, 0750);
    if (r > 0)
        log_message(LOG_WARNING, "the identity cannot be given to the group " GROUP_IDENTITY
                                 ": enrolld is not a member of it, so its members cannot read the files");
    if (r >= 0)
        r = directory_sync(incoming);
    if (r == 0 && renameat(store->directory, "incoming", store->generations, name) < 0)
        r = -errno;
    return r < 0 ? r : directory_sync(store->generations);
}

static int swing_current(struct store *store, uint32_t number) {
    char target[NAME_MAX_SIZE];
    snprintf(target, sizeof target, "generations/%u", number);
    int r = directory_remove(store->directory, "current.new");
    if (r < 0)
        return r;
    if (symlinkat(target, store->directory, "current.new") < 0 ||
        renameat(store->directory, "current.new", store->directory, "current") < 0)
        return -errno;
    return 0;
}

int store_commit(struct store *store, struct failure *failure) {
    char name[NAME_MAX_SIZE];
    uint32_t number = store_next(store);
    int files[FILE_ROLE_COUNT];
    int r = open_files(store->directory, "incoming", files);
    if (r < 0 || number == 0)
        return store_failure(failure, "there is no whole identity to commit", r < 0 ? r : -EOVERFLOW);
    close_files(files);
    snprintf(name, sizeof name, "%u", number);
    store->highest = number;
    r = publish_generation(store, name);
    if (r == 0)
        r = swing_current(store, number);
    if (r < 0) {
        directory_remove(store->generations, name);
        directory_remove(store->directory, "current.new");
        return store_failure(failure, "cannot commit the identity", r);
    }
    store->current = number; /* visible from here on, even if it turns out not to be durable */
    r = directory_sync(store->directory);
    if (r < 0)
        return store_failure(failure, "cannot make the identity durable", r);
    r = survey_and_prune(store);
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove old generations: %s", strerror(-r));
    return 0;
}

void store_discard(struct store *store) {
    int r = directory_remove(store->directory, "incoming");
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove incoming/ in the state directory: %s", strerror(-r));
}

/* --- what is kept for workers --- */

static void kept_name(const char *name, const char *suffix, char text[STORE_KEPT_NAME_MAX]) {
    snprintf(text, STORE_KEPT_NAME_MAX, "%s%s", name, suffix);
}

int store_keep(struct store *store, const char *name, int file, struct failure *failure) {
    char temporary[STORE_KEPT_NAME_MAX];
    AUTO_FREE char *data = NULL;
    size_t size = 0;
    int r = memfd_read(file, &data, &size);
    kept_name(name, ".new", temporary);
    if (r == 0) {
        r = directory_replace(store->directory, name, temporary, data, size);
        explicit_bzero(data, size);
    }
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT,
                           "cannot write the file `%s` in the state directory: %s", name, strerror(-r));
    return 0;
}

int store_open_kept(struct store *store, const char *name, int *ret_file, struct failure *failure) {
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    AUTO_CLOSE int file = openat(store->directory, name, flags);
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

/* Not durable on purpose, as with the record of attempts below. */
void store_drop_kept(struct store *store, const char *name) {
    int r = directory_remove(store->directory, name);
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove the file `%s` in the state directory: %s", name, strerror(-r));
}

static bool is_kept(const char *name) {
    return strcmp(name, STORE_STAGED) == 0 ||
           strncmp(name, STORE_CHECKPOINT_PREFIX, sizeof STORE_CHECKPOINT_PREFIX - 1) == 0;
}

static int drop_entry(const char *name, void *data) {
    if (is_kept(name))
        store_drop_kept(data, name);
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

/* --- forgetting --- */

/* All but the identity in use; what the clock is worth is no matter of it. */
static int forget_entry(const char *name, void *data) {
    const struct store *store = data;
    if (is_kept(name) || strcmp(name, "retry") == 0 || strcmp(name, "current.broken") == 0)
        return directory_remove(store->directory, name);
    return is_leftover(name) ? directory_remove(store->directory, name) : 0;
}

static int forget_generation(const char *name, void *data) {
    const struct store *store = data;
    uint32_t number;
    enum kind kind;
    if (!parse_name(name, &number, &kind) || (kind == WHOLE && number == store->current) ||
        (kind == FORGOTTEN && number == store->highest))
        return 0;
    return directory_remove(store->generations, name);
}

/* Without it the numbers would begin anew at the next start. */
static int mark_highest(const struct store *store) {
    char name[NAME_MAX_SIZE];
    if (store->highest == 0)
        return 0;
    snprintf(name, sizeof name, "%u.forgotten", store->highest);
    AUTO_CLOSE int directory = directory_make(store->generations, name, 0700);
    return directory < 0 ? directory : 0;
}

/* What is left of a way to another identity goes first, and durably: should it outlive the one in use, the next attempt
 * would go on with a key and a certificate of before. */
static int forget_all_but_current(struct store *store) {
    int r = directory_walk(store->directory, forget_entry, store);
    if (r == 0)
        r = directory_sync(store->directory);
    if (r == 0)
        r = mark_highest(store);
    if (r == 0)
        r = directory_walk(store->generations, forget_generation, store);
    return r < 0 ? r : directory_sync(store->generations);
}

int store_forget(struct store *store, struct failure *failure) {
    char name[NAME_MAX_SIZE];
    int r = forget_all_but_current(store);
    if (r < 0)
        return store_failure(failure, "cannot remove what belongs to no identity in use", r);
    if (store->current == 0)
        return 0;
    if (unlinkat(store->directory, "current", 0) < 0 && errno != ENOENT)
        return store_failure(failure, "cannot remove `current`", -errno);
    snprintf(name, sizeof name, "%u", store->current);
    store->current = 0; /* from here on */
    r = directory_sync(store->directory);
    if (r == 0)
        r = directory_remove(store->generations, name);
    if (r == 0)
        r = directory_sync(store->generations);
    return r < 0 ? store_failure(failure, "cannot remove all files of the identity, which is not in use any more,", r)
                 : 0;
}

/* --- the record of attempts --- */

void store_load_retry(const struct store *store, struct retry *ret) {
    char text[RETRY_TEXT_MAX];
    *ret = (struct retry){0};
    int r = directory_read(store->directory, "retry", text, sizeof text);
    if (r == 0)
        r = retry_parse(text, ret);
    if (r < 0 && r != -ENOENT)
        log_message(LOG_WARNING, "the file `retry` in the state directory is ignored: %s", strerror(-r));
}

int store_save_retry(struct store *store, const struct retry *retry, struct failure *failure) {
    char text[RETRY_TEXT_MAX];
    retry_format(retry, text);
    int r = directory_replace(store->directory, "retry", "retry.new", text, strlen(text));
    return r < 0 ? store_failure(failure, "cannot write the file `retry`", r) : 0;
}

/* Not durable on purpose: should a power cut bring the record back, an identity that is good removes it again. */
void store_clear_retry(struct store *store) {
    if (unlinkat(store->directory, "retry", 0) < 0 && errno != ENOENT)
        log_message(LOG_WARNING, "cannot remove the file `retry` in the state directory: %s", strerror(errno));
}
