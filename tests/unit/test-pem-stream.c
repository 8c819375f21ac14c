#include "ctl/pem-stream.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CERTIFICATE_1 "-----BEGIN CERTIFICATE-----\nTGVhZiE=\n-----END CERTIFICATE-----\n"
#define CERTIFICATE_2 "-----BEGIN CERTIFICATE-----\nSXNzdWVy\nSXNzdQ==\n-----END CERTIFICATE-----\n"
#define KEY "-----BEGIN PRIVATE KEY-----\nS2V5S2V5\n-----END PRIVATE KEY-----\n"
#define EC_KEY "-----BEGIN EC PRIVATE KEY-----\nS2V5S2V5\n-----END EC PRIVATE KEY-----\n"
#define PARAMETERS "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
#define TEXT "Certificate:\n    Data:\n        Version: 3 (0x2)\n---- more ----\n-----BEGIN it does not----x\n"

/* Feeds in pieces and returns the stream at its end; the bytes behind EOT are counted in *ret_left. */
static struct pem_stream *feed(const char *data, size_t size, size_t *ret_left) {
    struct pem_stream *stream = pem_stream_new();
    size_t used = 0;
    while (used < size && pem_stream_feed(stream, data[used]))
        used++;
    if (ret_left != NULL)
        *ret_left = size - used;
    pem_stream_finish(stream);
    return stream;
}

static struct pem_stream *feed_text(const char *text) {
    return feed(text, strlen(text), NULL);
}

static void assert_part(const struct pem_stream *stream, enum pem_part part, const char *expected) {
    size_t size;
    const char *text = pem_stream_text(stream, part, &size);
    ASSERT_TEXT(text, expected);
    ASSERT_NUMBER((long long)size, (long long)strlen(expected));
}

static void assert_problem(const char *text, enum pem_problem problem, size_t line, const char *label) {
    AUTO_PEM_STREAM struct pem_stream *stream = feed_text(text);
    ASSERT_NUMBER(pem_stream_problem(stream), problem);
    ASSERT_NUMBER((long long)pem_stream_line(stream), (long long)line);
    ASSERT_TEXT(pem_stream_label(stream), label);
}

static void test_chain(void) {
    AUTO_PEM_STREAM struct pem_stream *stream = feed_text(CERTIFICATE_1 CERTIFICATE_2);
    ASSERT_NUMBER(pem_stream_problem(stream), PEM_PROBLEM_NONE);
    ASSERT_NUMBER(pem_stream_count(stream, PEM_CHAIN), 2);
    ASSERT_NUMBER(pem_stream_count(stream, PEM_KEY), 0);
    assert_part(stream, PEM_CHAIN, CERTIFICATE_1 CERTIFICATE_2);
    assert_part(stream, PEM_KEY, "");
}

/* Key and certificates come in any order, and with what `openssl` writes beside them. */
static void test_order(void) {
    static const char *const inputs[] = {
        KEY CERTIFICATE_1 CERTIFICATE_2,
        CERTIFICATE_1 KEY CERTIFICATE_2,
        CERTIFICATE_1 CERTIFICATE_2 KEY,
        TEXT KEY TEXT CERTIFICATE_1 "\n\n" CERTIFICATE_2 TEXT,
        "\xef\xbb\xbf" KEY CERTIFICATE_1 "# issuer\n" CERTIFICATE_2,
        PARAMETERS KEY CERTIFICATE_1 CERTIFICATE_2,
    };
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        AUTO_PEM_STREAM struct pem_stream *stream = feed_text(inputs[i]);
        ASSERT_NUMBER(pem_stream_problem(stream), PEM_PROBLEM_NONE);
        assert_part(stream, PEM_CHAIN, CERTIFICATE_1 CERTIFICATE_2);
        assert_part(stream, PEM_KEY, KEY);
    }
}

/* The key keeps its label, by which its format is known; an old name of certificates becomes the one of today. */
static void test_labels(void) {
    AUTO_PEM_STREAM struct pem_stream *stream =
        feed_text(PARAMETERS EC_KEY "-----BEGIN X509 CERTIFICATE-----\nTGVhZiE=\n-----END X509 CERTIFICATE-----\n");
    ASSERT_NUMBER(pem_stream_problem(stream), PEM_PROBLEM_NONE);
    assert_part(stream, PEM_CHAIN, CERTIFICATE_1);
    assert_part(stream, PEM_KEY, EC_KEY);
}

