#include "authority_registration.h"

#include "issuer.h"
#include "registry_authority.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string.h>

static int invalid(struct rejection *rejection, const char *text) {
    return rejection_set(rejection, 400, "CertificateValidationException", "%s", text);
}

/* Not one certificate and something else: PEM of a chain is refused. */
static X509 *read_single(BIO *bio) {
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    X509 *second = certificate != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    ERR_clear_error();
    if (second == NULL)
        return certificate;
    X509_free(second);
    X509_free(certificate);
    return NULL;
}

X509 *registration_read(const char *pem, struct rejection *rejection) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate = bio != NULL ? read_single(bio) : NULL;
    BIO_free(bio);
    if (certificate == NULL)
        invalid(rejection, "The certificate is not PEM of a single X.509 certificate");
    return certificate;
}

static int check_validity(const X509 *certificate, time_t now, struct rejection *rejection) {
    if (X509_cmp_time(X509_get0_notBefore(certificate), &now) >= 0)
        return invalid(rejection, "The certificate is not valid yet");
    if (X509_cmp_time(X509_get0_notAfter(certificate), &now) <= 0)
        return invalid(rejection, "The certificate has expired");
    return 0;
}

int registration_check_client(X509 *certificate, time_t now, struct rejection *rejection) {
    const char *fault = issuer_certificate_fault(certificate);
    return fault != NULL ? invalid(rejection, fault) : check_validity(certificate, now, rejection);
}

int registration_check_authority(X509 *authority, time_t now, struct rejection *rejection) {
    /* 1 is CA:TRUE; the other values other than 0 are for certificates of version 1 and guesses */
    if (X509_check_ca(authority) != 1)
        return invalid(rejection, "The CA certificate has no basic constraints CA:TRUE, or may not sign certificates");
    return registration_check_client(authority, now, rejection);
}

static int has_common_name(const X509 *certificate, const char *name) {
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, index) >= 0)
        return 0;
    const ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
    size_t length = strlen(name);
    return (size_t)ASN1_STRING_length(value) == length && memcmp(ASN1_STRING_get0_data(value), name, length) == 0;
}

int registration_check_proof(X509 *authority, X509 *verification, const char *code, time_t now,
                             struct rejection *rejection) {
    if (!registry_signed_by(verification, authority))
        return invalid(rejection, "The verification certificate is not signed by the CA certificate's key");
    if (code == NULL || !has_common_name(verification, code))
        return rejection_set(rejection, 400, "RegistrationCodeValidationException",
                             "The common name of the verification certificate is not the registration code");
    return registration_check_client(verification, now, rejection);
}
