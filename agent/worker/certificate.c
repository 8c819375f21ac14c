#include "worker/certificate.h"

#include "common/cleanup.h"
#include "common/text.h"

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/hash.h>

#include <string.h>
#include <time.h>

#define PEM_BEGIN "-----BEGIN CERTIFICATE-----"
#define PEM_END "-----END CERTIFICATE-----"
_Static_assert(CERTIFICATE_ID_SIZE == 2 * WC_SHA256_DIGEST_SIZE + 1, "the id is a SHA-256");

static void free_x509(WOLFSSL_X509 **x509) {
    if (*x509 != NULL)
        wolfSSL_X509_free(*x509);
}

#define AUTO_X509 CLEANUP(free_x509)

int certificate_next(const char **text, const char *end, struct certificate_der *ret) {
    const char *begin = memmem(*text, (size_t)(end - *text), PEM_BEGIN, strlen(PEM_BEGIN));
    if (begin == NULL)
        return 0;
    const char *stop = memmem(begin, (size_t)(end - begin), PEM_END, strlen(PEM_END));
    if (stop == NULL)
        return -1;
    stop += strlen(PEM_END);
    int size =
        wc_CertPemToDer((const unsigned char *)begin, (int)(stop - begin), ret->bytes, sizeof ret->bytes, CERT_TYPE);
    if (size <= 0)
        return -1;
    ret->size = (size_t)size;
    *text = stop;
    return 1;
}

static int hash(const uint8_t *begin, const uint8_t *end, uint8_t digest[WC_SHA256_DIGEST_SIZE]) {
    return wc_Sha256Hash(begin, (word32)(end - begin), digest) == 0 ? 0 : -1;
}

static int read_fields(const struct certificate_der *der, struct certificate *certificate) {
    struct certificate_fields fields;
    if (!certificate_fields_read(der->bytes, der->size, &fields) ||
        !certificate_fields_read_usage(&fields, &certificate->usage) ||
        hash(fields.subject.begin, fields.subject.end, certificate->subject_digest) < 0 ||
        hash(fields.issuer.begin, fields.issuer.end, certificate->issuer_digest) < 0)
        return -1;
    size_t size = (size_t)(fields.public_key.end - fields.public_key.begin);
    if (size > sizeof certificate->public_key)
        return -1;
    memcpy(certificate->public_key, fields.public_key.begin, size);
    certificate->public_key_size = size;
    certificate->weakness = certificate_fields_weakness(&fields);
    return 0;
}

/* Not wolfSSL_ASN1_TIME_to_tm(): that normalises by mktime(), which moves times that the local time zone skips. */
static int read_time(const WOLFSSL_ASN1_TIME *time, int64_t *ret) {
    struct tm calendar = {0};
    if (time == NULL || wc_GetDateAsCalendarTime(time->data, time->length, (byte)time->type, &calendar) != 0)
        return -1;
    calendar.tm_isdst = 0;
    *ret = timegm(&calendar);
    return 0;
}

static void read_common_name(WOLFSSL_X509 *x509, struct certificate *certificate) {
    WOLFSSL_X509_NAME *subject = wolfSSL_X509_get_subject_name(x509);
    int size = subject == NULL ? -1
                               : wolfSSL_X509_NAME_get_text_by_NID(subject, NID_commonName, certificate->common_name,
                                                                   sizeof certificate->common_name);
    if (size < 0)
        certificate->common_name[0] = '\0';
    text_make_printable(certificate->common_name);
}

static int read_id(const struct certificate_der *der, struct certificate *certificate) {
    uint8_t digest[WC_SHA256_DIGEST_SIZE];
    if (hash(der->bytes, der->bytes + der->size, digest) < 0)
        return -1;
    text_to_hex(digest, sizeof digest, certificate->id);
    return 0;
}

static WOLFSSL_X509 *load_x509(const struct certificate_der *der) {
    return wolfSSL_X509_load_certificate_buffer(der->bytes, (int)der->size, WOLFSSL_FILETYPE_ASN1);
}

