/* Takes certificates and a private key out of a stream of PEM (RFC 7468), byte by byte, as it comes from a file, a pipe
 * or a serial line: any pieces, any line ends (LF, CR LF, CR), text around the blocks, blocks in any order. What comes
 * out is PEM without text around it and with LF. Pure: no input or output; nothing is decoded, that is the worker's
 * part. */
#pragma once

#include "common/memfd.h"

#include <stdbool.h>
#include <stddef.h>

/* Of the chain, and of the key, in bytes. */
#define PEM_PART_MAX MEMFD_SIZE_MAX
#define PEM_BLOCK_COUNT_MAX 16
/* Of all input with the text around the blocks. */
#define PEM_INPUT_MAX (1024 * 1024)
#define PEM_LABEL_MAX 48

enum pem_part { PEM_CHAIN, PEM_KEY };
#define PEM_PART_COUNT (PEM_KEY + 1)

enum pem_problem {
    PEM_PROBLEM_NONE,
    PEM_PROBLEM_GARBLED,         /* a block with characters that are not Base64, a boundary that is none */
    PEM_PROBLEM_NO_BEGIN,        /* the end of a block that has not begun */
    PEM_PROBLEM_NO_END,          /* the input, or another block, comes before the end of this one */
    PEM_PROBLEM_OTHER_BLOCK,     /* neither certificate nor private key: pem_stream_label() */
    PEM_PROBLEM_ENCRYPTED,       /* the private key is (RFC 5958 section 3, RFC 1421 section 4.6.1.1) */
    PEM_PROBLEM_TWO_KEYS,        /* more than one private key */
    PEM_PROBLEM_LARGE_PART,      /* PEM_PART_MAX */
    PEM_PROBLEM_LARGE_INPUT,     /* PEM_INPUT_MAX */
    PEM_PROBLEM_MANY_BLOCKS,     /* PEM_BLOCK_COUNT_MAX */
    PEM_PROBLEM_DER_CERTIFICATE, /* not PEM, but DER: a certificate, by its first bytes */
    PEM_PROBLEM_DER_KEY,         /* a private key (RFC 5958, 5915, 8017) */
    PEM_PROBLEM_PKCS12,          /* RFC 7292 */
    PEM_PROBLEM_PKCS7,           /* RFC 5652 */
    PEM_PROBLEM_UTF16,           /* a byte order mark of UTF-16, as from a redirection in some shells of Windows */
    PEM_PROBLEM_BINARY,          /* something else that is no text */
};

struct pem_stream;

/* NULL: out of memory. */
struct pem_stream *pem_stream_new(void);

/* Wipes what it held. */
struct pem_stream *pem_stream_free(struct pem_stream *stream);
#define AUTO_PEM_STREAM __attribute__((cleanup(pem_stream_freep)))
static inline void pem_stream_freep(struct pem_stream **stream) {
    pem_stream_free(*stream);
}

/* Takes the next byte. Returns false at the end of the input that the sender marks by EOT (0x04); what follows it is
 * not for the stream. After a problem bytes are taken and forgotten. */
bool pem_stream_feed(struct pem_stream *stream, char byte);

/* The input has ended. */
void pem_stream_finish(struct pem_stream *stream);

/* The first problem. The others are about the place of it: its line, from 1 on, and the label of its block, "" for
 * none, only letters, digits, blanks and punctuation of ASCII. */
enum pem_problem pem_stream_problem(const struct pem_stream *stream);
size_t pem_stream_line(const struct pem_stream *stream);
const char *pem_stream_label(const struct pem_stream *stream);

/* True outside of blocks, and after a problem: no more need come. */
bool pem_stream_may_end(const struct pem_stream *stream);

/* How many whole blocks the part has, and its text, NUL-terminated and owned by the stream. */
size_t pem_stream_count(const struct pem_stream *stream, enum pem_part part);
const char *pem_stream_text(const struct pem_stream *stream, enum pem_part part, size_t *ret_size);
