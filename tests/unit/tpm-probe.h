/* Stands between the code and its TPM: names the commands that pass, and can answer one kind itself. Programs that
 * use it are linked with -Wl,--wrap=Tss2_TctiLdr_Initialize. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <tss2/tss2_tpm2_types.h>

/* Forgets the commands and interferes no more. */
void tpm_probe_reset(void);
/* From now on every command with this code gets this response code, and the TPM does not see it. */
void tpm_probe_answer(TPM2_CC command, TPM2_RC answer);
/* From now on the signature in every answer to TPM2_Sign() is changed on its way. */
void tpm_probe_damage_signatures(void);
/* The commands since the last reset: "Create Load ". */
const char *tpm_probe_commands(void);
/* True if these bytes have passed since the last reset, in a command or in a response. */
bool tpm_probe_saw(const void *bytes, size_t size);
