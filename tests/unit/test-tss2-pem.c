#include "common/cleanup.h"
#include "harness.h"
#include "worker/tss2-pem.h"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/coding.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BEGIN "-----BEGIN TSS2 PRIVATE KEY-----\n"
#define END "-----END TSS2 PRIVATE KEY-----\n"
#define OID "\x06\x06\x67\x81\x05\x0a\x01\x03"
#define EMPTY_AUTH "\xa0\x03\x01\x01\xff"
#define SRK "\x02\x05\x00\x81\x00\x00\x01"

struct bytes {
    uint8_t data[2048];
    size_t size;
};

static void append(struct bytes *bytes, const void *data, size_t size) {
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

#define APPEND(bytes, literal) append((bytes), (literal), sizeof(literal) - 1)

static void append_element(struct bytes *bytes, uint8_t tag, const struct bytes *content) {
    const uint8_t header[] = {tag, 0x81, (uint8_t)content->size};
    const uint8_t long_header[] = {tag, 0x82, (uint8_t)(content->size >> 8), (uint8_t)content->size};
    if (content->size >= 256)
        append(bytes, long_header, sizeof long_header);
    else if (content->size >= 128)
        append(bytes, header, sizeof header);
    else
        append(bytes, (const uint8_t[]){tag, (uint8_t)content->size}, 2);
    append(bytes, content->data, content->size);
}

/* TPM2B_PUBLIC of a P-256 signing key. */
static struct bytes public_bytes(void) {
    struct bytes public = {0};
    APPEND(&public, "\x00\x58"
                    "\x00\x23\x00\x0b\x00\x04\x04\x72\x00\x00\x00\x10\x00\x10\x00\x03\x00\x10");
    append(&public, (const uint8_t[]){0, 32}, 2);
    append(&public, (const uint8_t[32]){1}, 32);
    append(&public, (const uint8_t[]){0, 32}, 2);
    append(&public, (const uint8_t[32]){2}, 32);
    public.data[1] = (uint8_t)(public.size - 2);
    return public;
}

static struct bytes private_bytes(void) {
    struct bytes private = {0};
    append(&private, (const uint8_t[]){0, 126}, 2);
    for (uint8_t i = 0; i < 126; i++)
        append(&private, &i, 1);
    return private;
}

static struct bytes sequence(const struct bytes *head, const struct bytes *public, const struct bytes *private) {
    struct bytes content = *head, der = {0};
    append_element(&content, 0x04, public);
    append_element(&content, 0x04, private);
    append_element(&der, 0x30, &content);
    return der;
}

static struct bytes der_with(const char *head, size_t size) {
    struct bytes fields = {0}, public = public_bytes(), private = private_bytes();
    append(&fields, head, size);
    return sequence(&fields, &public, &private);
}

/* A key file whose fields before pubkey are these. */
#define DER_WITH(head) der_with((head), sizeof(head) - 1)

static size_t to_pem(const struct bytes *der, char *pem, size_t size) {
    char base64[4096];
    word32 base64_size = sizeof base64;
    if (Base64_Encode(der->data, (word32)der->size, (byte *)base64, &base64_size) != 0)
        return 0;
    return (size_t)snprintf(pem, size, BEGIN "%.*s" END, (int)base64_size, base64);
}

static int decode(const struct bytes *der, struct tss2_key *ret, const char **ret_reason) {
    char pem[8192];
    /* An exact copy on the heap, so that the sanitizer sees a read behind the end. */
    size_t size = to_pem(der, pem, sizeof pem);
    AUTO_FREE char *copy = malloc(size);
    memcpy(copy, pem, size);
    return tss2_pem_decode(copy, size, ret, ret_reason);
}

static void expect_refused(struct bytes der, const char *text) {
    struct tss2_key key;
    const char *reason = NULL;
    ASSERT_NUMBER(decode(&der, &key, &reason), -22);
    if (reason == NULL || strstr(reason, text) == NULL)
        ASSERT_TEXT(reason, text);
}

static void expect_text_refused(const char *pem, size_t size, const char *text) {
    struct tss2_key key;
    const char *reason = NULL;
    ASSERT_NUMBER(tss2_pem_decode(pem, size, &key, &reason), -22);
    if (reason == NULL || strstr(reason, text) == NULL)
        ASSERT_TEXT(reason, text);
}

static void test_decode(void) {
    struct tss2_key key = {0};
    const char *reason = NULL;
    struct bytes der = DER_WITH(OID EMPTY_AUTH SRK);
    ASSERT_NUMBER(decode(&der, &key, &reason), 0);
    ASSERT_TEXT(reason, NULL);
    ASSERT_NUMBER(key.parent, 0x81000001);
    ASSERT_NUMBER(key.public.publicArea.type, TPM2_ALG_ECC);
    ASSERT_NUMBER(key.public.publicArea.unique.ecc.x.size, 32);
    ASSERT_NUMBER(key.private.size, 126);
}

static void test_parents(void) {
    static const struct {
        const char *der;
        size_t size;
        int64_t parent; /* -1: refused */
    } cases[] = {
        {"\x02\x05\x00\x81\x00\x00\x01", 7, 0x81000001}, /* positive */
        {"\x02\x04\x81\x00\x00\x01", 6, 0x81000001},     /* the same as a signed number */
        {"\x02\x05\x00\x81\x01\x00\x02", 7, 0x81010002},
        {"\x02\x04\x40\x00\x00\x01", 6, TPM2_RH_OWNER},
        {"\x02\x01\x00", 3, TPM2_RH_OWNER},
        {"\x02\x04\x40\x00\x00\x0b", 6, -1}, /* endorsement hierarchy */
        {"\x02\x04\x40\x00\x00\x07", 6, -1}, /* null hierarchy */
        {"\x02\x05\x00\x82\x00\x00\x01", 7, -1},
        {"\x02\x04\x80\x00\x00\x01", 6, -1}, /* a transient object */
        {"\x02\x05\x01\x81\x00\x00\x01", 7, -1},
        {"\x02\x09\x00\x81\x00\x00\x01\x00\x00\x00\x00", 11, -1},
        {"\x02\x01\x01", 3, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes head = {0}, public = public_bytes(), private = private_bytes();
        struct tss2_key key = {0};
        const char *reason = NULL;
        APPEND(&head, OID EMPTY_AUTH);
        append(&head, cases[i].der, cases[i].size);
        struct bytes der = sequence(&head, &public, &private);
        int r = decode(&der, &key, &reason);
        ASSERT_NUMBER(r == 0 ? (int64_t)key.parent : -1, cases[i].parent);
    }
}

static void test_encode(void) {
    struct tss2_key key = {0}, again = {0};
    const char *reason = NULL;
    char pem[TSS2_PEM_MAX], expected[TSS2_PEM_MAX];
    struct bytes der = DER_WITH(OID EMPTY_AUTH SRK);
    CU_ASSERT_EQUAL_FATAL(decode(&der, &key, &reason), 0);
    int size = tss2_pem_encode(&key, pem, sizeof pem);
    ASSERT_NUMBER(size, strlen(pem));
    to_pem(&der, expected, sizeof expected);
    ASSERT_TEXT(pem, expected);
    CU_ASSERT_TRUE(tss2_pem_is(pem, (size_t)size));
    ASSERT_NUMBER(tss2_pem_encode(&key, pem, (size_t)size), -105); /* no room for the NUL */
    key.parent = TPM2_RH_OWNER;
    size = tss2_pem_encode(&key, pem, sizeof pem);
    ASSERT_NUMBER(tss2_pem_decode(pem, (size_t)size, &again, &reason), 0);
    CU_ASSERT_EQUAL(memcmp(&key, &again, sizeof key), 0);
}

static void test_wrong_fields(void) {
    expect_refused(DER_WITH("\x06\x06\x67\x81\x05\x0a\x01\x04" EMPTY_AUTH SRK), "not a loadable key");
    expect_refused(DER_WITH("\x06\x06\x67\x81\x05\x0a\x01\x05" EMPTY_AUTH SRK), "not a loadable key");
    expect_refused(DER_WITH(OID "\xa0\x03\x01\x01\x00" SRK), "password");
    expect_refused(DER_WITH(OID SRK), "password");
    expect_refused(DER_WITH(OID EMPTY_AUTH "\xa1\x02\x30\x00" SRK), "short form");
    expect_refused(DER_WITH(OID EMPTY_AUTH "\xa4\x05\x0c\x03"
                                           "key" SRK),
                   "short form");
    expect_refused(DER_WITH(OID EMPTY_AUTH), "short form");
    expect_refused(DER_WITH(OID EMPTY_AUTH SRK SRK), "short form");
}

static void test_wrong_blobs(void) {
    struct bytes head = {0}, public = public_bytes(), private = private_bytes(), none = {0};
    APPEND(&head, OID EMPTY_AUTH SRK);
    expect_refused(sequence(&head, &none, &private), "pubkey");
    expect_refused(sequence(&head, &public, &none), "privkey");
    public.size--;
    expect_refused(sequence(&head, &public, &private), "pubkey");
    public.size += 2;
    expect_refused(sequence(&head, &public, &private), "pubkey");
    public.size--;
    private.size++;
    expect_refused(sequence(&head, &public, &private), "privkey");
    private.data[0] = 0xff;
    expect_refused(sequence(&head, &public, &private), "privkey");
    private = (struct bytes){.size = 2};
    expect_refused(sequence(&head, &public, &private), "privkey");
}

static void test_trailing_bytes(void) {
    struct bytes der = DER_WITH(OID EMPTY_AUTH SRK);
    APPEND(&der, "\x00");
    expect_refused(der, "short form");
}

static void test_text(void) {
    char pem[TSS2_PEM_MAX + 512], bad[TSS2_PEM_MAX + 1024];
    struct tss2_key key;
    const char *reason = NULL;
    struct bytes der = DER_WITH(OID EMPTY_AUTH SRK);
    size_t size = to_pem(&der, pem, sizeof pem);
    int bad_size = snprintf(bad, sizeof bad, "\r\n %s\r\n\t ", pem);
    ASSERT_NUMBER(tss2_pem_decode(bad, (size_t)bad_size, &key, &reason), 0);
    bad_size = snprintf(bad, sizeof bad, "%sx", pem);
    expect_text_refused(bad, (size_t)bad_size, "does not end");
    bad_size = snprintf(bad, sizeof bad, "x%s", pem);
    expect_text_refused(bad, (size_t)bad_size, "does not begin");
    bad_size = snprintf(bad, sizeof bad, "%s%s", pem, pem);
    expect_text_refused(bad, (size_t)bad_size, "does not end");
    expect_text_refused("", 0, "does not begin");
    expect_text_refused(BEGIN, sizeof BEGIN - 1, "does not end");
    expect_text_refused(BEGIN END, sizeof BEGIN END - 2, "short form");
    expect_text_refused(BEGIN "!!!!\n" END, sizeof BEGIN "!!!!\n" END - 2, "base64");
    memset(bad, ' ', sizeof bad);
    expect_text_refused(bad, TSS2_PEM_MAX + 1, "too large");
    for (size_t cut = 0; cut + 1 < size; cut++) {
        AUTO_FREE char *copy = malloc(cut + 1);
        memcpy(copy, pem, cut);
        CU_ASSERT_EQUAL(tss2_pem_decode(copy, cut, &key, &reason), -22);
    }
}

/* Every byte damaged in several ways: refused or read, never more (the sanitizers watch). */
static void test_damage(void) {
    static const uint8_t changes[] = {0x01, 0x80, 0xff, 0x7f};
    const struct bytes good = DER_WITH(OID EMPTY_AUTH SRK);
    for (size_t at = 0; at < good.size; at++) {
        for (size_t i = 0; i < sizeof changes; i++) {
            struct bytes der = good;
            struct tss2_key key = {0};
            const char *reason = NULL;
            der.data[at] ^= changes[i];
            CU_ASSERT_EQUAL(decode(&der, &key, &reason) == 0, reason == NULL);
        }
    }
    for (size_t size = 1; size < good.size; size++) {
        struct bytes der = good;
        der.size = size;
        expect_refused(der, "it is not");
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"decode", test_decode},
        {"parents", test_parents},
        {"encode", test_encode},
        {"wrong-fields", test_wrong_fields},
        {"wrong-blobs", test_wrong_blobs},
        {"trailing-bytes", test_trailing_bytes},
        {"text", test_text},
        {"damage", test_damage},
        {NULL, NULL},
    };
    return unit_run("tss2-pem", tests, argc, argv);
}
