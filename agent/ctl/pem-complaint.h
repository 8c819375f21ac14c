/* What is wrong with PEM that was handed in, for people. */
#pragma once

#include "ctl/pem-stream.h"

/* Says on stderr what the stream's problem is and what to do; name: of the file, or NULL for standard input. */
void pem_complain(const struct pem_stream *stream, const char *name);
