#include "ctl/pem-complaint.h"

#include <stdio.h>
#include <string.h>

/* What to do about blocks that people hand in by mistake; %s is the file. */
static const char *advice_for_label(const char *label) {
    static const struct {
        const char *label, *advice;
    } table[] = {
        {"CERTIFICATE REQUEST", "That is the request: import the certificate that was made from it."},
        {"NEW CERTIFICATE REQUEST", "That is the request: import the certificate that was made from it."},
        {"TRUSTED CERTIFICATE", "`openssl x509 -in %s` makes it a certificate."},
        {"PKCS7", "`openssl pkcs7 -in %s -print_certs` gives its certificates."},
        {"PKCS #7 SIGNED DATA", "`openssl pkcs7 -in %s -print_certs` gives its certificates."},
        {"CMS", "`openssl pkcs7 -in %s -print_certs` gives its certificates."},
        {"OPENSSH PRIVATE KEY", "`ssh-keygen -p -m PKCS8 -f %s` writes it as a private key."},
        {"TSS2 PRIVATE KEY", "A TPM holds that key: `enrollctl request` makes one in this TPM."},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(label, table[i].label) == 0)
            return table[i].advice;
    return "Leave it out.";
}

/* A note about what the file is instead of PEM, and the command that makes PEM of it. */
static const char *form_of(enum pem_problem problem) {
    switch (problem) {
    case PEM_PROBLEM_DER_CERTIFICATE:
        return "is DER, not PEM. `openssl x509 -inform DER -in %s` gives the certificate as PEM.";
    case PEM_PROBLEM_DER_KEY:
        return "is DER, not PEM. `openssl pkey -inform DER -in %s` gives the private key as PEM.";
    case PEM_PROBLEM_PKCS12:
        return "is PKCS #12, not PEM. `openssl pkcs12 -nodes -in %s` gives key and certificates as PEM.";
    case PEM_PROBLEM_PKCS7:
        return "is PKCS #7, not PEM. `openssl pkcs7 -inform DER -print_certs -in %s` gives the certificates as PEM.";
    case PEM_PROBLEM_UTF16:
        return "is UTF-16. `iconv -f UTF-16 -t UTF-8 %s` gives what can be read.";
    case PEM_PROBLEM_BINARY:
        return "is no text, so no PEM.";
    case PEM_PROBLEM_NONE:
    case PEM_PROBLEM_GARBLED:
    case PEM_PROBLEM_NO_BEGIN:
    case PEM_PROBLEM_NO_END:
    case PEM_PROBLEM_OTHER_BLOCK:
    case PEM_PROBLEM_ENCRYPTED:
    case PEM_PROBLEM_TWO_KEYS:
    case PEM_PROBLEM_LARGE_PART:
    case PEM_PROBLEM_LARGE_INPUT:
    case PEM_PROBLEM_MANY_BLOCKS:
        break;
    }
    return NULL;
}

/* Prints a text with the file's name in the place of its %s. */
static void print_with_file(const char *text, const char *file) {
    const char *place = strstr(text, "%s");
    if (place == NULL)
        fputs(text, stderr);
    else
        fprintf(stderr, "%.*s%s%s", (int)(place - text), text, file, place + 2);
}

static void complain_about_block(const struct pem_stream *stream, const char *file) {
    const char *label = pem_stream_label(stream);
    switch (pem_stream_problem(stream)) {
    case PEM_PROBLEM_GARBLED:
        fprintf(stderr, "what is between BEGIN %s and its end is no PEM. Send it again.", label);
        break;
    case PEM_PROBLEM_NO_BEGIN:
        fprintf(stderr, "END %s without its begin. Send it again, from the line -----BEGIN %s----- on.", label, label);
        break;
    case PEM_PROBLEM_NO_END:
        fprintf(stderr, "BEGIN %s has no end. Send it again, up to the line -----END %s-----.", label, label);
        break;
    case PEM_PROBLEM_OTHER_BLOCK:
        fprintf(stderr, "%s is neither a certificate nor a private key. ",
                label[0] != '\0' ? label : "a block without a name");
        print_with_file(advice_for_label(label), file);
        break;
    case PEM_PROBLEM_ENCRYPTED:
        print_with_file("the private key is encrypted. `openssl pkey -in %s` decrypts it.", file);
        break;
    case PEM_PROBLEM_TWO_KEYS:
        fputs("a second private key. Import that of this device alone.", stderr);
        break;
    case PEM_PROBLEM_LARGE_PART:
        fprintf(stderr, "larger than %d KiB.", PEM_PART_MAX / 1024);
        break;
    case PEM_PROBLEM_LARGE_INPUT:
        fprintf(stderr, "more than %d KiB of input.", PEM_INPUT_MAX / 1024);
        break;
    case PEM_PROBLEM_MANY_BLOCKS:
        fprintf(stderr, "more than %d blocks. Import the certificate of this device and its chain alone.",
                PEM_BLOCK_COUNT_MAX);
        break;
    case PEM_PROBLEM_NONE:
    case PEM_PROBLEM_DER_CERTIFICATE:
    case PEM_PROBLEM_DER_KEY:
    case PEM_PROBLEM_PKCS12:
    case PEM_PROBLEM_PKCS7:
    case PEM_PROBLEM_UTF16:
    case PEM_PROBLEM_BINARY:
        break;
    }
}

void pem_complain(const struct pem_stream *stream, const char *name) {
    const char *form = form_of(pem_stream_problem(stream)), *file = name != NULL ? name : "FILE";
    fprintf(stderr, "enrollctl: %s", name != NULL ? name : "the input");
    if (form != NULL) {
        fputc(' ', stderr);
        print_with_file(form, file);
    } else {
        fprintf(stderr, ", line %zu: ", pem_stream_line(stream));
        complain_about_block(stream, file);
    }
    fputc('\n', stderr);
}
