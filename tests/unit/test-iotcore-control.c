#include "control_call.h"
#include "control_page.h"
#include "control_route.h"
#include "harness.h"
#include "json_read.h"

#include <stdio.h>
#include <string.h>

static struct control_uri parse(const char *target) {
    static struct control_uri uri;
    if (!control_uri_parse(&uri, target))
        ASSERT_TEXT("refused", target);
    return uri;
}

static void test_targets(void) {
    static struct control_uri uri;
    CU_ASSERT_TRUE_FATAL(
        control_uri_parse(&uri, "/things/a%2Fb%3A%c3%A9/principals?maxResults=5&nextToken=&all&x=a=b"));
    ASSERT_NUMBER(uri.segment_count, 3);
    ASSERT_TEXT(uri.segments[1], "a/b:\xc3\xa9");
    ASSERT_TEXT(uri.segments[2], "principals");
    ASSERT_NUMBER(uri.parameter_count, 4);
    ASSERT_TEXT(control_uri_parameter(&uri, "maxResults"), "5");
    ASSERT_TEXT(control_uri_parameter(&uri, "nextToken"), "");
    ASSERT_TEXT(control_uri_parameter(&uri, "all"), "");
    ASSERT_TEXT(control_uri_parameter(&uri, "x"), "a=b");
    CU_ASSERT_PTR_NULL(control_uri_parameter(&uri, "maxresults"));
    CU_ASSERT_TRUE(control_uri_parse(&uri, "/a?"));
    ASSERT_NUMBER(uri.parameter_count, 0);
    CU_ASSERT_TRUE(control_uri_parse(&uri, "/a?b=%26%3d%2B+"));
    ASSERT_TEXT(control_uri_parameter(&uri, "b"), "&=++");
}

static void test_malformed_targets(void) {
    static const char *const wrong[] = {
        "",       "a",       "*",        "//",       "/",    "/a/",       "/a//b",   "/a/b/c/d/e",
        "/%",     "/%4",     "/%4g",     "/%g4",     "/%00", "/a%00b",    "/%ff",    "/%c0%af",
        "/a?b=%", "/a?%zz",  "/a?b=%00", "/a?b&b=1", "/a#b", "/a?b#c",    "/\xff",   "/%ed%a0%80",
        "/a?&",   "/a?b=1&", "/a?b=1&&", "/a?=1&=2", "a/b",  "http://x/", "/a?\xe9", "/%f4%90%80%80",
    };
    static struct control_uri uri;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (control_uri_parse(&uri, wrong[i]))
            ASSERT_TEXT("accepted", wrong[i]);
}

static void test_bounds_of_targets(void) {
    static struct control_uri uri;
    char target[CONTROL_URI_SIZE + 2], parameters[128] = "/a?";
    memset(target, 'a', sizeof target);
    target[0] = '/';
    target[CONTROL_URI_SIZE] = '\0';
    CU_ASSERT_FALSE(control_uri_parse(&uri, target));
    target[CONTROL_URI_SIZE - 1] = '\0';
    CU_ASSERT_TRUE(control_uri_parse(&uri, target));
    for (unsigned i = 0; i < CONTROL_URI_PARAMETERS; i++)
        snprintf(parameters + strlen(parameters), sizeof parameters - strlen(parameters), "%sp%u", i > 0 ? "&" : "", i);
    CU_ASSERT_TRUE(control_uri_parse(&uri, parameters));
    ASSERT_NUMBER(uri.parameter_count, CONTROL_URI_PARAMETERS);
    snprintf(parameters + strlen(parameters), sizeof parameters - strlen(parameters), "&one");
    CU_ASSERT_FALSE(control_uri_parse(&uri, parameters));
}

/* Whatever the bytes are, nothing is read or written that is not there: the sanitizers look. */
static void test_targets_cut_and_changed(void) {
    static const char whole[] = "/things/a%2Fb/principals?maxResults=5&nextToken=%41%42&x";
    static struct control_uri uri;
    for (size_t length = 0; length < sizeof whole; length++)
        for (unsigned byte = 0; byte < 256; byte++) {
            char *target = strndup(whole, length + 1);
            if (length < strlen(whole))
                target[length] = (char)byte;
            if (control_uri_parse(&uri, target))
                CU_ASSERT_TRUE(uri.segment_count >= 1 && uri.segment_count <= CONTROL_URI_SEGMENTS);
            free(target);
        }
}

