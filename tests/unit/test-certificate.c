#include "common/cleanup.h"
#include "harness.h"
#include "scratch.h"
#include "worker/certificate.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Both calls read from an exact copy, so that the sanitizer sees a read behind the end. */
static int parse(const char *text, size_t size, struct certificate *ret, struct failure *failure) {
    AUTO_FREE char *copy = malloc(size + 1);
    memcpy(copy, text, size);
    return certificate_parse(copy, size, "certificate", ret, failure);
}

static int count(const char *text, size_t size, struct failure *failure) {
    AUTO_FREE char *copy = malloc(size + 1);
    memcpy(copy, text, size);
    return certificate_count(copy, size, "configuration", failure);
}

static void parse_file(const char *name, struct certificate *ret) {
    char text[8192];
    struct failure failure = {0};
    size_t size = scratch_read(name, text, sizeof text);
    if (parse(text, size, ret, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
}

static void expect_refused(const char *text, size_t size, const char *message) {
    struct failure failure = {0};
    struct certificate certificate;
    ASSERT_NUMBER(parse(text, size, &certificate, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "invalid");
    ASSERT_TEXT(failure.step, "certificate");
    if (strstr(failure.message, message) == NULL)
        ASSERT_TEXT(failure.message, message);
    ASSERT_NUMBER(count(text, size, &failure), -1);
    ASSERT_TEXT(failure.step, "configuration");
}

static void expect_file_refused(const char *name, const char *message) {
    char text[8192];
    size_t size = scratch_read(name, text, sizeof text);
    expect_refused(text, size, message);
}

static const struct {
    const char *key, *openssl; /* what `openssl req` makes the key from */
} keys[] = {
    {"p256", "-newkey ec -pkeyopt ec_paramgen_curve:P-256"},
    {"p384", "-newkey ec -pkeyopt ec_paramgen_curve:P-384"},
    {"rsa2048", "-newkey rsa:2048"},
    {"rsa3072", "-newkey rsa:3072"},
    {"rsa4096", "-newkey rsa:4096"},
};

static void test_facts(void) {
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct certificate certificate = {0};
        char expected[256];
        ASSERT_NUMBER(
            scratch_run("openssl req -x509 %s -nodes -keyout key.pem -subj '/O=Example/CN=gateway-%s' -days 30 "
                        "-out certificate.pem",
                        keys[i].openssl, keys[i].key),
            0);
        parse_file("certificate.pem", &certificate);
        snprintf(expected, sizeof expected, "gateway-%s", keys[i].key);
        ASSERT_TEXT(certificate.common_name, expected);
        ASSERT_NUMBER(certificate.not_after - certificate.not_before, 30 * 86400);
        CU_ASSERT_TRUE(certificate.not_before <= time(NULL) && certificate.not_before > time(NULL) - 60);
        ASSERT_NUMBER(
            scratch_run("openssl x509 -in certificate.pem -outform DER | sha256sum | cut -c-64 | tr -d '\\n' >id"), 0);
        scratch_read("id", expected, sizeof expected);
        ASSERT_TEXT(certificate.id, expected);
        ASSERT_NUMBER(scratch_run("openssl pkey -in key.pem -pubout -outform DER -out public.der"), 0);
        char public[1024];
        size_t size = scratch_read("public.der", public, sizeof public);
        CU_ASSERT_TRUE(certificate_has_key(&certificate, (const uint8_t *)public, size));
        CU_ASSERT_FALSE(certificate_has_key(&certificate, (const uint8_t *)public, size - 1));
        public[size - 1] ^= 1;
        CU_ASSERT_FALSE(certificate_has_key(&certificate, (const uint8_t *)public, size));
    }
}

/* As AWS IoT issues them: by an RSA CA whatever the key is, whose name is one OU; without SAN and EKU. */
static void test_issued_by_rsa(void) {
    char previous[1024] = "";
    size_t previous_size = 0;
    ASSERT_NUMBER(scratch_run("openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj "
                              "'/OU=Amazon Web Services O=Amazon.com Inc. L=Seattle' && "
                              "printf 'basicConstraints=critical,CA:FALSE\\nkeyUsage=critical,digitalSignature\\n"
                              "subjectKeyIdentifier=hash\\nauthorityKeyIdentifier=keyid\\n' >extensions"),
                  0);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct certificate certificate = {0};
        char public[1024];
        ASSERT_NUMBER(
            scratch_run("openssl req %s -nodes -keyout key.pem -subj '/CN=AWS IoT Certificate' | openssl x509 "
                        "-req -sha256 -CA ca.pem -CAkey ca.key -extfile extensions -out certificate.pem && "
                        "openssl x509 -in certificate.pem -noout -text | grep sha256WithRSAEncryption && "
                        "openssl pkey -in key.pem -pubout -outform DER -out public.der",
                        keys[i].openssl),
            0);
        parse_file("certificate.pem", &certificate);
        ASSERT_TEXT(certificate.common_name, "AWS IoT Certificate");
        size_t size = scratch_read("public.der", public, sizeof public);
        CU_ASSERT_TRUE(certificate_has_key(&certificate, (const uint8_t *)public, size));
        CU_ASSERT_FALSE(certificate_has_key(&certificate, (const uint8_t *)previous, previous_size));
        memcpy(previous, public, size);
        previous_size = size;
    }
}

static void make_with_dates(const char *start, const char *end) {
    ASSERT_NUMBER(
        scratch_run("rm -rf ca && mkdir ca && touch ca/index && echo 01 >ca/serial && "
                    "printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=ca/index\\nserial=ca/serial\\nnew_certs_dir=ca\\n"
                    "default_md=sha256\\npolicy=p\\n[p]\\ncommonName=optional\\n' >ca/cnf && "
                    "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca/key -subj /CN=x "
                    "-out ca/csr && openssl ca -config ca/cnf -batch -selfsign -keyfile ca/key -in ca/csr -notext "
                    "-startdate %s -enddate %s -out dated.pem",
                    start, end),
        0);
}

/* AWS IoT issues to 2049-12-31T23:59:59Z, which is still a UTCTime; from 2050 on it is a GeneralizedTime (RFC 5280,
 * section 4.1.2.5). 02:30 on the last Sunday of March does not exist in Berlin. */
static void test_dates(void) {
    struct certificate certificate = {0};
    setenv("TZ", "Europe/Berlin", 1);
    tzset();
    make_with_dates("20210328023000Z", "20491231235959Z");
    parse_file("dated.pem", &certificate);
    ASSERT_NUMBER(certificate.not_before, 1616898600);
    ASSERT_NUMBER(certificate.not_after, 2524607999);
    make_with_dates("19700101000000Z", "20500101000000Z");
    parse_file("dated.pem", &certificate);
    ASSERT_NUMBER(certificate.not_before, 0);
    ASSERT_NUMBER(certificate.not_after, 2524608000);
    make_with_dates("20300101000000Z", "99991231235959Z"); /* not yet valid; RFC 5280: no expiry */
    parse_file("dated.pem", &certificate);
    ASSERT_NUMBER(certificate.not_before, 1893456000);
    ASSERT_NUMBER(certificate.not_after, 253402300799);
    make_with_dates("20000101000000Z", "20010101000000Z"); /* expired: read all the same */
    parse_file("dated.pem", &certificate);
    ASSERT_NUMBER(certificate.not_after, 978307200);
    unsetenv("TZ");
    tzset();
}

static void test_names(void) {
    struct certificate certificate = {0};
    ASSERT_NUMBER(scratch_run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
                              "-subj /O=Example -out certificate.pem"),
                  0);
    parse_file("certificate.pem", &certificate);
    ASSERT_TEXT(certificate.common_name, "");
    ASSERT_NUMBER(
        scratch_run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -utf8 "
                    "-subj \"$(printf '/CN=gate\\001way-\\303\\274')\" -out certificate.pem"),
        0);
    parse_file("certificate.pem", &certificate);
    ASSERT_TEXT(certificate.common_name, "gate way-\xc3\xbc");
}

