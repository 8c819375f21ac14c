#include "common/channel.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char *const type_names[MESSAGE_TYPE_COUNT] = {
    [MESSAGE_JOB] = "job",           [MESSAGE_PROGRESS] = "progress", [MESSAGE_CHECKPOINT] = "checkpoint",
    [MESSAGE_CONTINUE] = "continue", [MESSAGE_RESULT] = "result",
};

static const char *const role_names[FILE_ROLE_COUNT] = {
    [FILE_CONFIGURATION] = "configuration",
    [FILE_CERTIFICATE] = "certificate",
    [FILE_PRIVATE_KEY] = "private-key",
    [FILE_ROOT_CA] = "root-ca",
    [FILE_IDENTITY] = "identity",
    [FILE_CHECKPOINT] = "checkpoint",
    [FILE_STAGED] = "staged",
    [FILE_REQUEST] = "request",
    [FILE_PLUGINS] = "plugins",
    [FILE_DIAGNOSIS] = "diagnosis",
};

const char *message_type_name(enum message_type type) {
    return type_names[type];
}
const char *file_role_name(enum file_role role) {
    return role_names[role];
}

static int index_of(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

void message_init(struct message *message, enum message_type type) {
    memset(message, 0, sizeof *message);
    message->type = type;
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        message->files[role] = -1;
}

void message_clear(struct message *message) {
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        cleanup_close(&message->files[role]);
    explicit_bzero(message->text, sizeof message->text);
    message_init(message, message->type);
}

static bool key_is_valid(const char *key) {
    size_t length = strlen(key);
    return length > 0 && length <= CHANNEL_KEY_MAX && strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == length;
}

int message_add(struct message *message, const char *key, const char *value) {
    size_t key_size = strlen(key) + 1, value_size = strlen(value) + 1;
    if (!key_is_valid(key) || message_get(message, key) != NULL)
        return -EINVAL;
    if (message->field_count == CHANNEL_FIELDS_MAX || message->text_size + key_size + value_size > CHANNEL_MESSAGE_MAX)
        return -E2BIG;
    struct message_field *field = &message->fields[message->field_count++];
    field->key = (uint16_t)message->text_size;
    field->value = (uint16_t)(message->text_size + key_size);
    memcpy(message->text + field->key, key, key_size);
    memcpy(message->text + field->value, value, value_size);
    text_make_printable(message->text + field->value);
    message->text_size += key_size + value_size;
    return 0;
}

int message_add_number(struct message *message, const char *key, uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return message_add(message, key, text);
}

int message_attach(struct message *message, enum file_role role, int fd) {
    if (fd < 0)
        return -EBADF;
    if (message->files[role] >= 0) {
        close(fd);
        return -EEXIST;
    }
    message->files[role] = fd;
    return 0;
}

const char *message_get(const struct message *message, const char *key) {
    for (size_t i = 0; i < message->field_count; i++)
        if (strcmp(message->text + message->fields[i].key, key) == 0)
            return message->text + message->fields[i].value;
    return NULL;
}

int message_get_number(const struct message *message, const char *key, uint64_t *ret) {
    const char *value = message_get(message, key);
    return value == NULL ? -ENOENT : text_to_u64(value, ret);
}

int message_take_file(struct message *message, enum file_role role) {
    return take_fd(&message->files[role]);
}

/* FILES= names the descriptors in the order in which they travel. */
static void encode_files(const struct message *message, char *line, size_t line_size, int *files, size_t *ret_count) {
    size_t count = 0, length = 0;
    line[0] = '\0';
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        if (message->files[role] >= 0) {
            length +=
                (size_t)snprintf(line + length, line_size - length, "%s%s", count == 0 ? "" : " ", role_names[role]);
            files[count++] = message->files[role];
        }
    *ret_count = count;
}

int message_encode(const struct message *message, char *buffer, size_t buffer_size, int files[FILE_ROLE_COUNT],
                   size_t *ret_file_count) {
    char names[FILE_ROLE_COUNT * (CHANNEL_KEY_MAX + 1)];
    encode_files(message, names, sizeof names, files, ret_file_count);
    int length =
        snprintf(buffer, buffer_size, "VERSION=%d\nTYPE=%s\n%s%s%s", CHANNEL_VERSION, type_names[message->type],
                 names[0] != '\0' ? "FILES=" : "", names, names[0] != '\0' ? "\n" : "");
    size_t size = (size_t)length;
    for (size_t i = 0; i < message->field_count && size < buffer_size; i++)
        size += (size_t)snprintf(buffer + size, buffer_size - size, "%s=%s\n", message->text + message->fields[i].key,
                                 message->text + message->fields[i].value);
    return size < buffer_size && size <= CHANNEL_MESSAGE_MAX ? (int)size : -E2BIG;
}

static bool has_control_characters(const char *text) {
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f ||
            ((unsigned char)*text == 0xc2 && (unsigned char)text[1] < 0xa0)) /* C1, as text_make_printable() */
            return true;
    return false;
}

