#include "common/settings.h"

#include "common/specifier.h"
#include "common/step.h"
#include "common/text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { PROXY_LONGEST = 511, TCTI_LONGEST = 255 };

/* Each parser stores one value; NULL or what is wrong with it. */
typedef const char *setting_parser(const char *value, size_t offset, struct settings *settings);

static const char *parse_text(const char *value, size_t longest, const char **ret) {
    *ret = value;
    return strlen(value) <= longest ? NULL : "is too long";
}

static const char *parse_methods(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    static const char legal[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    settings->method_count = 0;
    for (size_t length; *value != '\0'; value += length + strspn(value + length, " \t")) {
        length = strcspn(value, " \t");
        if (strspn(value, legal) < length || length >= SETTINGS_METHOD_MAX)
            return "must be names of methods: lower-case letters, digits and hyphens, with a blank between them";
        if (settings->method_count == SETTINGS_METHODS_MAX)
            return "has more than 8 methods";
        for (size_t i = 0; i < settings->method_count; i++)
            if (strncmp(settings->methods[i], value, length) == 0 && settings->methods[i][length] == '\0')
                return "names a method twice";
        memcpy(settings->methods[settings->method_count], value, length);
        settings->methods[settings->method_count++][length] = '\0';
    }
    return NULL;
}

static const char *parse_on_denied(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (strcmp(value, "wait") == 0)
        settings->on_denied = SETTING_DENIED_WAIT;
    else if (strcmp(value, "next") == 0)
        settings->on_denied = SETTING_DENIED_NEXT;
    else
        return "must be wait or next";
    return NULL;
}

static const char *parse_serial_number(const char *value, size_t offset, struct settings *settings) {
    static const char *const sources[] = {"auto", "devicetree", "dmi", "tpm-ek", "machine-id"};
    bool known_source = strncmp(value, "file:/", 6) == 0 || strncmp(value, "literal:", 8) == 0;
    (void)offset;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        known_source = known_source || strcmp(value, sources[i]) == 0;
    if (!known_source)
        return "must be auto, devicetree, dmi, tpm-ek, machine-id, file:/PATH or literal:TEXT";
    return parse_text(value, PATH_MAX - 1, &settings->serial_number);
}

static const char *parse_serial_replacement(const char *value, size_t offset, struct settings *settings) {
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-";
    (void)offset;
    if (strlen(value) != 1 || strchr(legal, value[0]) == NULL)
        return "must be one character of a-z A-Z 0-9 : _ -";
    settings->serial_replacement = value[0];
    return NULL;
}

static const char *parse_clock_wait(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return text_to_span(value, &settings->clock_wait_ms) == 0 ? NULL : "must be a time span, like 90s";
}

static const char *parse_truth(const char *value, bool *ret) {
    *ret = strcmp(value, "yes") == 0;
    return *ret || strcmp(value, "no") == 0 ? NULL : "must be yes or no";
}

static const char *parse_volatile_state(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_truth(value, &settings->volatile_state);
}

static const char *parse_client_id(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (specifier_judge(value) != NULL)
        return specifier_judge(value);
    return parse_text(value, SETTINGS_NAME_MAX, &settings->client_id);
}

static const char *parse_thing_name(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (specifier_judge(value) != NULL)
        return specifier_judge(value);
    return parse_text(value, SETTINGS_NAME_MAX, &settings->thing_name);
}

static const char *parse_subject(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (specifier_judge(value) != NULL)
        return specifier_judge(value);
    return parse_text(value, CONFIGURATION_VALUE_MAX - 1, &settings->subject);
}

static const char *parse_endpoint(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (strpbrk(value, "/: \t") != NULL)
        return "must be a host name alone, without scheme, port or path";
    return parse_text(value, SETTINGS_HOST_MAX - 1, &settings->endpoint);
}

static const char *parse_port(const char *value, size_t offset, struct settings *settings) {
    uint64_t port = 0;
    (void)offset;
    if (text_to_u64(value, &port) < 0 || port == 0 || port > UINT16_MAX)
        return "must be a port number, 1 to 65535";
    settings->port = (uint16_t)port;
    return NULL;
}

static const char *parse_root_ca(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return value[0] == '/' ? parse_text(value, PATH_MAX - 1, &settings->root_ca) : "must be an absolute path";
}

static const char *parse_proxy(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (strncmp(value, "http://", 7) != 0)
        return "must be http://HOST:PORT";
    return parse_text(value, PROXY_LONGEST, &settings->proxy);
}

static const char *parse_minimum_tls(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (strcmp(value, "1.2") == 0)
        settings->minimum_tls = SETTING_TLS_1_2;
    else if (strcmp(value, "1.3") == 0)
        settings->minimum_tls = SETTING_TLS_1_3;
    else
        return "must be 1.2 or 1.3";
    return NULL;
}

static const char *parse_backend(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (strcmp(value, "tpm2") == 0)
        settings->key_backend = SETTING_KEY_TPM2;
    else if (strcmp(value, "file") == 0)
        settings->key_backend = SETTING_KEY_FILE;
    else
        return "must be tpm2 or file";
    return NULL;
}

static const char *parse_algorithm(const char *value, size_t offset, struct settings *settings) {
    static const char *const names[] = {
        [SETTING_KEY_P256] = "P-256",
        [SETTING_KEY_P384] = "P-384",
        [SETTING_KEY_RSA2048] = "RSA-2048",
        [SETTING_KEY_RSA3072] = "RSA-3072",
    };
    (void)offset;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(value, names[i]) == 0) {
            settings->key_algorithm = (enum setting_key_algorithm)i;
            return NULL;
        }
    return "must be P-256, P-384, RSA-2048 or RSA-3072";
}