static void test_routes(void) {
    static const struct {
        const char *method, *target, *operation, *name;
    } routes[] = {
        {"GET", "/registrationcode", "GetRegistrationCode", NULL},
        {"POST", "/cacertificate?setAsActive=true", "RegisterCACertificate", NULL},
        {"PUT", "/cacertificate/abc", "UpdateCACertificate", "abc"},
        {"POST", "/certificate/register", "RegisterCertificate", NULL},
        {"POST", "/certificate/register-no-ca", "RegisterCertificateWithoutCA", NULL},
        {"GET", "/certificates", "ListCertificates", NULL},
        {"GET", "/certificates-by-ca/abc", "ListCertificatesByCA", "abc"},
        {"POST", "/attached-policies/arn%3Aaws%3Acert%2Fabc", "ListAttachedPolicies", "arn:aws:cert/abc"},
        {"GET", "/things/principals/principals", "ListThingPrincipals", "principals"},
        {"GET", "/principals/things", "ListPrincipalThings", NULL},
    };
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        struct control_uri uri = parse(routes[i].target);
        const char *name = NULL;
        enum control_operation operation = control_route(routes[i].method, &uri, &name);
        ASSERT_TEXT(control_operation_name(operation), routes[i].operation);
        ASSERT_TEXT(name != NULL ? name : "none", routes[i].name != NULL ? routes[i].name : "none");
    }
}

static void test_no_routes(void) {
    static const char *const wrong[][2] = {
        {"get", "/registrationcode"},
        {"GET", "/registrationcode/x"},
        {"POST", "/registrationcode"},
        {"GET", "/certificate"},
        {"PUT", "/certificate/abc"},
        {"GET", "/things/a/b"},
        {"GET", "/things/a/principals/c"},
        {"", "/things"},
        {"GET", "/*"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct control_uri uri = parse(wrong[i][1]);
        const char *name = "untouched";
        if (control_route(wrong[i][0], &uri, &name) != CONTROL_OPERATION_COUNT)
            ASSERT_TEXT("found", wrong[i][1]);
        ASSERT_TEXT(name, "untouched");
    }
    CU_ASSERT_PTR_NULL(control_operation_name(CONTROL_OPERATION_COUNT));
}

static const struct control_paging by_date = {"pageSize", "marker", "nextMarker", "list", "id"};

static int page_of(const char *entries, const char *target, struct json_object *reply) {
    struct control_uri uri = parse(target);
    struct rejection rejection;
    return control_page(&by_date, &uri, json_parse(entries, strlen(entries)), reply, &rejection);
}

/* The ids of a page, one letter each. */
static const char *letters(struct json_object *reply) {
    static char text[32];
    struct json_object *list = json_member(reply, "list", json_type_array);
    size_t count = json_object_array_length(list);
    for (size_t i = 0; i < count; i++)
        text[i] = json_text(json_object_array_get_idx(list, i), "id")[0];
    text[count] = '\0';
    return text;
}

static void assert_page(const char *entries, const char *target, const char *expected) {
    AUTO_JSON struct json_object *reply = json_object_new_object();
    ASSERT_NUMBER(page_of(entries, target, reply), 0);
    ASSERT_TEXT(letters(reply), expected);
}

static void test_order_of_pages(void) {
    static const char dated[] = "[{\"id\":\"b\",\"creationDate\":5},{\"id\":\"a\",\"creationDate\":5},"
                                "{\"id\":\"c\",\"creationDate\":1},{\"id\":\"d\",\"creationDate\":9}]";
    assert_page(dated, "/x", "dbac");
    assert_page(dated, "/x?isAscendingOrder=true", "cabd");
    assert_page(dated, "/x?pageSize=2", "db");
    assert_page("[{\"id\":\"b\"},{\"id\":\"a\"}]", "/x", "ab");
    assert_page("[]", "/x", "");
}

static void test_markers(void) {
    static const char entries[] = "[{\"id\":\"a\"},{\"id\":\"b\"},{\"id\":\"c\"}]";
    static const char rest[] = "[{\"id\":\"a\"},{\"id\":\"c\"}]";
    AUTO_JSON struct json_object *first = json_object_new_object(), *last = json_object_new_object();
    char target[256];
    ASSERT_NUMBER(page_of(entries, "/x?pageSize=2", first), 0);
    snprintf(target, sizeof target, "/x?pageSize=2&marker=%s", json_text(first, "nextMarker"));
    ASSERT_NUMBER(page_of(entries, target, last), 0);
    ASSERT_TEXT(letters(last), "c");
    CU_ASSERT_PTR_NULL(json_text(last, "nextMarker"));
    assert_page(rest, target, "c"); /* what the marker names is gone */
    assert_page("[]", target, "");
}

static void test_wrong_pages(void) {
    static const char *const wrong[] = {
        "pageSize=0", "pageSize=251", "pageSize=-1", "pageSize=1x", "pageSize=", "isAscendingOrder=TRUE",
        "marker=",    "marker=3",     "marker=3G",   "marker=30",   "marker=20", "marker=6120",
        "marker=AA",
    };
    char target[64];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        AUTO_JSON struct json_object *reply = json_object_new_object();
        snprintf(target, sizeof target, "/x?%s", wrong[i]);
        if (page_of("[]", target, reply) != -1)
            ASSERT_TEXT("accepted", wrong[i]);
    }
}

