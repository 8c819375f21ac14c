#include "daemon/store-private.h"

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

/* A configuration is never stored here. */
static const char *const file_names[FILE_ROLE_COUNT] = {
    [FILE_CERTIFICATE] = "certificate.pem",
    [FILE_PRIVATE_KEY] = "private.pem",
    [FILE_ROOT_CA] = "root-ca.pem",
    [FILE_IDENTITY] = "identity.json",
};

#define ROOT_CA_NEW "root-ca.pem.new"

int store_failure(struct failure *failure, const char *what, int error) {
    return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "%s in the state directory: %s", what, strerror(-error));
}

bool store_parse_name(const char *name, uint32_t *ret_number, enum store_kind *ret_kind) {
    static const char *const suffixes[] = {
        [STORE_WHOLE] = "", [STORE_BROKEN] = ".broken", [STORE_FORGOTTEN] = ".forgotten"};
    char digits[11];
    uint64_t number;
    size_t length = strspn(name, "0123456789");
    if (length == 0 || length >= sizeof digits || name[0] == '0')
        return false;
    memcpy(digits, name, length);
    digits[length] = '\0';
    if (text_to_u64(digits, &number) < 0 || number > UINT32_MAX)
        return false;
    for (enum store_kind kind = STORE_WHOLE; kind <= STORE_FORGOTTEN; kind++)
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

struct generation {
    uint32_t number;
    enum store_kind kind;
};

struct survey {
    uint32_t current;
    uint32_t highest;
    uint32_t keep;
    struct generation kept[STORE_GENERATIONS_MAX]; /* the newest of those that were in use before, the newest first */
    int generations;
};

/* Committed before: a number below the current one, or a broken one. */
static bool was_in_use(const struct survey *survey, const struct generation *generation) {
    return generation->kind == STORE_BROKEN ||
           (generation->kind == STORE_WHOLE && generation->number < survey->current);
}

static int survey_entry(const char *name, void *data) {
    struct survey *survey = data;
    struct generation found;
    if (!store_parse_name(name, &found.number, &found.kind))
        return 0;
    if (found.number > survey->highest)
        survey->highest = found.number;
    if (!was_in_use(survey, &found))
        return 0;
    for (size_t i = 0; i < survey->keep && i < STORE_GENERATIONS_MAX; i++)
        if (found.number > survey->kept[i].number) {
            struct generation next = survey->kept[i];
            survey->kept[i] = found;
            found = next;
        }
    return 0;
}

static bool is_needed(const struct survey *survey, const struct generation *generation) {
    if (generation->kind == STORE_FORGOTTEN)
        return generation->number >= survey->current;
    if (generation->kind == STORE_WHOLE && generation->number == survey->current)
        return true;
    if (survey->keep == STORE_KEEP_ALL)
        return was_in_use(survey, generation);
    for (size_t i = 0; i < STORE_GENERATIONS_MAX; i++)
        if (survey->kept[i].number == generation->number && survey->kept[i].kind == generation->kind)
            return true;
    return false;
}

static int prune_entry(const char *name, void *data) {
    const struct survey *survey = data;
    struct generation generation;
    if (!store_parse_name(name, &generation.number, &generation.kind) || is_needed(survey, &generation))
        return 0;
    int r = directory_remove(survey->generations, name);
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove generations/%s: %s", name, strerror(-r));
    return 0;
}

/* Finds the highest number; removes all generations but the one in use and its predecessors. Of those that are broken
 * the newest stays in any case until another identity is in use. */
static int survey_and_prune(struct store *store) {
    struct survey survey = {.current = store->current,
                            .highest = store->highest,
                            .keep = store->keep == 0 && store->current == 0 ? 1 : store->keep,
                            .generations = store->generations};
    int r = directory_walk(store->generations, survey_entry, &survey);
    if (r < 0)
        return r;
    store->highest = survey.highest;
    return directory_walk(store->generations, prune_entry, &survey);
}

/* Reads the link. 0 if there is none, 1 with its number, -EBADMSG for anything that this program did not make. */
static int read_current(const struct store *store, uint32_t *ret) {
    char target[64];
    enum store_kind kind;
    ssize_t n = readlinkat(store->directory, "current", target, sizeof target - 1);
    if (n < 0)
        return errno == ENOENT ? 0 : errno == EINVAL ? -EBADMSG : -errno;
    target[n] = '\0';
    if (strncmp(target, "generations/", 12) != 0 || !store_parse_name(target + 12, ret, &kind) || kind != STORE_WHOLE)
        return -EBADMSG;
    return 1;
}

/* The generation is set aside first: were the link removed first, a power cut between would make it look like one that
 * was never committed. */
static int set_broken_aside(struct store *store, uint32_t number) {
    char name[STORE_NUMBER_NAME_MAX], aside[STORE_NUMBER_NAME_MAX];
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
    char name[STORE_NUMBER_NAME_MAX], aside[STORE_NUMBER_NAME_MAX];
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
    char name[STORE_NUMBER_NAME_MAX];
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

bool store_is_leftover(const char *name) {
    size_t length = strlen(name);
    return strcmp(name, "incoming") == 0 || (length >= 4 && strcmp(name + length - 4, ".new") == 0);
}

static int remove_leftover(const char *name, void *data) {
    struct store *store = data;
    if (!store_is_leftover(name))
        return 0;
    int r = directory_remove(store->directory, name);
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove %s in the state directory: %s", name, strerror(-r));
    return 0;
}

/* Of store_replace_root_ca(). */
static int remove_half_root_ca(const struct store *store) {
    char name[STORE_NUMBER_NAME_MAX];
    if (store->current == 0)
        return 0;
    snprintf(name, sizeof name, "%u", store->current);
    AUTO_CLOSE int directory = directory_open(store->generations, name);
    return directory < 0 ? directory : directory_remove(directory, ROOT_CA_NEW);
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
    store->keep = STORE_KEEP_ALL;
    if (open_directories(store, path, failure) < 0)
        return -1;
    int r = directory_walk(store->directory, remove_leftover, store);
    if (r == 0)
        r = recover_current(store);
    if (r == 0)
        r = survey_and_prune(store);
    if (r == 0)
        r = remove_half_root_ca(store);
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
    char name[STORE_NUMBER_NAME_MAX];
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
    char target[STORE_NUMBER_NAME_MAX];
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
    char name[STORE_NUMBER_NAME_MAX];
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

void store_keep_generations(struct store *store, unsigned keep) {
    store->keep = keep;
    int r = survey_and_prune(store);
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove old generations: %s", strerror(-r));
}

static int replace_root_ca(const struct store *store, int file) {
    char name[STORE_NUMBER_NAME_MAX];
    snprintf(name, sizeof name, "%u", store->current);
    AUTO_CLOSE int directory = directory_open(store->generations, name);
    int r = directory < 0 ? directory : directory_remove(directory, ROOT_CA_NEW);
    if (r < 0)
        return r;
    r = stage_file(directory, ROOT_CA_NEW, file);
    if (r == 0 && renameat(directory, ROOT_CA_NEW, directory, file_names[FILE_ROOT_CA]) < 0)
        r = -errno;
    if (r < 0)
        directory_remove(directory, ROOT_CA_NEW);
    return r < 0 ? r : directory_sync(directory);
}

int store_replace_root_ca(struct store *store, int file, struct failure *failure) {
    int r = store->current != 0 ? replace_root_ca(store, file) : -ENOENT;
    return r < 0 ? store_failure(failure, "cannot replace root-ca.pem of the identity in use", r) : 0;
}

void store_discard(struct store *store) {
    int r = directory_remove(store->directory, "incoming");
    if (r < 0)
        log_message(LOG_WARNING, "cannot remove incoming/ in the state directory: %s", strerror(-r));
}
