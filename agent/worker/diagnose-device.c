/* What the device itself has: a clock, a TPM, a serial number. */
#include "common/cleanup.h"
#include "worker/clock.h"
#include "worker/diagnosis.h"
#include "worker/serial.h"
#include "worker/tpm.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define TPM "tpm"
#define SERIAL_NUMBER "serial-number"

/* 2026-01-01: this program is younger than that. */
#define PLAUSIBLE_SINCE 1767225600

void diagnose_clock(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    char now[CLOCK_TEXT_SIZE];
    clock_print((int64_t)time(NULL), now);
    if (time(NULL) < PLAUSIBLE_SINCE)
        diagnosis_add(diagnosis, "clock", DIAGNOSIS_WRONG,
                      "set it: by NTP (timedatectl timesync-status, chronyc tracking), or by hand with date -s",
                      "it says %s, which is long over: no certificate is valid then", now);
    else if (!subject->synchronised)
        diagnosis_add(diagnosis, "clock", DIAGNOSIS_WARNING,
                      "is NTP running, and does it reach its server? With chrony: rtcsync",
                      "it says %s, but the kernel does not know that anybody has set it", now);
    else
        diagnosis_add(diagnosis, "clock", DIAGNOSIS_OK, "", "synchronised, it is %s", now);
}

/* --- the TPM --- */

/* TPM 2.0 part 2, section 6.13: four characters in a number, with blanks or NUL at the end. */
static void describe_vendor(UINT32 value, char text[5]) {
    for (int i = 0; i < 4; i++)
        text[i] = (char)(value >> (24 - 8 * i));
    text[4] = '\0';
    for (size_t length = strlen(text); length > 0 && text[length - 1] == ' '; length--)
        text[length - 1] = '\0';
}

struct tpm_facts {
    char vendor[5];
    UINT32 firmware, lockout_counter, max_fail;
    bool in_lockout, has_storage_root_key;
};

static TSS2_RC get_properties(struct tpm *tpm, UINT32 first, UINT32 count, struct tpm_facts *facts) {
    TPMS_CAPABILITY_DATA *data = NULL;
    TPMI_YES_NO more = 0;
    TSS2_RC code = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_TPM_PROPERTIES,
                                      first, count, &more, &data);
    for (UINT32 i = 0; code == TSS2_RC_SUCCESS && i < data->data.tpmProperties.count; i++) {
        const TPMS_TAGGED_PROPERTY *property = &data->data.tpmProperties.tpmProperty[i];
        if (property->property == TPM2_PT_MANUFACTURER)
            describe_vendor(property->value, facts->vendor);
        if (property->property == TPM2_PT_FIRMWARE_VERSION_1)
            facts->firmware = property->value;
        if (property->property == TPM2_PT_PERMANENT)
            facts->in_lockout = (property->value & TPMA_PERMANENT_INLOCKOUT) != 0;
        if (property->property == TPM2_PT_LOCKOUT_COUNTER)
            facts->lockout_counter = property->value;
        if (property->property == TPM2_PT_MAX_AUTH_FAIL)
            facts->max_fail = property->value;
    }
    Esys_Free(data);
    return code;
}

static TSS2_RC find_storage_root_key(struct tpm *tpm, struct tpm_facts *facts) {
    TPMS_CAPABILITY_DATA *data = NULL;
    TPMI_YES_NO more = 0;
    TSS2_RC code = Esys_GetCapability(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES,
                                      TPM_STORAGE_ROOT_KEY, 1, &more, &data);
    facts->has_storage_root_key =
        code == TSS2_RC_SUCCESS && data->data.handles.count > 0 && data->data.handles.handle[0] == TPM_STORAGE_ROOT_KEY;
    Esys_Free(data);
    return code;
}

static int ask_tpm(const char *tcti, struct tpm_facts *facts, struct failure *failure) {
    struct tpm tpm = {0};
    if (tpm_open(tcti, &tpm, failure) < 0)
        return -1;
    TSS2_RC code = get_properties(&tpm, TPM2_PT_MANUFACTURER, 8, facts);
    if (code == TSS2_RC_SUCCESS)
        code = get_properties(&tpm, TPM2_PT_PERMANENT, 24, facts);
    if (code == TSS2_RC_SUCCESS)
        code = find_storage_root_key(&tpm, facts);
    tpm_close(&tpm);
    return code == TSS2_RC_SUCCESS ? 0 : tpm_fail(failure, "key", "asking the TPM what it is", code);
}

void diagnose_tpm(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    struct tpm_facts facts = {0};
    struct failure failure;
    if (subject->settings->key_backend != SETTING_KEY_TPM2) {
        diagnosis_add(diagnosis, TPM, DIAGNOSIS_SKIPPED, "", "not used: Backend=file in [Key]");
        return;
    }
    if (ask_tpm(subject->settings->tcti, &facts, &failure) < 0) {
        diagnosis_add_failure(diagnosis, TPM, &failure,
                              "is it on in the firmware, is the driver (tpm_tis, tpm_crb) in the kernel, does "
                              "/dev/tpmrm0 belong to the group tss? TCTI= in [Key] says where it is");
        return;
    }
    /* Keys of ours are not subject to it (noDA), those of others are. */
    enum diagnosis_verdict verdict = facts.in_lockout ? DIAGNOSIS_WARNING : DIAGNOSIS_OK;
    diagnosis_add(diagnosis, TPM, verdict, facts.in_lockout ? "wait, or tpm2_dictionarylockout --clear-lockout" : "",
                  "%s, firmware %u.%u, %s, %s", facts.vendor, facts.firmware >> 16, facts.firmware & 0xffff,
                  facts.in_lockout ? "in dictionary attack lockout" : "not locked",
                  facts.has_storage_root_key ? "with a storage root key at 0x81000001"
                                             : "without a persistent storage root key: one is made for each use");
}

void diagnose_serial_number(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    struct tpm_endorsement endorsement = {0};
    char serial_number[SERIAL_MAX];
    struct failure failure;
    if (serial_resolve(subject->settings, &endorsement, serial_number, &failure) < 0)
        diagnosis_add_failure(diagnosis, SERIAL_NUMBER, &failure, "enrolld.conf(5) lists the sources of SerialNumber=");
    else
        diagnosis_add(diagnosis, SERIAL_NUMBER, DIAGNOSIS_OK, "", "%s (SerialNumber=%.200s)", serial_number,
                      subject->settings->serial_number);
}