static const char *parse_tcti(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_text(value, TCTI_LONGEST, &settings->tcti);
}

static const char *parse_wrong_tpm(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (strcmp(value, "fail") == 0)
        settings->on_wrong_tpm = SETTING_WRONG_TPM_FAIL;
    else if (strcmp(value, "enroll") == 0)
        settings->on_wrong_tpm = SETTING_WRONG_TPM_ENROLL;
    else
        return "must be fail or enroll";
    return NULL;
}

static const char *parse_renew_method(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(value))
        return "must be the name of one method, or none";
    return parse_text(value, SETTINGS_METHOD_MAX - 1, &settings->renew_method);
}

static const char *parse_percent(const char *value, uint64_t lowest, uint64_t highest, unsigned *ret) {
    char digits[4];
    uint64_t number;
    size_t length = strspn(value, "0123456789");
    if (length == 0 || length >= sizeof digits || strcmp(value + length, "%") != 0)
        return "must be a percentage, like 66%";
    memcpy(digits, value, length);
    digits[length] = '\0';
    if (text_to_u64(digits, &number) < 0 || number < lowest || number > highest)
        return "is a percentage beyond what it may be";
    *ret = (unsigned)number;
    return NULL;
}

static const char *parse_lifetime(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_percent(value, 1, 95, &settings->renew_percent);
}

static const char *parse_spread(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_percent(value, 0, 50, &settings->spread_percent);
}

/* Longer than any other span: it is there for certificates that hold for decades. */
static const char *parse_max_age(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    bool usable =
        text_to_span_within(value, 36500ULL * 86400 * 1000, &settings->max_age_ms) == 0 && settings->max_age_ms > 0;
    return usable ? NULL : "must be a time span, like 365d";
}

static const char *parse_reuse_key(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_truth(value, &settings->reuse_key);
}

static const char *parse_retire_acknowledged(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_truth(value, &settings->retire_acknowledged);
}

static const char *parse_keep_claim(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_truth(value, &settings->keep_claim);
}

/* A topic to publish to: no wildcards (MQTT 5, section 4.7.1), and 256 bytes at most (AWS IoT Core quotas). */
static const char *parse_topic(const char *value, const char **ret) {
    if (specifier_judge(value) != NULL)
        return specifier_judge(value);
    if (strpbrk(value, "+#") != NULL)
        return "must be a topic, without + and #";
    return parse_text(value, SETTINGS_NAME_MAX, ret);
}

static const char *parse_prove_topic(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_topic(value, &settings->prove_topic);
}

static const char *parse_retire_topic(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return parse_topic(value, &settings->retire_topic);
}

static const char *parse_keep_generations(const char *value, size_t offset, struct settings *settings) {
    uint64_t number;
    (void)offset;
    if (text_to_u64(value, &number) < 0 || number > 8)
        return "must be a number from 0 to 8";
    settings->keep_generations = (unsigned)number;
    return NULL;
}

static const char *parse_prove_interval(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    bool usable = text_to_span(value, &settings->prove_interval_ms) == 0 && settings->prove_interval_ms >= 1000;
    return usable ? NULL : "must be a time span of at least 1s, like 1d, or empty";
}

static const char *parse_on_refused(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    if (strcmp(value, "wait") == 0)
        settings->on_refused = SETTING_REFUSED_WAIT;
    else if (strcmp(value, "enroll") == 0)
        settings->on_refused = SETTING_REFUSED_ENROLL;
    else
        return "must be wait or enroll";
    return NULL;
}

