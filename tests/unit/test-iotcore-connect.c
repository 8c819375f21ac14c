#include "connect_packet.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A packet in hexadecimal digits; blanks are for the reader. */
static size_t parse(const char *text, uint8_t *bytes) {
    size_t size = 0;
    unsigned byte;
    for (; *text != '\0'; text += 2) {
        while (*text == ' ')
            text++;
        if (sscanf(text, "%2x", &byte) != 1)
            CU_FAIL_FATAL("not hexadecimal");
        bytes[size++] = (uint8_t)byte;
    }
    return size;
}

/* The packet with the user name "7", in the same digits; "malformed" if it is. What lies outside of the packet is out
 * of the sanitizer's bounds. */
static const char *rewrite(const char *text) {
    static char digits[1024];
    uint8_t bytes[256], output[256 + CONNECT_PACKET_ROOM(1)];
    size_t size = parse(text, bytes);
    uint8_t *packet = malloc(size > 0 ? size : 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(packet);
    memcpy(packet, bytes, size);
    size_t written = connect_packet_rewrite(packet, size, "7", output);
    free(packet);
    for (size_t i = 0; i < written; i++)
        snprintf(digits + 2 * i, 3, "%02x", output[i]);
    return written > 0 ? digits : "malformed";
}

#define MQTT4(flags) "00044d51545404" flags "003c"
#define MQTT5(flags) "00044d51545405" flags "003c"

static void test_user_name(void) {
    /* client id "a" */
    ASSERT_TEXT(rewrite("100d" MQTT4("02") "000161"), "1010" MQTT4("82") "000161000137");
    /* user name "u" and password "p" are not sent on */
    ASSERT_TEXT(rewrite("1013" MQTT4("c2") "000161 000175 000170"), "1010" MQTT4("82") "000161000137");
    ASSERT_TEXT(rewrite("1010" MQTT4("82") "000161 000175"), "1010" MQTT4("82") "000161000137");
    /* MQTT 3.1 */
    ASSERT_TEXT(rewrite("100f 00064d514973647003 02 003c 000161"), "101200064d51497364700382003c000161000137");
    /* a fixed header that is longer than need be */
    ASSERT_TEXT(rewrite("108d00" MQTT4("02") "000161"), "1010" MQTT4("82") "000161000137");
}

static void test_properties(void) {
    ASSERT_TEXT(rewrite("100e" MQTT5("02") "00 000161"), "1011" MQTT5("82") "00000161000137");
    /* a session expiry interval */
    ASSERT_TEXT(rewrite("1013" MQTT5("02") "051100000e10 000161"), "1016" MQTT5("82") "051100000e10000161000137");
    /* a password without a user name, which MQTT 5 allows and 3.1.1 does not */
    ASSERT_TEXT(rewrite("1011" MQTT5("42") "00 000161 000170"), "1011" MQTT5("82") "00000161000137");
    ASSERT_TEXT(rewrite("1010" MQTT4("42") "000161 000170"), "malformed");
}

static void test_will(void) {
    /* topic "t", payload "w" */
    ASSERT_TEXT(rewrite("1013" MQTT4("06") "000161 000174 000177"), "1016" MQTT4("86") "000161000174000177000137");
    ASSERT_TEXT(rewrite("1015" MQTT5("06") "00 000161 00 000174 000177"),
                "1018" MQTT5("86") "0000016100000174000177000137");
    ASSERT_TEXT(rewrite("1018" MQTT5("06") "00 000161 03010203 000174 000177"),
                "101b" MQTT5("86") "0000016103010203000174000177000137");
}

static void test_fixed_header_grows(void) {
    char text[600] = "107f" MQTT4("02") "0073", expected[600] = "108201" MQTT4("82") "0073";
    for (unsigned i = 0; i < 0x73; i++) {
        strcat(text, "61");
        strcat(expected, "61");
    }
    strcat(expected, "000137");
    ASSERT_TEXT(rewrite(text), expected);
}

static void test_malformed(void) {
    static const char *const packets[] = {
        "",
        "10",
        "1000",
        "1001 00",
        "1002 0004",
        "1006 00044d515454",                  /* no level */
        "1007 00044d51545404",                /* no flags */
        "1008 00044d5154540402",              /* no keep alive */
        "100a" MQTT4("02"),                   /* no client id */
        "100b" MQTT4("02") "00",              /* half a length */
        "100c" MQTT4("02") "0001",            /* a client id that is not there */
        "100e" MQTT4("02") "000161 00",       /* more than there should be */
        "100d" MQTT4("03") "000161",          /* the reserved flag */
        "100d" MQTT4("82") "000161",          /* no user name */
        "1010" MQTT4("c2") "000161 000175",   /* no password */
        "100d" MQTT4("06") "000161",          /* no will */
        "1010" MQTT4("06") "000161 000174",   /* half a will */
        "1010" MQTT4("82") "000161 000275",   /* a user name that is too short */
        "100d 00044d51545403 02 003c 000161", /* levels that there are not */
        "100d 00044d51545406 02 003c 000161",
        "100d 00044d51545484 02 003c 000161", /* a bridge's */
        "100d 00044d51547404 02 003c 000161", /* another protocol */
        "100d 00034d515404 02 003c 00016100",
        "100f 00064d514973647004 02 003c 000161",
        "100d" MQTT5("02") "000161",            /* no properties */
        "100e" MQTT5("02") "7f 000161",         /* more properties than packet */
        "1012" MQTT5("02") "ffffffff7f 000161", /* a length of five bytes */
        "100d" MQTT5("02") "ffffff",
        "1012" MQTT5("06") "00 000161 7f 000174", /* the same of the will */
    };
    for (size_t i = 0; i < sizeof packets / sizeof *packets; i++)
        if (strcmp(rewrite(packets[i]), "malformed") != 0)
            ASSERT_TEXT(packets[i], "malformed");
}

/* Every packet that lacks its end, and every one with a wrong byte, comes out malformed or within its bounds. */
static void test_damaged(void) {
    static const char whole[] = "1018" MQTT5("c6") "00 000161 00 000174 000177 000175 000170";
    uint8_t bytes[64], output[64 + CONNECT_PACKET_ROOM(1)];
    size_t size = parse(whole, bytes);
    for (size_t length = 0; length < size; length++) {
        uint8_t *part = malloc(length + 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(part);
        memcpy(part, bytes, length);
        ASSERT_NUMBER((long long)connect_packet_rewrite(part, length, "7", output), 0);
        free(part);
    }
    for (size_t i = 0; i < size; i++)
        for (unsigned value = 0; value < 256; value++) {
            uint8_t *changed = malloc(size);
            CU_ASSERT_PTR_NOT_NULL_FATAL(changed);
            memcpy(changed, bytes, size);
            changed[i] = (uint8_t)value;
            CU_ASSERT(connect_packet_rewrite(changed, size, "7", output) <= size + CONNECT_PACKET_ROOM(1));
            free(changed);
        }
}

static enum connect_packet_state measure(const char *text, size_t *ret_size) {
    uint8_t bytes[64];
    return connect_packet_measure(bytes, parse(text, bytes), ret_size);
}

static void test_measure(void) {
    size_t size = 0;
    static const char *const incomplete[] = {"", "10", "100d", "10ff", "10ffff", "10ffff07", "100d" MQTT4("02")};
    static const char *const malformed[] = {"00",         "20",           "c000", "11",      "10ffffff7f",
                                            "10ffffffff", "10ffffffff01", "1681", "10828008"};
    for (size_t i = 0; i < sizeof incomplete / sizeof *incomplete; i++)
        if (measure(incomplete[i], &size) != CONNECT_PACKET_INCOMPLETE)
            ASSERT_TEXT(incomplete[i], "incomplete");
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        if (measure(malformed[i], &size) != CONNECT_PACKET_MALFORMED)
            ASSERT_TEXT(malformed[i], "malformed");
    ASSERT_NUMBER(size, 0);
    ASSERT_NUMBER(measure("1000", &size), CONNECT_PACKET_WHOLE);
    ASSERT_NUMBER((long long)size, 2);
    ASSERT_NUMBER(measure("100d" MQTT4("02") "000161 c000", &size), CONNECT_PACKET_WHOLE);
    ASSERT_NUMBER((long long)size, 15);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"another user name", test_user_name},  {"properties of MQTT 5", test_properties},
        {"a will is kept", test_will},          {"the fixed header grows", test_fixed_header_grows},
        {"malformed packets", test_malformed},  {"damaged packets", test_damaged},
        {"how long a packet is", test_measure}, {NULL, NULL},
    };
    return unit_run("connect packet", tests, argc, argv);
}
