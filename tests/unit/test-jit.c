#include "common/text.h"
#include "diagnosis.h"
#include "harness.h"
#include "pace.h"

#include <enrolld/plugin.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LEAF "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
#define CLOSED "cloud:8883 closed the connection without a CONNACK"

/* --- pure parts --- */

static void test_region(void) {
    static const struct {
        const char *endpoint, *region; /* NULL: none */
    } cases[] = {
        {"a1b2c3-ats.iot.eu-west-1.amazonaws.com", "eu-west-1"},
        {"a1b2c3-ats.iot.cn-north-1.amazonaws.com.cn", "cn-north-1"},
        {"a1b2c3.iot.us-gov-west-1.amazonaws.com", "us-gov-west-1"},
        {"A1B2C3-ATS.IOT.eu-west-1.AmazonAWS.com", "eu-west-1"},
        {"localhost", NULL},
        {"", NULL},
        {"iot.example.com", NULL},
        {"x.iot..amazonaws.com", NULL},
        {"x.iot.eu-west-1.amazonaws.com.evil.example", NULL},
        {"x.iot.eu-west-1.amazonaws.comm", NULL},
        {"x.iot.eu_west.amazonaws.com", NULL},
        {"x.iot.a$(reboot).amazonaws.com", NULL},
        {"x.iot.0123456789012345678901234567890123456789.amazonaws.com", NULL},
        {"x.credentials.iot.eu-west-1.amazonaws.com", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char region[DIAGNOSIS_REGION_MAX] = "untouched";
        ASSERT_NUMBER(diagnosis_region(cases[i].endpoint, region), cases[i].region != NULL);
        ASSERT_TEXT(region, cases[i].region != NULL ? cases[i].region : "untouched");
    }
}

static void test_alone(void) {
    CU_ASSERT_TRUE(diagnosis_is_alone(""));
    CU_ASSERT_TRUE(diagnosis_is_alone(LEAF));
    CU_ASSERT_FALSE(diagnosis_is_alone(LEAF LEAF));
    CU_ASSERT_FALSE(diagnosis_is_alone("leaf\n" LEAF "issuer\n" LEAF LEAF));
}

static void test_text(void) {
    const struct diagnosis template = {.certificate_id = ID,
                                       .endpoint = "x-ats.iot.eu-west-1.amazonaws.com",
                                       .refusals = 5,
                                       .lasted_s = 16,
                                       .reason = CLOSED};
    struct diagnosis lambda = template;
    char text[DIAGNOSIS_MAX];
    diagnosis_write(&template, text);
    ASSERT_TEXT(text, "refused 5 times in 16 s, last: " CLOSED ". To learn why: `aws iot describe-certificate "
                      "--certificate-id " ID " --region eu-west-1`. ResourceNotFound: no registered ACTIVE CA with "
                      "auto-registration has issued it; PENDING_ACTIVATION: template or role has failed (is the common "
                      "name a thing name?), see CloudWatch AWSIotLogsV2; INACTIVE, REVOKED: somebody's decision; "
                      "ACTIVE: its policy does not allow the client id");
    lambda.by_lambda = lambda.alone = true;
    lambda.endpoint = "iot.example.com";
    lambda.refusals = 1;
    lambda.lasted_s = 0;
    lambda.waited_s = 3599;
    diagnosis_write(&lambda, text);
    ASSERT_TEXT(text, "refused 1 time, first over 59 min ago, last: " CLOSED ". To learn why: `aws iot "
                      "describe-certificate --certificate-id " ID "`. ResourceNotFound: no registered ACTIVE CA with "
                      "auto-registration has issued it, or its issuer's certificate must be sent: import the whole "
                      "chain; PENDING_ACTIVATION: rule or Lambda has failed (is the common name a thing name?), see "
                      "CloudWatch /aws/lambda; INACTIVE, "
                      "REVOKED: somebody's decision; ACTIVE: its policy does not allow the client id");
    lambda.refusals = 2;
    lambda.lasted_s = 4;
    diagnosis_write(&lambda, text);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "refused 2 times in 4 s, first over 60 min ago, last: "));
}