int certificate_read(const struct certificate_der *der, struct certificate *ret) {
    struct certificate certificate = {0};
    AUTO_X509 WOLFSSL_X509 *x509 = load_x509(der);
    if (x509 == NULL || read_time(wolfSSL_X509_get_notBefore(x509), &certificate.not_before) < 0 ||
        read_time(wolfSSL_X509_get_notAfter(x509), &certificate.not_after) < 0 || read_fields(der, &certificate) < 0 ||
        read_id(der, &certificate) < 0)
        return -1;
    read_common_name(x509, &certificate);
    *ret = certificate;
    return 0;
}

/* The text goes to files and D-Bus replies that others read: a private key in it would be given away. */
int certificate_check_text(const char *pem, size_t size, size_t maximum, const char *step, struct failure *failure) {
    static const char private_key[] = "PRIVATE KEY-----";
    if (size > maximum)
        return failure_set(failure, FAILURE_INVALID, step, "the certificates are larger than %zu bytes", maximum);
    if (memmem(pem, size, private_key, strlen(private_key)) != NULL)
        return failure_set(failure, FAILURE_INVALID, step,
                           "there is a private key among the certificates: put it into a file of its own");
    return 0;
}

int certificate_fail_number(int number, const char *step, struct failure *failure) {
    return failure_set(failure, FAILURE_INVALID, step,
                       "certificate %d is damaged: `openssl x509 -in FILE -noout -text` should show it", number);
}

int certificate_fail_none(const char *step, struct failure *failure) {
    return failure_set(failure, FAILURE_INVALID, step,
                       "there is no certificate in it: expected PEM, \"" PEM_BEGIN "\"; `openssl x509 -inform DER` "
                       "converts DER");
}

int certificate_parse(const char *pem, size_t size, const char *step, struct certificate *ret,
                      struct failure *failure) {
    struct certificate_der der;
    if (certificate_check_text(pem, size, CERTIFICATE_PEM_MAX, step, failure) < 0)
        return -1;
    int r = certificate_next(&pem, pem + size, &der);
    if (r == 0)
        return certificate_fail_none(step, failure);
    if (r < 0 || certificate_read(&der, ret) < 0)
        return certificate_fail_number(1, step, failure);
    return 0;
}

bool certificate_is_id(const char *text) {
    return strlen(text) == CERTIFICATE_ID_SIZE - 1 && strspn(text, "0123456789abcdef") == CERTIFICATE_ID_SIZE - 1;
}

bool certificate_has_key(const struct certificate *certificate, const uint8_t *public_key, size_t size) {
    return certificate->public_key_size == size && memcmp(certificate->public_key, public_key, size) == 0;
}

bool certificate_is_signed_by(const struct certificate_der *der, const struct certificate_der *issuer) {
    AUTO_X509 WOLFSSL_X509 *x509 = load_x509(der);
    AUTO_X509 WOLFSSL_X509 *issuer_x509 = load_x509(issuer);
    WOLFSSL_EVP_PKEY *key = issuer_x509 != NULL ? wolfSSL_X509_get_pubkey(issuer_x509) : NULL;
    bool is_signed = x509 != NULL && key != NULL && wolfSSL_X509_verify(x509, key) == WOLFSSL_SUCCESS;
    wolfSSL_EVP_PKEY_free(key);
    return is_signed;
}

int certificate_count(const char *pem, size_t size, const char *step, struct failure *failure) {
    struct certificate_der der;
    const char *end = pem + size;
    int count = 0, r;
    if (certificate_check_text(pem, size, CERTIFICATE_PEM_MAX, step, failure) < 0)
        return -1;
    while ((r = certificate_next(&pem, end, &der)) > 0) {
        AUTO_X509 WOLFSSL_X509 *x509 = load_x509(&der);
        if (x509 == NULL)
            return certificate_fail_number(count + 1, step, failure);
        count++;
    }
    if (r < 0)
        return certificate_fail_number(count + 1, step, failure);
    return count > 0 ? count : certificate_fail_none(step, failure);
}
