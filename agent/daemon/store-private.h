/* The state directory from inside: what store.c (opening, recovery, commit), store-kept.c (what is kept for workers,
 * the records) and store-forget.c share. */
#pragma once

#include "daemon/store.h"

#define STORE_NUMBER_NAME_MAX 32  /* of "4294967295.forgotten", with "generations/" before it */
#define STORE_KEEP_ALL UINT32_MAX /* while nobody has said how many */

struct store {
    int directory;
    int generations;
    uint32_t current;
    uint32_t highest; /* number that was ever there */
    uint32_t keep;    /* predecessors */
};

enum store_kind { STORE_WHOLE, STORE_BROKEN, STORE_FORGOTTEN };

/* "7", "7.broken" or "7.forgotten"; anything else in generations/ is none of our business and stays. */
bool store_parse_name(const char *name, uint32_t *ret_number, enum store_kind *ret_kind);

/* Half-written files, and an identity that was never committed. */
bool store_is_leftover(const char *name);

/* Kept for workers: checkpoints, and what is staged. */
bool store_is_kept(const char *name);

int store_failure(struct failure *failure, const char *what, int error);
