#include "ctl/pem-stream.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EOT 0x04
#define BEGIN "-----BEGIN "
#define END "-----END "
#define DASHES "-----"
#define BOUNDARY_MAX (sizeof BEGIN + PEM_LABEL_MAX + sizeof DASHES)
#define HEAD_MAX 32 /* first bytes of the input: enough to tell what it is that is not PEM */

/* Where the next byte belongs. */
enum place {
    PLACE_LINE,           /* the begin of a line outside of blocks */
    PLACE_TEXT,           /* text outside of blocks, until the line ends */
    PLACE_BEGIN,          /* what may be the begin of a block */
    PLACE_BODY,           /* Base64 */
    PLACE_END,            /* what must be the end of a block */
    PLACE_AFTER_A_PROBLEM /* for good */
};

enum block { BLOCK_CERTIFICATE, BLOCK_KEY, BLOCK_ENCRYPTED_KEY, BLOCK_SKIPPED, BLOCK_OTHER };

struct part {
    char text[PEM_PART_MAX + 1];
    size_t size;
    size_t count;
};

struct pem_stream {
    enum place place;
    enum pem_problem problem;
    enum block block;
    struct part parts[PEM_PART_COUNT];
    unsigned char head[HEAD_MAX];
    char boundary[BOUNDARY_MAX];
    size_t boundary_size;
    char label[PEM_LABEL_MAX + 1];
    size_t body_size;   /* characters of Base64 in this block */
    size_t column;      /* of them on this line */
    size_t block_count; /* all kinds */
    size_t size, line;  /* input so far */
    char previous;
};

struct pem_stream *pem_stream_new(void) {
    struct pem_stream *stream = calloc(1, sizeof *stream);
    if (stream != NULL)
        stream->line = 1;
    return stream;
}

struct pem_stream *pem_stream_free(struct pem_stream *stream) {
    if (stream != NULL)
        explicit_bzero(stream, sizeof *stream);
    free(stream);
    return NULL;
}

static void stop(struct pem_stream *stream, enum pem_problem problem) {
    stream->problem = problem;
    stream->place = PLACE_AFTER_A_PROBLEM;
}

/* --- what is kept --- */

static void part_append(struct pem_stream *stream, const char *text, size_t size) {
    if (stream->block != BLOCK_CERTIFICATE && stream->block != BLOCK_KEY)
        return;
    struct part *part = &stream->parts[stream->block == BLOCK_KEY ? PEM_KEY : PEM_CHAIN];
    if (size > PEM_PART_MAX - part->size) {
        stop(stream, PEM_PROBLEM_LARGE_PART);
        return;
    }
    memcpy(part->text + part->size, text, size);
    part->size += size;
}

static void part_append_text(struct pem_stream *stream, const char *text) {
    part_append(stream, text, strlen(text));
}

static void part_append_boundary(struct pem_stream *stream, const char *begin) {
    part_append_text(stream, begin);
    part_append_text(stream, stream->block == BLOCK_CERTIFICATE ? "CERTIFICATE" : stream->label);
    part_append_text(stream, DASHES "\n");
}

/* --- blocks --- */

/* Labels: RFC 7468 sections 5, 10, 11 and 13; RFC 5915 section 4; OpenSSL's pem.h for the others. */
static enum block block_of_label(const char *label) {
    static const struct {
        const char *label;
        enum block block;
    } table[] = {
        {"CERTIFICATE", BLOCK_CERTIFICATE}, {"X509 CERTIFICATE", BLOCK_CERTIFICATE},
        {"PRIVATE KEY", BLOCK_KEY},         {"EC PRIVATE KEY", BLOCK_KEY},
        {"RSA PRIVATE KEY", BLOCK_KEY},     {"ENCRYPTED PRIVATE KEY", BLOCK_ENCRYPTED_KEY},
        {"EC PARAMETERS", BLOCK_SKIPPED}, /* `openssl ecparam -genkey` writes them before the key, which repeats them */
        {"PUBLIC KEY", BLOCK_SKIPPED},    /* the key and the certificate have it, too */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(label, table[i].label) == 0)
            return table[i].block;
    return BLOCK_OTHER;
}

static void begin_block(struct pem_stream *stream) {
    stream->block = block_of_label(stream->label);
    stream->body_size = stream->column = 0;
    stream->place = PLACE_BODY;
    if (++stream->block_count > PEM_BLOCK_COUNT_MAX) {
        stop(stream, PEM_PROBLEM_MANY_BLOCKS);
        return;
    }
    switch (stream->block) {
    case BLOCK_KEY:
        if (stream->parts[PEM_KEY].count > 0) {
            stop(stream, PEM_PROBLEM_TWO_KEYS);
            return;
        }
        break;
    case BLOCK_ENCRYPTED_KEY:
        stop(stream, PEM_PROBLEM_ENCRYPTED);
        return;
    case BLOCK_OTHER:
        stop(stream, PEM_PROBLEM_OTHER_BLOCK);
        return;
    case BLOCK_CERTIFICATE:
    case BLOCK_SKIPPED:
        break;
    }
    part_append_boundary(stream, BEGIN);
}

