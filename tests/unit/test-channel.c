#include "common/channel.h"
#include "common/cleanup.h"
#include "common/memfd.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

static int pair[2];

static void open_pair(void) {
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(void) {
    cleanup_close(&pair[0]);
    cleanup_close(&pair[1]);
}

static unsigned count_descriptors(void) {
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void test_round_trip(void) {
    struct message sent, received;
    const char *reason = NULL;
    AUTO_FREE char *data = NULL;
    size_t size = 0;
    uint64_t number = 0;
    unsigned before = count_descriptors();
    open_pair();
    message_init(&sent, MESSAGE_RESULT);
    ASSERT_NUMBER(message_add(&sent, "RESULT", "done"), 0);
    ASSERT_NUMBER(message_add(&sent, "MESSAGE", "a=b\nc caf\xc3\xa9"), 0);
    ASSERT_NUMBER(message_add_number(&sent, "RETRY_AFTER", 120), 0);
    ASSERT_NUMBER(message_attach(&sent, FILE_IDENTITY, memfd_create_sealed("i", "{}", 2)), 0);
    ASSERT_NUMBER(message_attach(&sent, FILE_CERTIFICATE, memfd_create_sealed("c", "CERT", 4)), 0);
    ASSERT_NUMBER(channel_send(pair[0], &sent), 0);
    ASSERT_NUMBER(channel_receive(pair[1], 1, &received, &reason), 1);
    ASSERT_NUMBER(received.type, MESSAGE_RESULT);
    ASSERT_TEXT(message_get(&received, "RESULT"), "done");
    ASSERT_TEXT(message_get(&received, "MESSAGE"), "a=b c caf\xc3\xa9");
    ASSERT_NUMBER(message_get_number(&received, "RETRY_AFTER", &number), 0);
    ASSERT_NUMBER((long long)number, 120);
    CU_ASSERT_PTR_NULL(message_get(&received, "STEP"));
    ASSERT_NUMBER(memfd_read(received.files[FILE_CERTIFICATE], &data, &size), 0);
    ASSERT_TEXT(data, "CERT");
    ASSERT_NUMBER(received.files[FILE_PRIVATE_KEY], -1);
    message_clear(&sent);
    message_clear(&received);
    close_pair();
    ASSERT_NUMBER(count_descriptors(), before);
}

static void test_end_of_file(void) {
    struct message received;
    const char *reason = NULL;
    open_pair();
    ASSERT_NUMBER(channel_receive(pair[1], 1, &received, &reason), -EAGAIN);
    cleanup_close(&pair[0]);
    pair[0] = -1;
    ASSERT_NUMBER(channel_receive(pair[1], 1, &received, &reason), 0);
    close_pair();
}

/* Every way in which a datagram can be no message, each by its reason. */
static void test_malformed(void) {
    static const struct {
        const char *datagram, *reason;
    } cases[] = {
        {"", "it is empty or too large"},
        {"TYPE=job\nVERSION=1\n", "it does not start with VERSION="},
        {"VERSION=1\n", "it does not start with VERSION="},
        {"VERSION=2\nTYPE=job\n", "it has another version"},
        {"VERSION=01\nTYPE=job\n", "it has another version"},
        {"VERSION=1\nVERB=check\n", "it has no TYPE="},
        {"VERSION=1\nTYPE=nonsense\n", "it is of an unknown type"},
        {"VERSION=1\nTYPE=job\nVERB=check", "its last line is not ended"},
        {"VERSION=1\nTYPE=job\nVERB\n", "it has a line without '='"},
        {"VERSION=1\nTYPE=job\n\n", "it has a line without '='"},
        {"VERSION=1\nTYPE=job\nverb=check\n", "it has a malformed key"},
        {"VERSION=1\nTYPE=job\n=check\n", "it has a malformed key"},
        {"VERSION=1\nTYPE=job\nAAAAAAAAAAAAAAAAAAAAAAAAA=1\n", "it has a malformed key"},
        {"VERSION=1\nTYPE=job\nVERB=a\nVERB=b\n", "it has a key twice"},
        {"VERSION=1\nTYPE=job\nVERB=a\x1b[m\n", "it has control characters"},
        {"VERSION=1\nTYPE=job\nVERB=a\xc2\x9bm\n", "it has control characters"},
        {"VERSION=1\nTYPE=job\nVERB=\xff\n", "it is not UTF-8"},
        {"VERSION=1\nTYPE=job\nFILES=certificate\n", "it names more files than it has"},
        {"VERSION=1\nTYPE=job\nFILES=nonsense\n", "it names an unknown file"},
        {"VERSION=1\nTYPE=job\nFILES=\n", "it names an unknown file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct message message;
        const char *reason = NULL;
        ASSERT_NUMBER(message_parse(cases[i].datagram, strlen(cases[i].datagram), NULL, 0, &message, &reason),
                      -EBADMSG);
        ASSERT_TEXT(reason, cases[i].reason);
    }
}

static void test_too_many(void) {
    char text[CHANNEL_MESSAGE_MAX + 64] = "VERSION=1\nTYPE=job\n";
    struct message message;
    const char *reason = NULL;
    for (char a = 'A'; a <= 'Z'; a++)
        for (char b = 'A'; b <= 'B'; b++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%c%c=1\n", a, b);
    ASSERT_NUMBER(message_parse(text, strlen(text), NULL, 0, &message, &reason), -EBADMSG);
    ASSERT_TEXT(reason, "it has too many fields");
    memset(text, 'x', sizeof text);
    ASSERT_NUMBER(message_parse(text, sizeof text, NULL, 0, &message, &reason), -EBADMSG);
    ASSERT_TEXT(reason, "it is empty or too large");
    ASSERT_NUMBER(message_parse("VERSION=1\nTYPE=job\nA=\0\n", 24, NULL, 0, &message, &reason), -EBADMSG);
}

static void test_adding(void) {
    struct message message;
    char huge[CHANNEL_MESSAGE_MAX + 1], buffer[CHANNEL_MESSAGE_MAX + 1];
    int files[FILE_ROLE_COUNT];
    size_t count = 0;
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    message_init(&message, MESSAGE_PROGRESS);
    ASSERT_NUMBER(message_add(&message, "lower", "x"), -EINVAL);
    ASSERT_NUMBER(message_add(&message, "STEP", huge), -E2BIG);
    ASSERT_NUMBER(message_add(&message, "STEP", "key"), 0);
    ASSERT_NUMBER(message_add(&message, "STEP", "key"), -EINVAL);
    ASSERT_NUMBER(message_attach(&message, FILE_IDENTITY, -1), -EBADF);
    ASSERT_NUMBER(message_encode(&message, buffer, 8, files, &count), -E2BIG);
    int size = message_encode(&message, buffer, sizeof buffer, files, &count);
    ASSERT_NUMBER(size, (int)strlen("VERSION=1\nTYPE=progress\nSTEP=key\n"));
}

/* Descriptors that somebody could still change, that are no files, or that are not named: refused, and closed. */
static void receive_refused(int fd, const char *text, const char *expected) {
    struct message received;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {.iov_base = (void *)text, .iov_len = strlen(text)};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    const char *reason = NULL;
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    open_pair();
    unsigned before = count_descriptors();
    CU_ASSERT_TRUE(sendmsg(pair[0], &header, 0) > 0);
    ASSERT_NUMBER(channel_receive(pair[1], 1, &received, &reason), -EBADMSG);
    ASSERT_TEXT(reason, expected);
    ASSERT_NUMBER(count_descriptors(), before);
    close_pair();
}

static void test_bad_files(void) {
    AUTO_CLOSE int open_file = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    AUTO_CLOSE int device = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int huge = memfd_create("huge", MFD_CLOEXEC);
    AUTO_CLOSE int sealed = memfd_create_sealed("sealed", "x", 1);
    CU_ASSERT_EQUAL(ftruncate(huge, MEMFD_SIZE_MAX + 1), 0);
    const char *text = "VERSION=1\nTYPE=result\nFILES=certificate\n";
    receive_refused(open_file, text, "it has a file that is not sealed");
    receive_refused(device, text, "it has a file that is not a regular file of at most 64 KiB");
    receive_refused(huge, text, "it has a file that is not a regular file of at most 64 KiB");
    receive_refused(sealed, "VERSION=1\nTYPE=result\n", "it has files that it does not name");
    receive_refused(sealed, "VERSION=1\nTYPE=result\nFILES=certificate certificate\n", "it names a file twice");
}

static void test_oversize_datagram(void) {
    static char text[CHANNEL_MESSAGE_MAX * 2] = "VERSION=1\nTYPE=job\nVERB=";
    struct message received;
    const char *reason = NULL;
    size_t length = strlen(text);
    memset(text + length, 'x', sizeof text - length - 1);
    open_pair();
    CU_ASSERT_TRUE(send(pair[0], text, sizeof text, 0) > 0);
    ASSERT_NUMBER(channel_receive(pair[1], 1, &received, &reason), -EBADMSG);
    ASSERT_TEXT(reason, "it is too large");
    close_pair();
}

static void test_memfd(void) {
    static char huge[MEMFD_SIZE_MAX + 1];
    AUTO_CLOSE int fd = memfd_create_sealed("x", "abc", 3);
    AUTO_CLOSE int plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CU_ASSERT_TRUE(fd >= 0);
    CU_ASSERT_TRUE(memfd_is_sealed(fd));
    CU_ASSERT_FALSE(memfd_is_sealed(plain));
    CU_ASSERT_TRUE(write(fd, "x", 1) < 0);
    ASSERT_NUMBER(memfd_create_sealed("x", huge, sizeof huge), -EFBIG);
    char *data = NULL;
    size_t size = 0;
    AUTO_CLOSE int pipe_end = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ASSERT_NUMBER(memfd_read(pipe_end, &data, &size), -ENOTSUP);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"round-trip", test_round_trip},
        {"end-of-file", test_end_of_file},
        {"malformed", test_malformed},
        {"too-many", test_too_many},
        {"adding", test_adding},
        {"bad-files", test_bad_files},
        {"oversize", test_oversize_datagram},
        {"memfd", test_memfd},
        {NULL, NULL},
    };
    return unit_run("channel", tests, argc, argv);
}
