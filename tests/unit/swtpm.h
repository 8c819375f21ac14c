/* A private software TPM for one test: swtpm on a unix socket in a directory of its own. No resource manager: what a
 * test leaves loaded stays loaded. */
#pragma once

#include <sys/types.h>

#include <tss2/tss2_tpm2_types.h>

struct swtpm {
    pid_t pid;
    char directory[64];
    char tcti[128]; /* for Tss2_TctiLdr_Initialize() */
};

/* Starts it and waits until it answers; returns 0 or -1 with the reason on stdout. */
int swtpm_start(struct swtpm *ret);
void swtpm_stop(struct swtpm *swtpm);

/* Makes a P-256 storage key with these attributes and the password ("" for none) persistent at 0x81000001. */
int swtpm_make_storage_root_key(const struct swtpm *swtpm, TPMA_OBJECT attributes, const char *password);
/* Removes it again. */
int swtpm_remove_storage_root_key(const struct swtpm *swtpm);

/* Gives the owner hierarchy a password. */
int swtpm_set_owner_password(const struct swtpm *swtpm, const char *password);

/* How many transient objects and loaded or saved sessions are in it, -1 if it cannot say. */
int swtpm_count_handles(const struct swtpm *swtpm);