/* Whatever the server says and however long it takes: what to do is never cut off. */
static void test_longest_text(void) {
    char reason[2000], text[DIAGNOSIS_MAX];
    memset(reason, 'x', sizeof reason);
    reason[sizeof reason - 1] = '\0';
    for (int i = 0; i < 4; i++) {
        const struct diagnosis diagnosis = {.by_lambda = (i & 1) != 0,
                                            .alone = (i & 2) != 0,
                                            .certificate_id = ID ID,
                                            .endpoint = "x.iot.0123456789012345678901234567890.amazonaws.com",
                                            .refusals = UINT32_MAX,
                                            .lasted_s = UINT32_MAX,
                                            .waited_s = UINT32_MAX,
                                            .reason = reason};
        diagnosis_write(&diagnosis, text);
        CU_ASSERT_TRUE(strlen(text) < DIAGNOSIS_MAX - 1);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, "the client id"));
        CU_ASSERT_PTR_NOT_NULL(strstr(text, "xxx... To learn why"));
    }
}

static void test_pace(void) {
    static const uint32_t first[] = {1500, 2000, 4000, 8000, 15000, 30000};
    for (unsigned i = 0; i < 6; i++) {
        ASSERT_NUMBER(pace_pause_ms(false, 0, i + 1), i < 4 ? first[i] : 0);
        ASSERT_NUMBER(pace_pause_ms(true, 0, i + 1), first[i]);
    }
    ASSERT_NUMBER(pace_pause_ms(true, 0, 7), 0);
    ASSERT_NUMBER(pace_pause_ms(true, 0, UINT32_MAX), 0);
    for (int by_lambda = 0; by_lambda < 2; by_lambda++) {
        ASSERT_NUMBER(pace_pause_ms(by_lambda, 1, 1), 4000);
        ASSERT_NUMBER(pace_pause_ms(by_lambda, 1, 2), 0);
        ASSERT_NUMBER(pace_pause_ms(by_lambda, 1, 0), 0);
    }
}

/* --- the plugin on a host that follows a script --- */

struct outcome {
    int result; /* of try_identity() */
    struct enrolld_refusal refusal;
};

static struct {
    const struct outcome *outcomes;
    unsigned connects;
    uint32_t pauses[16];
    char reasons[16][400]; /* of the pauses */
    unsigned pause_count;
    uint64_t patience_ms;
    int failures;
    enum enrolld_class class;
    char message[2 * DIAGNOSIS_MAX];
    char said[512]; /* where a refusal's words are, until the next call */
} script;

static void fake_step(const struct enrolld_host *host, const char *step) {
    (void)host;
    ASSERT_TEXT(step, ENROLLD_STEP_REGISTER);
}

__attribute__((format(printf, 3, 4))) static int fake_fail(const struct enrolld_host *host, enum enrolld_class class,
                                                           const char *format, ...) {
    va_list arguments;
    (void)host;
    script.failures++;
    script.class = class;
    va_start(arguments, format);
    vsnprintf(script.message, sizeof script.message, format, arguments);
    va_end(arguments);
    return -1;
}

static void fake_pause(const struct enrolld_host *host, uint32_t milliseconds, const char *why) {
    (void)host;
    snprintf(script.said, sizeof script.said, "overwritten");
    CU_ASSERT_STRING_NOT_EQUAL(why, script.said);
    snprintf(script.reasons[script.pause_count], sizeof *script.reasons, "%s", why);
    script.pauses[script.pause_count++] = milliseconds;
}

/* What is set, else the default, as text_to_span() reads it. */
static uint64_t fake_span_ms(const struct enrolld_host *host, const char *name) {
    (void)host;
    ASSERT_TEXT(name, "Patience");
    return script.patience_ms;
}

static const char *fake_certificate_pem(const struct enrolld_host *host) {
    (void)host;
    snprintf(script.said, sizeof script.said, "overwritten");
    return LEAF;
}

static const char *fake_certificate_id(const struct enrolld_host *host) {
    (void)host;
    snprintf(script.said, sizeof script.said, "overwritten");
    return ID;
}

static int fake_try_identity(const struct enrolld_host *host, struct enrolld_refusal *refusal) {
    const struct outcome *outcome = &script.outcomes[script.connects++];
    (void)host;
    if (outcome->result != 1)
        return outcome->result < 0 ? fake_fail(host, ENROLLD_CLASS_INTERNAL, "the TPM is gone") : 0;
    snprintf(script.said, sizeof script.said, "%s", outcome->refusal.message);
    *refusal = outcome->refusal;
    refusal->message = script.said;
    return 1;
}

