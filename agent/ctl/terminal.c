#include "ctl/terminal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
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