static void end_block(struct pem_stream *stream) {
    if (stream->column > 0)
        part_append_text(stream, "\n");
    part_append_boundary(stream, END);
    if (stream->problem != PEM_PROBLEM_NONE)
        return;
    stream->place = PLACE_LINE; /* of files in a row the first may lack its last line end */
    if (stream->block == BLOCK_CERTIFICATE || stream->block == BLOCK_KEY)
        stream->parts[stream->block == BLOCK_KEY ? PEM_KEY : PEM_CHAIN].count++;
}

/* --- boundaries: they count at their last dash, as after it nothing more need come --- */

/* True if the boundary is whole and begins so; the label is copied. */
static bool read_boundary(const struct pem_stream *stream, const char *begin, char label[PEM_LABEL_MAX + 1]) {
    size_t prefix = strlen(begin), dashes = strlen(DASHES), size = stream->boundary_size;
    if (size < prefix + dashes || memcmp(stream->boundary, begin, prefix) != 0 ||
        memcmp(stream->boundary + size - dashes, DASHES, dashes) != 0 || size - prefix - dashes > PEM_LABEL_MAX)
        return false;
    memset(label, 0, PEM_LABEL_MAX + 1);
    memcpy(label, stream->boundary + prefix, size - prefix - dashes);
    return true;
}

/* False: no boundary is that long, or has that byte. */
static bool extend_boundary(struct pem_stream *stream, char byte) {
    if (stream->boundary_size == sizeof stream->boundary || byte < ' ' || byte > '~')
        return false;
    stream->boundary[stream->boundary_size++] = byte;
    return true;
}

static void feed_begin(struct pem_stream *stream, char byte) {
    char label[PEM_LABEL_MAX + 1];
    if (!extend_boundary(stream, byte)) {
        stream->place = PLACE_TEXT;
    } else if (read_boundary(stream, BEGIN, stream->label)) {
        begin_block(stream);
    } else if (read_boundary(stream, END, label)) {
        memcpy(stream->label, label, sizeof label);
        stop(stream, PEM_PROBLEM_NO_BEGIN);
    }
}

static void feed_end(struct pem_stream *stream, char byte) {
    char label[PEM_LABEL_MAX + 1];
    if (!extend_boundary(stream, byte))
        stop(stream, PEM_PROBLEM_GARBLED);
    else if (read_boundary(stream, END, label) && strcmp(label, stream->label) == 0)
        end_block(stream);
    else if (read_boundary(stream, BEGIN, label) || read_boundary(stream, END, label))
        stop(stream, PEM_PROBLEM_NO_END);
}

/* --- bodies --- */

static bool is_base64(char byte) {
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
           byte == '+' || byte == '/' || byte == '=';
}

/* "Proc-Type: 4,ENCRYPTED", the first line of an encrypted key in OpenSSL's old format (RFC 1421 section 4.6.1.1): a
 * dash in the place where Base64 would go on. */
static bool is_encrypted(const struct pem_stream *stream) {
    static const char word[] = "Proc";
    size_t size = sizeof word - 1;
    const struct part *key = &stream->parts[PEM_KEY];
    return stream->block == BLOCK_KEY && stream->body_size == size &&
           memcmp(key->text + key->size - size, word, size) == 0;
}

static void feed_body(struct pem_stream *stream, char byte) {
    if (is_base64(byte)) {
        stream->body_size++;
        stream->column++;
        part_append(stream, &byte, 1);
    } else if (byte == '-' && is_encrypted(stream)) {
        stop(stream, PEM_PROBLEM_ENCRYPTED);
    } else if (byte == '-') {
        stream->boundary[0] = byte;
        stream->boundary_size = 1;
        stream->place = PLACE_END;
    } else if (byte != ' ' && byte != '\t') {
        stop(stream, PEM_PROBLEM_GARBLED);
    }
}

/* --- lines --- */

static void feed_line_end(struct pem_stream *stream) {
    switch (stream->place) {
    case PLACE_LINE:
    case PLACE_TEXT:
    case PLACE_BEGIN:
        stream->place = PLACE_LINE;
        break;
    case PLACE_BODY:
        if (stream->column > 0)
            part_append_text(stream, "\n");
        stream->column = 0;
        break;
    case PLACE_END:
        stop(stream, PEM_PROBLEM_GARBLED);
        break;
    case PLACE_AFTER_A_PROBLEM:
        break;
    }
}

/* Of UTF-8, as some editors put it before the first line. */
static bool is_byte_order_mark(const struct pem_stream *stream, char byte) {
    static const char mark[] = "\xef\xbb\xbf";
    size_t index = stream->size - 1;
    return index < sizeof mark - 1 && byte == mark[index];
}

