/* Text that came from elsewhere: bounded, checked, made harmless. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True if the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms) without NUL. */
bool text_is_utf8(const char *text, size_t size);

/* Replaces in place control characters by a blank and bytes that are not UTF-8 by '?', for logs, the
 * channel and D-Bus. */
void text_make_printable(char *text);

/* True for 1 to 128 of a-z A-Z 0-9 : _ - (AWS IoT API reference, ThingName). */
bool text_is_thing_name(const char *text);

/* Decimal digits only, no sign, no blanks; -EINVAL or -ERANGE otherwise, *ret untouched. */
int text_to_u64(const char *text, uint64_t *ret);

/* Wipes it, and frees it. Accepts NULL. */
void text_free_secret(char *text);

/* A time span: "90s", "1min 30s" is not; one number and one unit of ms, s, min, h, d. -EINVAL or -ERANGE (above 365
 * days) otherwise, *ret untouched. */
int text_to_span(const char *text, uint64_t *ret_ms);
/* The same with another limit. */
int text_to_span_within(const char *text, uint64_t limit_ms, uint64_t *ret_ms);

/* 2 * size lower-case digits and a NUL are written to hex. */
void text_to_hex(const uint8_t *bytes, size_t size, char *hex);
