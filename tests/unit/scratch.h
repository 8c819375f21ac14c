/* A directory of its own for one test program, and the stock commands (openssl) that judge what is in it. */
#pragma once

#include <stddef.h>

/* Makes the directory below /tmp; exits the program if it cannot. */
void scratch_make(void);
void scratch_remove(void);
const char *scratch_directory(void);

/* Runs a shell command in the directory, with its output in the file "output". Returns 0 or the status of wait(2);
 * prints command and output if it failed. */
int scratch_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reads a file of the directory and adds a NUL; returns its size, 0 if there is none. */
size_t scratch_read(const char *name, char *text, size_t size);
/* Returns 0 or -1. */
int scratch_write(const char *name, const void *text, size_t size);