static void test_chains(void) {
    char text[8192];
    struct failure failure = {0};
    struct certificate leaf = {0}, first = {0};
    make_with_dates("20200101000000Z", "20300101000000Z");
    ASSERT_NUMBER(scratch_run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
                              "-subj /CN=leaf -out leaf.pem"),
                  0);
    ASSERT_NUMBER(
        scratch_run("{ echo '# leaf'; openssl x509 -in leaf.pem -text; echo; sed 's/$/\\r/' dated.pem; } >chain.pem"),
        0);
    size_t size = scratch_read("chain.pem", text, sizeof text);
    ASSERT_NUMBER(count(text, size, &failure), 2);
    parse_file("chain.pem", &first);
    parse_file("leaf.pem", &leaf);
    ASSERT_TEXT(first.id, leaf.id);
    ASSERT_NUMBER(scratch_run("cat leaf.pem dated.pem | head -n -3 >cut.pem"), 0);
    size = scratch_read("cut.pem", text, sizeof text);
    ASSERT_NUMBER(count(text, size, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "certificate 2 is damaged"));
}

static void test_refused(void) {
    char large[CERTIFICATE_PEM_MAX + 1];
    ASSERT_NUMBER(scratch_run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
                              "-subj /CN=x -out good.pem"),
                  0);
    expect_refused("", 0, "there is no certificate in it");
    expect_refused("hello\n", 6, "there is no certificate in it");
    ASSERT_NUMBER(scratch_run("openssl x509 -in good.pem -outform DER -out bad"), 0);
    expect_file_refused("bad", "converts DER");
    ASSERT_NUMBER(scratch_run("cat good.pem key.pem >bad"), 0);
    expect_file_refused("bad", "private key among the certificates");
    ASSERT_NUMBER(scratch_run("head -3 good.pem >bad"), 0);
    expect_file_refused("bad", "certificate 1 is damaged");
    ASSERT_NUMBER(scratch_run("sed '3d' good.pem >bad"), 0);
    expect_file_refused("bad", "certificate 1 is damaged");
    ASSERT_NUMBER(scratch_run("sed '2,$s/^[A-Za-z]/!/' good.pem >bad"), 0);
    expect_file_refused("bad", "certificate 1 is damaged");
    ASSERT_NUMBER(scratch_run("printf -- '-----BEGIN CERTIFICATE-----\\n-----END CERTIFICATE-----\\n' >bad"), 0);
    expect_file_refused("bad", "certificate 1 is damaged");
    memset(large, '\n', sizeof large);
    expect_refused(large, sizeof large, "larger than 65536 bytes");
}

/* Every byte of the text damaged, and every length: refused or read, never more (the sanitizers watch). */
static void test_damage(void) {
    char text[8192];
    struct certificate certificate;
    struct failure failure;
    ASSERT_NUMBER(scratch_run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
                              "-subj /CN=x -out good.pem"),
                  0);
    size_t size = scratch_read("good.pem", text, sizeof text);
    for (size_t at = 0; at < size; at++) {
        static const char changes[] = {1, 3, 0x20};
        for (size_t i = 0; i < sizeof changes; i++) {
            text[at] ^= changes[i];
            parse(text, size, &certificate, &failure);
            text[at] ^= changes[i];
        }
        if (at + 2 < size)
            ASSERT_NUMBER(parse(text, at, &certificate, &failure), -1);
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"facts", test_facts},   {"issued-by-rsa", test_issued_by_rsa},
        {"dates", test_dates},   {"names", test_names},
        {"chains", test_chains}, {"refused", test_refused},
        {"damage", test_damage}, {NULL, NULL},
    };
    scratch_make();
    int status = unit_run("certificate", tests, argc, argv);
    scratch_remove();
    return status;
}
