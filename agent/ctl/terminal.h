/* Colours, on a terminal only, unless NO_COLOR is set (https://no-color.org). */
#pragma once

#include <stddef.h>

enum terminal_colour { TERMINAL_RED, TERMINAL_GREEN, TERMINAL_YELLOW, TERMINAL_FAINT };

/* What to print before and behind coloured text on stdout; "" where there are no colours. */
const char *terminal_colour(enum terminal_colour colour);
const char *terminal_plain(void);

/* Prints the text and a line end; `column` columns are on the line already. A terminal gets no line that is longer than
 * its own, and what follows the first is indented. */
void terminal_print_wrapped(const char *text, size_t indent, size_t column);
