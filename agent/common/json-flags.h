/* How strictly json-c reads what others have written. */
#pragma once

#include <json-c/json.h>

#include <stdbool.h>
#include <stddef.h>

#define JSON_C_0_18 18 /* json_c_version_num(), without its last part */

/* For json_tokener_set_flags(): strict, and only UTF-8. json-c 0.18, and no other version, takes each byte of a letter
 * beyond ASCII for a control character when it is strict; there such a text is read without that. */
static inline int json_flags_for(const char *text, size_t size) {
    bool is_ascii = true;
    for (size_t i = 0; i < size; i++)
        is_ascii = is_ascii && (unsigned char)text[i] < 0x80;
    int strict = is_ascii || json_c_version_num() >> 8 != JSON_C_0_18 ? JSON_TOKENER_STRICT : 0;
    return strict | JSON_TOKENER_VALIDATE_UTF8;
}
