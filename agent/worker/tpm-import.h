/* A key from outside becomes a key of the TPM, without passing its wire in the clear. That is against who listens
 * there; who changes what passes could offer a parent of his own, which only a certified endorsement key would tell. */
#pragma once

#include "worker/tpm.h"

#include <tss2/tss2_tpm2_types.h>

/* Wraps the private half of a key so that only the TPM with that parent can read it: the outer wrapper of TPM 2.0
 * part 1, section 23.3 ("Duplication"), with a seed that is encrypted to the parent (annex B.10 for RSA, C.6.1 for
 * ECC). `public` is what TPM2_Import() gets beside it, which the wrapper binds to it. The parent may be RSA, or ECC
 * with P-256 or P-384; its name and cipher SHA-256, SHA-384 or SHA-512, and AES. Returns 0 or wolfCrypt's error. */
int tpm_import_wrap(const TPMT_PUBLIC *parent, const TPM2B_PUBLIC *public, const TPM2B_SENSITIVE *sensitive,
                    TPM2B_PRIVATE *ret_duplicate, TPM2B_ENCRYPTED_SECRET *ret_seed);

/* Imports it under the parent (2 commands): *ret is what TPM2_Load() takes, with the same public area. Returns the
 * TPM's code; that of ESYS for a general failure (TSS2_ESYS_RC_GENERAL_FAILURE) means that it cannot be wrapped for
 * this parent. */
TSS2_RC tpm_import(struct tpm *tpm, const struct tpm_parent *parent, const TPM2B_PUBLIC *public,
                   const TPM2B_SENSITIVE *sensitive, TPM2B_PRIVATE *ret);
