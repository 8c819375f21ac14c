#include "harness.h"
#include "json_read.h"
#include "option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int set_all(struct standin_options *options, const char *text) {
    AUTO_JSON struct json_object *members = json_parse(text, strlen(text));
    CU_ASSERT_PTR_NOT_NULL_FATAL(members);
    return option_set_all(options, members);
}

static void test_defaults(void) {
    struct standin_options options = option_defaults();
    ASSERT_NUMBER(options.limit_connects, true);
    ASSERT_NUMBER(options.token_binding, TOKEN_BINDING_NONE);
    ASSERT_NUMBER(options.token_reuse, false);
    ASSERT_NUMBER(options.propagation, 0);
    ASSERT_NUMBER(options.refusal, REFUSAL_CONNACK);
    ASSERT_NUMBER(options.jitp_delay, 1000);
    ASSERT_NUMBER(options.jitp_fail, 0);
    ASSERT_NUMBER(options.jitp_rerun, true);
    ASSERT_NUMBER(options.require_issuer, false);
    ASSERT_NUMBER(options.require_sni, false);
    ASSERT_TEXT(options.tls_version, "any");
}

static void test_names_of_the_configuration(void) {
    struct standin_options options = option_defaults();
    ASSERT_NUMBER(option_set(&options, "refusal", "close"), 0);
    ASSERT_NUMBER(option_set(&options, "connect_rate", "off"), 0);
    ASSERT_NUMBER(option_set(&options, "direct_reply", "on"), 0);
    ASSERT_NUMBER(option_set(&options, "disconnect_delay", "7"), 0);
    ASSERT_NUMBER(option_set(&options, "token_size", "1000"), 0);
    ASSERT_NUMBER(option_set(&options, "token_binding", "connection"), 0);
    ASSERT_NUMBER(option_set(&options, "token_reuse", "on"), 0);
    ASSERT_NUMBER(option_set(&options, "propagation", "1.5"), 0);
    ASSERT_NUMBER(options.refusal, REFUSAL_CLOSE);
    ASSERT_NUMBER(options.limit_connects, false);
    ASSERT_NUMBER(options.reply_unsubscribed, true);
    ASSERT_NUMBER(options.disconnect_delay, 7);
    ASSERT_NUMBER(options.token_size, 1000);
    ASSERT_NUMBER(options.token_binding, TOKEN_BINDING_CONNECTION);
    ASSERT_NUMBER(options.token_reuse, true);
    ASSERT_NUMBER(options.propagation, 1500);
}

static void test_just_in_time(void) {
    struct standin_options options = option_defaults();
    ASSERT_NUMBER(option_set(&options, "jitp_delay", "2.5"), 0);
    ASSERT_NUMBER(option_set(&options, "jitp_fail", "3"), 0);
    ASSERT_NUMBER(option_set(&options, "jitp_rerun", "off"), 0);
    ASSERT_NUMBER(option_set(&options, "require_issuer", "on"), 0);
    ASSERT_NUMBER(option_set(&options, "require_sni", "on"), 0);
    ASSERT_NUMBER(option_set(&options, "tls_version", "1.2"), 0);
    ASSERT_NUMBER(options.jitp_delay, 2500);
    ASSERT_NUMBER(options.jitp_fail, 3);
    ASSERT_NUMBER(options.jitp_rerun, false);
    ASSERT_NUMBER(options.require_issuer, true);
    ASSERT_NUMBER(options.require_sni, true);
    ASSERT_TEXT(options.tls_version, "1.2");
    ASSERT_NUMBER(option_set(&options, "jitp_fail", "always"), 0);
    ASSERT_NUMBER(options.jitp_fail, -1);
    ASSERT_NUMBER(option_set(&options, "jitp_fail", "never"), 0);
    ASSERT_NUMBER(options.jitp_fail, 0);
}

static void test_refusals(void) {
    static const struct {
        const char *text;
        enum option_refusal refusal;
        unsigned alert;
    } table[] = {
        {"connack5-for-3.1.1", REFUSAL_CONNACK_ALWAYS, 46},
        {"close", REFUSAL_CLOSE, 46},
        {"handshake-alert=48", REFUSAL_HANDSHAKE_ALERT, 48},
        {"handshake-alert", REFUSAL_HANDSHAKE_ALERT, 46},
        {"handshake-close", REFUSAL_HANDSHAKE_CLOSE, 46},
        {"after-handshake-close", REFUSAL_AFTER_HANDSHAKE_CLOSE, 46},
        {"connack", REFUSAL_CONNACK, 46},
    };
    struct standin_options options = option_defaults();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ASSERT_NUMBER(option_set(&options, "refusal", table[i].text), 0);
        ASSERT_NUMBER(options.refusal, table[i].refusal);
        ASSERT_NUMBER(options.alert, table[i].alert);
        ASSERT_NUMBER(
            strncmp(option_refusal_name(options.refusal), table[i].text, strlen(option_refusal_name(options.refusal))),
            0);
    }
}

