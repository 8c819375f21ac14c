/* Stops compiling when the binary interface of plugins moves, on 64-bit and on 32-bit machines. What it says of version
 * 1 never changes; a member that is added at the end of a struct gets a line, and the struct's size a new number. It is
 * a whole plugin besides, so that all of it can be loaded. */
#include <enrolld/plugin.h>

#define IS_LP64 (sizeof(void *) == 8)
#define SIZE(object, lp64, ilp32)                                                                                      \
    _Static_assert(sizeof(object) == (IS_LP64 ? (lp64) : (ilp32)), "the size of " #object " has changed")
#define VALUE(name, value) _Static_assert((name) == (value), #name " has changed")
/* The last argument is what a pointer to the member is, where it is not plainly the type with a star behind it. */
#define MEMBER_BY_POINTER(object, member, lp64, ilp32, pointer)                                                        \
    _Static_assert(offsetof(object, member) == (IS_LP64 ? (lp64) : (ilp32)), #member " has moved");                    \
    _Static_assert(_Generic(&((object *)0)->member, pointer : 1, default : 0), "the type of " #member " has changed")
#define MEMBER(object, member, lp64, ilp32, type) MEMBER_BY_POINTER(object, member, lp64, ilp32, type *)
/* A function of the host: its position among members that are as large as a pointer each. */
#define FUNCTION(member, position, result, ...)                                                                        \
    MEMBER_BY_POINTER(struct enrolld_host, member, 8 * (position), 4 * (position), result(**)(__VA_ARGS__))
#define HOST const struct enrolld_host *

VALUE(ENROLLD_PLUGIN_ABI, 1);

VALUE(ENROLLD_CLASS_NETWORK, 0);
VALUE(ENROLLD_CLASS_CLOUD_BUSY, 1);
VALUE(ENROLLD_CLASS_NOT_YET, 2);
VALUE(ENROLLD_CLASS_DENIED, 3);
VALUE(ENROLLD_CLASS_INVALID, 4);
VALUE(ENROLLD_CLASS_INTERNAL, 5);
VALUE(ENROLLD_OPTION_TEXT, 0);
VALUE(ENROLLD_OPTION_FILE, 1);
VALUE(ENROLLD_OPTION_PREFIX, 2);
VALUE(ENROLLD_OPTION_SPAN, 3);
VALUE(ENROLLD_USE_ENROLL, 0);
VALUE(ENROLLD_USE_RENEW, 1);
VALUE(ENROLLD_USE_BOTH, 2);
VALUE(ENROLLD_REGISTRATION_ASKED, 0);
VALUE(ENROLLD_REGISTRATION_REFUSED, 1);
VALUE(ENROLLD_REGISTRATION_SPENT, 2);
SIZE(enum enrolld_class, 4, 4);
SIZE(enum enrolld_option_type, 4, 4);
SIZE(enum enrolld_option_use, 4, 4);
SIZE(enum enrolld_registration, 4, 4);
SIZE(bool, 1, 1);

SIZE(struct enrolld_option, 48, 28);
MEMBER(struct enrolld_option, name, 0, 0, const char *);
MEMBER(struct enrolld_option, type, 8, 4, enum enrolld_option_type);
MEMBER(struct enrolld_option, required, 12, 8, bool);
MEMBER(struct enrolld_option, help, 16, 12, const char *);
MEMBER(struct enrolld_option, choices, 24, 16, const char *);
MEMBER(struct enrolld_option, otherwise, 32, 20, const char *);
MEMBER(struct enrolld_option, use, 40, 24, enum enrolld_option_use);

SIZE(struct enrolld_method, 32, 16);
MEMBER(struct enrolld_method, name, 0, 0, const char *);
MEMBER(struct enrolld_method, help, 8, 4, const char *);
MEMBER(struct enrolld_method, options, 16, 8, const struct enrolld_option *);
MEMBER(struct enrolld_method, imports, 24, 12, bool);

SIZE(struct enrolld_reply, 24, 12);
MEMBER(struct enrolld_reply, accepted, 0, 0, bool);
MEMBER(struct enrolld_reply, payload, 8, 4, const char *);
MEMBER(struct enrolld_reply, size, 16, 8, size_t);

SIZE(struct enrolld_refusal, 16, 12);
MEMBER(struct enrolld_refusal, reason, 0, 0, enum enrolld_class);
MEMBER(struct enrolld_refusal, reached, 4, 4, bool);
MEMBER(struct enrolld_refusal, message, 8, 8, const char *);

SIZE(struct enrolld_current, 32, 16);
MEMBER(struct enrolld_current, size, 0, 0, size_t);
MEMBER(struct enrolld_current, method, 8, 4, const char *);
MEMBER(struct enrolld_current, thing_name, 16, 8, const char *);
MEMBER(struct enrolld_current, certificate_id, 24, 12, const char *);

SIZE(struct enrolld_https_request, 72, 36);
MEMBER(struct enrolld_https_request, size, 0, 0, size_t);
MEMBER(struct enrolld_https_request, method, 8, 4, const char *);
MEMBER(struct enrolld_https_request, url, 16, 8, const char *);
MEMBER(struct enrolld_https_request, headers, 24, 12, const char *const *);
MEMBER(struct enrolld_https_request, body, 32, 16, const void *);
MEMBER(struct enrolld_https_request, body_size, 40, 20, size_t);
MEMBER(struct enrolld_https_request, root_ca_pem, 48, 24, const char *);
MEMBER(struct enrolld_https_request, certificate_pem, 56, 28, const char *);
MEMBER(struct enrolld_https_request, private_key_pem, 64, 32, const char *);

SIZE(struct enrolld_https_response, 48, 24);
MEMBER(struct enrolld_https_response, size, 0, 0, size_t);
MEMBER(struct enrolld_https_response, status, 8, 4, int);
MEMBER(struct enrolld_https_response, content_type, 16, 8, const char *);
MEMBER(struct enrolld_https_response, body, 24, 12, const char *);
MEMBER(struct enrolld_https_response, body_size, 32, 16, size_t);
MEMBER(struct enrolld_https_response, retry_after_s, 40, 20, uint32_t);

SIZE(struct enrolld_host, 8 * 28, 4 * 28);
MEMBER(struct enrolld_host, size, 0, 0, size_t);
MEMBER(struct enrolld_host, method, 8, 4, const char *);
MEMBER(struct enrolld_host, serial_number, 16, 8, const char *);
MEMBER(struct enrolld_host, endpoint, 24, 12, const char *);
MEMBER(struct enrolld_host, waited_s, 32, 16, uint32_t);
FUNCTION(step, 5, void, HOST, const char *);
FUNCTION(fail, 6, int, HOST, enum enrolld_class, const char *, ...);
FUNCTION(pause, 7, void, HOST, uint32_t, const char *);
FUNCTION(option, 8, const char *, HOST, const char *);
FUNCTION(span_ms, 9, uint64_t, HOST, const char *);
FUNCTION(next_option, 10, bool, HOST, const char *, size_t *, const char **, const char **);
FUNCTION(request_pem, 11, const char *, HOST);
FUNCTION(connect, 12, int, HOST, const char *, const char *, const char *);
FUNCTION(subscribe, 13, int, HOST, const char *const *, size_t);
FUNCTION(exchange, 14, int, HOST, const char *, const char *, size_t, struct enrolld_reply *);
FUNCTION(disconnect, 15, void, HOST);
FUNCTION(https, 16, int, HOST, const struct enrolld_https_request *, struct enrolld_https_response *);
FUNCTION(take_key, 17, int, HOST, const char *);
FUNCTION(certificate_pem, 18, const char *, HOST);
FUNCTION(certificate_id, 19, const char *, HOST);
FUNCTION(certificate_common_name, 20, const char *, HOST);
FUNCTION(held_secret, 21, const char *, HOST);
FUNCTION(take_certificate, 22, int, HOST, const char *, const char *, const char *);
FUNCTION(registration, 23, int, HOST, enum enrolld_registration);
FUNCTION(take_thing, 24, int, HOST, const char *, const char *);
FUNCTION(try_identity, 25, int, HOST, struct enrolld_refusal *);
MEMBER(struct enrolld_host, current, 8 * 26, 4 * 26, const struct enrolld_current *);
FUNCTION(connect_current, 27, int, HOST);

SIZE(struct enrolld_plugin, 64, 40);
MEMBER(struct enrolld_plugin, abi, 0, 0, uint32_t);
MEMBER(struct enrolld_plugin, size, 4, 4, uint32_t);
MEMBER(struct enrolld_plugin, host_size, 8, 8, uint32_t);
MEMBER(struct enrolld_plugin, method_size, 12, 12, uint32_t);
MEMBER(struct enrolld_plugin, option_size, 16, 16, uint32_t);
MEMBER(struct enrolld_plugin, methods, 24, 20, const struct enrolld_method *);
MEMBER_BY_POINTER(struct enrolld_plugin, brings_key, 32, 24, bool (**)(HOST));
MEMBER_BY_POINTER(struct enrolld_plugin, usable, 40, 28, int (**)(HOST));
MEMBER_BY_POINTER(struct enrolld_plugin, enroll, 48, 32, int (**)(HOST));
MEMBER_BY_POINTER(struct enrolld_plugin, renew, 56, 36, int (**)(HOST));

static const struct enrolld_option options[] = {
    {"Text", ENROLLD_OPTION_TEXT, true, "a text", "one two", NULL},
    {"Other", ENROLLD_OPTION_TEXT, false, "another text", NULL, "three"},
    {"Span", ENROLLD_OPTION_SPAN, false, "a time", NULL, "90s"},
    {"File", ENROLLD_OPTION_FILE, false, "a file", NULL, NULL},
    {"Family.", ENROLLD_OPTION_PREFIX, false, "a family", NULL, NULL, ENROLLD_USE_BOTH},
    {"Renewing", ENROLLD_OPTION_TEXT, true, "a text for renewals", NULL, NULL, ENROLLD_USE_RENEW},
    {"Later.", ENROLLD_OPTION_PREFIX, false, "a family for renewals", NULL, NULL, ENROLLD_USE_RENEW},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL, ENROLLD_USE_ENROLL},
};

static const struct enrolld_method methods[] = {
    {"abi", "does nothing", options, false},
    {NULL, NULL, NULL, false},
};

static bool brings_key(const struct enrolld_host *host) {
    (void)host;
    return false;
}

static int usable(const struct enrolld_host *host) {
    (void)host;
    return 0;
}

static int enroll(const struct enrolld_host *host) {
    return host->fail(host, ENROLLD_CLASS_NOT_YET, "this plugin does nothing");
}

static int renew(const struct enrolld_host *host) {
    return host->fail(host, ENROLLD_CLASS_NOT_YET, "this plugin does not renew %s", host->current->certificate_id);
}

const struct enrolld_plugin enrolld_plugin = {
    .abi = ENROLLD_PLUGIN_ABI,
    .size = sizeof(struct enrolld_plugin),
    .host_size = sizeof(struct enrolld_host),
    .method_size = sizeof(struct enrolld_method),
    .option_size = sizeof(struct enrolld_option),
    .methods = methods,
    .brings_key = brings_key,
    .usable = usable,
    .enroll = enroll,
    .renew = renew,
};
