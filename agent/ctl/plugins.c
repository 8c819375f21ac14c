#include "ctl/plugins.h"

#include "common/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAME_WIDTH 20
/* Above the longest that the worker which looks at them can take. */
#define PATIENCE_USEC (60 * UINT64_C(1000000))

/* Prints the text line by line, as only line ends may control the terminal. once: the first line only. */
static int print_lines(const char *text, bool once) {
    AUTO_FREE char *copy = strdup(text);
    char *rest = copy;
    if (copy == NULL)
        return -ENOMEM;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && (once || rest != NULL || *line != '\0');) {
        text_make_printable(line);
        puts(line);
        if (once)
            break;
    }
    return 0;
}

/* Prints what is wanted of the next plugin: 1 if that was one, 0 at the end, a negative errno. */
static int print_next(sd_bus_message *reply, const char *method, bool *found) {
    const char *name, *help;
    int r = sd_bus_message_read(reply, "(ss)", &name, &help);
    if (r <= 0)
        return r;
    if (method != NULL && strcmp(method, name) != 0)
        return 1;
    *found = true;
    if (method == NULL)
        printf("%-*s ", NAME_WIDTH, name);
    else
        printf("%s: ", method);
    r = print_lines(help, method == NULL);
    return r < 0 ? r : 1;
}

enum exit_code plugins_run(sd_bus *bus, const char *method) {
    static const char what[] = "cannot list the plugins";
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    AUTO_MESSAGE sd_bus_message *reply = NULL;
    bool found = false;
    int r = bus_call(bus, PATIENCE_USEC, &reply, &error, "ListPlugins", "");
    if (r >= 0)
        r = sd_bus_message_enter_container(reply, 'a', "(ss)");
    while (r > 0)
        r = print_next(reply, method, &found);
    if (r < 0)
        return bus_complain(what, r, &error);
    if (found)
        return EXIT_CODE_DONE;
    if (method == NULL)
        fputs("enrollctl: no plugin is installed.\n", stderr);
    else
        fprintf(stderr, "enrollctl: no plugin has a method %s. `enrollctl plugins` lists all.\n", method);
    return EXIT_CODE_FAILED;
}
