#include "worker/chain.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/clock.h"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/hash.h>

#include <stdio.h>
#include <string.h>

#define NAME_SIZE 160

/* "certificate 2 (CN=Example CA)": counted from 1. */
static const char *name(const struct chain *chain, size_t i, char text[NAME_SIZE]) {
    const char *common_name = chain->certificates[i].common_name;
    snprintf(text, NAME_SIZE, "certificate %zu (%s%.100s)", i + 1, common_name[0] != '\0' ? "CN=" : "without a CN",
             common_name);
    return text;
}

static bool append_pem(struct chain *chain, const struct certificate_der *der) {
    byte *at = (byte *)chain->pem + chain->pem_size;
    word32 room = (word32)(sizeof chain->pem - 1 - chain->pem_size);
    int size = wc_DerToPem(der->bytes, (word32)der->size, at, room, CERT_TYPE);
    if (size <= 0)
        return false;
    chain->pem_size += (size_t)size;
    return true;
}

/* wolfSSL does not read certificates whose kind of key it does not know. */
static int fail_unreadable(const struct certificate_der *der, size_t number, struct failure *failure) {
    struct certificate_fields fields;
    const char *weakness =
        certificate_fields_read(der->bytes, der->size, &fields) ? certificate_fields_weakness(&fields) : NULL;
    if (weakness == NULL)
        return certificate_fail_number((int)number, STEP_CERTIFICATE, failure);
    return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                       "certificate %zu is not one that AWS IoT Core accepts: %s. Have another one issued", number,
                       weakness);
}

/* previous: NULL for the first one. */
static int take(struct chain *chain, const struct certificate_der *der, const struct certificate_der *previous,
                struct failure *failure) {
    if (chain->count == CHAIN_LENGTH_MAX)
        return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                           "there are more than %d certificates: hand in the device's own and its issuers only",
                           CHAIN_LENGTH_MAX);
    if (certificate_read(der, &chain->certificates[chain->count]) < 0)
        return fail_unreadable(der, chain->count + 1, failure);
    if (!append_pem(chain, der))
        return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE, "the certificates are larger than %d bytes",
                           CHAIN_PEM_MAX - 1);
    if (previous != NULL)
        chain->is_signed_by_next[chain->count - 1] = certificate_is_signed_by(previous, der);
    chain->count++;
    return 0;
}

/* Too large for the stack. */
struct reader {
    struct certificate_der ders[2]; /* this one and the one before */
    struct chain chain;
};

static int read_all(struct reader *reader, const char *pem, size_t size, struct failure *failure) {
    struct chain *chain = &reader->chain;
    const char *end = pem + size;
    int r;
    if (certificate_check_text(pem, size, CHAIN_PEM_MAX - 1, STEP_CERTIFICATE, failure) < 0)
        return -1;
    while ((r = certificate_next(&pem, end, &reader->ders[chain->count % 2])) > 0) {
        const struct certificate_der *der = &reader->ders[chain->count % 2];
        const struct certificate_der *previous = &reader->ders[(chain->count + 1) % 2];
        if (take(chain, der, chain->count > 0 ? previous : NULL, failure) < 0)
            return -1;
    }
    if (r < 0)
        return certificate_fail_number((int)chain->count + 1, STEP_CERTIFICATE, failure);
    return chain->count > 0 ? 0 : certificate_fail_none(STEP_CERTIFICATE, failure);
}

int chain_read(const char *pem, size_t size, struct chain *ret, struct failure *failure) {
    AUTO_FREE struct reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CERTIFICATE, "out of memory");
    int r = read_all(reader, pem, size, failure);
    if (r == 0)
        *ret = reader->chain;
    return r;
}

static void print_digest(const uint8_t *public_key, size_t size, char text[2 * WC_SHA256_DIGEST_SIZE + 1]) {
    uint8_t digest[WC_SHA256_DIGEST_SIZE] = {0};
    (void)wc_Sha256Hash(public_key, (word32)size, digest);
    text_to_hex(digest, sizeof digest, text);
}

static int fail_other_key(const struct chain *chain, const uint8_t *public_key, size_t size, const char *where,
                          struct failure *failure) {
    const struct certificate *first = &chain->certificates[0];
    char ours[2 * WC_SHA256_DIGEST_SIZE + 1], theirs[2 * WC_SHA256_DIGEST_SIZE + 1], text[NAME_SIZE];
    print_digest(public_key, size, ours);
    print_digest(first->public_key, first->public_key_size, theirs);
    return failure_set(
        failure, FAILURE_INVALID, STEP_CERTIFICATE,
        "the certificate is not for %s: SHA-256 of its public key is %s, that of the one in %s %s. Have the "
        "request of this device signed (`enrollctl request`), or hand in the key that belongs to the "
        "certificate",
        where, ours, name(chain, 0, text), theirs);
}

