#include "worker/tpm.h"

#include "common/step.h"
#include "worker/tpm-patience.h"

#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The TCTI loader keeps the reason to itself, but for a device node it can be asked again. */
static const char *device_error(const char *tcti) {
    static const char prefix[] = "device:";
    if (strncmp(tcti, prefix, strlen(prefix)) != 0 || access(tcti + strlen(prefix), R_OK | W_OK) == 0)
        return NULL;
    return strerror(errno);
}

int tpm_open(const char *tcti, struct tpm *ret, struct failure *failure) {
    struct tpm tpm = {0};
    TSS2_TCTI_CONTEXT *device = NULL;
    TSS2_RC code = Tss2_TctiLdr_Initialize(tcti, &device);
    if (code != TSS2_RC_SUCCESS) {
        const char *reason = device_error(tcti);
        return failure_set(failure, FAILURE_TPM, STEP_KEY,
                           "no TPM at %s (%s): is the driver loaded, may this user open it?", tcti,
                           reason != NULL ? reason : Tss2_RC_Decode(code));
    }
    tpm.tcti = tpm_patience_new(device);
    if (tpm.tcti == NULL) {
        Tss2_TctiLdr_Finalize(&device);
        return failure_set(failure, FAILURE_INTERNAL, STEP_KEY, "out of memory");
    }
    code = Esys_Initialize(&tpm.esys, tpm.tcti, NULL);
    if (code != TSS2_RC_SUCCESS) {
        tpm_patience_free(tpm.tcti);
        return tpm_fail(failure, STEP_KEY, "opening the TPM", code);
    }
    *ret = tpm;
    return 0;
}

void tpm_close(struct tpm *tpm) {
    if (tpm->esys != NULL)
        Esys_Finalize(&tpm->esys);
    tpm->tcti = tpm_patience_free(tpm->tcti);
}

/* The number of the handle, session or parameter taken out of a format-one response code. */
static TPM2_RC base_code(TPM2_RC code) {
    return code & TPM2_RC_FMT1 ? code & (TPM2_RC_FMT1 | 0x3f) : code;
}

static const char *advice(TSS2_RC code) {
    switch (base_code(code & ~TSS2_RC_LAYER_MASK)) {
    case TPM2_RC_LOCKOUT:
        return ": the TPM is in dictionary attack lockout, wait or run tpm2_dictionarylockout --clear-lockout";
    case TPM2_RC_OBJECT_MEMORY:
    case TPM2_RC_OBJECT_HANDLES:
        return ": another program, or a job of enrolld that was cut off, left objects in the TPM, use the resource "
               "manager (/dev/tpmrm0) or run tpm2_flushcontext --transient-object";
    case TPM2_RC_BAD_AUTH:
    case TPM2_RC_AUTH_FAIL:
        return ": it has a password; make a parent for enrolld without one at 0x81000001 (noda, empty authorization)";
    case TPM2_RC_FAILURE:
        return ": the TPM is in failure mode, restart the device";
    case TPM2_RC_YIELDED:
    case TPM2_RC_TESTING:
    case TPM2_RC_NV_RATE:
    case TPM2_RC_RETRY:
        return ": the TPM was asked again for half a minute";
    case TPM2_RC_INITIALIZE:
        return ": the firmware has not started the TPM";
    }
    return "";
}

int tpm_fail(struct failure *failure, const char *step, const char *what, TSS2_RC code) {
    return failure_set(failure, FAILURE_TPM, step, "%s: %s (0x%x)%s", what, Tss2_RC_Decode(code), code,
                       (code & TSS2_RC_LAYER_MASK) == TSS2_TPM_RC_LAYER ? advice(code) : "");
}

bool tpm_is_final(TSS2_RC code) {
    const TSS2_RC final[] = {
        TPM2_RC_INTEGRITY, /* wrapped by another parent */
        TPM2_RC_BINDING,   /* its two halves do not belong together */
        TPM2_RC_HANDLE,    /* the persistent parent that the file names is gone */
    };
    if ((code & TSS2_RC_LAYER_MASK) != TSS2_TPM_RC_LAYER || !(code & TPM2_RC_FMT1))
        return false;
    for (size_t i = 0; i < sizeof final / sizeof final[0]; i++) /* without the number of handle or parameter */
        if ((code & (TPM2_RC_FMT1 | 0x3f)) == final[i])
            return true;
    return false;
}
