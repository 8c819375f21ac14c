#include "worker/chain.h"

#include "common/cleanup.h"
#include "harness.h"
#include "scratch.h"

#include <stdio.h>
#include <string.h>

#define EC "ec -pkeyopt ec_paramgen_curve:P-256"
#define LEAF "basicConstraints=critical,CA:FALSE\\nkeyUsage=critical,digitalSignature\\nextendedKeyUsage=clientAuth\\n"
#define CA "basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign\\n"

/* NAME.pem with NAME.key, issued by `issuer`, or by itself if that is NULL. */
struct recipe {
    const char *name, *issuer, *key, *subject, *extensions, *options;
};

static void make(struct recipe recipe) {
    const char *name = recipe.name;
    char issuer[64] = "";
    if (recipe.issuer != NULL)
        snprintf(issuer, sizeof issuer, "-CA %s.pem -CAkey %s.key", recipe.issuer, recipe.issuer);
    else
        snprintf(issuer, sizeof issuer, "-signkey %s.key", name);
    ASSERT_NUMBER(
        scratch_run("openssl req -newkey %s -nodes -keyout %s.key -subj '%s' -out request.pem && "
                    "printf '%s' >extensions && openssl x509 -req -in request.pem %s -set_serial 7 %s -extfile "
                    "extensions -out %s.pem",
                    recipe.key != NULL ? recipe.key : EC, name, recipe.subject, recipe.extensions, issuer,
                    recipe.options != NULL ? recipe.options : "-days 30 -sha256", name),
        0);
}

static void make_leaf(const char *name, const char *issuer, const char *extensions) {
    make((struct recipe){.name = name, .issuer = issuer, .subject = "/CN=gateway-1", .extensions = extensions});
}

/* From an exact copy, so that the sanitizer sees a read behind the end. */
static int read_text(const char *text, size_t size, struct chain *ret, struct failure *failure) {
    AUTO_FREE char *copy = malloc(size + 1);
    memcpy(copy, text, size);
    return chain_read(copy, size, ret, failure);
}

/* The chain of these files, judged for the key of `key`. */
static int judge(const char *files, const char *key, struct chain *ret, struct failure *failure) {
    char text[65536], public[1024];
    ASSERT_NUMBER(
        scratch_run("cat %s >chain && openssl pkey -in %s.key -pubout -outform DER -out public.der", files, key), 0);
    size_t size = scratch_read("chain", text, sizeof text);
    if (read_text(text, size, ret, failure) < 0)
        return -1;
    size = scratch_read("public.der", public, sizeof public);
    return chain_judge(ret, (const uint8_t *)public, size, "this device's request", failure);
}

