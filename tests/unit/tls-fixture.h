/* What the tests of TLS and MQTT share: a scratch directory with certificates made by the openssl command, child
 * processes that are servers, and a software key in the place of worker/key.h's. */
#pragma once

#include "worker/key.h"
#include "worker/tls.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FIXTURE_DEADLINE_MS 5000

/* Makes the scratch directory and runs `certificates` (shell commands) in it; exits with the openssl command's words
 * if that fails. Everything is removed at exit. */
void fixture_begin(const char *certificates);
const char *fixture_directory(void);

/* Shell functions for fixture_begin(): `authority NAME`, `issue NAME CA SUBJECT-ALT-NAME EXTENDED-KEY-USAGE START END
 * KEY-OPTIONS`: NAME.pem and NAME.key. */
extern const char fixture_functions[];

/* The text of a file of the scratch directory; the caller frees it. */
char *fixture_read(const char *name, size_t *ret_size);
void fixture_write(const char *name, const char *text);

struct server {
    pid_t pid;
    uint16_t port;
    int output; /* what it prints, and where it reads from: a pipe each */
    int input;
};

/* Runs a shell command in the scratch directory, in a process group of its own that dies with the test. */
void server_spawn(struct server *ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads its output until a line starts with `prefix`; returns what follows on the line, NULL at the deadline or end.
 * Borrowed until the next call. */
const char *server_expect(struct server *server, const char *prefix);
/* `openssl s_server` with these options on a free port; it reverses lines that it is sent. */
void server_start_openssl(struct server *ret, const char *options);
/* A child that listens on a free port, accepts one connection and hands it to the function. */
void server_start_fake(struct server *ret, void (*serve)(int socket));
void server_stop(struct server *server);

/* A software key from NAME.key, or one that cannot sign. */
struct key *fixture_key(const char *name);
struct key *fixture_broken_key(const char *name);
