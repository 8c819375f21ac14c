#include "common/step.h"
#include "worker/der.h"
#include "worker/key-backend.h"

#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <string.h>

/* RFC 2986, section 4.1: CertificationRequestInfo, without attributes. Written here and not by wolfSSL, which has the
 * attributes of a name in an order of its own. Returns its size, 0 if it does not fit. */
static size_t write_info(const struct key *key, const struct subject *subject, uint8_t *der, size_t size) {
    static const uint8_t version[] = {DER_INTEGER, 1, 0}, no_attributes[] = {DER_CONTEXT(0), 0};
    struct der_writer writer;
    der_writer_open(&writer, der, size);
    const uint8_t *end = writer.at;
    der_prepend(&writer, no_attributes, sizeof no_attributes);
    der_prepend(&writer, key->public_der, key->public_size);
    der_prepend(&writer, subject->der, subject->size);
    der_prepend(&writer, version, sizeof version);
    der_wrap(&writer, DER_SEQUENCE, end);
    if (writer.is_full)
        return 0;
    memmove(der, writer.at, (size_t)(end - writer.at));
    return (size_t)(end - writer.at);
}

/* Writes the request in DER; returns its size or wolfCrypt's error. */
static int make_der(struct key *key, const struct subject *subject, uint8_t *der, word32 size) {
    bool rsa = key_is_rsa(key);
    void *wolfcrypt = rsa ? (void *)&key->wolfcrypt.rsa : (void *)&key->wolfcrypt.ecc;
    size_t info_size = write_info(key, subject, der, size);
    WC_RNG random;
    if (info_size == 0)
        return BUFFER_E;
    int r = wc_InitRng(&random);
    if (r != 0)
        return r;
    r = wc_SignCert_ex((int)info_size, rsa ? CTC_SHA256wRSA : CTC_SHA256wECDSA, der, size, rsa ? RSA_TYPE : ECC_TYPE,
                       wolfcrypt, &random);
    wc_FreeRng(&random);
    return r;
}

int key_make_request(struct key *key, const struct subject *subject, char **ret_pem, struct failure *failure) {
    uint8_t der[KEY_REQUEST_MAX];
    AUTO_FREE char *pem = NULL;
    key->last_error[0] = '\0';
    int r = make_der(key, subject, der, sizeof der);
    if (r > 0) {
        pem = calloc(1, KEY_REQUEST_MAX + 1);
        r = pem != NULL ? wc_DerToPem(der, (word32)r, (byte *)pem, KEY_REQUEST_MAX, CERTREQ_TYPE) : MEMORY_E;
    }
    if (r > 0) {
        *ret_pem = TAKE_POINTER(pem);
        return 0;
    }
    if (key->last_error[0] != '\0')
        return failure_set(failure, FAILURE_TPM, STEP_REQUEST, "%s", key->last_error);
    return failure_set(failure, FAILURE_INTERNAL, STEP_REQUEST, "the request cannot be made: %s", wc_GetErrorString(r));
}
