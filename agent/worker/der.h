/* DER (X.690), as far as enrolld reads and writes it itself: one element at a time, in memory. Pure; the reader takes
 * its input as hostile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DER_BOOLEAN 0x01
#define DER_INTEGER 0x02
#define DER_BIT_STRING 0x03
#define DER_OCTET_STRING 0x04
#define DER_OBJECT_IDENTIFIER 0x06
#define DER_UTF8_STRING 0x0c
#define DER_PRINTABLE_STRING 0x13
#define DER_SEQUENCE 0x30
#define DER_SET 0x31
#define DER_CONTEXT(number) (0xa0 | (number)) /* [number], constructed */

struct der_element {
    uint8_t tag;
    const uint8_t *begin;   /* of its tag */
    const uint8_t *content; /* behind its length */
    const uint8_t *end;     /* behind its content */
};

/* Reads the element at *at, and moves *at behind it. False if there is no whole one before `end`; *at is untouched
 * then. Lengths of more than two bytes (64 KiB) and tags of more than one are not read. */
bool der_next(const uint8_t **at, const uint8_t *end, struct der_element *ret);

/* The same for an element that must have this tag. */
bool der_expect(const uint8_t **at, const uint8_t *end, uint8_t tag, struct der_element *ret);

/* True if the content is these bytes: to compare OBJECT IDENTIFIERs. */
bool der_content_is(const struct der_element *element, const void *bytes, size_t size);

/* Writes from the end of a buffer to its begin, so that each length is known when it is written: what stands last in
 * the encoding is prepended first. */
struct der_writer {
    uint8_t *begin;
    uint8_t *at;  /* the encoding so far begins here */
    bool is_full; /* something did not fit: what is there is worthless */
};

void der_writer_open(struct der_writer *writer, uint8_t *buffer, size_t size);

void der_prepend(struct der_writer *writer, const void *bytes, size_t size);

/* Makes all between the beginning of the encoding and `end`, an earlier value of writer->at, the content of an element.
 */
void der_wrap(struct der_writer *writer, uint8_t tag, const uint8_t *end);
