#include "issuer.h"

#include <openssl/ec.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_LIMIT 4096
#define SERIAL_SIZE 20
#define AUTHORITY_DAYS 36500
/* Seen in certificates issued by AWS IoT: all of it is one organizational unit, longer than X.520 allows. */
#define AWS_AUTHORITY "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"

static inline void cleanup_x509(X509 **certificate) {
    X509_free(*certificate);
}

static inline void cleanup_name(X509_NAME **name) {
    X509_NAME_free(*name);
}

static inline void cleanup_bio(BIO **bio) {
    BIO_free(*bio);
}

#define AUTO(function) __attribute__((cleanup(function)))

static X509 *take(X509 **certificate) {
    X509 *taken = *certificate;
    *certificate = NULL;
    return taken;
}

int issuer_load(struct issuer *issuer, const char *key_path, const char *certificate_path) {
    FILE *file = fopen(key_path, "re");
    if (file != NULL) {
        issuer->key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
        fclose(file);
    }
    file = fopen(certificate_path, "re");
    if (file != NULL) {
        issuer->certificate = PEM_read_X509(file, NULL, NULL, NULL);
        fclose(file);
    }
    return issuer->key != NULL && issuer->certificate != NULL &&
                   X509_check_private_key(issuer->certificate, issuer->key) == 1
               ? 0
               : -1;
}

void issuer_clear(struct issuer *issuer) {
    EVP_PKEY_free(issuer->key);
    X509_free(issuer->certificate);
    *issuer = (struct issuer){0};
}

static bool set_serial(X509 *certificate) {
    unsigned char bytes[SERIAL_SIZE];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    /* Positive and never shorter than 20 bytes (RFC 5280, 4.1.2.2 allows no more). */
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40);
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool done = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return done;
}

static bool add_extension(X509 *certificate, X509 *issuer, int identifier, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, identifier, value);
    bool done = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return done;
}

/* Years as in X.509: two digits to 2049, four from then on. */
static bool set_time(ASN1_TIME *time, time_t now, int64_t seconds) {
    return X509_time_adj_ex(time, (int)(seconds / 86400), (long)(seconds % 86400), &now) != NULL;
}

static bool set_validity(X509 *certificate, const struct issuer_terms *terms) {
    switch (terms->profile) {
    case ISSUER_AWS:
        return set_time(X509_getm_notBefore(certificate), terms->now, -120) &&
               ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate), "20491231235959Z") == 1;
    case ISSUER_PRIVATE:
        return set_time(X509_getm_notBefore(certificate), terms->now, terms->begin) &&
               set_time(X509_getm_notAfter(certificate), terms->now, terms->end);
    }
    return false;
}

static X509_NAME *authority_name(enum issuer_profile profile) {
    static const struct {
        const char *field;
        const char *value;
    } names[] = {[ISSUER_AWS] = {"OU", AWS_AUTHORITY}, [ISSUER_PRIVATE] = {"CN", "Stand-in Private Device CA"}};
    X509_NAME *name = X509_NAME_new();
    /* V_ASN1_UTF8STRING, unlike the MBSTRING types, does not enforce the bound of 64 characters. */
    if (name != NULL && X509_NAME_add_entry_by_txt(name, names[profile].field, V_ASN1_UTF8STRING,
                                                   (const unsigned char *)names[profile].value, -1, -1, 0) == 1)
        return name;
    X509_NAME_free(name);
    return NULL;
}

X509 *issuer_make_authority(enum issuer_profile profile, EVP_PKEY *key) {
    AUTO(cleanup_x509) X509 *certificate = X509_new();
    AUTO(cleanup_name) X509_NAME *name = authority_name(profile);
    if (certificate == NULL || name == NULL || X509_set_version(certificate, X509_VERSION_3) != 1 ||
        !set_serial(certificate) || X509_set_subject_name(certificate, name) != 1 ||
        X509_set_issuer_name(certificate, name) != 1 || X509_set_pubkey(certificate, key) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(certificate), -86400) == NULL ||
        X509_time_adj_ex(X509_getm_notAfter(certificate), AUTHORITY_DAYS, 0, NULL) == NULL)
        return NULL;
    if (!add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE") ||
        !add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(certificate, certificate, NID_subject_key_identifier, "hash") ||
        X509_sign(certificate, key, EVP_sha256()) <= 0)
        return NULL;
    return take(&certificate);
}

