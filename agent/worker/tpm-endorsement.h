/* The endorsement key: what tells one TPM from another. It is made from a seed that stays through TPM2_Clear, so the
 * same TPM has it after it was cleared, and no other TPM ever has it (TPM 2.0 part 1, section 14.3). */
#pragma once

#include "common/failure.h"
#include "worker/tpm.h"

#include <stdbool.h>

/* 32 hex digits and a NUL. */
#define TPM_ENDORSEMENT_SERIAL_SIZE 33

struct tpm_endorsement {
    char name[TPM_NAME_SIZE];                 /* of the key, hex; "" for unknown */
    char serial[TPM_ENDORSEMENT_SERIAL_SIZE]; /* the first 32 hex digits of SHA-256 of its SubjectPublicKeyInfo */
};

/* Reads both over a connection of its own (CreatePrimary, FlushContext), or does nothing if they are in *ret already.
 * Class `tpm`. On failure *ret_refused tells that this TPM refuses for good (the endorsement hierarchy has a password
 * or is disabled, the curve is unknown) rather than that it cannot just now. */
int tpm_endorsement_read(const char *tcti, struct tpm_endorsement *ret, bool *ret_refused, struct failure *failure);
