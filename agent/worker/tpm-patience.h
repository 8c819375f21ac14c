/* A TCTI around another one that has the patience which ESYS lacks: a TPM that is testing itself, or was busy with
 * something else, says so and wants the command again (TPM 2.0 part 2, section 6.6.3: TPM_RC_YIELDED, TPM_RC_TESTING,
 * TPM_RC_NV_RATE, TPM_RC_RETRY; the command had no effect). ESYS sends it again five times within a millisecond. */
#pragma once

#include <tss2/tss2_tcti.h>

/* How long the commands of a connection are sent again, from one real answer to the next; then the caller gets to see
 * what the TPM says. Self-tests of discrete chips take seconds. */
#define TPM_PATIENCE_MS 30000

/* Takes over `inner`, which must outlive no one else; NULL if out of memory, and then it does not. */
TSS2_TCTI_CONTEXT *tpm_patience_new(TSS2_TCTI_CONTEXT *inner);

/* Ends both; accepts NULL. */
TSS2_TCTI_CONTEXT *tpm_patience_free(TSS2_TCTI_CONTEXT *context);