/* Splits text (each line ended by a newline) into fields, in place. */
static const char *split_fields(struct message *message) {
    char *line = message->text, *end = message->text + message->text_size;
    while (line < end) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        if (newline == NULL)
            return "its last line is not ended";
        *newline = '\0';
        char *equals = strchr(line, '=');
        if (equals == NULL)
            return "it has a line without '='";
        *equals = '\0';
        if (!key_is_valid(line))
            return "it has a malformed key";
        if (has_control_characters(equals + 1))
            return "it has control characters";
        if (message_get(message, line) != NULL)
            return "it has a key twice";
        if (message->field_count == CHANNEL_FIELDS_MAX)
            return "it has too many fields";
        message->fields[message->field_count].key = (uint16_t)(line - message->text);
        message->fields[message->field_count++].value = (uint16_t)(equals + 1 - message->text);
        line = newline + 1;
    }
    return NULL;
}

/* The two fields that every message starts with. */
static const char *parse_head(struct message *message) {
    if (message->field_count < 2 || message->fields[0].key != 0 || strcmp(message->text, "VERSION") != 0)
        return "it does not start with VERSION=";
    if (strcmp(message->text + message->fields[0].value, "1") != 0)
        return "it has another version";
    if (strcmp(message->text + message->fields[1].key, "TYPE") != 0)
        return "it has no TYPE=";
    int type = index_of(type_names, MESSAGE_TYPE_COUNT, message->text + message->fields[1].value);
    if (type < 0)
        return "it is of an unknown type";
    message->type = (enum message_type)type;
    return NULL;
}

static const char *parse_files(struct message *message, const int *files, size_t file_count) {
    char names[CHANNEL_MESSAGE_MAX + 1] = "", *rest = names;
    const char *value = message_get(message, "FILES");
    size_t used = 0;
    if (value != NULL)
        memcpy(names, value, strlen(value) + 1);
    for (char *name = strsep(&rest, " "); name != NULL && value != NULL; name = strsep(&rest, " ")) {
        int role = index_of(role_names, FILE_ROLE_COUNT, name);
        if (role < 0)
            return "it names an unknown file";
        if (message->files[role] >= 0)
            return "it names a file twice";
        if (used == file_count)
            return "it names more files than it has";
        message->files[role] = files[used++];
    }
    return used == file_count ? NULL : "it has files that it does not name";
}

int message_parse(const char *datagram, size_t size, const int *files, size_t file_count, struct message *ret,
                  const char **ret_reason) {
    struct message message;
    const char *reason = NULL;
    message_init(&message, MESSAGE_JOB);
    if (size == 0 || size > CHANNEL_MESSAGE_MAX)
        reason = "it is empty or too large";
    else if (!text_is_utf8(datagram, size))
        reason = "it is not UTF-8";
    if (reason == NULL) {
        memcpy(message.text, datagram, size);
        message.text_size = size;
        reason = split_fields(&message);
    }
    if (reason == NULL)
        reason = parse_head(&message);
    if (reason == NULL)
        reason = parse_files(&message, files, file_count);
    if (reason != NULL) {
        *ret_reason = reason;
        return -EBADMSG;
    }
    *ret = message;
    return 0;
}

int channel_send(int fd, const struct message *message) {
    char datagram[CHANNEL_MESSAGE_MAX + 1];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * FILE_ROLE_COUNT)];
    } control = {0};
    int files[FILE_ROLE_COUNT];
    size_t count = 0;
    int size = message_encode(message, datagram, sizeof datagram, files, &count);
    if (size < 0)
        return size;
    struct iovec part = {.iov_base = datagram, .iov_len = (size_t)size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        header.msg_control = &control;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int) * count), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), files, sizeof(int) * count);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &header, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    explicit_bzero(datagram, sizeof datagram);
    return n < 0 ? -errno : 0;
}

/* Collects the descriptors of all SCM_RIGHTS messages; returns how many. */
static size_t collect_files(struct msghdr *header, int *files, size_t max) {
    size_t count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
            if (count < max)
                files[count++] = fd;
            else
                close(fd);
        }
    }
    return count;
}

/* A file that the other side could still change, or a huge or strange one, is refused before anybody reads it. */
static const char *judge_files(const int *files, size_t count, int sealed) {
    for (size_t i = 0; i < count; i++) {
        struct stat status;
        if (fstat(files[i], &status) < 0 || !S_ISREG(status.st_mode) || status.st_size > MEMFD_SIZE_MAX)
            return "it has a file that is not a regular file of at most 64 KiB";
        if (sealed && !memfd_is_sealed(files[i]))
            return "it has a file that is not sealed";
    }
    return NULL;
}

int channel_receive(int fd, int sealed, struct message *ret, const char **ret_reason) {
    char datagram[CHANNEL_MESSAGE_MAX + 1];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * FILE_ROLE_COUNT)];
    } control = {0};
    int files[FILE_ROLE_COUNT];
    struct iovec part = {.iov_base = datagram, .iov_len = sizeof datagram};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? 0 : -errno;
    size_t count = collect_files(&header, files, FILE_ROLE_COUNT);
    if (n == 0 && count == 0)
        return 0;
    const char *reason =
        header.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? "it is too large" : judge_files(files, count, sealed);
    int r = -EBADMSG;
    if (reason == NULL)
        r = message_parse(datagram, (size_t)n, files, count, ret, &reason);
    explicit_bzero(datagram, sizeof datagram);
    if (r == 0)
        return 1;
    for (size_t i = 0; i < count; i++)
        close(files[i]);
    *ret_reason = reason;
    return -EBADMSG;
}