static int run(const char *method, uint32_t waited_s, const char *patience, const struct outcome *outcomes) {
    const struct enrolld_host host = {
        .size = sizeof host,
        .method = method,
        .serial_number = "SN-1",
        .endpoint = "x-ats.iot.eu-west-1.amazonaws.com",
        .waited_s = waited_s,
        .step = fake_step,
        .fail = fake_fail,
        .pause = fake_pause,
        .span_ms = fake_span_ms,
        .certificate_pem = fake_certificate_pem,
        .certificate_id = fake_certificate_id,
        .try_identity = fake_try_identity,
    };
    memset(&script, 0, sizeof script);
    script.outcomes = outcomes;
    const struct enrolld_method *found = enrolld_plugin.methods;
    while (strcmp(found->name, method) != 0)
        found++;
    const struct enrolld_option *option = found->options;
    ASSERT_TEXT(option->name, "Patience");
    ASSERT_NUMBER(option->type, ENROLLD_OPTION_SPAN);
    ASSERT_NUMBER(option->use, ENROLLD_USE_BOTH);
    CU_ASSERT(enrolld_plugin.renew == enrolld_plugin.enroll); /* by the certificate that was imported since */
    ASSERT_NUMBER(text_to_span(patience != NULL ? patience : option->otherwise, &script.patience_ms), 0);
    return enrolld_plugin.enroll(&host);
}

#define ACCEPTED                                                                                                       \
    {                                                                                                                  \
        0, {                                                                                                           \
            ENROLLD_CLASS_NETWORK, false, NULL                                                                         \
        }                                                                                                              \
    }
#define BROKEN                                                                                                         \
    {                                                                                                                  \
        -1, {                                                                                                          \
            ENROLLD_CLASS_NETWORK, false, NULL                                                                         \
        }                                                                                                              \
    }
#define DENIED                                                                                                         \
    {                                                                                                                  \
        1, {                                                                                                           \
            ENROLLD_CLASS_DENIED, true, "not authorized"                                                               \
        }                                                                                                              \
    }
#define CUT                                                                                                            \
    {                                                                                                                  \
        1, {                                                                                                           \
            ENROLLD_CLASS_NETWORK, true, "closed without a word"                                                       \
        }                                                                                                              \
    }
#define BUSY                                                                                                           \
    {                                                                                                                  \
        1, {                                                                                                           \
            ENROLLD_CLASS_CLOUD_BUSY, true, "quota exceeded"                                                           \
        }                                                                                                              \
    }
#define UNREACHED                                                                                                      \
    {                                                                                                                  \
        1, {                                                                                                           \
            ENROLLD_CLASS_NETWORK, false, "no route to host"                                                           \
        }                                                                                                              \
    }

static void test_accepted(void) {
    static const struct outcome at_once[] = {ACCEPTED};
    static const struct outcome third[] = {DENIED, CUT, ACCEPTED};
    ASSERT_NUMBER(run("jitp", 0, NULL, at_once), 0);
    ASSERT_NUMBER(script.connects, 1);
    ASSERT_NUMBER(run("jitp", 0, NULL, third), 0);
    ASSERT_NUMBER(script.connects, 3);
    ASSERT_NUMBER(script.pauses[0], 1500);
    ASSERT_NUMBER(script.pauses[1], 2000);
    ASSERT_NUMBER(script.pause_count, 2);
    ASSERT_NUMBER(script.failures, 0);
    ASSERT_TEXT(script.reasons[0],
                "the first connection of a new certificate is always refused; asked again: not authorized");
    ASSERT_TEXT(script.reasons[1], "closed without a word");
    ASSERT_NUMBER(run("jitp", 60, NULL, third), -1);
    ASSERT_TEXT(script.reasons[0], "not authorized");
}

