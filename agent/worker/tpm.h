/* The connection to the TPM and the parent of the device keys. Everything here costs TPM commands, each of which
 * takes milliseconds on a real chip: the header says how many. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>

#include <tss2/tss2_esys.h>

/* Where the storage root key lives by the TCG TPM v2.0 Provisioning Guidance, section 7.5.1. */
#define TPM_STORAGE_ROOT_KEY 0x81000001
/* Hex digits of a SHA-512 name with its algorithm, and a NUL. */
#define TPM_NAME_SIZE (2 * (2 + 64) + 1)

struct tpm {
    TSS2_TCTI_CONTEXT *tcti;
    ESYS_CONTEXT *esys;
};

/* Opens the TPM: tcti as Tss2_TctiLdr_Initialize() takes it. No command is sent. Class `tpm`. */
int tpm_open(const char *tcti, struct tpm *ret, struct failure *failure);

/* Closes what tpm_open() opened, also a zeroed struct. Objects of the caller must be flushed before. */
void tpm_close(struct tpm *tpm);

/* Fails with class `tpm`: what was tried, the TPM's words for the response code, and what to do where that is known. */
int tpm_fail(struct failure *failure, const char *step, const char *what, TSS2_RC code);

/* True if the TPM itself judged the object or a parameter (a format-one response code that is not about the
 * authorization, TPM 2.0 part 2, section 6.6.2): trying again gives the same answer for ever. Warnings (lockout, out
 * of memory, retry), a password and a TPM that cannot be reached are not of that kind. */
bool tpm_is_final(TSS2_RC code);

struct tpm_parent {
    ESYS_TR object;
    TPM2_HANDLE handle; /* what key files record: a persistent handle, or TPM2_RH_OWNER for the primary */
    char name[TPM_NAME_SIZE];
};

/* Opens the parent for a new key: TPM_STORAGE_ROOT_KEY if it is fit (1 command), else the primary (2 commands and the
 * flush). */
int tpm_parent_find(struct tpm *tpm, struct tpm_parent *ret, struct failure *failure);

/* Makes the primary key of the owner hierarchy from the template that tpm2-openssl uses, so that it can load the
 * children (1 command). */
int tpm_parent_make_primary(struct tpm *tpm, struct tpm_parent *ret, struct failure *failure);

/* Opens the parent that a key file names (1 command). *lost is set if this TPM has no such object. */
int tpm_parent_open(struct tpm *tpm, TPM2_HANDLE handle, struct tpm_parent *ret, bool *lost, struct failure *failure);

/* Flushes a primary (1 command), forgets a persistent one (none); accepts a zeroed struct. */
void tpm_parent_close(struct tpm *tpm, struct tpm_parent *parent);
