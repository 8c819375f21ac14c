#include "ctl/terminal.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool has_colours(void) {
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return (no_colour == NULL || no_colour[0] == '\0') && terminal != NULL && strcmp(terminal, "dumb") != 0 &&
           isatty(STDOUT_FILENO);
}

const char *terminal_colour(enum terminal_colour colour) {
    if (!has_colours())
        return "";
    switch (colour) {
    case TERMINAL_RED:
        return "\033[31m";
    case TERMINAL_GREEN:
        return "\033[32m";
    case TERMINAL_YELLOW:
        return "\033[33m";
    case TERMINAL_FAINT:
        return "\033[2m";
    }
    return "";
}

const char *terminal_plain(void) {
    return has_colours() ? "\033[0m" : "";
}

/* 0: no terminal, or one that does not say. */
static size_t columns(void) {
    struct winsize size = {0};
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* Characters, not bytes: those that go on with one begin with the bits 10 (RFC 3629 section 3). */
static size_t width_of(const char *word, size_t size) {
    size_t width = 0;
    for (size_t i = 0; i < size; i++)
        width += ((unsigned char)word[i] & 0xc0) != 0x80;
    return width;
}

void terminal_print_wrapped(const char *text, size_t indent, size_t column) {
    size_t end = columns(), length = strlen(text);
    for (size_t at = 0, size, gap = 0; at < length; at += size + gap) {
        size = strcspn(text + at, " ");
        size_t width = width_of(text + at, size);
        if (end > 0 && column > indent && column + gap + width > end) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else {
            printf("%*s", (int)gap, "");
            column += gap;
        }
        fwrite(text + at, 1, size, stdout);
        column += width;
        gap = strspn(text + at + size, " ");
    }
    puts("");
}