static void expect_good(const char *files, const char *key, size_t count) {
    struct chain chain = {.count = 0};
    struct failure failure = {0};
    if (judge(files, key, &chain, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    ASSERT_NUMBER((long long)chain.count, (long long)count);
    ASSERT_TEXT(chain.certificates[0].common_name, "gateway-1");
    /* What is kept are the certificates, as openssl prints them. */
    ASSERT_NUMBER(scratch_write("kept", chain.pem, chain.pem_size), 0);
    ASSERT_NUMBER(scratch_run("for file in %s; do openssl x509 -in $file; done | cmp - kept", files), 0);
}

static void expect_refused(const char *files, const char *key, const char *words) {
    struct chain chain = {.count = 99};
    struct failure failure = {0};
    ASSERT_NUMBER(judge(files, key, &chain, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "invalid");
    ASSERT_TEXT(failure.step, "certificate");
    if (strstr(failure.message, words) == NULL)
        ASSERT_TEXT(failure.message, words);
    CU_ASSERT_TRUE(strlen(failure.message) < FAILURE_MESSAGE_MAX - 1);
}

static void make_authorities(void) {
    make((struct recipe){.name = "root", .key = "rsa:2048", .subject = "/CN=Root", .extensions = CA});
    make((struct recipe){.name = "middle", .issuer = "root", .subject = "/O=Example/CN=Middle", .extensions = CA});
    make((struct recipe){.name = "other", .subject = "/CN=Other", .extensions = CA});
}

static void test_good(void) {
    static const char *const signers[] = {
        "rsa:2048",
        "rsa:4096",
        "ec -pkeyopt ec_paramgen_curve:P-384",
        "ec -pkeyopt ec_paramgen_curve:P-521",
    };
    make_authorities();
    make_leaf("leaf", "middle", LEAF);
    expect_good("leaf.pem", "leaf", 1);
    expect_good("leaf.pem middle.pem", "leaf", 2);
    expect_good("leaf.pem middle.pem root.pem", "leaf", 3);
    make_leaf("plain", "root", "subjectKeyIdentifier=hash\\n");
    expect_good("plain.pem root.pem", "plain", 2);
    make_leaf("self", NULL, LEAF);
    expect_good("self.pem", "self", 1);
    make_leaf("any", "root", "extendedKeyUsage=serverAuth,anyExtendedKeyUsage\\n");
    expect_good("any.pem root.pem", "any", 2);
    for (size_t i = 0; i < sizeof signers / sizeof *signers; i++) {
        make((struct recipe){.name = "signer", .key = signers[i], .subject = "/CN=Signer", .extensions = CA});
        make_leaf("leaf", "signer", LEAF);
        expect_good("leaf.pem signer.pem", "leaf", 2);
    }
    make((struct recipe){.name = "leaf",
                         .issuer = "root",
                         .key = "rsa:3072",
                         .subject = "/CN=gateway-1",
                         .extensions = LEAF,
                         .options = "-days 30 -sha384 -sigopt rsa_padding_mode:pss"});
    expect_good("leaf.pem root.pem", "leaf", 2);
}

/* Text around the certificates, as `openssl x509 -text` writes it, and other ends of lines: left out. */
static void test_text_between(void) {
    make_authorities();
    make_leaf("leaf", "root", LEAF);
    ASSERT_NUMBER(scratch_run("{ openssl x509 -in leaf.pem -text; printf '\\377\\376\\n'; openssl x509 -in root.pem "
                              "-text | sed 's/$/\\r/'; } >mixed.pem"),
                  0);
    struct chain chain = {.count = 0};
    struct failure failure = {0};
    ASSERT_NUMBER(judge("mixed.pem", "leaf", &chain, &failure), 0);
    ASSERT_NUMBER(scratch_write("kept", chain.pem, chain.pem_size), 0);
    ASSERT_NUMBER(scratch_run("cat leaf.pem root.pem | cmp - kept"), 0);
}

static void test_order(void) {
    make_authorities();
    make_leaf("leaf", "middle", LEAF);
    make_leaf("again", "middle", LEAF);
    expect_refused("root.pem", "leaf", "certificate 1 (CN=Root) is a CA's own: the device's certificate is missing");
    expect_refused("middle.pem root.pem", "leaf", "certificate 1 (CN=Middle) is a CA's own: the device's");
    expect_refused("root.pem again.pem", "leaf", "the certificate is not for this device's request");
    expect_refused("middle.pem leaf.pem", "leaf",
                   "wrong order: certificate 2 (CN=gateway-1) is the device's own, which must be the");
    expect_refused("root.pem middle.pem leaf.pem", "leaf", "certificate 3 (CN=gateway-1) is the device's own");
    expect_refused(
        "leaf.pem root.pem middle.pem", "leaf",
        "certificate 3 (CN=Middle) is the issuer of certificate 1 (CN=gateway-1) and must stand right behind");
    expect_refused("leaf.pem other.pem", "leaf",
                   "certificate 1 (CN=gateway-1) was not issued by certificate 2 (CN=Other)");
    expect_refused("leaf.pem middle.pem root.pem other.pem", "leaf", "certificate 3 (CN=Root) was not issued by");
    expect_refused("leaf.pem leaf.pem", "leaf",
                   "2 certificates are for this device's request, the first is certificate 1");
    expect_refused("leaf.pem again.pem", "leaf", "certificate 1 (CN=gateway-1) was not issued by certificate 2");
}

/* Another CA of the same name has not signed it. */
static void test_wrong_signature(void) {
    make_authorities();
    make_leaf("leaf", "root", LEAF);
    make((struct recipe){.name = "twin", .key = "rsa:2048", .subject = "/CN=Root", .extensions = CA});
    expect_refused("leaf.pem twin.pem", "leaf", "is not signed by the key of certificate 2 (CN=Root), though that has");
    make((struct recipe){.name = "twin", .subject = "/CN=Root", .extensions = CA});
    expect_refused("leaf.pem twin.pem", "leaf", "is not signed by the key of certificate 2 (CN=Root), though that has");
}

static void test_wrong_key(void) {
    char digest[80], words[256];
    make_authorities();
    make_leaf("leaf", "root", LEAF);
    make_leaf("stranger", "root", LEAF);
    expect_refused("leaf.pem root.pem", "stranger",
                   "the certificate is not for this device's request: SHA-256 of its public key is");
    for (const char *name = "stranger"; name != NULL; name = strcmp(name, "leaf") != 0 ? "leaf" : NULL) {
        ASSERT_NUMBER(scratch_run("openssl pkey -in %s.key -pubout -outform DER | sha256sum | cut -c-64 | tr -d '\\n' "
                                  ">digest",
                                  name),
                      0);
        scratch_read("digest", digest, sizeof digest);
        snprintf(words, sizeof words, strcmp(name, "leaf") != 0 ? "key is %s" : "(CN=gateway-1) %s", digest);
        expect_refused("leaf.pem root.pem", "stranger", words);
    }
}

static void test_weak(void) {
    static const struct {
        const char *key, *options, *words;
    } cases[] = {
        {"rsa:1024", NULL, "its RSA key has less than 2048 bits"},
        {"rsa:2047", NULL, "its RSA key has less than 2048 bits"},
        {"ec -pkeyopt ec_paramgen_curve:secp256k1", NULL, "its key is on another curve than P-256, P-384 and P-521"},
        {"ec -pkeyopt ec_paramgen_curve:brainpoolP256r1", NULL, "its key is on another curve"},
        {EC, "-days 30 -sha1", "it is not signed by RSA or ECDSA with SHA-256, SHA-384 or SHA-512"},
        {EC, "-days 30 -sha224", "it is not signed by RSA or ECDSA with SHA-256"},
        {EC, "-days 30 -sha1 -sigopt rsa_padding_mode:pss", "it is not signed by RSA or ECDSA with SHA-256"},
    };
    make_authorities();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct recipe recipe = {"weak", "root", cases[i].key, "/CN=gateway-1", LEAF, cases[i].options};
        make(recipe);
        expect_refused("weak.pem root.pem", "weak", cases[i].words);
        expect_refused("weak.pem root.pem", "weak", "certificate 1");
        expect_refused("weak.pem root.pem", "weak", "is not one that AWS IoT Core accepts");
        recipe.subject = "/CN=Weak";
        recipe.extensions = CA;
        make(recipe);
        make_leaf("leaf", "weak", LEAF);
        expect_refused("leaf.pem weak.pem root.pem", "leaf", "certificate 2");
    }
}

/* Which wolfSSL does not read at all, or not in each version. `openssl req -newkey` makes DSA from parameters only. */
static void test_other_keys(void) {
    static const char *const keys[] = {"ed25519", "dsa:dsa.params"};
    ASSERT_NUMBER(
        scratch_run("openssl genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:2048 -out dsa.params"), 0);
    make_authorities();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        make((struct recipe){
            .name = "weak", .issuer = "root", .key = keys[i], .subject = "/CN=gateway-1", .extensions = LEAF});
        expect_refused("weak.pem root.pem", "weak", "its key is neither RSA nor one of P-256, P-384 and P-521");
        expect_refused("weak.pem root.pem", "weak", "is not one that AWS IoT Core accepts");
    }
}

static void test_usage(void) {
    make_authorities();
    make_leaf("leaf", "root", CA);
    expect_refused("leaf.pem root.pem", "leaf", "the device's certificate is one of a CA (basicConstraints CA:TRUE)");
    make_leaf("leaf", "root", "keyUsage=critical,keyEncipherment\\n");
    expect_refused("leaf.pem root.pem", "leaf", "its key usage lacks digitalSignature");
    make_leaf("leaf", "root", "keyUsage=critical,digitalSignature\\nextendedKeyUsage=serverAuth,codeSigning\\n");
    expect_refused("leaf.pem root.pem", "leaf", "its extended key usage lacks clientAuth");
    make_leaf("leaf", "root", "extendedKeyUsage=1.2.3.4\\n");
    expect_refused("leaf.pem root.pem", "leaf", "its extended key usage lacks clientAuth");
}

static void test_dates(void) {
    struct chain chain = {.count = 0};
    struct failure failure = {0};
    make_authorities();
    make_leaf("leaf", "root", LEAF);
    ASSERT_NUMBER(judge("leaf.pem", "leaf", &chain, &failure), 0);
    chain.certificates[0].not_before = 1767225600; /* 2026-01-01 */
    chain.certificates[0].not_after = 1798761600;  /* 2027-01-01 */
    ASSERT_NUMBER(chain_judge_dates(&chain.certificates[0], 1767225600, true, &failure), 0);
    ASSERT_NUMBER(chain_judge_dates(&chain.certificates[0], 1798761600, true, &failure), 0);
    ASSERT_NUMBER(chain_judge_dates(&chain.certificates[0], 1798761601, true, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "invalid");
    ASSERT_TEXT(failure.message, "the device's certificate has expired: it is valid from 2026-01-01T00:00:00Z to "
                                 "2027-01-01T00:00:00Z, and this clock says 2027-01-01T00:00:01Z");
    ASSERT_NUMBER(chain_judge_dates(&chain.certificates[0], 0, false, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "clock");
    ASSERT_TEXT(failure.message, "the device's certificate is not valid yet: it is valid from 2026-01-01T00:00:00Z to "
                                 "2027-01-01T00:00:00Z, and this clock says 1970-01-01T00:00:00Z, but is not "
                                 "synchronised: set it, then import again");
}

static void test_malformed(void) {
    make_authorities();
    make_leaf("leaf", "root", LEAF);
    expect_refused("leaf.key", "leaf", "private key among the certificates");
    expect_refused("leaf.pem leaf.key", "leaf", "private key among the certificates");
    expect_refused("/dev/null", "leaf", "there is no certificate in it");
    ASSERT_NUMBER(scratch_run("head -3 root.pem >cut; printf -- '-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END "
                              "CERTIFICATE-----\\n' >bad; seq 4000 >large"),
                  0);
    expect_refused("leaf.pem cut", "leaf", "certificate 2 is damaged");
    expect_refused("leaf.pem root.pem bad", "leaf", "certificate 3 is damaged");
    expect_refused("leaf.pem large", "leaf", "the certificates are larger than 16383 bytes");
    expect_refused("leaf.pem root.pem root.pem root.pem root.pem root.pem root.pem root.pem root.pem", "leaf",
                   "there are more than 8 certificates");
}

/* Every byte damaged: refused or read, never more (the sanitizers watch). */
static void test_damage(void) {
    char text[8192];
    struct chain chain = {.count = 0};
    struct failure failure = {0};
    make_authorities();
    make_leaf("leaf", "middle", LEAF);
    ASSERT_NUMBER(scratch_run("cat leaf.pem middle.pem >chain"), 0);
    size_t size = scratch_read("chain", text, sizeof text);
    for (size_t at = 0; at < size; at++) {
        text[at] ^= 1;
        read_text(text, size, &chain, &failure);
        text[at] ^= 1;
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"good", test_good},
        {"text-between", test_text_between},
        {"order", test_order},
        {"wrong-signature", test_wrong_signature},
        {"wrong-key", test_wrong_key},
        {"weak", test_weak},
        {"other-keys", test_other_keys},
        {"usage", test_usage},
        {"dates", test_dates},
        {"malformed", test_malformed},
        {"damage", test_damage},
        {NULL, NULL},
    };
    scratch_make();
    int status = unit_run("chain", tests, argc, argv);
    scratch_remove();
    return status;
}
