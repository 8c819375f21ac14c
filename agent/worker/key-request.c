#include "common/step.h"
#include "common/text.h"
#include "worker/key-backend.h"

#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <string.h>

/* RFC 5280, appendix A: ub-common-name. wolfSSL 5.5 has room for one less. */
#define COMMON_NAME_MAX ((size_t)CTC_NAME_SIZE - 1 < 64 ? (size_t)CTC_NAME_SIZE - 1 : 64)

static int check_name(const char *common_name, struct failure *failure) {
    size_t length = strlen(common_name);
    if (length == 0)
        return failure_set(failure, FAILURE_INVALID, STEP_REQUEST, "the request has no common name");
    if (length > COMMON_NAME_MAX)
        return failure_set(failure, FAILURE_INVALID, STEP_REQUEST,
                           "the common name \"%.80s\" has %zu bytes, at most %zu fit into a request: set a shorter one",
                           common_name, length, COMMON_NAME_MAX);
    if (!text_is_utf8(common_name, length))
        return failure_set(failure, FAILURE_INVALID, STEP_REQUEST, "the common name \"%s\" is not UTF-8", common_name);
    return 0;
}

/* Writes the request in DER; returns its size or wolfCrypt's error. */
static int sign_request(struct key *key, Cert *request, uint8_t *der, word32 size, WC_RNG *random) {
    bool rsa = key_is_rsa(key);
    int type = rsa ? RSA_TYPE : ECC_TYPE;
    int algorithm = rsa ? CTC_SHA256wRSA : CTC_SHA256wECDSA;
    void *wolfcrypt = rsa ? (void *)&key->wolfcrypt.rsa : (void *)&key->wolfcrypt.ecc;
    request->sigType = algorithm;
    int r = wc_MakeCertReq_ex(request, der, size, type, wolfcrypt);
    return r > 0 ? wc_SignCert_ex(r, algorithm, der, size, type, wolfcrypt, random) : r;
}

static int make_der(struct key *key, const char *common_name, uint8_t *der, word32 size) {
    AUTO_FREE Cert *request = calloc(1, sizeof *request);
    WC_RNG random;
    if (request == NULL)
        return MEMORY_E;
    int r = wc_InitCert(request);
    if (r == 0)
        r = wc_InitRng(&random);
    if (r != 0)
        return r;
    request->version = 0; /* RFC 2986, section 4.1; wc_InitCert() sets that of a certificate */
    memcpy(request->subject.commonName, common_name, strlen(common_name));
    request->subject.commonNameEnc = CTC_UTF8;
    r = sign_request(key, request, der, size, &random);
    wc_FreeRng(&random);
    return r;
}

int key_make_request(struct key *key, const char *common_name, char **ret_pem, struct failure *failure) {
    uint8_t der[KEY_REQUEST_MAX];
    AUTO_FREE char *pem = NULL;
    if (check_name(common_name, failure) < 0)
        return -1;
    key->last_error[0] = '\0';
    int r = make_der(key, common_name, der, sizeof der);
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
