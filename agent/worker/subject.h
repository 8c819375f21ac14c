/* The subject of certificate signing requests: from the text of Subject= to an X.501 name. Pure; the text is hostile.
 */
#pragma once

#include "common/failure.h"
#include "common/specifier.h"

#include <stddef.h>
#include <stdint.h>

#define SUBJECT_DER_MAX 1024
#define SUBJECT_TEXT_MAX 2048
#define SUBJECT_COMMON_NAME_SIZE 257 /* 64 characters of UTF-8 and a NUL */

struct subject {
    char text[SUBJECT_TEXT_MAX]; /* what it says, specifiers expanded: "CN=SN-1,O=Example\, Inc." */
    uint8_t der[SUBJECT_DER_MAX];
    size_t size;
    char common_name[SUBJECT_COMMON_NAME_SIZE]; /* "" for none */
};

/* Parses attributes as in RFC 4514, section 2, with commas between them: "CN=%s,O=Example\, Inc.,C=DE". Known are CN,
 * O, OU, ST, C, dnQualifier and serialNumber, each at most once, in any case of letters. A backslash stands before each
 * of , + " \ < > ; = and before a blank or # that begins or ends a value, or before two hex digits of a byte of UTF-8.
 * Blanks around a value are left out.
 *
 * Specifiers are expanded within the value that they stand in: a serial number with a comma in it never becomes another
 * attribute.
 *
 * The name has them in the order of the text, as `openssl req -subj` makes it and `openssl req -subject` shows it; that
 * a text begins with the last one (RFC 4514, section 2.1) is what LDAP does. C, dnQualifier and serialNumber become
 * PrintableStrings, the others UTF8Strings (RFC 5280, section 4.1.2.4 and appendix A, which has the lengths too).
 *
 * Class `invalid`, step STEP_REQUEST, naming the attribute; *ret is then untouched. */
int subject_parse(const char *text, const struct specifier_values *values, struct subject *ret,
                  struct failure *failure);