X509 *issuer_sign(const struct issuer *issuer, const struct issuer_terms *terms, const X509_NAME *subject,
                  EVP_PKEY *public_key) {
    AUTO(cleanup_x509) X509 *certificate = X509_new();
    if (certificate == NULL || X509_set_version(certificate, X509_VERSION_3) != 1 || !set_serial(certificate) ||
        X509_set_subject_name(certificate, subject) != 1 ||
        X509_set_issuer_name(certificate, X509_get_subject_name(issuer->certificate)) != 1 ||
        X509_set_pubkey(certificate, public_key) != 1 || !set_validity(certificate, terms))
        return NULL;
    if (!add_extension(certificate, issuer->certificate, NID_authority_key_identifier, "keyid") ||
        !add_extension(certificate, issuer->certificate, NID_subject_key_identifier, "hash") ||
        !add_extension(certificate, issuer->certificate, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(certificate, issuer->certificate, NID_key_usage, "critical,digitalSignature"))
        return NULL;
    if (terms->profile == ISSUER_PRIVATE &&
        !add_extension(certificate, issuer->certificate, NID_ext_key_usage, "clientAuth"))
        return NULL;
    return X509_sign(certificate, issuer->key, EVP_sha256()) > 0 ? take(&certificate) : NULL;
}

static bool key_accepted(EVP_PKEY *key) {
    if (EVP_PKEY_is_a(key, "RSA"))
        return EVP_PKEY_get_bits(key) >= 2048;
    char group[32];
    if (!EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, group, sizeof group, NULL) != 1)
        return false;
    return strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0 || strcmp(group, "secp521r1") == 0;
}

static bool signature_accepted(int signature) {
    int digest = NID_undef;
    if (signature == NID_rsassaPss || OBJ_find_sigid_algs(signature, &digest, NULL) != 1)
        return false;
    return digest == NID_sha256 || digest == NID_sha384 || digest == NID_sha512;
}

static int check_request(X509_REQ *request, struct rejection *rejection) {
    static const char code[] = "InvalidCertificateSigningRequest";
    EVP_PKEY *key = X509_REQ_get0_pubkey(request);
    if (key == NULL || !key_accepted(key))
        return rejection_set(rejection, 400, code, "The key in the certificate signing request is not valid");
    if (!signature_accepted(X509_REQ_get_signature_nid(request)))
        return rejection_set(rejection, 400, code, "The signature algorithm of the request is not supported");
    if (X509_REQ_verify(request, key) != 1)
        return rejection_set(rejection, 400, code, "The signature of the request is not valid");
    return 0;
}

X509_REQ *issuer_read_request(const char *pem, size_t size, struct rejection *rejection) {
    static const char code[] = "InvalidCertificateSigningRequest";
    if (size == 0 || size > REQUEST_LIMIT) {
        rejection_set(rejection, 400, code, "The request must have 1 to %d characters", REQUEST_LIMIT);
        return NULL;
    }
    AUTO(cleanup_bio) BIO *bio = BIO_new_mem_buf(pem, (int)size);
    X509_REQ *request = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
    if (request == NULL) {
        rejection_set(rejection, 400, code, "The certificate signing request is not PEM of PKCS #10");
        return NULL;
    }
    if (check_request(request, rejection) == 0)
        return request;
    X509_REQ_free(request);
    return NULL;
}

X509 *issuer_read_certificate(const char *pem, size_t size) {
    AUTO(cleanup_bio) BIO *bio = size <= INT_MAX ? BIO_new_mem_buf(pem, (int)size) : NULL;
    return bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
}

const char *issuer_certificate_fault(X509 *certificate) {
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    if (key == NULL || !key_accepted(key))
        return "The key in the certificate is not valid";
    if (!signature_accepted(X509_get_signature_nid(certificate)))
        return "The signature algorithm of the certificate is not supported";
    return NULL;
}

bool issuer_certificate_id(const X509 *certificate, char id[ISSUER_ID_SIZE]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (X509_digest(certificate, EVP_sha256(), digest, &size) != 1 || size != (ISSUER_ID_SIZE - 1) / 2)
        return false;
    for (unsigned i = 0; i < size; i++)
        snprintf(id + 2 * i, 3, "%02x", digest[i]);
    return true;
}

static char *bio_text(BIO *bio) {
    char *bytes;
    long size = BIO_get_mem_data(bio, &bytes);
    return size > 0 ? strndup(bytes, (size_t)size) : NULL;
}

char *issuer_certificate_pem(X509 *certificate) {
    AUTO(cleanup_bio) BIO *bio = BIO_new(BIO_s_mem());
    return bio != NULL && PEM_write_bio_X509(bio, certificate) == 1 ? bio_text(bio) : NULL;
}

char *issuer_key_pem(const EVP_PKEY *key) {
    AUTO(cleanup_bio) BIO *bio = BIO_new(BIO_s_mem());
    return bio != NULL && PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL) == 1 ? bio_text(bio)
                                                                                                         : NULL;
}
