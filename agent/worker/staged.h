/* A key that waits for its certificate, or both: what `enrollctl request` and `enrollctl import` leave for a method
 * that takes imported identities. Kept by the daemon as a file of mode 0600 until an identity is in use. Pure: text in,
 * text out. */
#pragma once

#include "common/failure.h"

#include <stddef.h>

#define STAGED_SCHEMA 1

struct staged {
    char key_origin[16];   /* as in identity.json */
    char *private_pem;     /* the text of private.pem */
    char *subject;         /* of the request, as it was asked for; NULL if there was none */
    char *request_pem;     /* the request that was given back; NULL with it */
    char *certificate_pem; /* the chain, leaf first; NULL until it is imported */
};

/* Frees all of it, wipes what is secret, zeroes. */
void staged_clear(struct staged *staged);

/* The text; the caller wipes and frees it. Class `internal` when out of memory. */
int staged_encode(const struct staged *staged, char **ret_json, struct failure *failure);

/* Reads it back. NULL, or what is wrong with it (a constant); *ret is then untouched. The caller clears *ret. */
const char *staged_parse(const char *json, size_t size, struct staged *ret);
