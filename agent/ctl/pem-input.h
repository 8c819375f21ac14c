/* Reads PEM from a file, a pipe or a terminal, which a serial line is, too. */
#pragma once

#include "ctl/pem-stream.h"

#include <stdbool.h>

/* Reads until the end of the file, or EOT (0x04). Whoever sends over a pipe or a line may leave it open: so there the
 * input has ended, too, when it has been silent for two seconds outside of blocks, and has a certificate
 * (needs_certificate) and a private key (needs_key). After a problem a terminal is read on until it is silent, all else
 * is not.
 *
 * A terminal has its echo off meanwhile, and gives each byte as it comes; SIGINT, SIGTERM, SIGHUP and SIGQUIT wait
 * until it is as it was. What was sent to it behind the end is left there for its next reader, unless there is a
 * problem: then it is thrown away, as it may be the rest of a key.
 *
 * Notes go to stderr; `name` is for them. Returns 0 or a negative errno; problems of the content are with the stream.
 */
int pem_input_read(int fd, const char *name, bool needs_certificate, bool needs_key, struct pem_stream *stream);