/* Line ends of all kinds, blanks, empty lines, none at the end, one line for all: what comes out is the same. */
static void test_layout(void) {
    static const char *const inputs[] = {
        "-----BEGIN CERTIFICATE-----\r\nTGVhZiE=\r\n-----END CERTIFICATE-----\r\n",
        "-----BEGIN CERTIFICATE-----\rTGVhZiE=\r-----END CERTIFICATE-----\r",
        "-----BEGIN CERTIFICATE-----\n\nTGVhZiE=\n\n-----END CERTIFICATE-----",
        "  -----BEGIN CERTIFICATE-----  \n\t TGVhZiE= \n  -----END CERTIFICATE-----  \n",
        "-----BEGIN CERTIFICATE-----TGVhZiE=-----END CERTIFICATE-----",
    };
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        AUTO_PEM_STREAM struct pem_stream *stream = feed_text(inputs[i]);
        ASSERT_NUMBER(pem_stream_problem(stream), PEM_PROBLEM_NONE);
        assert_part(stream, PEM_CHAIN, CERTIFICATE_1);
    }
}

/* `cat` of files of which the first lacks its last line end. */
static void test_joined(void) {
    AUTO_PEM_STREAM struct pem_stream *stream =
        feed_text("-----BEGIN CERTIFICATE-----\nTGVhZiE=\n-----END CERTIFICATE-----" CERTIFICATE_2);
    ASSERT_NUMBER(pem_stream_problem(stream), PEM_PROBLEM_NONE);
    assert_part(stream, PEM_CHAIN, CERTIFICATE_1 CERTIFICATE_2);
}

static void test_end_of_transmission(void) {
    size_t left = 0;
    static const char input[] = CERTIFICATE_1 "\004" KEY;
    AUTO_PEM_STREAM struct pem_stream *stream = feed(input, sizeof input - 1, &left);
    ASSERT_NUMBER((long long)left, sizeof KEY); /* EOT and the key */
    assert_part(stream, PEM_CHAIN, CERTIFICATE_1);
    assert_part(stream, PEM_KEY, "");
}

/* After each byte it is known whether the input may end there: never within a block, at once after the last dash. */
static void test_may_end(void) {
    static const char input[] = "text\n" CERTIFICATE_1 "text\n" KEY;
    AUTO_PEM_STREAM struct pem_stream *stream = pem_stream_new();
    const char *begin = strstr(input, "BEGIN"), *end = strstr(input, "END CERTIFICATE");
    const char *whole = end + strlen("END CERTIFICATE-----") - 1;
    CU_ASSERT_TRUE(pem_stream_may_end(stream));
    for (const char *byte = input; byte <= whole; byte++) {
        pem_stream_feed(stream, *byte);
        bool inside = byte >= begin + strlen("BEGIN CERTIFICATE-----") - 1 && byte < whole;
        ASSERT_NUMBER(pem_stream_may_end(stream), !inside);
        ASSERT_NUMBER(pem_stream_count(stream, PEM_CHAIN), byte == whole);
    }
}

/* Wherever the input is cut: a block is in whole or not at all, and a cut one is told. */
static void test_cut_anywhere(void) {
    static const char input[] = TEXT CERTIFICATE_1 KEY CERTIFICATE_2;
    for (size_t size = 0; size < sizeof input; size++) {
        AUTO_PEM_STREAM struct pem_stream *stream = feed(input, size, NULL);
        size_t certificates = pem_stream_count(stream, PEM_CHAIN), length;
        CU_ASSERT_TRUE(pem_stream_problem(stream) == PEM_PROBLEM_NONE ||
                       pem_stream_problem(stream) == PEM_PROBLEM_NO_END);
        if (pem_stream_problem(stream) != PEM_PROBLEM_NONE)
            continue;
        const char *text = pem_stream_text(stream, PEM_CHAIN, &length);
        ASSERT_TEXT(text, certificates == 0 ? "" : certificates == 1 ? CERTIFICATE_1 : CERTIFICATE_1 CERTIFICATE_2);
        assert_part(stream, PEM_KEY, pem_stream_count(stream, PEM_KEY) > 0 ? KEY : "");
    }
}

