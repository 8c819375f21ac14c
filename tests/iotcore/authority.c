/* Makes the certificates that a stand-in for AWS IoT Core needs before it starts, for iotcore-setup:
 *   iotcore-authority authority aws|private KEY                       a self-signed authority for the key
 *   iotcore-authority issue KEY CERTIFICATE REQUEST [SECONDS]         a certificate for the signing request
 * as AWS's, or one that ends so many seconds from now. PEM comes out of standard output. */
#include "issuer.h"

#include <openssl/pem.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, const char *which) {
    fprintf(stderr, "iotcore-authority: %s: %s\n", what, which);
    return EXIT_FAILURE;
}

static int print_certificate(X509 *certificate) {
    char *pem = certificate != NULL ? issuer_certificate_pem(certificate) : NULL;
    bool done = pem != NULL && fputs(pem, stdout) >= 0;
    free(pem);
    X509_free(certificate);
    return done ? EXIT_SUCCESS : fail("can't make the certificate", "OpenSSL");
}

static int make_authority(const char *profile, const char *key_path) {
    EVP_PKEY *key = NULL;
    FILE *file = fopen(key_path, "re");
    if (file != NULL) {
        key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
        fclose(file);
    }
    if (key == NULL)
        return fail("no key in", key_path);
    int result =
        print_certificate(issuer_make_authority(strcmp(profile, "private") == 0 ? ISSUER_PRIVATE : ISSUER_AWS, key));
    EVP_PKEY_free(key);
    return result;
}

static X509_REQ *read_request(const char *path) {
    char pem[8192];
    struct rejection rejection = {.message = "can't read it"};
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    size_t size = fread(pem, 1, sizeof pem, file);
    fclose(file);
    X509_REQ *request = issuer_read_request(pem, size, &rejection);
    if (request == NULL)
        fail(path, rejection.message);
    return request;
}

/* seconds: NULL for the validity of AWS's. What has ended already was valid for a day. */
static int issue(const char *key_path, const char *certificate_path, const char *request_path, const char *seconds) {
    struct issuer_terms terms = {.profile = ISSUER_AWS, .now = time(NULL)};
    if (seconds != NULL) {
        terms.profile = ISSUER_PRIVATE;
        terms.end = strtoll(seconds, NULL, 10);
        terms.begin = terms.end > 0 ? 0 : terms.end - 86400;
    }
    struct issuer issuer = {0};
    X509 *certificate = NULL;
    X509_REQ *request = read_request(request_path);
    if (request != NULL && issuer_load(&issuer, key_path, certificate_path) == 0)
        certificate = issuer_sign(&issuer, &terms, X509_REQ_get_subject_name(request), X509_REQ_get0_pubkey(request));
    X509_REQ_free(request);
    issuer_clear(&issuer);
    return print_certificate(certificate);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "authority") == 0)
        return make_authority(argv[2], argv[3]);
    if ((argc == 5 || argc == 6) && strcmp(argv[1], "issue") == 0)
        return issue(argv[2], argv[3], argv[4], argv[5]);
    fprintf(stderr, "usage: iotcore-authority authority aws|private KEY\n"
                    "       iotcore-authority issue KEY CERTIFICATE REQUEST [SECONDS]\n");
    return 2;
}
