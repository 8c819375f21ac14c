#include "common/cleanup.h"
#include "harness.h"
#include "request.h"
#include "scratch.h"
#include "worker/key-backend.h"
#include "worker/subject.h"

#include <stdio.h>
#include <string.h>

static const struct specifier_values values = {.serial_number = "SN-1,OU=evil"};

static const char *parse(const char *text, struct subject *ret) {
    static struct failure failure;
    /* An exact copy, so that the sanitizer sees a read behind the end. */
    AUTO_FREE char *copy = strdup(text);
    if (subject_parse(copy, &values, ret, &failure) == 0)
        return NULL;
    ASSERT_TEXT(failure_class_name(failure.class), "invalid");
    return failure.message;
}

static void expect_text(const char *text, const char *expected) {
    struct subject subject = {0}, again = {0};
    ASSERT_TEXT(parse(text, &subject) == NULL ? subject.text : parse(text, &subject), expected);
    /* What it says is a subject, too, and the same one; but for % which begins a specifier. */
    ASSERT_TEXT(parse(subject.text, &again) == NULL ? again.text : "refused", expected);
    CU_ASSERT_TRUE(subject.size == again.size && memcmp(subject.der, again.der, subject.size) == 0);
}

static void test_texts(void) {
    expect_text("CN=x", "CN=x");
    expect_text("cn=x , o = Example GmbH,DNQUALIFIER=a/b", "CN=x,O=Example GmbH,dnQualifier=a/b");
    expect_text("O=Example\\, Inc.,CN=a\\+b\\\"\\\\\\<\\>\\;\\=c", "O=Example\\, Inc.,CN=a\\+b\\\"\\\\\\<\\>\\;=c");
    expect_text("CN=a=b", "CN=a=b");
    expect_text("CN=\\ x\\ ", "CN=\\ x\\ ");
    expect_text("CN=\\#1", "CN=\\#1");
    expect_text("CN=L\\C4\\8Di\\C4\\87", "CN=L\xc4\x8di\xc4\x87"); /* RFC 4514, section 4 */
    expect_text("CN=%s", "CN=SN-1\\,OU=evil");
    expect_text("OU=unit,CN=gateway %s", "OU=unit,CN=gateway SN-1\\,OU=evil");
    expect_text("CN=a, O=b, OU=c, ST=d, C=DE, dnQualifier=e, serialNumber=f",
                "CN=a,O=b,OU=c,ST=d,C=DE,dnQualifier=e,serialNumber=f");
}

/* A percent sign is one, and starts nothing when the text is read again. */
static void test_percent(void) {
    struct subject subject = {0};
    ASSERT_TEXT(parse("CN=100%%", &subject), NULL);
    ASSERT_TEXT(subject.text, "CN=100%");
    ASSERT_TEXT(parse("CN=\\25s", &subject), NULL);
    ASSERT_TEXT(subject.text, "CN=%s");
}

static void test_common_name(void) {
    struct subject subject = {0};
    ASSERT_TEXT(parse("O=Example,CN=box-%s", &subject), NULL);
    ASSERT_TEXT(subject.common_name, "box-SN-1,OU=evil");
    ASSERT_TEXT(parse("O=Example", &subject), NULL);
    ASSERT_TEXT(subject.common_name, "");
}

static void test_refused(void) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "expected NAME=VALUE"},
        {"x", "found \"x\""},
        {"CN", "found \"CN\""},
        {"CN=x,", "found \"\""},
        {",CN=x", "found \"\""},
        {"O=Example, Inc.", "within a value a comma is written \"\\,\""},
        {"CN=", "CN is empty"},
        {"CN=  ,O=x", "CN is empty"},
        {"O=a,CN=x,o=b", "O is there twice"},
        {"CN=a,O=b,OU=c,ST=d,C=DE,dnQualifier=e,serialNumber=f,CN=g", "CN is there twice"},
        {"CN=a,O=b,OU=c,ST=d,C=DE,dnQualifier=e,serialNumber=f,L=g", "no attribute \"L\""},
        {"CN=x,emailAddress=a@b", "no attribute \"emailAddress\", known are CN, O, OU, ST, C, dnQualifier and serial"},
        {"2.5.4.3=x", "no attribute \"2.5.4.3\""},
        {"CN=#04024869", "CN begins with #"},
        {"CN=a+OU=b", "CN has a +"},
        {"CN=\"x\"", "CN has one of"},
        {"CN=a;OU=b", "CN has one of"},
        {"CN=<x>", "CN has one of"},
        {"CN=a\\x", "CN has a backslash"},
        {"CN=a\\", "CN has a backslash"},
        {"CN=a\\0", "CN has a backslash"},
        {"CN=\\FF", "CN is not UTF-8"},
        {"CN=\xff\xfe", "CN is not UTF-8"},
        {"CN=a\\00b", "CN is not UTF-8"},
        {"CN=a\\0Ab", "CN has a control character"},
        {"CN=a\\C2\\85b", "CN has a control character"},
        {"C=de,CN=x", "C must be the two capital letters of a country, like DE, but it is \"de\""},
        {"C=DEU", "C must be"},
        {"C=D\xc3\x84", "C must be"},
        {"CN=%t", "%t is no specifier, or has no value here"},
        {"CN=%", "is no specifier"},
        {"dnQualifier=G\xc3\xbc", "dnQualifier may have letters and digits"},
        {"serialNumber=SN_1", "serialNumber may have letters and digits of ASCII"},
        {"serialNumber=%s", NULL},
        {"CN=0123456789012345678901234567890123456789012345678901234567890123", NULL},
        {"CN=01234567890123456789012345678901234567890123456789012345678901234", "CN has 65 characters, at most 64"},
        {"O=01234567890123456789012345678901234567890123456789012345678901234", "O has 65 characters"},
        {"OU=01234567890123456789012345678901234567890123456789012345678901234", "OU has 65 characters"},
        {"dnQualifier=01234567890123456789012345678901234567890123456789012345678901234", "has 65 characters"},
        {"serialNumber=01234567890123456789012345678901234567890123456789012345678901234", "has 65 characters"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct subject subject = {.text = "untouched"};
        const char *message = parse(cases[i].text, &subject);
        if (cases[i].message == NULL || message == NULL || strstr(message, cases[i].message) == NULL)
            ASSERT_TEXT(message, cases[i].message);
        if (message != NULL)
            ASSERT_TEXT(subject.text, "untouched");
    }
}

