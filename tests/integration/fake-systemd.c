/* PID 1 as enrollctl sees it on the bus, for its tests.
 *
 *     fake-systemd DIRECTORY
 *
 * A file of the directory is a unit: it has the words LoadState, ActiveState and UnitFileState; one that is not there
 * is "not-found inactive -". Stands ready when it has printed a line. */
#include "common/cleanup.h"

#include <systemd/sd-bus.h>

#include <stdio.h>
#include <string.h>

#define NAME "org.freedesktop.systemd1"
#define PREFIX "/org/freedesktop/systemd1/unit"
#define WORD_MAX 64

struct words {
    char text[3][WORD_MAX];
};

static void read_unit(const char *name, struct words *ret) {
    struct words words = {{"not-found", "inactive", ""}};
    FILE *file = fopen(name, "re");
    if (file != NULL) {
        if (fscanf(file, "%63s %63s %63s", words.text[0], words.text[1], words.text[2]) != 3)
            fprintf(stderr, "fake-systemd: %s has not three words\n", name);
        fclose(file);
    }
    *ret = words;
}

static int on_load_unit(sd_bus_message *call, void *data, sd_bus_error *error) {
    AUTO_FREE char *path = NULL;
    const char *name = NULL;
    (void)data, (void)error;
    int r = sd_bus_message_read(call, "s", &name);
    if (r >= 0)
        r = sd_bus_path_encode(PREFIX, name, &path);
    return r < 0 ? r : sd_bus_reply_method_return(call, "o", path);
}

static int get_word(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *data, sd_bus_error *error) {
    static const char *const names[] = {"LoadState", "ActiveState", "UnitFileState"};
    AUTO_FREE char *name = NULL;
    struct words words;
    (void)bus, (void)interface, (void)data, (void)error;
    int r = sd_bus_path_decode(path, PREFIX, &name);
    if (r <= 0)
        return r < 0 ? r : -1;
    read_unit(name, &words);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(property, names[i]) == 0)
            return sd_bus_message_append(reply, "s", words.text[i]);
    return -1;
}

static const sd_bus_vtable manager[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("LoadUnit", "s", "o", on_load_unit, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

static const sd_bus_vtable unit[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("LoadState", "s", get_word, 0, 0),
    SD_BUS_PROPERTY("ActiveState", "s", get_word, 0, 0),
    SD_BUS_PROPERTY("UnitFileState", "s", get_word, 0, 0),
    SD_BUS_VTABLE_END,
};

static int find_unit(sd_bus *bus, const char *path, const char *interface, void *data, void **ret,
                     sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)data, (void)error;
    *ret = NULL;
    return 1;
}

int main(int argc, char **argv) {
    sd_bus *bus = NULL;
    if (argc != 2 || chdir(argv[1]) < 0)
        return EXIT_FAILURE;
    int r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1", NAME ".Manager", manager, NULL);
    if (r >= 0)
        r = sd_bus_add_fallback_vtable(bus, NULL, PREFIX, NAME ".Unit", unit, find_unit, NULL);
    if (r >= 0)
        r = sd_bus_request_name(bus, NAME, 0);
    if (r >= 0 && (puts("ready") < 0 || fflush(stdout) != 0))
        r = -1;
    while (r >= 0) {
        r = sd_bus_process(bus, NULL);
        if (r == 0)
            r = sd_bus_wait(bus, UINT64_MAX);
    }
    fprintf(stderr, "fake-systemd: %s\n", strerror(-r));
    return EXIT_FAILURE;
}
