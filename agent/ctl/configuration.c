#include "ctl/configuration.h"

#include "common/text.h"
#include "ctl/terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ORIGIN_COLUMN 32

/* A copy that cannot control the terminal. NULL: out of memory. */
static char *printable(const char *text) {
    char *copy = strdup(text);
    if (copy != NULL)
        text_make_printable(copy);
    return copy;
}

static int print_setting(const char *key, const char *value, const char *file, uint32_t line) {
    AUTO_FREE char *name = printable(key), *content = printable(value), *origin = printable(file);
    if (name == NULL || content == NULL || origin == NULL)
        return -ENOMEM;
    bool is_default = origin[0] == '\0';
    int width = printf("%s%s=%s", is_default ? terminal_colour(TERMINAL_FAINT) : "", name, content);
    int gap = width < ORIGIN_COLUMN ? ORIGIN_COLUMN - width : 1;
    if (is_default)
        printf("%*s; default%s\n", gap, "", terminal_plain());
    else
        printf("%*s; %s:%" PRIu32 "\n", gap, "", origin, line);
    return 0;
}

/* 1 if there was another one, 0 at the end, or a negative errno. last: the section of the one before. */
static int print_next(sd_bus_message *reply, const char **last) {
    const char *section, *key, *value, *file;
    uint32_t line;
    int r = sd_bus_message_read(reply, "(ssssu)", &section, &key, &value, &file, &line);
    if (r <= 0)
        return r;
    if (*last == NULL || strcmp(*last, section) != 0) {
        AUTO_FREE char *name = printable(section);
        if (name == NULL)
            return -ENOMEM;
        printf("%s[%s]\n", *last == NULL ? "" : "\n", name);
    }
    *last = section; /* borrowed as long as the reply is there */
    r = print_setting(key, value, file, line);
    return r < 0 ? r : 1;
}

enum exit_code configuration_run(sd_bus *bus) {
    static const char what[] = "cannot show the configuration";
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    AUTO_MESSAGE sd_bus_message *reply = NULL;
    const char *last = NULL;
    int r = bus_call(bus, BUS_USUAL_TIMEOUT, &reply, &error, "GetConfiguration", "");
    if (r >= 0)
        r = sd_bus_message_enter_container(reply, 'a', "(ssssu)");
    while (r > 0)
        r = print_next(reply, &last);
    return r < 0 ? bus_complain(what, r, &error) : EXIT_CODE_DONE;
}
