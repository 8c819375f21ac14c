/* The channel between daemon and worker: AF_UNIX SOCK_SEQPACKET. One message is one datagram of KEY=VALUE lines (the
 * idiom of sd_notify(3)) that starts with VERSION= and TYPE=; files travel beside it as descriptors, named in order
 * by FILES=. Neither side trusts the other's words: everything is bounded and checked here.
 *
 *     daemon                                        worker
 *     job  VERB= GENERATION= + files          --->
 *                                             <---  progress  STEP= [CLASS= MESSAGE=] [NOTE=]   (any number)
 *                                             <---  checkpoint + file                    (a few)
 *     continue                                --->                                       (once it is durable)
 *                                             <---  result  RESULT=done + files | RESULT=resume |
 *                                                           RESULT=failed CLASS= STEP= MESSAGE=
 *                                             <---  end of file
 *
 * "Result, then end of file" is the only success. Closing the channel cancels the job. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CHANNEL_VERSION 1
#define CHANNEL_MESSAGE_MAX 4096 /* bytes of one datagram */
#define CHANNEL_FIELDS_MAX 32
#define CHANNEL_KEY_MAX 24

/* The descriptor on which a worker finds its channel: SD_LISTEN_FDS_START, so that a socket unit with Accept=yes and
 * a forking daemon look the same to it. */
#define CHANNEL_WORKER_FD 3

enum message_type {
    MESSAGE_JOB,
    MESSAGE_PROGRESS,
    MESSAGE_CHECKPOINT,
    MESSAGE_CONTINUE,
    MESSAGE_RESULT,
};
#define MESSAGE_TYPE_COUNT (MESSAGE_RESULT + 1)

/* What a file is for. */
enum file_role {
    FILE_CONFIGURATION, /* the effective configuration (configuration_serialize) */
    FILE_CERTIFICATE,   /* certificate.pem */
    FILE_PRIVATE_KEY,   /* private.pem */
    FILE_ROOT_CA,       /* root-ca.pem */
    FILE_IDENTITY,      /* identity.json */
    FILE_CHECKPOINT,    /* how far an enrolment has come: the worker's own words, kept by the daemon unread */
    FILE_STAGED,        /* a key that waits for its certificate, or both: the worker's own words, too */
    FILE_REQUEST,       /* a certificate signing request in PEM */
    FILE_PLUGINS,       /* what can be said of the plugins */
    FILE_DIAGNOSIS,     /* the rows of a diagnosis (diagnosis.h) */
};
#define FILE_ROLE_COUNT (FILE_DIAGNOSIS + 1)

struct message_field {
    uint16_t key; /* offsets into text */
    uint16_t value;
};

struct message {
    enum message_type type;
    size_t field_count;
    struct message_field fields[CHANNEL_FIELDS_MAX];
    int files[FILE_ROLE_COUNT]; /* -1: not there; owned by the message */
    size_t text_size;
    char text[CHANNEL_MESSAGE_MAX + 1];
};

/* "job", "configuration": the words on the wire. */
const char *message_type_name(enum message_type type);
const char *file_role_name(enum file_role role);

void message_init(struct message *message, enum message_type type);

/* Closes the files that are still there and wipes the text. */
void message_clear(struct message *message);

/* Adds a field; the value is made printable. -E2BIG when the message is full, -EINVAL for a key that is malformed or
 * there already. */
int message_add(struct message *message, const char *key, const char *value);
int message_add_number(struct message *message, const char *key, uint64_t value);

/* Adds a file; the message owns the descriptor from now on, also on failure (-EBADF, -EEXIST). */
int message_attach(struct message *message, enum file_role role, int fd);

/* The value of a field, borrowed; NULL if it is not there. */
const char *message_get(const struct message *message, const char *key);

/* -ENOENT, -EINVAL, -ERANGE as text_to_u64(). */
int message_get_number(const struct message *message, const char *key, uint64_t *ret);

/* Hands over a descriptor, -1 if it is not there. */
int message_take_file(struct message *message, enum file_role role);

/* Pure: writes the datagram (without NUL) and the descriptors in the order of FILES=. Returns its size or -E2BIG. */
int message_encode(const struct message *message, char *buffer, size_t buffer_size, int files[FILE_ROLE_COUNT],
                   size_t *ret_file_count);

/* Pure: parses a datagram; files are the received descriptors, which the message owns on success. On failure *reason
 * says what is wrong (a constant) and -EBADMSG is returned; *ret is then untouched. */
int message_parse(const char *datagram, size_t size, const int *files, size_t file_count, struct message *ret,
                  const char **ret_reason);

/* Sends one message. Returns 0 or a negative errno; never raises SIGPIPE. */
int channel_send(int fd, const struct message *message);

/* Receives one message. 1: a message; 0: end of file; -EAGAIN; -EBADMSG with *reason: not a message; or another
 * negative errno. With `sealed` every file must be a sealed memfd of at most MEMFD_SIZE_MAX bytes. The caller clears
 * the message. */
int channel_receive(int fd, int sealed, struct message *ret, const char **ret_reason);
