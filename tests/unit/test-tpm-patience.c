#include "worker/tpm-patience.h"

#include "harness.h"
#include "worker/tpm.h"

#include <tss2/tss2_tctildr.h>
#include <tss2/tss2_tpm2_types.h>

#include <stdbool.h>
#include <string.h>
#include <time.h>

/* A TPM that gives `answer` to the first `times` commands and success to all that follow. */
static struct {
    TSS2_TCTI_CONTEXT_COMMON_V1 tcti;
    TPM2_RC answer;
    unsigned times, sent;
    bool gone, finalized, changed;
    unsigned waited_ms, longest_ms;
} chip;

/* Bytes of a response that brings something; one that only has a code has 10. */
#define LONG_SIZE 30

/* TPM2_SelfTest(YES) */
static const uint8_t command[] = {0x80, 0x01, 0, 0, 0, 11, 0, 0, 0x01, 0x43, 1};

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *pause, struct timespec *left) {
    unsigned ms = (unsigned)(pause->tv_sec * 1000 + pause->tv_nsec / 1000000);
    (void)clock, (void)flags, (void)left;
    chip.waited_ms += ms;
    chip.longest_ms = ms > chip.longest_ms ? ms : chip.longest_ms;
    return 0;
}

static TSS2_RC transmit(TSS2_TCTI_CONTEXT *context, size_t size, const uint8_t *bytes) {
    (void)context;
    chip.sent++;
    chip.changed = chip.changed || size != sizeof command || memcmp(bytes, command, size) != 0;
    return chip.gone ? TSS2_TCTI_RC_IO_ERROR : TSS2_RC_SUCCESS;
}

static TSS2_RC receive(TSS2_TCTI_CONTEXT *context, size_t *size, uint8_t *response, int32_t timeout) {
    TPM2_RC code = chip.sent <= chip.times ? chip.answer : TPM2_RC_SUCCESS;
    uint8_t length = code == TPM2_RC_SUCCESS ? LONG_SIZE : 10;
    const uint8_t answer[LONG_SIZE] = {
        0x80, 0x01, 0, 0, 0, length, 0, 0, (uint8_t)(code >> 8), (uint8_t)code, [LONG_SIZE - 1] = 7};
    (void)context, (void)timeout;
    if (response != NULL && *size < length)
        return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
    *size = length;
    if (response != NULL)
        memcpy(response, answer, length);
    return TSS2_RC_SUCCESS;
}

TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char *name, TSS2_TCTI_CONTEXT **ret);
void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT **context);

TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char *name, TSS2_TCTI_CONTEXT **ret) {
    (void)name;
    chip.tcti = (TSS2_TCTI_CONTEXT_COMMON_V1){.version = 1, .transmit = transmit, .receive = receive};
    *ret = (TSS2_TCTI_CONTEXT *)&chip.tcti;
    return TSS2_RC_SUCCESS;
}

void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT **context) {
    chip.finalized = *context == (TSS2_TCTI_CONTEXT *)&chip.tcti;
    *context = NULL;
}

static void open_chip(struct tpm *tpm, TPM2_RC answer, unsigned times) {
    struct failure failure = {0};
    memset(&chip, 0, sizeof chip);
    chip.answer = answer;
    chip.times = times;
    CU_ASSERT_EQUAL_FATAL(tpm_open("fake", tpm, &failure), 0);
}

static void close_chip(struct tpm *tpm) {
    CU_ASSERT_FALSE(chip.changed);
    tpm_close(tpm);
    CU_ASSERT_TRUE(chip.finalized);
}

/* The code in the header of the response to one command. */
static TPM2_RC ask(struct tpm *tpm) {
    uint8_t response[4096];
    size_t size = sizeof response;
    ASSERT_NUMBER(Tss2_Tcti_Transmit(tpm->tcti, sizeof command, command), TSS2_RC_SUCCESS);
    ASSERT_NUMBER(Tss2_Tcti_Receive(tpm->tcti, &size, response, TSS2_TCTI_TIMEOUT_BLOCK), TSS2_RC_SUCCESS);
    ASSERT_NUMBER(size, response[5]);
    return (TPM2_RC)(response[8] << 8 | response[9]);
}

static void test_asks_again(void) {
    static const TPM2_RC busy[] = {TPM2_RC_YIELDED, TPM2_RC_TESTING, TPM2_RC_NV_RATE, TPM2_RC_RETRY};
    struct tpm tpm;
    for (size_t i = 0; i < sizeof busy / sizeof *busy; i++) {
        open_chip(&tpm, busy[i], 12);
        ASSERT_NUMBER(ask(&tpm), TPM2_RC_SUCCESS);
        ASSERT_NUMBER(chip.sent, 13);
        CU_ASSERT(chip.waited_ms > 5000); /* many times what the quickest need */
        ASSERT_NUMBER(chip.longest_ms, 1000);
        close_chip(&tpm);
    }
}

