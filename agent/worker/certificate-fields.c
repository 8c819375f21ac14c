#include "worker/certificate-fields.h"

#include <string.h>

#define CONTENT_IS(element, bytes) der_content_is(&(element), bytes, sizeof(bytes))

/* The version has the tag [0] and may be missing. wolfSSL reads over a wrong length of it, so that the two would not
 * mean the same elements if all of this was not looked at. */
static void skip_version(const uint8_t **at, const uint8_t *end) {
    static const uint8_t version[] = {DER_CONTEXT(0), 0x03, DER_INTEGER, 0x01};
    if ((size_t)(end - *at) > sizeof version && memcmp(*at, version, sizeof version) == 0)
        *at += sizeof version + 1;
}

/* What may follow the public key: [1] and [2], long out of use, and [3]. */
static bool read_rest(const uint8_t *at, const uint8_t *end, struct der_element *ret_extensions) {
    struct der_element element;
    while (at != end) {
        if (!der_next(&at, end, &element))
            return false;
        const uint8_t *inside = element.content;
        if (element.tag == DER_CONTEXT(3) &&
            (!der_expect(&inside, element.end, DER_SEQUENCE, ret_extensions) || inside != element.end))
            return false;
    }
    return true;
}

bool certificate_fields_read(const uint8_t *der, size_t size, struct certificate_fields *ret) {
    struct certificate_fields fields = {.extensions = {.begin = NULL}};
    struct der_element certificate, body, ignored;
    const uint8_t *at = der, *end = der + size;
    if (!der_expect(&at, end, DER_SEQUENCE, &certificate) || at != end)
        return false;
    at = certificate.content;
    if (!der_expect(&at, certificate.end, DER_SEQUENCE, &body))
        return false;
    at = body.content;
    end = body.end;
    skip_version(&at, end);
    if (!der_expect(&at, end, DER_INTEGER, &ignored) || !der_expect(&at, end, DER_SEQUENCE, &fields.signature) ||
        !der_expect(&at, end, DER_SEQUENCE, &fields.issuer) || !der_expect(&at, end, DER_SEQUENCE, &ignored) ||
        !der_expect(&at, end, DER_SEQUENCE, &fields.subject) ||
        !der_expect(&at, end, DER_SEQUENCE, &fields.public_key) || !read_rest(at, end, &fields.extensions))
        return false;
    *ret = fields;
    return true;
}

/* SEQUENCE { cA BOOLEAN DEFAULT FALSE, ... } */
static bool read_basic_constraints(const uint8_t *at, const uint8_t *end, struct certificate_usage *usage) {
    struct der_element constraints, ca;
    if (!der_expect(&at, end, DER_SEQUENCE, &constraints))
        return false;
    at = constraints.content;
    usage->is_ca = der_expect(&at, constraints.end, DER_BOOLEAN, &ca) && ca.content != ca.end && *ca.content != 0;
    return true;
}

/* BIT STRING: the number of unused bits, then digitalSignature as the first bit. */
static bool read_key_usage(const uint8_t *at, const uint8_t *end, struct certificate_usage *usage) {
    struct der_element bits;
    if (!der_expect(&at, end, DER_BIT_STRING, &bits) || bits.content == bits.end)
        return false;
    usage->may_sign = bits.end - bits.content > 1 && (bits.content[1] & 0x80) != 0;
    return true;
}

static bool read_extended_key_usage(const uint8_t *at, const uint8_t *end, struct certificate_usage *usage) {
    static const uint8_t client[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02}, any[] = {0x55, 0x1d, 0x25, 0x00};
    struct der_element purposes, purpose;
    if (!der_expect(&at, end, DER_SEQUENCE, &purposes))
        return false;
    usage->may_authenticate = false;
    for (at = purposes.content; at != purposes.end;) {
        if (!der_expect(&at, purposes.end, DER_OBJECT_IDENTIFIER, &purpose))
            return false;
        if (CONTENT_IS(purpose, client) || CONTENT_IS(purpose, any))
            usage->may_authenticate = true;
    }
    return true;
}

/* Extension ::= SEQUENCE { extnID, critical BOOLEAN DEFAULT FALSE, extnValue OCTET STRING } */
static bool read_extension(const struct der_element *extension, struct certificate_usage *usage) {
    static const uint8_t constraints[] = {0x55, 0x1d, 0x13}, key[] = {0x55, 0x1d, 0x0f},
                         extended[] = {0x55, 0x1d, 0x25};
    struct der_element name, critical, value;
    const uint8_t *at = extension->content;
    if (!der_expect(&at, extension->end, DER_OBJECT_IDENTIFIER, &name))
        return false;
    (void)der_expect(&at, extension->end, DER_BOOLEAN, &critical);
    if (!der_expect(&at, extension->end, DER_OCTET_STRING, &value))
        return false;
    if (CONTENT_IS(name, constraints))
        return read_basic_constraints(value.content, value.end, usage);
    if (CONTENT_IS(name, key))
        return read_key_usage(value.content, value.end, usage);
    if (CONTENT_IS(name, extended))
        return read_extended_key_usage(value.content, value.end, usage);
    return true;
}

