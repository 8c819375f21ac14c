#include "worker/tss2-pem.h"

#include "common/cleanup.h"

#include <libtasn1.h>
#include <tss2/tss2_mu.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/coding.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PEM_BEGIN "-----BEGIN TSS2 PRIVATE KEY-----"
#define PEM_END "-----END TSS2 PRIVATE KEY-----"
#define DER_MAX 2048
#define LOADABLE_KEY "2.23.133.10.1.3" /* TCG: id-loadablekey */

/* TPM2_HT_PERSISTENT, TPM 2.0 part 2, section 7.4 (the macros of tpm2-tss shift into the sign bit). */
#define PERSISTENT_FIRST 0x81000000
#define PERSISTENT_LAST 0x81ffffff

/* draft-bottomley-tpm2-keys, without the optional fields that tpm2-openssl refuses. Made by `asn1Parser` from
 *
 *   TSS2 { } DEFINITIONS EXPLICIT TAGS ::= BEGIN
 *   TPMKey ::= SEQUENCE {
 *       type      OBJECT IDENTIFIER,
 *       emptyAuth [0] EXPLICIT BOOLEAN OPTIONAL,
 *       parent    INTEGER,
 *       pubkey    OCTET STRING,
 *       privkey   OCTET STRING
 *   }
 *   END
 */
static const asn1_static_node definitions[] = {
    {"TSS2", 536872976, NULL},
    {NULL, 1073741836, NULL},
    {"TPMKey", 536870917, NULL},
    {"type", 1073741836, NULL},
    {"emptyAuth", 1610637316, NULL},
    {NULL, 2056, "0"},
    {"parent", 1073741827, NULL},
    {"pubkey", 1073741831, NULL},
    {"privkey", 7, NULL},
    {NULL, 0, NULL},
};

static void free_tree(asn1_node *tree) {
    if (*tree != NULL)
        asn1_delete_structure(tree);
}

#define AUTO_TREE CLEANUP(free_tree)

static int make_tree(asn1_node *ret_definitions, asn1_node *ret_key) {
    if (asn1_array2tree(definitions, ret_definitions, NULL) != ASN1_SUCCESS ||
        asn1_create_element(*ret_definitions, "TSS2.TPMKey", ret_key) != ASN1_SUCCESS)
        return -ENOMEM;
    return 0;
}

/* The parent as a positive INTEGER: without the leading zero it would read as negative, which tpm2-openssl 1.3.0
 * refuses. */
static int write_fields(asn1_node tree, const struct tss2_key *key) {
    uint8_t public[sizeof key->public + 2], private[sizeof key->private + 2];
    size_t public_size = 0, private_size = 0;
    const uint8_t parent[] = {0, (uint8_t)(key->parent >> 24), (uint8_t)(key->parent >> 16),
                              (uint8_t)(key->parent >> 8), (uint8_t)key->parent};
    if (Tss2_MU_TPM2B_PUBLIC_Marshal(&key->public, public, sizeof public, &public_size) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_PRIVATE_Marshal(&key->private, private, sizeof private, &private_size) != TSS2_RC_SUCCESS)
        return -EINVAL;
    if (asn1_write_value(tree, "type", LOADABLE_KEY, 1) != ASN1_SUCCESS ||
        asn1_write_value(tree, "emptyAuth", "TRUE", 1) != ASN1_SUCCESS ||
        asn1_write_value(tree, "parent", parent, sizeof parent) != ASN1_SUCCESS ||
        asn1_write_value(tree, "pubkey", public, (int)public_size) != ASN1_SUCCESS ||
        asn1_write_value(tree, "privkey", private, (int)private_size) != ASN1_SUCCESS)
        return -EINVAL;
    return 0;
}

int tss2_pem_encode(const struct tss2_key *key, char *pem, size_t size) {
    AUTO_TREE asn1_node types = NULL;
    AUTO_TREE asn1_node tree = NULL;
    uint8_t der[DER_MAX];
    int der_size = sizeof der;
    char base64[TSS2_PEM_MAX];
    word32 base64_size = sizeof base64;
    int r = make_tree(&types, &tree);
    if (r == 0)
        r = write_fields(tree, key);
    if (r < 0)
        return r;
    if (asn1_der_coding(tree, "", der, &der_size, NULL) != ASN1_SUCCESS ||
        Base64_Encode(der, (word32)der_size, (byte *)base64, &base64_size) != 0)
        return -ENOBUFS;
    int length = snprintf(pem, size, PEM_BEGIN "\n%.*s" PEM_END "\n", (int)base64_size, base64);
    return length >= 0 && (size_t)length < size ? length : -ENOBUFS;
}

bool tss2_pem_is(const char *pem, size_t size) {
    return memmem(pem, size, PEM_BEGIN, strlen(PEM_BEGIN)) != NULL;
}

static bool is_blank(const char *text, const char *end) {
    while (text < end && isspace((unsigned char)*text))
        text++;
    return text == end;
}