/* These mean what they say, or nothing that would pass within a command. */
static void test_passes_on(void) {
    static const TPM2_RC others[] = {TPM2_RC_LOCKOUT, TPM2_RC_OBJECT_MEMORY, TPM2_RC_NV_UNAVAILABLE, TPM2_RC_FAILURE,
                                     TPM2_RC_INTEGRITY};
    struct tpm tpm;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        open_chip(&tpm, others[i], 1);
        ASSERT_NUMBER(ask(&tpm), others[i]);
        ASSERT_NUMBER(chip.sent, 1);
        ASSERT_NUMBER(chip.waited_ms, 0);
        close_chip(&tpm);
    }
}

/* ESYS sends a command six times: the patience is that of all of them together, and comes back with an answer. */
static void test_ends(void) {
    struct tpm tpm;
    open_chip(&tpm, TPM2_RC_RETRY, UINT32_MAX);
    ASSERT_NUMBER(ask(&tpm), TPM2_RC_RETRY);
    ASSERT_NUMBER(chip.waited_ms, TPM_PATIENCE_MS);
    unsigned sent = chip.sent;
    ASSERT_NUMBER(ask(&tpm), TPM2_RC_RETRY);
    ASSERT_NUMBER(chip.sent, sent + 1);
    ASSERT_NUMBER(chip.waited_ms, TPM_PATIENCE_MS);
    chip.times = chip.sent;
    ASSERT_NUMBER(ask(&tpm), TPM2_RC_SUCCESS);
    chip.times = UINT32_MAX;
    ASSERT_NUMBER(ask(&tpm), TPM2_RC_RETRY);
    ASSERT_NUMBER(chip.waited_ms, 2 * TPM_PATIENCE_MS);
    close_chip(&tpm);
}

static void test_goes_away(void) {
    uint8_t response[64];
    size_t size = sizeof response;
    struct tpm tpm;
    open_chip(&tpm, TPM2_RC_RETRY, 5);
    ASSERT_NUMBER(Tss2_Tcti_Transmit(tpm.tcti, sizeof command, command), TSS2_RC_SUCCESS);
    chip.gone = true;
    ASSERT_NUMBER(Tss2_Tcti_Receive(tpm.tcti, &size, response, TSS2_TCTI_TIMEOUT_BLOCK), TSS2_TCTI_RC_IO_ERROR);
    ASSERT_NUMBER(chip.sent, 2);
    close_chip(&tpm);
}

/* As the TSS does it: the size first, then a buffer of just that size. What came in between was shorter. */
static void test_tells_the_size(void) {
    uint8_t response[LONG_SIZE];
    size_t size = 0;
    struct tpm tpm;
    open_chip(&tpm, TPM2_RC_RETRY, 3);
    ASSERT_NUMBER(Tss2_Tcti_Transmit(tpm.tcti, sizeof command, command), TSS2_RC_SUCCESS);
    ASSERT_NUMBER(Tss2_Tcti_Receive(tpm.tcti, &size, NULL, TSS2_TCTI_TIMEOUT_BLOCK), TSS2_RC_SUCCESS);
    ASSERT_NUMBER(size, LONG_SIZE);
    size--;
    ASSERT_NUMBER(Tss2_Tcti_Receive(tpm.tcti, &size, response, TSS2_TCTI_TIMEOUT_BLOCK),
                  TSS2_TCTI_RC_INSUFFICIENT_BUFFER);
    ASSERT_NUMBER(size, LONG_SIZE);
    ASSERT_NUMBER(Tss2_Tcti_Receive(tpm.tcti, &size, response, TSS2_TCTI_TIMEOUT_BLOCK), TSS2_RC_SUCCESS);
    ASSERT_NUMBER(response[LONG_SIZE - 1], 7);
    ASSERT_NUMBER(chip.sent, 4);
    close_chip(&tpm);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"asks-again", test_asks_again}, {"passes-on", test_passes_on},           {"ends", test_ends},
        {"goes-away", test_goes_away},   {"tells-the-size", test_tells_the_size}, {NULL, NULL},
    };
    setenv("TSS2_LOG", "all+NONE", 1);
    return unit_run("tpm-patience", tests, argc, argv);
}
