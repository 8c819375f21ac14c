/* Just-in-time provisioning (JITP, by a template) and registration (JITR, by a Lambda): the device has a certificate of
 * a CA that is registered in the account. Its first CONNECT makes the cloud register the certificate, and is refused;
 * what activates it runs after that, and nothing tells the device. So it comes back until it is accepted. AWS IoT
 * Developer Guide, "Just-in-time provisioning" and "Register a client certificate when the client connects to AWS IoT
 * just-in-time registration (JITR)". */
#include "diagnosis.h"
#include "pace.h"

#include <enrolld/plugin.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#define BY_TEMPLATE "jitp"
#define BY_LAMBDA "jitr"
#define PATIENCE_HELP "how long a refusal means \"not yet\", before it means \"denied\": a time span"

static const struct enrolld_option options_by_template[] = {
    {"Patience", ENROLLD_OPTION_SPAN, false, PATIENCE_HELP, NULL, "30min", ENROLLD_USE_BOTH},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL},
};

static const struct enrolld_option options_by_lambda[] = {
    {"Patience", ENROLLD_OPTION_SPAN, false, PATIENCE_HELP, NULL, "2h", ENROLLD_USE_BOTH},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL},
};

static const struct enrolld_method methods[] = {
    {BY_TEMPLATE, "an imported certificate of a registered CA; a provisioning template registers the device",
     options_by_template, true},
    {BY_LAMBDA, "an imported certificate of a registered CA; a rule and a Lambda register the device",
     options_by_lambda, true},
    {NULL, NULL, NULL, false},
};

/* What this attempt has seen of the cloud. */
struct attempt {
    bool by_lambda;
    bool reached;      /* a server that is the cloud's */
    bool denied;       /* by that server itself, inside the TLS session: nobody on the path can do that */
    unsigned refusals; /* by anybody */
    int64_t first_s;   /* when they began, and the last one */
    int64_t last_s;
    char reason[256]; /* of the last one */
};

static int64_t boottime_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec;
}

static int fail_refused(const struct enrolld_host *host, enum enrolld_class class, const struct attempt *attempt) {
    const char *certificate_id = host->certificate_id(host), *chain = host->certificate_pem(host);
    char text[DIAGNOSIS_MAX];
    if (certificate_id == NULL || chain == NULL)
        return host->fail(host, ENROLLD_CLASS_INTERNAL, "the host holds no certificate any more");
    const struct diagnosis diagnosis = {
        .by_lambda = attempt->by_lambda,
        .alone = diagnosis_is_alone(chain),
        .certificate_id = certificate_id,
        .endpoint = host->endpoint,
        .refusals = attempt->refusals,
        .lasted_s = (uint32_t)(attempt->last_s - attempt->first_s),
        .waited_s = host->waited_s,
        .reason = attempt->reason,
    };
    diagnosis_write(&diagnosis, text);
    return host->fail(host, class, "%s", text);
}

static void note_refusal(struct attempt *attempt, const struct enrolld_refusal *refusal) {
    attempt->last_s = boottime_s();
    if (attempt->refusals++ == 0)
        attempt->first_s = attempt->last_s;
    attempt->reached = attempt->reached || refusal->reached;
    attempt->denied = attempt->denied || refusal->reason == ENROLLD_CLASS_DENIED;
    snprintf(attempt->reason, sizeof attempt->reason, "%s", refusal->message);
}

/* What makes a new certificate known is refused by design, so that a look at its policy would only mislead. */
static void wait_for_next(const struct enrolld_host *host, const struct attempt *attempt, uint32_t pause_ms) {
    char why[400];
    bool is_first = host->waited_s == 0 && attempt->refusals == 1;
    snprintf(why, sizeof why, "%s%s",
             is_first ? "the first connection of a new certificate is always refused; asked again: " : "",
             attempt->reason);
    host->pause(host, pause_ms, why);
}

/* Connects until the cloud accepts the certificate (0), nothing more is to be had of this attempt (1), or what has
 * failed has nothing to do with the cloud (-1). *ret_class: of the last refusal. */
static int connect_until_accepted(const struct enrolld_host *host, struct attempt *attempt,
                                  enum enrolld_class *ret_class) {
    for (;;) {
        struct enrolld_refusal refusal;
        int r = host->try_identity(host, &refusal);
        if (r <= 0)
            return r;
        note_refusal(attempt, &refusal);
        *ret_class = refusal.reason;
        uint32_t pause_ms = pace_pause_ms(attempt->by_lambda, host->waited_s, attempt->refusals);
        /* A quota is not to be tried again within seconds, and without a network there is nothing to see. */
        if (!refusal.reached || refusal.reason == ENROLLD_CLASS_CLOUD_BUSY || pause_ms == 0)
            return 1;
        wait_for_next(host, attempt, pause_ms);
    }
}

static int enroll(const struct enrolld_host *host) {
    struct attempt attempt = {.by_lambda = strcmp(host->method, BY_LAMBDA) == 0};
    enum enrolld_class class = ENROLLD_CLASS_NETWORK;
    host->step(host, ENROLLD_STEP_REGISTER);
    int r = connect_until_accepted(host, &attempt, &class);
    if (r <= 0)
        return r;
    if (!attempt.reached || class == ENROLLD_CLASS_CLOUD_BUSY)
        return host->fail(host, class, "%s", attempt.reason);
    /* Whoever can only cut connections does not get the device to the next method. */
    bool over = attempt.denied && (uint64_t)host->waited_s * 1000 >= host->span_ms(host, "Patience");
    return fail_refused(host, over ? ENROLLD_CLASS_DENIED : ENROLLD_CLASS_NOT_YET, &attempt);
}

const struct enrolld_plugin enrolld_plugin = {
    .abi = ENROLLD_PLUGIN_ABI,
    .size = sizeof(struct enrolld_plugin),
    .host_size = sizeof(struct enrolld_host),
    .method_size = sizeof(struct enrolld_method),
    .option_size = sizeof(struct enrolld_option),
    .methods = methods,
    .enroll = enroll,
    .renew = enroll, /* by the certificate that was imported since */
};
