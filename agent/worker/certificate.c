#include "worker/certificate.h"

#include "common/cleanup.h"
#include "common/text.h"

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/sha256.h>

#include <string.h>
#include <time.h>

#define PEM_BEGIN "-----BEGIN CERTIFICATE-----"
#define PEM_END "-----END CERTIFICATE-----"
#define DER_MAX 16384

_Static_assert(CERTIFICATE_ID_SIZE == 2 * WC_SHA256_DIGEST_SIZE + 1, "the id is a SHA-256");

struct der {
    uint8_t bytes[DER_MAX];
    size_t size;
};

static void free_x509(WOLFSSL_X509 **x509) {
    if (*x509 != NULL)
        wolfSSL_X509_free(*x509);
}

#define AUTO_X509 CLEANUP(free_x509)

/* Takes the next certificate out of the text and moves *text behind it. Returns 1, 0 if there is no more, -1 if it is
 * not well-formed. Text between certificates is allowed (RFC 7468, section 2). */
static int next_der(const char **text, const char *end, struct der *ret) {
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

/* Reads the length of a DER element at *offset and moves behind it (X.690, section 8.1.3). Two bytes of length are more
 * than DER_MAX. */
static int read_length(const struct der *der, size_t *offset, size_t end, size_t *ret) {
    size_t at = *offset;
    if (at >= end)
        return -1;
    size_t length = der->bytes[at++];
    if (length >= 0x80) {
        size_t count = length & 0x7f;
        if (count == 0 || count > 2 || count > end - at)
            return -1;
        for (length = 0; count > 0; count--)
            length = length << 8 | der->bytes[at++];
    }
    *offset = at;
    *ret = length;
    return 0;
}

/* The element at *offset: where its content begins; *offset moves behind it. */
static int next_element(const struct der *der, size_t *offset, size_t end, size_t *ret_content) {
    size_t content = *offset + 1, length;
    if (read_length(der, &content, end, &length) < 0 || length > end - content)
        return -1;
    *ret_content = content;
    *offset = content + length;
    return 0;
}

/* The SubjectPublicKeyInfo as it stands in the certificate (RFC 5280, section 4.1): the seventh element of the
 * TBSCertificate, whose first one, the version, has the tag [0] and may be missing. wolfSSL reads over a wrong length
 * of the version, so that the two would not mean the same elements if all this was not looked at. */
static int find_public_key(const struct der *der, size_t *ret_begin, size_t *ret_end) {
    static const uint8_t tags[] = {0x02, 0x30, 0x30, 0x30, 0x30, 0x30}; /* serialNumber ... subjectPublicKeyInfo */
    static const uint8_t version[] = {0xa0, 0x03, 0x02, 0x01};
    size_t offset = 0, content, end, begin = 0;
    if (next_element(der, &offset, der->size, &content) < 0 || offset != der->size)
        return -1;
    end = content;
    if (next_element(der, &end, der->size, &offset) < 0)
        return -1;
    if (end - offset > sizeof version && memcmp(der->bytes + offset, version, sizeof version) == 0)
        offset += sizeof version + 1;
    for (size_t i = 0; i < sizeof tags; i++) {
        begin = offset;
        if (begin >= end || der->bytes[begin] != tags[i] || next_element(der, &offset, end, &content) < 0)
            return -1;
    }
    *ret_begin = begin;
    *ret_end = offset;
    return 0;
}

static int read_public_key(const struct der *der, struct certificate *certificate) {
    size_t begin, end;
    if (find_public_key(der, &begin, &end) < 0 || end - begin > sizeof certificate->public_key)
        return -1;
    memcpy(certificate->public_key, der->bytes + begin, end - begin);
    certificate->public_key_size = end - begin;
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

static int read_id(const struct der *der, struct certificate *certificate) {
    uint8_t digest[WC_SHA256_DIGEST_SIZE];
    if (wc_Sha256Hash(der->bytes, (word32)der->size, digest) != 0)
        return -1;
    text_to_hex(digest, sizeof digest, certificate->id);
    return 0;
}

static WOLFSSL_X509 *load_x509(const struct der *der) {
    return wolfSSL_X509_load_certificate_buffer(der->bytes, (int)der->size, WOLFSSL_FILETYPE_ASN1);
}

static int read_facts(const struct der *der, struct certificate *ret) {
    struct certificate certificate = {0};
    AUTO_X509 WOLFSSL_X509 *x509 = load_x509(der);
    if (x509 == NULL || read_time(wolfSSL_X509_get_notBefore(x509), &certificate.not_before) < 0 ||
        read_time(wolfSSL_X509_get_notAfter(x509), &certificate.not_after) < 0 ||
        read_public_key(der, &certificate) < 0 || read_id(der, &certificate) < 0)
        return -1;
    read_common_name(x509, &certificate);
    *ret = certificate;
    return 0;
}

/* The text goes to files and D-Bus replies that others read: a private key in it would be given away. */
static int check_text(const char *pem, size_t size, const char *step, struct failure *failure) {
    static const char private_key[] = "PRIVATE KEY-----";
    if (size > CERTIFICATE_PEM_MAX)
        return failure_set(failure, FAILURE_INVALID, step, "the certificates are larger than %d bytes",
                           CERTIFICATE_PEM_MAX);
    if (memmem(pem, size, private_key, strlen(private_key)) != NULL)
        return failure_set(failure, FAILURE_INVALID, step,
                           "there is a private key among the certificates: put it into a file of its own");
    return 0;
}

static int fail_number(int number, const char *step, struct failure *failure) {
    return failure_set(failure, FAILURE_INVALID, step,
                       "certificate %d is damaged: `openssl x509 -in FILE -noout -text` should show it", number);
}

static int fail_none(const char *step, struct failure *failure) {
    return failure_set(failure, FAILURE_INVALID, step,
                       "there is no certificate in it: expected PEM, \"" PEM_BEGIN "\"; `openssl x509 -inform DER` "
                       "converts DER");
}

int certificate_parse(const char *pem, size_t size, const char *step, struct certificate *ret,
                      struct failure *failure) {
    struct der der;
    if (check_text(pem, size, step, failure) < 0)
        return -1;
    int r = next_der(&pem, pem + size, &der);
    if (r == 0)
        return fail_none(step, failure);
    if (r < 0 || read_facts(&der, ret) < 0)
        return fail_number(1, step, failure);
    return 0;
}

bool certificate_has_key(const struct certificate *certificate, const uint8_t *public_key, size_t size) {
    return certificate->public_key_size == size && memcmp(certificate->public_key, public_key, size) == 0;
}

int certificate_count(const char *pem, size_t size, const char *step, struct failure *failure) {
    struct der der;
    const char *end = pem + size;
    int count = 0, r;
    if (check_text(pem, size, step, failure) < 0)
        return -1;
    while ((r = next_der(&pem, end, &der)) > 0) {
        AUTO_X509 WOLFSSL_X509 *x509 = load_x509(&der);
        if (x509 == NULL)
            return fail_number(count + 1, step, failure);
        count++;
    }
    if (r < 0)
        return fail_number(count + 1, step, failure);
    return count > 0 ? count : fail_none(step, failure);
}
