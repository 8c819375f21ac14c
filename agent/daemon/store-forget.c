/* Forgetting: the order in which all of an identity is removed, so that a power cut leaves it whole or none. */
#include "daemon/store-private.h"

#include "common/cleanup.h"
#include "daemon/directory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const records[] = {STORE_RETRY, STORE_RETIRED, STORE_REFUSAL, "current.broken"};

/* All but the identity in use; what the clock is worth is no matter of it. */
static int forget_entry(const char *name, void *data) {
    const struct store *store = data;
    bool belongs = store_is_kept(name) || store_is_leftover(name);
    for (size_t i = 0; i < sizeof records / sizeof *records; i++)
        belongs = belongs || strcmp(name, records[i]) == 0;
    return belongs ? directory_remove(store->directory, name) : 0;
}

static int forget_generation(const char *name, void *data) {
    const struct store *store = data;
    uint32_t number;
    enum store_kind kind;
    if (!store_parse_name(name, &number, &kind) || (kind == STORE_WHOLE && number == store->current) ||
        (kind == STORE_FORGOTTEN && number == store->highest))
        return 0;
    return directory_remove(store->generations, name);
}

/* Without it the numbers would begin anew at the next start. */
static int mark_highest(const struct store *store) {
    char name[STORE_NUMBER_NAME_MAX];
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
    char name[STORE_NUMBER_NAME_MAX];
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
