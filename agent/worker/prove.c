#include "common/cleanup.h"
#include "common/specifier.h"
#include "worker/enrollment.h"
#include "worker/report.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* bytes (AWS IoT Core quotas, "Client ID size") */
#define CLIENT_ID_MAX 128

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The ids to try in turn, those that are too long left out. The agent's own id never throws the application out; a
 * policy that only allows the thing's name as client id, as many do, leaves no other choice, and without an identity no
 * application is online. */
static int list_client_ids(const struct enrollment *enrollment, const char *thing_name, char *ids[2],
                           struct failure *failure) {
    const struct specifier_values values = {
        .serial_number = enrollment->serial_number,
        .thing_name = thing_name[0] != '\0' ? thing_name : NULL,
    };
    const char *configured = enrollment->settings->client_id;
    /* A device that was never told its thing's name is known by the common name of its certificate. */
    const char *own = configured[0] != '\0' ? configured : values.thing_name != NULL ? "%t-enrolld" : "%s-enrolld";
    const char *patterns[] = {own, configured[0] == '\0' && values.thing_name != NULL ? "%t" : NULL};
    size_t count = 0;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && patterns[i] != NULL; i++) {
        AUTO_FREE char *id = NULL;
        if (specifier_expand(patterns[i], &values, "ClientId", &id, failure) < 0)
            return -1;
        if (strlen(id) <= CLIENT_ID_MAX)
            ids[count++] = TAKE_POINTER(id);
    }
    if (count > 0)
        return 0;
    return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                       "ClientId=%s gives an MQTT client id of more than %d bytes", own, CLIENT_ID_MAX);
}

int prove_check_settings(const struct enrollment *enrollment) {
    char *ids[2] = {NULL, NULL};
    int r = list_client_ids(enrollment, enrollment->serial_number, ids, enrollment->failure);
    free(ids[0]);
    free(ids[1]);
    return r;
}

/* AWS IoT takes one CONNECT per second and client id, so the first wait is already longer than that. */
static int wait_before(unsigned attempt) {
    static const int seconds[] = {2, 2, 4, 8, 15};
    size_t last = sizeof seconds / sizeof *seconds - 1;
    return poll(NULL, 0, 1000 * seconds[attempt < last ? attempt : last]);
}

/* AWS IoT may also refuse a certificate that it does not know yet by closing the connection, which looks like the
 * network's fault; and giving up now would waste a certificate that is registered already. */
bool prove_is_worth_waiting(enum failure_class class) {
    switch (class) {
    case FAILURE_DENIED:
    case FAILURE_NETWORK:
    case FAILURE_CLOUD_BUSY:
    case FAILURE_NOT_YET:
        return true;
    case FAILURE_INVALID:
    case FAILURE_CLOCK:
    case FAILURE_TPM:
    case FAILURE_INTERNAL:
        return false;
    }
    return false;
}

/* Once is enough where nobody waits; with two ids each of them once. */
static bool is_over(unsigned attempt, int64_t end_ms, uint64_t patience_ms, bool has_two_ids) {
    return patience_ms == 0 ? attempt + 1U >= (has_two_ids ? 2U : 1U) : now_ms() >= end_ms;
}

int prove_identity(struct enrollment *enrollment, uint64_t patience_ms) {
    char *ids[2] = {NULL, NULL};
    int r = list_client_ids(enrollment, enrollment->held.thing_name, ids, enrollment->failure);
    AUTO_FREE char *own_id = ids[0];
    AUTO_FREE char *thing_id = ids[1];
    if (r < 0)
        return -1;
    report_step(STEP_PROVE);
    int64_t end_ms = now_ms() + (int64_t)patience_ms;
    const char *id = own_id;
    for (unsigned attempt = 0;; attempt++) {
        r = host_connect(enrollment, id, enrollment->held.certificate_pem, enrollment->key, STEP_PROVE,
                         enrollment->failure);
        if (r == 0)
            snprintf(enrollment->client_id, sizeof enrollment->client_id, "%s", id);
        host_disconnect(enrollment);
        if (r == 0 || !prove_is_worth_waiting(enrollment->failure->class) ||
            is_over(attempt, end_ms, patience_ms, thing_id != NULL))
            return r;
        if (enrollment->failure->class == FAILURE_DENIED && thing_id != NULL)
            id = id == own_id ? thing_id : own_id;
        if (patience_ms > 0) {
            report_refusal(enrollment->failure);
            wait_before(attempt);
        }
    }
}
