#include "tpm-probe.h"

#include <tss2/tss2_tctildr.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    TSS2_TCTI_TRANSMIT_FCN transmit;
    TSS2_TCTI_RECEIVE_FCN receive;
    char commands[256];
    TPM2_CC answered; /* 0 for none */
    TPM2_RC answer;
    bool damages; /* signatures */
    bool signing;
    bool answering; /* the command under way is answered here */
    uint8_t wire[65536];
    size_t wire_size;
    bool wire_lost;
} probe;

void tpm_probe_reset(void) {
    probe.commands[0] = '\0';
    probe.wire_size = 0;
    probe.wire_lost = false;
    probe.answered = 0;
    probe.damages = false;
}

void tpm_probe_answer(TPM2_CC command, TPM2_RC answer) {
    probe.answered = command;
    probe.answer = answer;
}

void tpm_probe_damage_signatures(void) {
    probe.damages = true;
}

const char *tpm_probe_commands(void) {
    return probe.commands;
}

bool tpm_probe_saw(const void *bytes, size_t size) {
    if (probe.wire_lost) {
        printf("# more has passed than the probe can hold\n");
        abort();
    }
    return memmem(probe.wire, probe.wire_size, bytes, size) != NULL;
}

static void record(const uint8_t *bytes, size_t size) {
    probe.wire_lost = probe.wire_lost || size > sizeof probe.wire - probe.wire_size;
    if (probe.wire_lost)
        return;
    memcpy(probe.wire + probe.wire_size, bytes, size);
    probe.wire_size += size;
}

static const char *command_name(TPM2_CC code) {
    switch (code) {
    case TPM2_CC_ReadPublic:
        return "ReadPublic ";
    case TPM2_CC_CreatePrimary:
        return "CreatePrimary ";
    case TPM2_CC_Create:
        return "Create ";
    case TPM2_CC_Load:
        return "Load ";
    case TPM2_CC_Sign:
        return "Sign ";
    case TPM2_CC_Import:
        return "Import ";
    case TPM2_CC_FlushContext:
        return "FlushContext ";
    }
    return "other ";
}

/* In the place of the C library's: to be patient with a TPM (tpm-patience.c) takes no time here. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *pause, struct timespec *left) {
    (void)clock, (void)flags, (void)pause, (void)left;
    return 0;
}

/* A command is tag (2), size (4), code (4): TPM 2.0 part 1, section 18. */
static TSS2_RC transmit(TSS2_TCTI_CONTEXT *tcti, size_t size, const uint8_t *command) {
    TPM2_CC code =
        size < 10 ? 0 : (TPM2_CC)command[6] << 24 | (TPM2_CC)command[7] << 16 | (TPM2_CC)command[8] << 8 | command[9];
    strncat(probe.commands, command_name(code), sizeof probe.commands - strlen(probe.commands) - 1);
    record(command, size);
    probe.signing = code == TPM2_CC_Sign;
    probe.answering = code != 0 && code == probe.answered;
    return probe.answering ? TSS2_RC_SUCCESS : probe.transmit(tcti, size, command);
}

static TSS2_RC receive(TSS2_TCTI_CONTEXT *tcti, size_t *size, uint8_t *response, int32_t timeout) {
    const uint8_t answer[] = {0x80, 0x01, 0, 0, 0, 10, 0, 0, (uint8_t)(probe.answer >> 8), (uint8_t)probe.answer};
    if (!probe.answering) {
        TSS2_RC code = probe.receive(tcti, size, response, timeout);
        if (code == TSS2_RC_SUCCESS && response != NULL) {
            record(response, *size);
            if (probe.damages && probe.signing && *size > 6)
                response[*size - 6] ^= 1; /* 5 bytes of authorization come last */
        }
        return code;
    }
    *size = sizeof answer;
    if (response != NULL)
        memcpy(response, answer, sizeof answer);
    return TSS2_RC_SUCCESS;
}

TSS2_RC __real_Tss2_TctiLdr_Initialize(const char *name, TSS2_TCTI_CONTEXT **ret);
TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char *name, TSS2_TCTI_CONTEXT **ret);

TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char *name, TSS2_TCTI_CONTEXT **ret) {
    TSS2_RC code = __real_Tss2_TctiLdr_Initialize(name, ret);
    if (code == TSS2_RC_SUCCESS) {
        probe.transmit = TSS2_TCTI_TRANSMIT(*ret);
        probe.receive = TSS2_TCTI_RECEIVE(*ret);
        TSS2_TCTI_TRANSMIT(*ret) = transmit;
        TSS2_TCTI_RECEIVE(*ret) = receive;
    }
    return code;
}