static const char *parse_refused_grace(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    return text_to_span(value, &settings->refused_grace_ms) == 0 ? NULL : "must be a time span, like 1h";
}

/* offset: the failure class. */
static const char *parse_retry(const char *value, size_t offset, struct settings *settings) {
    static const char wrong[] = "must be two time spans, the first wait and the longest one, like 2s 15min";
    char text[64], *rest = text;
    struct retry_range range;
    size_t length = strlen(value);
    if (length >= sizeof text)
        return wrong;
    memcpy(text, value, length + 1);
    const char *base = strsep(&rest, " "), *cap = rest != NULL ? rest + strspn(rest, " ") : "";
    if (text_to_span(base, &range.base_ms) < 0 || text_to_span(cap, &range.cap_ms) < 0 || range.base_ms == 0 ||
        range.cap_ms < range.base_ms)
        return wrong;
    settings->retry[offset] = range;
    return NULL;
}

static const char *parse_propagation(const char *value, size_t offset, struct settings *settings) {
    (void)offset;
    bool usable = text_to_span(value, &settings->propagation_ms) == 0 && settings->propagation_ms <= 3600 * 1000;
    return usable ? NULL : "must be a time span of at most 1h, like 2min";
}

/* The retry defaults: a lost network heals by itself and costs the cloud nothing; a busy cloud must be left alone
 * (RegisterThing allows an account about 10 per second); what needs an operator is asked rarely. */
static const struct {
    const char *section, *key, *otherwise; /* the default, NULL: required */
    setting_parser *parse;
    size_t offset;
} known[] = {
    {"Agent", "Methods", NULL, parse_methods, 0},
    {"Agent", "OnDenied", "wait", parse_on_denied, 0},
    {"Agent", "SerialNumber", "auto", parse_serial_number, 0},
    {"Agent", "ThingName", "", parse_thing_name, 0},
    {"Agent", "SerialNumberReplacement", "", parse_serial_replacement, 0},
    {"Agent", "ClientId", "", parse_client_id, 0},
    {"Agent", "ClockWait", "90s", parse_clock_wait, 0},
    {"Agent", "VolatileState", "no", parse_volatile_state, 0},
    {"Cloud", "Endpoint", NULL, parse_endpoint, 0},
    {"Cloud", "Port", "8883", parse_port, 0},
    {"Cloud", "RootCA", NULL, parse_root_ca, 0},
    {"Cloud", "Proxy", "", parse_proxy, 0},
    {"Cloud", "MinimumTLS", "1.2", parse_minimum_tls, 0},
    {"Cloud", "ProveTopic", "", parse_prove_topic, 0},
    {"Key", "Backend", "tpm2", parse_backend, 0},
    {"Key", "Algorithm", "P-256", parse_algorithm, 0},
    {"Key", "TCTI", "device:/dev/tpmrm0", parse_tcti, 0},
    {"Key", "OnWrongTPM", "fail", parse_wrong_tpm, 0},
    {"Request", "Subject", "CN=%s", parse_subject, 0},
    {"Renewal", "RenewMethod", "", parse_renew_method, 0},
    {"Renewal", "Lifetime", "66%", parse_lifetime, 0},
    {"Renewal", "MaxAge", "", parse_max_age, 0},
    {"Renewal", "Spread", "10%", parse_spread, 0},
    {"Renewal", "ReuseKey", "no", parse_reuse_key, 0},
    {"Renewal", "RetireTopic", "", parse_retire_topic, 0},
    {"Renewal", "RetireAcknowledged", "no", parse_retire_acknowledged, 0},
    {"Renewal", "KeepGenerations", "1", parse_keep_generations, 0},
    {"Renewal", "ProveInterval", "", parse_prove_interval, 0},
    {"Renewal", "OnRefused", "wait", parse_on_refused, 0},
    {"Renewal", "RefusedGrace", "1h", parse_refused_grace, 0},
    {"Renewal", "KeepClaim", "yes", parse_keep_claim, 0},
    {"Retry", "Network", "2s 15min", parse_retry, FAILURE_NETWORK},
    {"Retry", "CloudBusy", "10s 1h", parse_retry, FAILURE_CLOUD_BUSY},
    {"Retry", "NotYet", "1s 5min", parse_retry, FAILURE_NOT_YET},
    {"Retry", "Denied", "60s 1h", parse_retry, FAILURE_DENIED},
    {"Retry", "Invalid", "5min 1h", parse_retry, FAILURE_INVALID},
    {"Retry", "Clock", "10s 10min", parse_retry, FAILURE_CLOCK},
    {"Retry", "TPM", "5s 10min", parse_retry, FAILURE_TPM},
    {"Retry", "Internal", "5s 15min", parse_retry, FAILURE_INTERNAL},
    {"Retry", "Propagation", "2min", parse_propagation, 0},
};
#define KNOWN_COUNT (sizeof known / sizeof *known)

