#include "option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* TLS alerts (RFC 8446, section 6). */
#define ALERT_CERTIFICATE_UNKNOWN 46

struct standin_options option_defaults(void) {
    return (struct standin_options){.alert = ALERT_CERTIFICATE_UNKNOWN,
                                    .limit_connects = true,
                                    .token_size = 470,
                                    .jitp_delay = 1000,
                                    .jitp_rerun = true,
                                    .tls_version = "any"};
}

static const char *const refusals[] = {
    [REFUSAL_CONNACK] = "connack",
    [REFUSAL_CONNACK_ALWAYS] = "connack5-for-3.1.1",
    [REFUSAL_CLOSE] = "close",
    [REFUSAL_HANDSHAKE_ALERT] = "handshake-alert",
    [REFUSAL_HANDSHAKE_CLOSE] = "handshake-close",
    [REFUSAL_AFTER_HANDSHAKE_CLOSE] = "after-handshake-close",
    NULL,
};

const char *option_refusal_name(enum option_refusal refusal) {
    return refusals[refusal];
}

static int read_choice(const char *value, const char *const *choices, unsigned *ret) {
    for (unsigned i = 0; choices[i] != NULL; i++)
        if (strcmp(choices[i], value) == 0) {
            *ret = i;
            return 0;
        }
    return -EINVAL;
}

static int read_switch(const char *value, bool *ret) {
    unsigned choice;
    if (read_choice(value, (const char *const[]){"off", "on", NULL}, &choice) < 0)
        return -EINVAL;
    *ret = choice == 1;
    return 0;
}

static int read_number(const char *value, double minimum, double maximum, double *ret) {
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !(number >= minimum && number <= maximum))
        return -EINVAL;
    *ret = number;
    return 0;
}

static int read_binding(const char *value, enum token_binding *ret) {
    static const char *const names[] = {[TOKEN_BINDING_NONE] = "none",
                                        [TOKEN_BINDING_PRINCIPAL] = "principal",
                                        [TOKEN_BINDING_CONNECTION] = "connection",
                                        NULL};
    unsigned choice;
    if (read_choice(value, names, &choice) < 0)
        return -EINVAL;
    *ret = (enum token_binding)choice;
    return 0;
}

/* NAME, or handshake-alert=NUMBER: those alerts that the front has a way to send. */
static int read_refusal(const char *value, struct standin_options *options) {
    static const char with_alert[] = "handshake-alert=";
    static const char *const alerts[] = {"40", "42", "43", "44", "45", "46", "48", NULL};
    unsigned choice;
    if (strncmp(value, with_alert, strlen(with_alert)) == 0) {
        const char *number = value + strlen(with_alert);
        if (read_choice(number, alerts, &choice) < 0)
            return -EINVAL;
        options->refusal = REFUSAL_HANDSHAKE_ALERT;
        options->alert = (unsigned)strtoul(number, NULL, 10);
        return 0;
    }
    if (read_choice(value, refusals, &choice) < 0)
        return -EINVAL;
    options->refusal = (enum option_refusal)choice;
    options->alert = ALERT_CERTIFICATE_UNKNOWN;
    return 0;
}

static int read_tls_version(const char *value, const char **ret) {
    static const char *const versions[] = {"any", "1.2", "1.3", NULL};
    unsigned choice;
    if (read_choice(value, versions, &choice) < 0)
        return -EINVAL;
    *ret = versions[choice];
    return 0;
}

/* never, always, or how many times */
static int read_failures(const char *value, int *ret) {
    double number;
    if (strcmp(value, "never") == 0)
        *ret = 0;
    else if (strcmp(value, "always") == 0)
        *ret = -1;
    else if (read_number(value, 0, 1000000, &number) == 0)
        *ret = (int)number;
    else
        return -EINVAL;
    return 0;
}

static int set_number(struct standin_options *options, const char *name, const char *value) {
    double number;
    if (strcmp(name, "token_size") == 0 && read_number(value, 1, 100000, &number) == 0)
        options->token_size = (size_t)number;
    else if (strcmp(name, "disconnect_delay") == 0 && read_number(value, 0, 3600, &number) == 0)
        options->disconnect_delay = (unsigned)number;
    else if (strcmp(name, "propagation") == 0 && read_number(value, 0, 86400, &number) == 0)
        options->propagation = (int64_t)(number * 1000);
    else if (strcmp(name, "jitp_delay") == 0 && read_number(value, 0, 86400, &number) == 0)
        options->jitp_delay = (int64_t)(number * 1000);
    else
        return -EINVAL;
    return 0;
}

/* aws; private:DAYS, to so many days from now, of a negative number a day that has passed; private:DAYS:SECONDS, so
 * many days that begin so many seconds from now. */
static int read_issuer(const char *value, struct standin_options *options) {
    double days, begin = -120;
    char *end = NULL;
    if (strcmp(value, "aws") == 0) {
        options->private_issuer = false;
        return 0;
    }
    if (strncmp(value, "private:", strlen("private:")) != 0)
        return -EINVAL;
    value += strlen("private:");
    days = strtod(value, &end);
    bool has_begin = end != value && *end == ':';
    if (end == value || !(days >= -36500 && days <= 36500) || (!has_begin && *end != '\0') ||
        (has_begin && read_number(end + 1, -3e9, 3e9, &begin) < 0) || (has_begin && days <= 0))
        return -EINVAL;
    options->private_issuer = true;
    options->issued_end = (int64_t)(days * 86400 + (has_begin ? begin : 0));
    options->issued_begin = days < 0 ? options->issued_end - 86400 : (int64_t)begin;
    return 0;
}

int option_set(struct standin_options *options, const char *name, const char *value) {
    const struct {
        const char *name;
        bool *place;
    } switches[] = {
        {"connect_rate", &options->limit_connects},   {"direct_reply", &options->reply_unsubscribed},
        {"token_reuse", &options->token_reuse},       {"jitp_rerun", &options->jitp_rerun},
        {"require_issuer", &options->require_issuer}, {"require_sni", &options->require_sni},
    };
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (strcmp(switches[i].name, name) == 0)
            return read_switch(value, switches[i].place);
    if (strcmp(name, "refusal") == 0)
        return read_refusal(value, options);
    if (strcmp(name, "issuer") == 0)
        return read_issuer(value, options);
    if (strcmp(name, "token_binding") == 0)
        return read_binding(value, &options->token_binding);
    if (strcmp(name, "tls_version") == 0)
        return read_tls_version(value, &options->tls_version);
    if (strcmp(name, "jitp_fail") == 0)
        return read_failures(value, &options->jitp_fail);
    return set_number(options, name, value);
}

static int set_member(struct standin_options *options, const char *name, struct json_object *value) {
    char key[32];
    size_t length = strlen(name);
    if (length >= sizeof key)
        return -EINVAL;
    for (size_t i = 0; i <= length; i++)
        key[i] = (char)(name[i] == '-' ? '_' : name[i]);
    if (json_object_is_type(value, json_type_boolean))
        return option_set(options, key, json_object_get_boolean(value) ? "on" : "off");
    return value != NULL ? option_set(options, key, json_object_get_string(value)) : -EINVAL;
}

int option_set_all(struct standin_options *options, struct json_object *members) {
    struct standin_options changed = *options;
    json_object_object_foreach(members, name, value) {
        if (set_member(&changed, name, value) < 0)
            return -EINVAL;
    }
    *options = changed;
    return 0;
}