static void test_pending(void) {
    static const struct outcome refused[] = {DENIED, DENIED, CUT, DENIED, DENIED, DENIED, CUT, ACCEPTED};
    static const struct {
        const char *method;
        uint32_t waited_s;
        unsigned connects;
    } cases[] = {{"jitp", 0, 5}, {"jitr", 0, 7}, {"jitp", 1, 2}, {"jitr", 1000, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ASSERT_NUMBER(run(cases[i].method, cases[i].waited_s, NULL, refused), -1);
        ASSERT_NUMBER(script.connects, cases[i].connects);
        ASSERT_NUMBER(script.pause_count, cases[i].connects - 1);
        ASSERT_NUMBER(script.class, ENROLLD_CLASS_NOT_YET);
        ASSERT_NUMBER(script.failures, 1);
        const char *last = refused[cases[i].connects - 1].refusal.message;
        CU_ASSERT_PTR_NOT_NULL(strstr(script.message, last));
        CU_ASSERT_PTR_NOT_NULL(strstr(script.message, "--certificate-id " ID " --region eu-west-1"));
        CU_ASSERT_PTR_NOT_NULL(strstr(script.message, "import the whole chain"));
    }
}

static void test_patience(void) {
    static const struct outcome refused[] = {DENIED, CUT, ACCEPTED};
    static const struct {
        const char *method, *patience;
        uint32_t waited_s;
        enum enrolld_class class;
    } cases[] = {
        {"jitp", NULL, 1799, ENROLLD_CLASS_NOT_YET},      {"jitp", NULL, 1800, ENROLLD_CLASS_DENIED},
        {"jitr", NULL, 7199, ENROLLD_CLASS_NOT_YET},      {"jitr", NULL, 7200, ENROLLD_CLASS_DENIED},
        {"jitp", "3s", 2, ENROLLD_CLASS_NOT_YET},         {"jitp", "3s", 3, ENROLLD_CLASS_DENIED},
        {"jitr", "365d", 7200, ENROLLD_CLASS_NOT_YET},    {"jitr", "100ms", 1, ENROLLD_CLASS_DENIED},
        {"jitr", "365d", 4294967, ENROLLD_CLASS_NOT_YET},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ASSERT_NUMBER(run(cases[i].method, cases[i].waited_s, cases[i].patience, refused), -1);
        ASSERT_NUMBER(script.connects, 2);
        ASSERT_NUMBER(script.class, cases[i].class);
    }
}

/* Whoever can cut connections does not make the device give the method up. */
static void test_cut_is_no_denial(void) {
    static const struct outcome cut[] = {CUT, CUT, ACCEPTED};
    static const struct outcome denied_late[] = {CUT, DENIED, ACCEPTED};
    ASSERT_NUMBER(run("jitp", 1000000, NULL, cut), -1);
    ASSERT_NUMBER(script.class, ENROLLD_CLASS_NOT_YET);
    ASSERT_NUMBER(run("jitp", 1000000, NULL, denied_late), -1);
    ASSERT_NUMBER(script.class, ENROLLD_CLASS_DENIED);
}

/* Nobody was there who could have refused: that is no answer, however long it lasts. */
static void test_network(void) {
    static const struct outcome gone[] = {UNREACHED, ACCEPTED};
    static const struct outcome lost[] = {DENIED, UNREACHED, ACCEPTED};
    ASSERT_NUMBER(run("jitp", 1000000, NULL, gone), -1);
    ASSERT_NUMBER(script.connects, 1);
    ASSERT_NUMBER(script.class, ENROLLD_CLASS_NETWORK);
    ASSERT_TEXT(script.message, "no route to host");
    ASSERT_NUMBER(run("jitp", 0, NULL, lost), -1);
    ASSERT_NUMBER(script.connects, 2);
    ASSERT_NUMBER(script.class, ENROLLD_CLASS_NOT_YET);
}

static void test_busy(void) {
    static const struct outcome busy[] = {BUSY, ACCEPTED};
    ASSERT_NUMBER(run("jitr", 1000000, NULL, busy), -1);
    ASSERT_NUMBER(script.connects, 1);
    ASSERT_NUMBER(script.class, ENROLLD_CLASS_CLOUD_BUSY);
    ASSERT_TEXT(script.message, "quota exceeded");
}

/* What the host itself has recorded stays. */
static void test_host_failure(void) {
    static const struct outcome broken[] = {DENIED, BROKEN};
    ASSERT_NUMBER(run("jitp", 0, NULL, broken), -1);
    ASSERT_NUMBER(script.failures, 1);
    ASSERT_TEXT(script.message, "the TPM is gone");
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"region", test_region},
        {"alone", test_alone},
        {"text", test_text},
        {"longest-text", test_longest_text},
        {"pace", test_pace},
        {"accepted", test_accepted},
        {"pending", test_pending},
        {"patience", test_patience},
        {"cut-is-no-denial", test_cut_is_no_denial},
        {"network", test_network},
        {"busy", test_busy},
        {"host-failure", test_host_failure},
        {NULL, NULL},
    };
    return unit_run("jit", tests, argc, argv);
}