static bool key_is_known(const struct configuration_entry *entry) {
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (strcmp(known[i].section, entry->section) == 0 && strcmp(known[i].key, entry->key) == 0)
            return true;
    return false;
}

/* Names an unknown key of the same section, too: it may be the one that is meant. */
static int fail_missing(const struct configuration *configuration, size_t i, struct failure *failure) {
    int r = failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s= is missing in section [%s] of enrolld.conf",
                        known[i].key, known[i].section);
    for (size_t k = 0; k < configuration->count; k++) {
        const struct configuration_entry *entry = &configuration->entries[k];
        if (strcmp(entry->section, known[i].section) == 0 && !key_is_known(entry)) {
            failure_append(failure, "; is it %s:%u: %s=?", entry->file, entry->line, entry->key);
            break;
        }
    }
    return r;
}

static int read_setting(const struct configuration *configuration, size_t i, struct settings *settings,
                        struct failure *failure) {
    const struct configuration_entry *entry = configuration_find(configuration, known[i].section, known[i].key);
    const char *value = entry != NULL ? entry->value : known[i].otherwise;
    if (value == NULL || (*value == '\0' && known[i].otherwise == NULL))
        return fail_missing(configuration, i, failure);
    const char *wrong = *value != '\0' ? known[i].parse(value, known[i].offset, settings) : NULL;
    if (wrong == NULL || entry == NULL) /* the defaults are right */
        return 0;
    return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s:%u: %s= %s, but it is \"%s\"", entry->file,
                       entry->line, known[i].key, wrong, value);
}

const struct settings settings_unset = {
    .serial_number = "",
    .thing_name = "",
    .client_id = "",
    .endpoint = "",
    .root_ca = "",
    .proxy = "",
    .tcti = "",
    .subject = "",
    .prove_topic = "",
    .renew_method = "",
    .retire_topic = "",
};

int settings_read(const struct configuration *configuration, struct settings *ret, struct failure *failure) {
    struct settings settings = settings_unset;
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (read_setting(configuration, i, &settings, failure) < 0)
            return -1;
    *ret = settings;
    return 0;
}

static bool section_is_known(const char *section) {
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (strcmp(known[i].section, section) == 0)
            return true;
    return false;
}

static bool is_method(const struct settings *settings, const char *section) {
    for (size_t i = 0; i < settings->method_count; i++)
        if (strcmp(settings->methods[i], section) == 0)
            return true;
    return strcmp(settings->renew_method, section) == 0;
}

void settings_warn_unknown(const struct configuration *configuration, const struct settings *settings,
                           void (*warn)(const char *text, void *data), void *data) {
    for (size_t i = 0; i < configuration->count; i++) {
        const struct configuration_entry *entry = &configuration->entries[i];
        char text[512];
        if (key_is_known(entry) || is_method(settings, entry->section))
            continue;
        if (section_is_known(entry->section))
            snprintf(text, sizeof text, "%s:%u: unknown key %s= in section [%s] is ignored", entry->file, entry->line,
                     entry->key, entry->section);
        else
            snprintf(text, sizeof text,
                     "%s:%u: %s= is ignored: section [%s] is neither enrolld's nor that of a method in Methods=",
                     entry->file, entry->line, entry->key, entry->section);
        warn(text, data);
    }
}

void settings_enumerate(const struct configuration *configuration,
                        void (*row)(const struct setting_row *row, void *data), void *data) {
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        const struct configuration_entry *entry = configuration_find(configuration, known[i].section, known[i].key);
        struct setting_row r = {known[i].section, known[i].key, known[i].otherwise != NULL ? known[i].otherwise : "",
                                NULL, 0};
        if (entry != NULL)
            r = (struct setting_row){entry->section, entry->key, entry->value, entry->file, entry->line};
        row(&r, data);
    }
    for (size_t i = 0; i < configuration->count; i++) {
        const struct configuration_entry *entry = &configuration->entries[i];
        struct setting_row r = {entry->section, entry->key, entry->value, entry->file, entry->line};
        if (!section_is_known(entry->section) && configuration_find(configuration, entry->section, entry->key) == entry)
            row(&r, data);
    }
}
