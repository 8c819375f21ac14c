/* identity.json: what is known about an identity beside its certificate and key. Pure: text in, text out. */
#pragma once

#include "common/failure.h"
#include "worker/certificate.h"

#include <stddef.h>
#include <stdint.h>

#define IDENTITY_SCHEMA 1

/* Members that a newer enrolld may add are left alone by an older one. */
struct identity {
    uint64_t generation;
    char method[64];
    char endpoint[254];
    char client_id[256];  /* the MQTT client id that was accepted when the identity was proven */
    char thing_name[129]; /* "" where the template makes no thing */
    char serial_number[129];
    char certificate_id[CERTIFICATE_ID_SIZE];
    char key_backend[16];
    char key_algorithm[16];
    char key_origin[16];   /* tpm, file */
    char parent_name[200]; /* TPM name of the key's parent, hex; "" for the file backend */
    char ek_name[200];     /* TPM name of the endorsement key, hex: which TPM has the key; "" for unknown */
    int64_t not_before;    /* seconds since the epoch */
    int64_t not_after;
    int64_t issued_at;
    char *device_configuration; /* the template's, a JSON object as text, or NULL; owned */
};

void identity_clear(struct identity *identity);

/* Makes the text of identity.json; the caller frees it. Class `internal` when out of memory, `invalid` when
 * device_configuration is no JSON object. */
int identity_encode(const struct identity *identity, char **ret_json, struct failure *failure);

/* Reads it back; hostile input. Class `invalid`, step STEP_VERIFY. The caller clears *ret. */
int identity_parse(const char *json, size_t size, struct identity *ret, struct failure *failure);