static void test_issuers(void) {
    static const struct {
        const char *text;
        bool private;
        int64_t begin, end;
    } table[] = {
        {"private:30", true, -120, 30 * 86400}, {"private:0.5", true, -120, 43200},
        {"private:0", true, -120, 0},           {"private:-2", true, -3 * 86400, -2 * 86400},
        {"private:1:60", true, 60, 60 + 86400}, {"private:2:-86400", true, -86400, 86400},
        {"aws", false, -86400, 86400},
    };
    struct standin_options options = option_defaults();
    ASSERT_NUMBER(options.private_issuer, false);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ASSERT_NUMBER(option_set(&options, "issuer", table[i].text), 0);
        ASSERT_NUMBER(options.private_issuer, table[i].private);
        ASSERT_NUMBER(options.issued_begin, table[i].begin);
        ASSERT_NUMBER(options.issued_end, table[i].end);
    }
}

static void test_wrong_values(void) {
    static const char *const wrong[][2] = {
        {"refusal", "maybe"},
        {"token_reuse", "yes"},
        {"token_binding", ""},
        {"propagation", "-1"},
        {"propagation", "86401"},
        {"propagation", "nan"},
        {"propagation", "1s"},
        {"propagation", ""},
        {"token_size", "0"},
        {"disconnect_delay", "1e9"},
        {"state", "elsewhere"},
        {"issuer", ""},
        {"issuer", "private"},
        {"issuer", "private:"},
        {"issuer", "private:x"},
        {"issuer", "private:1d"},
        {"issuer", "private:nan"},
        {"issuer", "private:36501"},
        {"issuer", "private:1:"},
        {"issuer", "private:1:x"},
        {"issuer", "private:0:5"},
        {"issuer", "private:-1:5"},
        {"token-binding", "none"},
        {"", ""},
        {"connect_rate", "ON"},
        {"refusal", "handshake-alert="},
        {"refusal", "handshake-alert=0"},
        {"refusal", "handshake-alert=46 "},
        {"refusal", "handshake-alert=112"},
        {"jitp_fail", "-1"},
        {"jitp_fail", "sometimes"},
        {"jitp_delay", "-0.1"},
        {"tls_version", "1.1"},
        {"require_sni", "true"},
    };
    struct standin_options options = option_defaults();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (option_set(&options, wrong[i][0], wrong[i][1]) != -EINVAL)
            ASSERT_TEXT("accepted", wrong[i][0]);
    ASSERT_NUMBER(options.propagation, 0);
    ASSERT_NUMBER(options.token_size, 470);
    ASSERT_NUMBER(options.disconnect_delay, 0);
    ASSERT_NUMBER(options.limit_connects, true);
    ASSERT_NUMBER(options.private_issuer, false);
}

static void test_members_of_an_edit(void) {
    struct standin_options options = option_defaults();
    ASSERT_NUMBER(set_all(&options, "{\"propagation\":40,\"token-binding\":\"principal\",\"token-reuse\":true,"
                                    "\"refusal\":\"close\",\"connect-rate\":false}"),
                  0);
    ASSERT_NUMBER(options.propagation, 40000);
    ASSERT_NUMBER(options.token_binding, TOKEN_BINDING_PRINCIPAL);
    ASSERT_NUMBER(options.token_reuse, true);
    ASSERT_NUMBER(options.refusal, REFUSAL_CLOSE);
    ASSERT_NUMBER(options.limit_connects, false);
    ASSERT_NUMBER(set_all(&options, "{\"propagation\":0.25}"), 0);
    ASSERT_NUMBER(options.propagation, 250);
    ASSERT_NUMBER(options.token_reuse, true);
}

static void test_all_or_none(void) {
    static const char *const wrong[] = {
        "{\"token-reuse\":true,\"colour\":1}",
        "{\"token-reuse\":true,\"propagation\":null}",
        "{\"token-reuse\":true,\"propagation\":[1]}",
        "{\"token-reuse\":true,\"a-name-that-is-longer-than-all-options\":1}",
    };
    struct standin_options options = option_defaults();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (set_all(&options, wrong[i]) != -EINVAL || options.token_reuse)
            ASSERT_TEXT("accepted", wrong[i]);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"defaults", test_defaults},
        {"as the configuration names them", test_names_of_the_configuration},
        {"just-in-time provisioning and the front", test_just_in_time},
        {"forms of refusal", test_refusals},
        {"wrong names and values are refused", test_wrong_values},
        {"validity of what is issued", test_issuers},
        {"as an edit names them", test_members_of_an_edit},
        {"all of an edit or none", test_all_or_none},
        {NULL, NULL},
    };
    return unit_run("option", tests, argc, argv);
}
