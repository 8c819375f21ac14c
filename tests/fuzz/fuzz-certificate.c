/* Certificates: the first byte says whether the rest is a PEM text, or DER to be wrapped; both as one certificate and
 * as a chain of them. */
#include "common/step.h"
#include "common/text.h"
#include "fuzz.h"
#include "worker/certificate.h"
#include "worker/chain.h"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/sha256.h>

static bool is_printable(const char *text) {
    char copy[CERTIFICATE_NAME_MAX];
    snprintf(copy, sizeof copy, "%s", text);
    text_make_printable(copy);
    return strcmp(copy, text) == 0;
}

static void check_facts(const struct certificate *certificate) {
    REQUIRE(strlen(certificate->id) == 64 && strspn(certificate->id, "0123456789abcdef") == 64);
    REQUIRE(strlen(certificate->common_name) < CERTIFICATE_NAME_MAX && is_printable(certificate->common_name));
    REQUIRE(certificate->public_key_size > 2 && certificate->public_key_size <= sizeof certificate->public_key);
    REQUIRE(certificate->public_key[0] == 0x30); /* a SEQUENCE */
    REQUIRE(certificate_has_key(certificate, certificate->public_key, certificate->public_key_size));
    REQUIRE(!certificate_has_key(certificate, certificate->public_key, certificate->public_key_size - 1));
}

/* A chain is judged whatever is in it, and is kept in a form that reads as the same. */
static void check_chain(const char *pem, size_t size, const struct certificate *first) {
    static struct chain chain, again;
    struct failure failure = {.message = ""};
    if (chain_read(pem, size, &chain, &failure) < 0) {
        REQUIRE(failure.class == FAILURE_INVALID && failure.message[0] != '\0');
        return;
    }
    REQUIRE(chain.count > 0 && chain.count <= CHAIN_LENGTH_MAX && chain.pem_size < sizeof chain.pem);
    REQUIRE(strlen(chain.pem) == chain.pem_size && text_is_utf8(chain.pem, chain.pem_size));
    REQUIRE(first != NULL && strcmp(chain.certificates[0].id, first->id) == 0);
    REQUIRE(chain_read(chain.pem, chain.pem_size, &again, &failure) == 0 && again.count == chain.count);
    for (size_t i = 0; i < chain.count; i++)
        REQUIRE(strcmp(chain.certificates[i].id, again.certificates[i].id) == 0);
    if (chain_judge(&chain, first->public_key, first->public_key_size, "the key", &failure) < 0)
        REQUIRE(failure.class == FAILURE_INVALID && failure.message[0] != '\0');
    if (chain_judge_dates(&chain.certificates[0], 0, true, &failure) == 0)
        REQUIRE(first->not_before <= 0 && first->not_after >= 0);
}

static bool check_text(const char *pem, size_t size, struct certificate *certificate) {
    struct failure failure = {0};
    int count = certificate_count(pem, size, STEP_VERIFY, &failure);
    REQUIRE(count > 0 || (count == -1 && failure.class == FAILURE_INVALID));
    int r = certificate_parse(pem, size, STEP_VERIFY, certificate, &failure);
    if (r == 0)
        check_facts(certificate);
    else
        REQUIRE(failure.class == FAILURE_INVALID && failure.message[0] != '\0');
    check_chain(pem, size, r == 0 ? certificate : NULL);
    return r == 0;
}

/* The id is that of these very bytes, and the public key lies in them. */
static void check_der(struct input der) {
    struct certificate certificate = {0};
    uint8_t digest[WC_SHA256_DIGEST_SIZE];
    char id[CERTIFICATE_ID_SIZE];
    byte pem[CERTIFICATE_PEM_MAX];
    int size = der.size > 0 ? wc_DerToPem(der.data, (word32)der.size, pem, sizeof pem, CERT_TYPE) : 0;
    if (size <= 0 || !check_text((const char *)pem, (size_t)size, &certificate))
        return;
    REQUIRE(wc_Sha256Hash(der.data, (word32)der.size, digest) == 0);
    text_to_hex(digest, sizeof digest, id);
    REQUIRE(strcmp(id, certificate.id) == 0);
    REQUIRE(memmem(der.data, der.size, certificate.public_key, certificate.public_key_size) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    struct certificate certificate;
    if (input_byte(&input) % 2 == 0)
        check_text((const char *)input.data, input.size, &certificate);
    else
        check_der(input);
    return 0;
}