static int fail_only_issuers(const struct chain *chain, struct failure *failure) {
    char text[NAME_SIZE];
    return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                       "%s is a CA's own: the device's certificate is missing, it must come first",
                       name(chain, 0, text));
}

static bool has_only_issuers(const struct chain *chain) {
    for (size_t i = 0; i < chain->count; i++)
        if (!chain->certificates[i].usage.is_ca)
            return false;
    return true;
}

static int find_leaf(const struct chain *chain, const uint8_t *public_key, size_t size, const char *where,
                     struct failure *failure) {
    size_t leaf = 0, matches = 0;
    char text[NAME_SIZE];
    for (size_t i = chain->count; i > 0; i--)
        if (certificate_has_key(&chain->certificates[i - 1], public_key, size)) {
            leaf = i - 1;
            matches++;
        }
    if (matches == 0 && has_only_issuers(chain))
        return fail_only_issuers(chain, failure);
    if (matches == 0)
        return fail_other_key(chain, public_key, size, where, failure);
    if (matches > 1)
        return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                           "%zu certificates are for %s, the first is %s: hand in one of them", matches, where,
                           name(chain, leaf, text));
    if (leaf > 0)
        return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                           "wrong order: %s is the device's own, which must be the first, then its issuer, "
                           "and so on up",
                           name(chain, leaf, text));
    return 0;
}

static bool is_issuer(const struct certificate *certificate, const struct certificate *issuer) {
    return memcmp(certificate->issuer_digest, issuer->subject_digest, sizeof certificate->issuer_digest) == 0;
}

/* Why certificate i is not followed by its issuer. */
static int fail_link(const struct chain *chain, size_t i, struct failure *failure) {
    char text[NAME_SIZE], next[NAME_SIZE];
    const char *this = name(chain, i, text);
    if (is_issuer(&chain->certificates[i], &chain->certificates[i + 1]))
        return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                           "%s is not signed by the key of %s, though that has its issuer's name: is there another CA "
                           "certificate of this name?",
                           this, name(chain, i + 1, next));
    for (size_t k = 0; k < chain->count; k++)
        if (k != i && is_issuer(&chain->certificates[i], &chain->certificates[k]))
            return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                               "wrong order: %s is the issuer of %s and must stand right behind it",
                               name(chain, k, next), this);
    return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                       "%s was not issued by %s: hand in the device's certificate, its issuer, the issuer of that, and "
                       "nothing else",
                       this, name(chain, i + 1, next));
}

static int judge_leaf(const struct certificate_usage *usage, struct failure *failure) {
    if (usage->is_ca)
        return failure_set(
            failure, FAILURE_INVALID, STEP_CERTIFICATE,
            "the device's certificate is one of a CA (basicConstraints CA:TRUE): have one issued without "
            "that");
    if (!usage->may_sign)
        return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                           "the device's certificate may not sign: its key usage lacks digitalSignature, which TLS "
                           "needs of a client. Have one issued with that, or without key usage");
    if (!usage->may_authenticate)
        return failure_set(
            failure, FAILURE_INVALID, STEP_CERTIFICATE,
            "the device's certificate is not one for TLS clients: its extended key usage lacks clientAuth. "
            "Have one issued with that, or without extended key usage");
    return 0;
}

int chain_judge(const struct chain *chain, const uint8_t *public_key, size_t size, const char *where,
                struct failure *failure) {
    char text[NAME_SIZE];
    if (find_leaf(chain, public_key, size, where, failure) < 0)
        return -1;
    for (size_t i = 0; i < chain->count; i++)
        if (chain->certificates[i].weakness != NULL)
            return failure_set(failure, FAILURE_INVALID, STEP_CERTIFICATE,
                               "%s is not one that AWS IoT Core accepts: %s. Have another one issued",
                               name(chain, i, text), chain->certificates[i].weakness);
    for (size_t i = 0; i + 1 < chain->count; i++)
        if (!chain->is_signed_by_next[i] || !is_issuer(&chain->certificates[i], &chain->certificates[i + 1]))
            return fail_link(chain, i, failure);
    return judge_leaf(&chain->certificates[0].usage, failure);
}

int chain_judge_dates(const struct certificate *leaf, int64_t now, bool is_synchronised, struct failure *failure) {
    char from[CLOCK_TEXT_SIZE], to[CLOCK_TEXT_SIZE], today[CLOCK_TEXT_SIZE];
    if (now >= leaf->not_before && now <= leaf->not_after)
        return 0;
    clock_print(leaf->not_before, from);
    clock_print(leaf->not_after, to);
    clock_print(now, today);
    return failure_set(failure, is_synchronised ? FAILURE_INVALID : FAILURE_CLOCK, STEP_CERTIFICATE,
                       "the device's certificate %s: it is valid from %s to %s, and this clock says %s%s",
                       now > leaf->not_after ? "has expired" : "is not valid yet", from, to, today,
                       is_synchronised ? "" : ", but is not synchronised: set it, then import again");
}