static void test_members_of_bodies(void) {
    static const char text[] = "{\"a\":\"abc\",\"n\":null,\"i\":1,\"o\":{},\"t\":true,\"z\":\"a\\u0000b\"}";
    AUTO_JSON struct json_object *body = json_parse(text, strlen(text));
    struct rejection rejection;
    const struct control_call call = {.body = body, .rejection = &rejection};
    const char *value = "untouched";
    struct json_object *object = body;
    bool flag = true;
    ASSERT_NUMBER(control_text(&call, body, "i", 10, &value), -1);
    ASSERT_TEXT(rejection.error_code, "SerializationException");
    ASSERT_NUMBER(control_text(&call, body, "a", 2, &value), -1);
    ASSERT_TEXT(rejection.error_code, "InvalidRequestException");
    ASSERT_NUMBER(control_text(&call, body, "z", 10, &value), -1);
    ASSERT_TEXT(value, "untouched");
    ASSERT_NUMBER(control_text(&call, body, "a", 3, &value), 0);
    ASSERT_TEXT(value, "abc");
    ASSERT_NUMBER(control_text(&call, body, "n", 3, &value), 0);
    CU_ASSERT_PTR_NULL(value);
    ASSERT_NUMBER(control_object(&call, "t", &object), -1);
    CU_ASSERT_PTR_EQUAL(object, body);
    ASSERT_NUMBER(control_object(&call, "none", &object), 0);
    CU_ASSERT_PTR_NULL(object);
    ASSERT_NUMBER(control_boolean(&call, "a", &flag), -1);
    ASSERT_NUMBER(control_boolean(&call, "none", &flag), 0);
    CU_ASSERT_FALSE(flag);
    ASSERT_NUMBER(control_boolean(&call, "t", &flag), 0);
    CU_ASSERT_TRUE(flag);
}

static void test_words_and_flags(void) {
    static const char *const words[] = {"ACTIVE", "INACTIVE", NULL};
    struct control_uri uri = parse("/x?yes=true&no=false&other=1");
    struct rejection rejection;
    const struct control_call call = {.uri = &uri, .rejection = &rejection};
    bool flag = false;
    ASSERT_NUMBER(control_flag(&call, "yes", &flag), 0);
    CU_ASSERT_TRUE(flag);
    ASSERT_NUMBER(control_flag(&call, "other", &flag), -1);
    CU_ASSERT_TRUE(flag);
    ASSERT_NUMBER(control_flag(&call, "none", &flag), 0);
    CU_ASSERT_FALSE(flag);
    ASSERT_NUMBER(control_one_of(&call, "x", NULL, words), 0);
    ASSERT_NUMBER(control_one_of(&call, "x", "INACTIVE", words), 0);
    ASSERT_NUMBER(control_one_of(&call, "x", "inactive", words), -1);
    ASSERT_NUMBER(control_one_of(&call, "x", "", words), -1);
}

static void test_certificate_ids(void) {
    char id[66] = "";
    struct rejection rejection;
    const struct control_call call = {.name = id, .rejection = &rejection};
    for (size_t length = 0; length <= 65; length++) {
        memset(id, 'a', length);
        ASSERT_NUMBER(control_certificate_id(&call), length == 64 ? 0 : -1);
    }
    id[64] = '\0';
    id[10] = 'g';
    ASSERT_NUMBER(control_certificate_id(&call), -1);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"targets", test_targets},
        {"malformed targets", test_malformed_targets},
        {"bounds of targets", test_bounds_of_targets},
        {"targets cut short and with any byte in them", test_targets_cut_and_changed},
        {"routes", test_routes},
        {"no routes", test_no_routes},
        {"order of pages", test_order_of_pages},
        {"markers", test_markers},
        {"wrong pages", test_wrong_pages},
        {"members of bodies", test_members_of_bodies},
        {"words and flags", test_words_and_flags},
        {"certificate ids", test_certificate_ids},
        {NULL, NULL},
    };
    return unit_run("control", tests, argc, argv);
}
