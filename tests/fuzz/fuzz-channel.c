/* A datagram between daemon and worker: the first byte says how many descriptors came with it. What parses is bounded,
 * printable, and the same after it was written and parsed again; a result also goes through the daemon's reading of the
 * facts of an identity. */
#include "common/channel.h"
#include "common/text.h"
#include "daemon/identity.h"
#include "fuzz.h"

/* Above what any process has open: the parser must hand on descriptors, never use them. */
#define FIRST_DESCRIPTOR 100000

static bool is_printable(const char *text) {
    char copy[CHANNEL_MESSAGE_MAX + 1];
    strcpy(copy, text);
    text_make_printable(copy);
    return text_is_utf8(text, strlen(text)) && strcmp(copy, text) == 0;
}

static bool is_of_the_head(const char *key) {
    return strcmp(key, "VERSION") == 0 || strcmp(key, "TYPE") == 0 || strcmp(key, "FILES") == 0;
}

/* Each descriptor that came is in the message once. */
static void check_files(const struct message *message, const int *files, size_t count) {
    size_t found = 0;
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        found += message->files[role] >= 0;
    REQUIRE(found == count);
    for (size_t i = 0; i < count; i++) {
        size_t times = 0;
        for (int role = 0; role < FILE_ROLE_COUNT; role++)
            times += message->files[role] == files[i];
        REQUIRE(times == 1);
    }
}

/* The same message, made by the functions that a sender uses. */
static void copy_message(const struct message *message, struct message *ret) {
    message_init(ret, message->type);
    for (size_t i = 0; i < message->field_count; i++) {
        const char *key = message->text + message->fields[i].key, *value = message->text + message->fields[i].value;
        REQUIRE(is_printable(value));
        REQUIRE(message_get(message, key) == value);
        if (!is_of_the_head(key))
            REQUIRE(message_add(ret, key, value) == 0);
    }
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        if (message->files[role] >= 0)
            REQUIRE(message_attach(ret, (enum file_role)role, message->files[role]) == 0);
}

static void forget_files(struct message *message) {
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        message->files[role] = -1;
}

static void check_round_trip(const struct message *message, size_t datagram_size) {
    struct message copy, again;
    char datagram[CHANNEL_MESSAGE_MAX + 1];
    int files[FILE_ROLE_COUNT];
    size_t count = 0;
    const char *reason = NULL;
    copy_message(message, &copy);
    int size = message_encode(&copy, datagram, sizeof datagram, files, &count);
    REQUIRE(size >= 0 && (size_t)size == datagram_size);
    REQUIRE(message_parse(datagram, (size_t)size, files, count, &again, &reason) == 0);
    REQUIRE(again.type == message->type && again.field_count == message->field_count);
    REQUIRE(memcmp(again.files, message->files, sizeof again.files) == 0);
    for (size_t i = 0; i < message->field_count; i++) {
        const char *key = message->text + message->fields[i].key;
        if (strcmp(key, "FILES") != 0) /* their order on the wire may be another */
            REQUIRE(strcmp(message_get(&again, key), message_get(message, key)) == 0);
    }
    forget_files(&copy);
    forget_files(&again);
    message_clear(&copy);
    message_clear(&again);
}

static void check_facts(const struct message *message) {
    struct identity identity;
    struct failure failure;
    if (identity_from_result(message, &identity, &failure) < 0) {
        REQUIRE(failure.class == FAILURE_INTERNAL && failure.message[0] != '\0');
        return;
    }
    REQUIRE(identity.method[0] != '\0' && identity.endpoint[0] != '\0');
    REQUIRE(is_printable(identity.method) && is_printable(identity.thing_name) && is_printable(identity.endpoint));
    REQUIRE(is_printable(identity.renew_method) && is_printable(identity.hindrance));
    REQUIRE(identity.not_after_usec <= 253402300799ULL * 1000000);
    REQUIRE(identity.issued_at_usec <= 253402300799ULL * 1000000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    struct message message;
    int files[FILE_ROLE_COUNT];
    const char *reason = NULL;
    size_t count = input_byte(&input) % (FILE_ROLE_COUNT + 1);
    for (size_t i = 0; i < count; i++)
        files[i] = FIRST_DESCRIPTOR + (int)i;
    if (message_parse((const char *)input.data, input.size, files, count, &message, &reason) < 0) {
        REQUIRE(reason != NULL);
        return 0;
    }
    check_files(&message, files, count);
    check_round_trip(&message, input.size);
    check_facts(&message);
    forget_files(&message);
    message_clear(&message);
    return 0;
}
