#include "authority_registration.h"
#include "harness.h"
#include "issuer.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <string.h>

#define CODE "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* What a certificate of these tests has. */
struct design {
    const char *common_name;
    EVP_PKEY *key;
    X509 *issuer; /* NULL: itself */
    EVP_PKEY *issuer_key;
    const char *constraints, *usage; /* NULL: without */
    const EVP_MD *digest;
    long from, to; /* seconds from now */
};

static EVP_PKEY *authority_key, *other_key;

static void add_extension(X509 *certificate, int identifier, const char *value) {
    X509_EXTENSION *extension = value != NULL ? X509V3_EXT_conf_nid(NULL, NULL, identifier, value) : NULL;
    if (extension != NULL)
        CU_ASSERT_EQUAL(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static X509 *make(const struct design *design) {
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    CU_ASSERT_EQUAL(
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)design->common_name, -1, -1, 0),
        1);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_set_issuer_name(certificate, design->issuer != NULL ? X509_get_subject_name(design->issuer) : name);
    X509_set_pubkey(certificate, design->key);
    X509_gmtime_adj(X509_getm_notBefore(certificate), design->from);
    X509_gmtime_adj(X509_getm_notAfter(certificate), design->to);
    add_extension(certificate, NID_basic_constraints, design->constraints);
    add_extension(certificate, NID_key_usage, design->usage);
    EVP_PKEY *signer = design->issuer_key != NULL ? design->issuer_key : design->key;
    CU_ASSERT_TRUE(X509_sign(certificate, signer, design->digest) > 0);
    return certificate;
}

static struct design authority_design(void) {
    return (struct design){.common_name = "Authority",
                           .key = authority_key,
                           .constraints = "critical,CA:TRUE",
                           .usage = "critical,keyCertSign",
                           .digest = EVP_sha256(),
                           .from = -60,
                           .to = 3600};
}

static struct design proof_design(X509 *authority) {
    return (struct design){.common_name = CODE,
                           .key = other_key,
                           .issuer = authority,
                           .issuer_key = authority_key,
                           .digest = EVP_sha256(),
                           .from = -60,
                           .to = 3600};
}

/* "" if the authority is taken, else the code of the rejection. */
static const char *judge_authority(const struct design *design) {
    struct rejection rejection = {.error_code = ""};
    X509 *certificate = make(design);
    registration_check_authority(certificate, time(NULL), &rejection);
    X509_free(certificate);
    return rejection.error_code;
}

static const char *judge_proof(X509 *authority, const struct design *design, const char *code) {
    struct rejection rejection = {.error_code = ""};
    X509 *certificate = make(design);
    registration_check_proof(authority, certificate, code, time(NULL), &rejection);
    X509_free(certificate);
    return rejection.error_code;
}

static void test_authorities(void) {
    static const char invalid[] = "CertificateValidationException";
    struct design design = authority_design();
    ASSERT_TEXT(judge_authority(&design), "");
    design.usage = NULL;
    ASSERT_TEXT(judge_authority(&design), "");
    design.constraints = "CA:TRUE,pathlen:0";
    ASSERT_TEXT(judge_authority(&design), "");
    design.usage = "critical,digitalSignature";
    ASSERT_TEXT(judge_authority(&design), invalid);
    design = authority_design();
    design.constraints = NULL;
    ASSERT_TEXT(judge_authority(&design), invalid);
    design.usage = NULL;
    ASSERT_TEXT(judge_authority(&design), invalid);
    design.constraints = "CA:FALSE";
    ASSERT_TEXT(judge_authority(&design), invalid);
    design = authority_design();
    design.from = 60;
    ASSERT_TEXT(judge_authority(&design), invalid);
    design.from = -60;
    design.to = -1;
    ASSERT_TEXT(judge_authority(&design), invalid);
    design = authority_design();
    design.digest = EVP_sha1();
    ASSERT_TEXT(judge_authority(&design), invalid);
}

static void test_keys(void) {
    struct design design = authority_design();
    static const char *const curves[] = {"P-384", "P-521"};
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        design.key = EVP_EC_gen(curves[i]);
        ASSERT_TEXT(judge_authority(&design), "");
        EVP_PKEY_free(design.key);
    }
    design.key = EVP_RSA_gen(2048);
    ASSERT_TEXT(judge_authority(&design), "");
    EVP_PKEY_free(design.key);
    design.key = EVP_RSA_gen(1024);
    ASSERT_TEXT(judge_authority(&design), "CertificateValidationException");
    EVP_PKEY_free(design.key);
    design.key = EVP_EC_gen("secp256k1");
    ASSERT_TEXT(judge_authority(&design), "CertificateValidationException");
    EVP_PKEY_free(design.key);
}

static void test_proofs(void) {
    static const char invalid[] = "CertificateValidationException", code[] = "RegistrationCodeValidationException";
    struct design design = authority_design();
    X509 *authority = make(&design);
    struct design proof = proof_design(authority);
    ASSERT_TEXT(judge_proof(authority, &proof, CODE), "");
    ASSERT_TEXT(judge_proof(authority, &proof, NULL), code);
    ASSERT_TEXT(judge_proof(authority, &proof, CODE "0"), code);
    ASSERT_TEXT(judge_proof(authority, &proof, ""), code);
    proof.common_name = "0123";
    ASSERT_TEXT(judge_proof(authority, &proof, CODE), code);
    proof = proof_design(authority);
    proof.issuer_key = other_key; /* the right name, another's key */
    ASSERT_TEXT(judge_proof(authority, &proof, CODE), invalid);
    proof = proof_design(authority);
    proof.issuer = NULL; /* the right key, another name */
    ASSERT_TEXT(judge_proof(authority, &proof, CODE), invalid);
    proof = proof_design(authority);
    proof.to = -1;
    ASSERT_TEXT(judge_proof(authority, &proof, CODE), invalid);
    X509_free(authority);
}

static void test_pem(void) {
    struct design design = authority_design();
    struct rejection rejection;
    X509 *certificate = make(&design);
    char *pem = issuer_certificate_pem(certificate), *twice = NULL, *cut = NULL;
    X509 *read = registration_read(pem, &rejection);
    CU_ASSERT_TRUE(read != NULL && X509_cmp(read, certificate) == 0);
    X509_free(read);
    CU_ASSERT_TRUE_FATAL(asprintf(&twice, "%s%s", pem, pem) > 0);
    CU_ASSERT_PTR_NULL(registration_read(twice, &rejection));
    ASSERT_TEXT(rejection.error_code, "CertificateValidationException");
    CU_ASSERT_PTR_NULL(registration_read("", &rejection));
    /* Every end but that of the last line, which may be missing. */
    for (size_t length = 0; length + 1 < strlen(pem); length++) {
        cut = strndup(pem, length);
        if ((read = registration_read(cut, &rejection)) != NULL)
            ASSERT_NUMBER(length, strlen(pem));
        X509_free(read);
        free(cut);
    }
    free(twice);
    free(pem);
    X509_free(certificate);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"authorities", test_authorities},    {"keys", test_keys}, {"proofs of the key", test_proofs},
        {"PEM of one certificate", test_pem}, {NULL, NULL},
    };
    authority_key = EVP_EC_gen("P-256");
    other_key = EVP_EC_gen("P-256");
    int result = unit_run("registration", tests, argc, argv);
    EVP_PKEY_free(authority_key);
    EVP_PKEY_free(other_key);
    return result;
}
