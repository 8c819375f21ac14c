/* Colours, on a terminal only, unless NO_COLOR is set (https://no-color.org). */
#pragma once

enum terminal_colour { TERMINAL_RED, TERMINAL_GREEN, TERMINAL_YELLOW, TERMINAL_FAINT };

/* What to print before and behind coloured text on stdout; "" where there are no colours. */
const char *terminal_colour(enum terminal_colour colour);
const char *terminal_plain(void);