static int decode_text(const char *pem, size_t size, uint8_t *der, word32 *der_size, const char **ret_reason) {
    const char *begin = memmem(pem, size, PEM_BEGIN, strlen(PEM_BEGIN));
    if (begin == NULL || !is_blank(pem, begin)) {
        *ret_reason = "it does not begin with " PEM_BEGIN;
        return -EINVAL;
    }
    const char *body = begin + strlen(PEM_BEGIN);
    size_t body_size = size - (size_t)(body - pem);
    const char *end = memmem(body, body_size, PEM_END, strlen(PEM_END));
    if (end == NULL || !is_blank(end + strlen(PEM_END), pem + size)) {
        *ret_reason = "it does not end with " PEM_END;
        return -EINVAL;
    }
    if (Base64_Decode((const byte *)body, (word32)(end - body), der, der_size) != 0) {
        *ret_reason = "it is not valid base64 or too large";
        return -EINVAL;
    }
    return 0;
}

/* Both forms of the sign are in use: 00 81 00 00 01, and 81 00 00 01 by writers that took the handle for a signed
 * number. Zero is an old form of the owner. */
static int read_parent(asn1_node tree, TPM2_HANDLE *ret) {
    uint8_t bytes[8];
    int size = sizeof bytes;
    TPM2_HANDLE parent = 0;
    if (asn1_read_value(tree, "parent", bytes, &size) != ASN1_SUCCESS || size > 5 || (size == 5 && bytes[0] != 0))
        return -EINVAL;
    for (int i = 0; i < size; i++)
        parent = parent << 8 | bytes[i];
    if (parent == 0)
        parent = TPM2_RH_OWNER;
    if (parent != TPM2_RH_OWNER && (parent < PERSISTENT_FIRST || parent > PERSISTENT_LAST))
        return -EINVAL;
    *ret = parent;
    return 0;
}

static int read_public(asn1_node tree, TPM2B_PUBLIC *ret) {
    uint8_t bytes[DER_MAX];
    int size = sizeof bytes;
    size_t offset = 0;
    if (asn1_read_value(tree, "pubkey", bytes, &size) != ASN1_SUCCESS ||
        Tss2_MU_TPM2B_PUBLIC_Unmarshal(bytes, (size_t)size, &offset, ret) != TSS2_RC_SUCCESS || offset != (size_t)size)
        return -EINVAL;
    return 0;
}

static int read_private(asn1_node tree, TPM2B_PRIVATE *ret) {
    uint8_t bytes[DER_MAX];
    int size = sizeof bytes;
    size_t offset = 0;
    if (asn1_read_value(tree, "privkey", bytes, &size) != ASN1_SUCCESS ||
        Tss2_MU_TPM2B_PRIVATE_Unmarshal(bytes, (size_t)size, &offset, ret) != TSS2_RC_SUCCESS ||
        offset != (size_t)size || ret->size == 0)
        return -EINVAL;
    return 0;
}

static bool field_is(asn1_node tree, const char *field, const char *expected) {
    char text[32];
    int size = sizeof text;
    return asn1_read_value(tree, field, text, &size) == ASN1_SUCCESS && strcmp(text, expected) == 0;
}

/* NULL, or what is wrong. */
static const char *read_fields(asn1_node tree, struct tss2_key *ret) {
    if (!field_is(tree, "type", LOADABLE_KEY))
        return "it is not a loadable key (" LOADABLE_KEY ")";
    if (!field_is(tree, "emptyAuth", "TRUE"))
        return "the key has a password, which enrolld does not support: make one without (emptyAuth TRUE)";
    if (read_parent(tree, &ret->parent) < 0)
        return "its parent is neither the owner (0x40000001) nor a persistent object (0x81......)";
    if (read_public(tree, &ret->public) < 0)
        return "its pubkey is not a TPM2B_PUBLIC";
    if (read_private(tree, &ret->private) < 0)
        return "its privkey is not a TPM2B_PRIVATE";
    return NULL;
}

int tss2_pem_decode(const char *pem, size_t size, struct tss2_key *ret, const char **ret_reason) {
    AUTO_TREE asn1_node types = NULL;
    AUTO_TREE asn1_node tree = NULL;
    uint8_t der[DER_MAX];
    word32 der_size = sizeof der;
    struct tss2_key key = {0};
    if (size > TSS2_PEM_MAX) {
        *ret_reason = "it is too large";
        return -EINVAL;
    }
    int r = decode_text(pem, size, der, &der_size, ret_reason);
    if (r < 0)
        return r;
    int left = (int)der_size;
    if (make_tree(&types, &tree) < 0) {
        *ret_reason = "there is not enough memory to read it";
        return -EINVAL;
    }
    if (asn1_der_decoding2(&tree, der, &left, ASN1_DECODE_FLAG_STRICT_DER, NULL) != ASN1_SUCCESS) {
        *ret_reason = "it is not the short form (type, emptyAuth, parent, pubkey, privkey) of a TPM 2.0 key";
        return -EINVAL;
    }
    *ret_reason = read_fields(tree, &key);
    if (*ret_reason != NULL)
        return -EINVAL;
    *ret = key;
    return 0;
}
