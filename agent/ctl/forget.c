#include "ctl/forget.h"

#include "ctl/terminal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX 16
/* It answers when all is durable, and a fsync(2) on a busy eMMC can take a minute: as long as the watchdog waits. */
#define PATIENCE_USEC (180 * UINT64_C(1000000))

static const char what[] = "cannot forget the identity";

static void print_warning(const struct properties *properties) {
    const char *id = properties_text(properties, PROPERTY_CERTIFICATE_ID);
    if (id[0] != '\0')
        fprintf(stderr, "Thing %s, certificate %s, generation %" PRIu32 ".\n",
                properties_text(properties, PROPERTY_THING_NAME), id, properties->values[PROPERTY_GENERATION].number);
    fputs("Key and certificate of this device, those that wait and those of before too, are removed for good.\n"
          "Applications that belong to enrolld-provisioned.target are stopped, and enrolld enrolls anew.\n"
          "With KeepClaim=no it cannot come back without a person: the claim is destroyed.\n",
          stderr);
}

/* "yes", and nothing else. */
static enum exit_code ask(const struct properties *properties) {
    char answer[ANSWER_MAX] = "";
    if (!isatty(STDIN_FILENO)) {
        fputs("enrollctl: forget asks before it does it. Where there is no terminal, say --yes.\n", stderr);
        return EXIT_CODE_USAGE;
    }
    print_warning(properties);
    fputs("To do it, type yes: ", stderr);
    if (fgets(answer, sizeof answer, stdin) != NULL && strcmp(answer, "yes\n") == 0)
        return EXIT_CODE_DONE;
    fputs("enrollctl: nothing was forgotten.\n", stderr);
    return EXIT_CODE_FAILED;
}

/* Nothing on the device can do this: its last right there went with the key. */
static void print_rest(const struct properties *properties) {
    const char *id = properties_text(properties, PROPERTY_CERTIFICATE_ID);
    printf("%sforgotten%s\n", terminal_colour(TERMINAL_GREEN), terminal_plain());
    if (id[0] == '\0')
        return;
    printf("The certificate stays ACTIVE in AWS IoT Core. To take it away there:\n"
           "aws iot update-certificate --new-status INACTIVE --certificate-id %s\n"
           "With the hook of etc/aws the device comes back only when that is done,\n"
           "with KeepClaim=no only when somebody has given it a claim.\n",
           id);
}

enum exit_code forget_run(sd_bus *bus, bool sure) {
    AUTO_PROPERTIES struct properties properties = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = bus_get_properties(bus, BUS_USUAL_TIMEOUT, &properties, &error);
    if (r < 0)
        return bus_complain(what, r, &error);
    enum exit_code code = sure ? EXIT_CODE_DONE : ask(&properties);
    if (code != EXIT_CODE_DONE)
        return code;
    r = bus_call(bus, PATIENCE_USEC, NULL, &error, "Forget", "");
    if (r < 0)
        return bus_complain(what, r, &error);
    print_rest(&properties);
    return EXIT_CODE_DONE;
}
