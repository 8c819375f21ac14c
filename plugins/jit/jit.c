/* Just-in-time provisioning (JITP, by a template) and registration (JITR, by a Lambda): the device has a certificate of
 * a CA that is registered in the account. Its first CONNECT makes the cloud register the certificate, and is refused;
 * what activates it runs after that, and nothing tells the device. So it comes back until it is accepted. AWS IoT
 * Developer Guide, "Just-in-time provisioning" and "Register a client certificate when the client connects to AWS IoT
 * just-in-time registration (JITR)". */
#include "common/text.h"
#include "diagnosis.h"
#include "pace.h"

#include <enrolld/plugin.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#define BY_TEMPLATE "jitp"
#define BY_LAMBDA "jitr"
#define BY_TEMPLATE_PATIENCE_MS (30 * 60 * 1000)
#define BY_LAMBDA_PATIENCE_MS (2 * 3600 * 1000)

static const struct enrolld_method methods[] = {
    {BY_TEMPLATE, "an imported certificate of a registered CA; a provisioning template registers the device"},
    {BY_LAMBDA, "an imported certificate of a registered CA; a rule and a Lambda register the device"},
    {NULL, NULL},
};

static const struct enrolld_option options[] = {
    {"Patience", ENROLLD_OPTION_TEXT, false,
     "how long a refusal means \"not yet\", before it means \"denied\": a time span; default 30min, of jitr 2h", NULL,
     NULL},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL},
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

static int read_patience(const struct enrolld_host *host, bool by_lambda, uint64_t *ret_ms) {
    const char *text = host->option(host, "Patience");
    if (text == NULL) {
        *ret_ms = by_lambda ? BY_LAMBDA_PATIENCE_MS : BY_TEMPLATE_PATIENCE_MS;
        return 0;
    }
    if (text_to_span(text, ret_ms) < 0)
        return host->fail(host, ENROLLD_CLASS_INVALID, "[%s] Patience=%.80s is no time span like 30min", host->method,
                          text);
    return 0;
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
    uint64_t patience_ms;
    host->step(host, ENROLLD_STEP_REGISTER);
    if (read_patience(host, attempt.by_lambda, &patience_ms) < 0)
        return -1;
    int r = connect_until_accepted(host, &attempt, &class);
    if (r <= 0)
        return r;
    if (!attempt.reached || class == ENROLLD_CLASS_CLOUD_BUSY)
        return host->fail(host, class, "%s", attempt.reason);
    /* Whoever can only cut connections does not get the device to the next method. */
    bool over = attempt.denied && (uint64_t)host->waited_s * 1000 >= patience_ms;
    return fail_refused(host, over ? ENROLLD_CLASS_DENIED : ENROLLD_CLASS_NOT_YET, &attempt);
}

const struct enrolld_plugin enrolld_plugin = {
    .abi = ENROLLD_PLUGIN_ABI,
    .size = sizeof(struct enrolld_plugin),
    .host_size = sizeof(struct enrolld_host),
    .methods = methods,
    .options = options,
    .imports = true,
    .enroll = enroll,
};