static void test_problems(void) {
    static const struct {
        const char *input;
        enum pem_problem problem;
        size_t line;
        const char *label;
    } cases[] = {
        {"-----BEGIN CERTIFICATE-----\nTGV?\n", PEM_PROBLEM_GARBLED, 2, "CERTIFICATE"},
        {"-----BEGIN CERTIFICATE-----\nTGV\xff\n", PEM_PROBLEM_GARBLED, 2, "CERTIFICATE"},
        {"-----BEGIN CERTIFICATE-----\r\nTGVh\r\n-----END CERTIFICATE--\r\n", PEM_PROBLEM_GARBLED, 3, "CERTIFICATE"},
        {"-----BEGIN CERTIFICATE-----\nTGVh\n" CERTIFICATE_1, PEM_PROBLEM_NO_END, 3, "CERTIFICATE"},
        {"-----BEGIN CERTIFICATE-----\nTGVh\n-----END PRIVATE KEY-----\n", PEM_PROBLEM_NO_END, 3, "CERTIFICATE"},
        {"-----BEGIN CERTIFICATE-----\nTGVh\n", PEM_PROBLEM_NO_END, 2, "CERTIFICATE"},
        {"TGVh\n-----END CERTIFICATE-----\n", PEM_PROBLEM_NO_BEGIN, 2, "CERTIFICATE"},
        {"\n\n" KEY KEY, PEM_PROBLEM_TWO_KEYS, 6, "PRIVATE KEY"},
        {KEY PARAMETERS EC_KEY, PEM_PROBLEM_TWO_KEYS, 7, "EC PRIVATE KEY"},
        {"-----BEGIN ENCRYPTED PRIVATE KEY-----\nTGVh", PEM_PROBLEM_ENCRYPTED, 1, "ENCRYPTED PRIVATE KEY"},
        {"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nTGVh\n",
         PEM_PROBLEM_ENCRYPTED, 2, "EC PRIVATE KEY"},
        {"-----BEGIN CERTIFICATE REQUEST-----\nTGVh\n", PEM_PROBLEM_OTHER_BLOCK, 1, "CERTIFICATE REQUEST"},
        {"-----BEGIN -----\nTGVh\n", PEM_PROBLEM_OTHER_BLOCK, 1, ""},
        {"\xff\xfe-\0-\0", PEM_PROBLEM_UTF16, 1, ""},
        {"\x01\x02\x03", PEM_PROBLEM_BINARY, 1, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_problem(cases[i].input, cases[i].problem, cases[i].line, cases[i].label);
}

/* After a problem nothing is kept, and the input may end at any time. */
static void test_after_a_problem(void) {
    AUTO_PEM_STREAM struct pem_stream *stream = pem_stream_new();
    static const char input[] = "-----BEGIN CERTIFICATE-----\n?\n" KEY;
    for (const char *byte = input; *byte != '\0'; byte++)
        CU_ASSERT_TRUE(pem_stream_feed(stream, *byte));
    CU_ASSERT_TRUE(pem_stream_may_end(stream));
    CU_ASSERT_FALSE(pem_stream_feed(stream, '\004'));
    pem_stream_finish(stream);
    ASSERT_NUMBER(pem_stream_problem(stream), PEM_PROBLEM_GARBLED);
    assert_part(stream, PEM_KEY, "");
}

#define DER(text) (text), sizeof(text) - 1

/* First bytes of what the openssl command writes with -outform DER, and of PKCS #12 and #7; EOT is part of a length. */
static void test_binary(void) {
    static const struct {
        const char *data;
        size_t size;
        enum pem_problem problem;
    } cases[] = {
        {DER("\x30\x82\x04\x03\x30\x82\x02\xeb\xa0\x03\x02\x01\x02"), PEM_PROBLEM_DER_CERTIFICATE},
        {DER("\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07"), PEM_PROBLEM_DER_KEY},
        {DER("\x30\x77\x02\x01\x01\x04\x20"), PEM_PROBLEM_DER_KEY},
        {DER("\x30\x82\x04\xa3\x02\x01\x00\x02\x82\x01\x01"), PEM_PROBLEM_DER_KEY},
        {DER("\x30\x82\x04\x70\x02\x01\x03\x30\x82"), PEM_PROBLEM_PKCS12},
        {DER("\x30\x80\x02\x01\x03\x30\x80"), PEM_PROBLEM_PKCS12},
        {DER("\x30\x82\x04\x70\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0"), PEM_PROBLEM_PKCS7},
        {DER("\x30\x82"), PEM_PROBLEM_BINARY},
        {DER("\x30\xff\x30\x30\x30"), PEM_PROBLEM_BINARY},
        {DER("\0\0\0"), PEM_PROBLEM_BINARY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t left = 0;
        AUTO_PEM_STREAM struct pem_stream *stream = feed(cases[i].data, cases[i].size, &left);
        ASSERT_NUMBER(pem_stream_problem(stream), cases[i].problem);
        ASSERT_NUMBER((long long)left, 0);
    }
}

/* Feeds the text again and again, until there is a problem; returns how often. */
static size_t feed_repeatedly(struct pem_stream *stream, const char *text, size_t limit) {
    size_t count = 0;
    for (; count < limit && pem_stream_problem(stream) == PEM_PROBLEM_NONE; count++)
        for (const char *byte = text; *byte != '\0'; byte++)
            pem_stream_feed(stream, *byte);
    return count;
}

static void test_bounds(void) {
    AUTO_PEM_STREAM struct pem_stream *blocks = pem_stream_new(), *part = pem_stream_new(), *input = pem_stream_new();
    size_t size;
    ASSERT_NUMBER((long long)feed_repeatedly(blocks, CERTIFICATE_1, 100), PEM_BLOCK_COUNT_MAX + 1);
    ASSERT_NUMBER(pem_stream_problem(blocks), PEM_PROBLEM_MANY_BLOCKS);
    ASSERT_NUMBER(pem_stream_count(blocks, PEM_CHAIN), PEM_BLOCK_COUNT_MAX);
    feed_repeatedly(part, "-----BEGIN CERTIFICATE-----\n", 1);
    feed_repeatedly(part, "QUJD\n", PEM_PART_MAX);
    ASSERT_NUMBER(pem_stream_problem(part), PEM_PROBLEM_LARGE_PART);
    pem_stream_text(part, PEM_CHAIN, &size);
    CU_ASSERT_TRUE(size <= PEM_PART_MAX);
    ASSERT_NUMBER((long long)feed_repeatedly(input, "12345678\n1234567", PEM_INPUT_MAX), PEM_INPUT_MAX / 16 + 1);
    ASSERT_NUMBER(pem_stream_problem(input), PEM_PROBLEM_LARGE_INPUT);
}

/* A certificate of exactly what is taken, and one byte more. */
static void test_largest_part(void) {
    size_t frame = sizeof "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n" - 1;
    for (int more = 0; more <= 1; more++) {
        AUTO_PEM_STREAM struct pem_stream *stream = pem_stream_new();
        size_t size;
        feed_repeatedly(stream, "-----BEGIN CERTIFICATE-----\n", 1);
        feed_repeatedly(stream, "A", PEM_PART_MAX - frame + (size_t)more);
        feed_repeatedly(stream, "\n-----END CERTIFICATE-----\n", 1);
        pem_stream_finish(stream);
        ASSERT_NUMBER(pem_stream_problem(stream), more ? PEM_PROBLEM_LARGE_PART : PEM_PROBLEM_NONE);
        pem_stream_text(stream, PEM_CHAIN, &size);
        CU_ASSERT_TRUE(more || size == PEM_PART_MAX);
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"chain", test_chain},
        {"order", test_order},
        {"labels", test_labels},
        {"layout", test_layout},
        {"joined", test_joined},
        {"end-of-transmission", test_end_of_transmission},
        {"may-end", test_may_end},
        {"cut-anywhere", test_cut_anywhere},
        {"problems", test_problems},
        {"after-a-problem", test_after_a_problem},
        {"binary", test_binary},
        {"bounds", test_bounds},
        {"largest-part", test_largest_part},
        {NULL, NULL},
    };
    return unit_run("pem-stream", tests, argc, argv);
}