static void repeat(char *text, const char *name, const char *character, size_t count) {
    strcat(text, name);
    for (size_t i = 0; i < count; i++)
        strcat(text, character);
}

/* Bounds count characters, not bytes; ST has room for 128. All that is allowed at once is more than a request has room
 * for: refused, and nothing is cut. */
static void test_lengths(void) {
    char text[4096] = "";
    struct subject subject = {0};
    repeat(text, "ST=", "\xf0\x9f\x94\x91", 128);
    ASSERT_TEXT(parse(text, &subject), NULL);
    repeat(text, "", "\xf0\x9f\x94\x91", 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(parse(text, &subject), "ST is too long"));
    text[0] = '\0';
    repeat(text, "ST=", "x", 129);
    CU_ASSERT_PTR_NOT_NULL(strstr(parse(text, &subject), "ST has 129 characters, at most 128"));
    text[0] = '\0';
    repeat(text, "ST=", "\xf0\x9f\x94\x91", 128);
    repeat(text, ",CN=", "\xf0\x9f\x94\x91", 64);
    repeat(text, ",O=", "\xf0\x9f\x94\x91", 64);
    CU_ASSERT_PTR_NOT_NULL(strstr(parse(text, &subject), "too long"));
}

static void expect_openssl(struct key *key, const char *text, const char *expected) {
    AUTO_FREE char *request = NULL;
    struct failure failure = {0};
    if (make_request(key, text, &request, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(request);
    ASSERT_NUMBER(scratch_write("request.pem", request, strlen(request)), 0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -verify 2>&1 | grep -i 'verify OK'"), 0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -subject -nameopt utf8,sep_comma_plus,-esc_msb "
                              "| tee seen | grep -Fx 'subject=%s' || { cat seen; false; }",
                              expected),
                  0);
}

/* Each attribute arrives as what it is, in the order of the text. */
static void test_openssl(void) {
    static const enum key_algorithm algorithms[] = {KEY_ALGORITHM_P256, KEY_ALGORITHM_P384, KEY_ALGORITHM_RSA2048};
    char text[1024] = "";
    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++) {
        AUTO_KEY struct key *key = NULL;
        const struct key_settings settings = {.backend = KEY_BACKEND_FILE, .algorithm = algorithms[i]};
        struct failure failure = {0};
        ASSERT_NUMBER(key_create(&settings, &key, &failure), 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        expect_openssl(key, "CN=x", "CN=x");
        expect_openssl(key,
                       "CN=g-\xc3\xbc,O=Example\\, Inc.,OU=\xd0\xaf,C=DE,ST=Bayern,dnQualifier=a/b,serialNumber=4:1",
                       "CN=g-\xc3\xbc,O=Example, Inc.,OU=\xd0\xaf,C=DE,ST=Bayern,dnQualifier=a/b,serialNumber=4:1");
        expect_openssl(key, "serialNumber=1,C=DE,O=x,CN=y", "serialNumber=1,C=DE,O=x,CN=y");
        ASSERT_NUMBER(scratch_run("openssl asn1parse -in request.pem | tee seen | grep -A1 -e :serialNumber -e "
                                  ":countryName | grep -c PRINTABLESTRING | grep -x 2 || { cat seen; false; }"),
                      0);
        ASSERT_NUMBER(scratch_run("openssl asn1parse -in request.pem | grep -A1 -e :organizationName -e :commonName "
                                  "| grep -c UTF8STRING | grep -x 2"),
                      0);
    }
    /* The longest name: 64 characters of four bytes take a length of two bytes, the second one of which is zero. */
    AUTO_KEY struct key *key = NULL;
    const struct key_settings settings = {.backend = KEY_BACKEND_FILE, .algorithm = KEY_ALGORITHM_RSA3072};
    struct failure failure = {0};
    ASSERT_NUMBER(key_create(&settings, &key, &failure), 0);
    repeat(text, "CN=", "\xf0\x9f\x94\x91", 64);
    repeat(text, ",O=", "\xf0\x9f\x94\x91", 64);
    repeat(text, ",OU=", "\xf0\x9f\x94\x91", 64);
    expect_openssl(key, text, text);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"texts", test_texts},
        {"percent", test_percent},
        {"common-name", test_common_name},
        {"refused", test_refused},
        {"lengths", test_lengths},
        {"openssl", test_openssl},
        {NULL, NULL},
    };
    scratch_make();
    int status = unit_run("subject", tests, argc, argv);
    scratch_remove();
    return status;
}
