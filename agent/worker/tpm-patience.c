#include "worker/tpm-patience.h"

#include <tss2/tss2_tctildr.h>
#include <tss2/tss2_tpm2_types.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAGIC 0x656e726f6c6c6421ULL
#define FIRST_WAIT_MS 50
#define LONGEST_WAIT_MS 1000
/* Tag, size, code: the header of every command and response (TPM 2.0 part 1, section 18). */
#define HEADER_SIZE 10

struct patience {
    TSS2_TCTI_CONTEXT_COMMON_V1 common; /* first: what the TSS knows of it */
    TSS2_TCTI_CONTEXT *inner;
    uint8_t command[TPM2_MAX_COMMAND_SIZE];
    size_t command_size;
    uint8_t response[TPM2_MAX_RESPONSE_SIZE];
    size_t response_size; /* 0: there is none that the caller has not taken */
    unsigned next_wait_ms;
    unsigned left_ms;
};

static void restore(struct patience *patience) {
    patience->next_wait_ms = FIRST_WAIT_MS;
    patience->left_ms = TPM_PATIENCE_MS;
}

/* A command that is too long is the inner TCTI's to refuse. */
static TSS2_RC transmit(TSS2_TCTI_CONTEXT *context, size_t size, const uint8_t *command) {
    struct patience *patience = (struct patience *)context;
    patience->response_size = 0;
    patience->command_size = size <= sizeof patience->command ? size : 0;
    memcpy(patience->command, command, patience->command_size);
    return Tss2_Tcti_Transmit(patience->inner, size, command);
}

static bool wants_it_again(const uint8_t *response, size_t size) {
    if (size < HEADER_SIZE)
        return false;
    switch ((TPM2_RC)response[6] << 24 | (TPM2_RC)response[7] << 16 | (TPM2_RC)response[8] << 8 | response[9]) {
    case TPM2_RC_YIELDED:
    case TPM2_RC_TESTING:
    case TPM2_RC_NV_RATE:
    case TPM2_RC_RETRY:
        return true;
    }
    return false;
}

static void wait_longer(struct patience *patience) {
    unsigned ms = patience->next_wait_ms < patience->left_ms ? patience->next_wait_ms : patience->left_ms;
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* woken by a signal it only asks earlier */
    patience->left_ms -= ms;
    patience->next_wait_ms = ms * 2 < LONGEST_WAIT_MS ? ms * 2 : LONGEST_WAIT_MS;
}

/* Until there is an answer that the caller shall see. */
static TSS2_RC receive_answer(struct patience *patience, int32_t timeout) {
    for (;;) {
        size_t size = sizeof patience->response;
        TSS2_RC code = Tss2_Tcti_Receive(patience->inner, &size, patience->response, timeout);
        if (code != TSS2_RC_SUCCESS)
            return code;
        patience->response_size = size;
        if (!wants_it_again(patience->response, size)) {
            restore(patience);
            return code;
        }
        if (patience->left_ms == 0 || patience->command_size == 0)
            return code;
        wait_longer(patience);
        patience->response_size = 0;
        code = Tss2_Tcti_Transmit(patience->inner, patience->command_size, patience->command);
        if (code != TSS2_RC_SUCCESS)
            return code;
    }
}

/* The caller may ask for the size first (response NULL), and then bring a buffer of just that size: so an answer is
 * kept here until it is taken. */
static TSS2_RC receive(TSS2_TCTI_CONTEXT *context, size_t *size, uint8_t *response, int32_t timeout) {
    struct patience *patience = (struct patience *)context;
    TSS2_RC code = patience->response_size > 0 ? TSS2_RC_SUCCESS : receive_answer(patience, timeout);
    if (code != TSS2_RC_SUCCESS)
        return code;
    const size_t room = response != NULL ? *size : patience->response_size;
    *size = patience->response_size;
    if (room < patience->response_size)
        return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
    if (response == NULL)
        return TSS2_RC_SUCCESS;
    memcpy(response, patience->response, patience->response_size);
    patience->response_size = 0;
    return TSS2_RC_SUCCESS;
}

TSS2_TCTI_CONTEXT *tpm_patience_new(TSS2_TCTI_CONTEXT *inner) {
    struct patience *patience = calloc(1, sizeof *patience);
    if (patience == NULL)
        return NULL;
    patience->common = (TSS2_TCTI_CONTEXT_COMMON_V1){
        .magic = MAGIC,
        .version = 1,
        .transmit = transmit,
        .receive = receive,
    };
    patience->inner = inner;
    restore(patience);
    return (TSS2_TCTI_CONTEXT *)patience;
}

TSS2_TCTI_CONTEXT *tpm_patience_free(TSS2_TCTI_CONTEXT *context) {
    struct patience *patience = (struct patience *)context;
    if (patience == NULL)
        return NULL;
    Tss2_TctiLdr_Finalize(&patience->inner);
    explicit_bzero(patience, sizeof *patience); /* commands may carry authorizations */
    free(patience);
    return NULL;
}