static void feed_line_begin(struct pem_stream *stream, char byte) {
    if (byte == '-') {
        stream->boundary[0] = byte;
        stream->boundary_size = 1;
        stream->place = PLACE_BEGIN;
    } else if (byte != ' ' && byte != '\t' && !is_byte_order_mark(stream, byte)) {
        stream->place = PLACE_TEXT;
    }
}

static void feed_character(struct pem_stream *stream, char byte) {
    switch (stream->place) {
    case PLACE_LINE:
        feed_line_begin(stream, byte);
        break;
    case PLACE_BEGIN:
        feed_begin(stream, byte);
        break;
    case PLACE_BODY:
        feed_body(stream, byte);
        break;
    case PLACE_END:
        feed_end(stream, byte);
        break;
    case PLACE_TEXT:
    case PLACE_AFTER_A_PROBLEM:
        break;
    }
}

/* --- what is not PEM --- */

/* By the first bytes of the input: DER begins with a SEQUENCE, most often of more than 127 bytes, and no text has
 * control characters. */
static bool is_binary(const struct pem_stream *stream, size_t index) {
    const unsigned char *head = stream->head;
    if (index == 1)
        return (head[0] == 0x30 && head[1] >= 0x80) || (head[0] == 0xff && head[1] == 0xfe) ||
               (head[0] == 0xfe && head[1] == 0xff);
    return head[index] < '\t' && head[index] != EOT;
}

/* What the outer SEQUENCE begins with: an INTEGER that is a version, the OID of PKCS #7, another SEQUENCE. */
static enum pem_problem judge_binary(const unsigned char *head) {
    static const unsigned char pkcs7[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07};
    size_t skip = head[1] < 0x80 ? 2 : 2 + (head[1] & 0x7f);
    if (head[0] == 0xff || head[0] == 0xfe)
        return PEM_PROBLEM_UTF16;
    if (head[0] != 0x30 || skip + sizeof pkcs7 > HEAD_MAX)
        return PEM_PROBLEM_BINARY;
    const unsigned char *first = head + skip;
    if (memcmp(first, pkcs7, sizeof pkcs7) == 0)
        return PEM_PROBLEM_PKCS7;
    if (first[0] == 0x30)
        return PEM_PROBLEM_DER_CERTIFICATE;
    if (first[0] != 0x02 || first[1] != 0x01)
        return PEM_PROBLEM_BINARY;
    return first[2] == 3 ? PEM_PROBLEM_PKCS12 : PEM_PROBLEM_DER_KEY;
}

/* --- the whole --- */

static bool is_line_end(char byte) {
    return byte == '\n' || byte == '\r';
}

static void count_input(struct pem_stream *stream, char byte) {
    size_t index = stream->size++;
    if (is_line_end(stream->previous) && !(stream->previous == '\r' && byte == '\n') &&
        stream->problem == PEM_PROBLEM_NONE)
        stream->line++;
    stream->previous = byte;
    if (index >= PEM_INPUT_MAX && stream->problem == PEM_PROBLEM_NONE)
        stop(stream, PEM_PROBLEM_LARGE_INPUT);
    if (index >= HEAD_MAX)
        return;
    stream->head[index] = (unsigned char)byte;
    if (stream->problem == PEM_PROBLEM_NONE && is_binary(stream, index))
        stop(stream, PEM_PROBLEM_BINARY);
}

bool pem_stream_feed(struct pem_stream *stream, char byte) {
    if (byte == EOT && stream->problem != PEM_PROBLEM_BINARY)
        return false;
    count_input(stream, byte);
    if (is_line_end(byte))
        feed_line_end(stream);
    else
        feed_character(stream, byte);
    return true;
}

void pem_stream_finish(struct pem_stream *stream) {
    if (stream->place == PLACE_BODY || stream->place == PLACE_END)
        stop(stream, PEM_PROBLEM_NO_END);
    if (stream->problem == PEM_PROBLEM_BINARY)
        stream->problem = judge_binary(stream->head);
}

enum pem_problem pem_stream_problem(const struct pem_stream *stream) {
    return stream->problem;
}

size_t pem_stream_line(const struct pem_stream *stream) {
    return stream->line;
}

const char *pem_stream_label(const struct pem_stream *stream) {
    return stream->label;
}

bool pem_stream_may_end(const struct pem_stream *stream) {
    return stream->place != PLACE_BODY && stream->place != PLACE_END;
}

size_t pem_stream_count(const struct pem_stream *stream, enum pem_part part) {
    return stream->parts[part].count;
}

const char *pem_stream_text(const struct pem_stream *stream, enum pem_part part, size_t *ret_size) {
    *ret_size = stream->parts[part].size;
    return stream->parts[part].text;
}