bool certificate_fields_read_usage(const struct certificate_fields *fields, struct certificate_usage *ret) {
    struct certificate_usage usage = {.may_sign = true, .may_authenticate = true};
    struct der_element extension;
    const uint8_t *at = fields->extensions.content;
    while (fields->extensions.begin != NULL && at != fields->extensions.end)
        if (!der_expect(&at, fields->extensions.end, DER_SEQUENCE, &extension) || !read_extension(&extension, &usage))
            return false;
    *ret = usage;
    return true;
}

/* SEQUENCE { modulus INTEGER, publicExponent INTEGER } in a BIT STRING. */
static bool is_large_rsa(const struct der_element *bits) {
    struct der_element pair, modulus;
    const uint8_t *at = bits->content;
    if (at == bits->end || *at++ != 0 || !der_expect(&at, bits->end, DER_SEQUENCE, &pair))
        return false;
    at = pair.content;
    if (!der_expect(&at, pair.end, DER_INTEGER, &modulus))
        return false;
    while (modulus.content != modulus.end && *modulus.content == 0)
        modulus.content++;
    size_t size = (size_t)(modulus.end - modulus.content);
    return size > 256 || (size == 256 && (*modulus.content & 0x80) != 0);
}

static bool is_good_curve(const struct der_element *curve) {
    static const uint8_t p256[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    static const uint8_t p384[] = {0x2b, 0x81, 0x04, 0x00, 0x22}, p521[] = {0x2b, 0x81, 0x04, 0x00, 0x23};
    return curve->tag == DER_OBJECT_IDENTIFIER &&
           (CONTENT_IS(*curve, p256) || CONTENT_IS(*curve, p384) || CONTENT_IS(*curve, p521));
}

static const char *judge_key(const struct der_element *public_key) {
    static const uint8_t rsa[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01};
    static const uint8_t ec[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01};
    static const char other[] = "its key is neither RSA nor one of P-256, P-384 and P-521";
    struct der_element algorithm, name, parameters, bits;
    const uint8_t *at = public_key->content;
    if (!der_expect(&at, public_key->end, DER_SEQUENCE, &algorithm) ||
        !der_expect(&at, public_key->end, DER_BIT_STRING, &bits))
        return other;
    at = algorithm.content;
    if (!der_expect(&at, algorithm.end, DER_OBJECT_IDENTIFIER, &name))
        return other;
    if (CONTENT_IS(name, rsa))
        return is_large_rsa(&bits) ? NULL : "its RSA key has less than 2048 bits";
    if (!CONTENT_IS(name, ec))
        return other;
    return der_next(&at, algorithm.end, &parameters) && is_good_curve(&parameters)
               ? NULL
               : "its key is on another curve than P-256, P-384 and P-521";
}

/* RFC 4055, section 3.1: SEQUENCE { hashAlgorithm [0] AlgorithmIdentifier DEFAULT sha1, ... } */
static bool has_good_pss_hash(const uint8_t *at, const uint8_t *end) {
    static const uint8_t sha2[] = {0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02};
    struct der_element parameters, tagged, algorithm, name;
    if (!der_expect(&at, end, DER_SEQUENCE, &parameters))
        return false;
    at = parameters.content;
    if (!der_expect(&at, parameters.end, DER_CONTEXT(0), &tagged))
        return false;
    at = tagged.content;
    if (!der_expect(&at, tagged.end, DER_SEQUENCE, &algorithm))
        return false;
    at = algorithm.content;
    return der_expect(&at, algorithm.end, DER_OBJECT_IDENTIFIER, &name) && name.end - name.content == sizeof sha2 + 1 &&
           memcmp(name.content, sha2, sizeof sha2) == 0 && name.content[sizeof sha2] >= 1 &&
           name.content[sizeof sha2] <= 3;
}

static bool has_good_signature(const struct der_element *algorithm) {
    static const uint8_t rsa[] = {0x2a, 0x86, 0x48, 0x86,
                                  0xf7, 0x0d, 0x01, 0x01};                     /* RFC 8017: ... 11, 12, 13; PSS 10 */
    static const uint8_t ecdsa[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03}; /* RFC 5758: ... 2, 3, 4 */
    const uint8_t *at = algorithm->content;
    struct der_element name;
    if (!der_expect(&at, algorithm->end, DER_OBJECT_IDENTIFIER, &name))
        return false;
    size_t size = (size_t)(name.end - name.content);
    uint8_t last = size > 0 ? name.content[size - 1] : 0;
    if (size == sizeof rsa + 1 && memcmp(name.content, rsa, sizeof rsa) == 0)
        return (last >= 11 && last <= 13) || (last == 10 && has_good_pss_hash(at, algorithm->end));
    return size == sizeof ecdsa + 1 && memcmp(name.content, ecdsa, sizeof ecdsa) == 0 && last >= 2 && last <= 4;
}

const char *certificate_fields_weakness(const struct certificate_fields *fields) {
    const char *weakness = judge_key(&fields->public_key);
    if (weakness == NULL && !has_good_signature(&fields->signature))
        weakness = "it is not signed by RSA or ECDSA with SHA-256, SHA-384 or SHA-512";
    return weakness;
}
