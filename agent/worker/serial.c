#include "worker/serial.h"

#include "common/cleanup.h"
#include "common/machine-id.h"
#include "common/step.h"
#include "common/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define DEVICE_TREE "/sys/firmware/devicetree/base/serial-number"
#define DMI "/sys/class/dmi/id/product_serial"

/* AWS IoT API reference, CreateThing: thingName is [a-zA-Z0-9:_-]+ */
static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-";

/* What boards carry when nobody wrote a serial number; matched without regard to case. */
static const char *const placeholders[] = {
    "To be filled by O.E.M.",
    "Default string",
    "System Serial Number",
    "Not Specified",
    "Not Applicable",
    "Not Available",
    "None",
    "Unknown",
    "Empty",
    "INVALID",
    "O.E.M.",
    "OEM",
    "N/A",
    "Serial",
    "0123456789",
    "123456789",
    "1234567890",
    "00000000-0000-0000-0000-000000000000",
};

static bool is_placeholder(const char *serial) {
    for (size_t i = 0; i < sizeof placeholders / sizeof *placeholders; i++)
        if (strcasecmp(serial, placeholders[i]) == 0)
            return true;
    return false;
}

const char *serial_judge(const char *serial) {
    size_t length = strlen(serial);
    if (length == 0)
        return "it is empty";
    if (is_placeholder(serial))
        return "it is a placeholder that the maker of the board never replaced";
    if (length > 1 && strspn(serial, (const char[]){serial[0], '\0'}) == length)
        return "it is one character repeated, a placeholder";
    if (length >= SERIAL_MAX)
        return "it is longer than the 63 characters that fit into a certificate's common name";
    if (strspn(serial, legal) != length)
        return "it has characters that AWS IoT does not allow in a thing name (allowed: a-z A-Z 0-9 : _ -)";
    return NULL;
}

static void trim(char *text) {
    size_t length = strlen(text), start = strspn(text, " \t\r\n");
    while (length > start && strchr(" \t\r\n", text[length - 1]) != NULL)
        length--;
    memmove(text, text + start, length - start);
    text[length - start] = '\0';
}

/* The files of sysfs have no size to go by; the device tree's text ends with NUL. */
static int read_text(const char *path, char *text, size_t size) {
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -ENOTSUP;
    ssize_t n = read(fd, text, size - 1);
    if (n < 0)
        return -errno;
    text[n] = '\0';
    trim(text);
    return 0;
}

void serial_replace(char *serial, char replacement) {
    bool is_utf8 = text_is_utf8(serial, strlen(serial));
    char *end = serial;
    for (const char *at = serial; *at != '\0'; at++)
        if (strchr(legal, *at) != NULL)
            *end++ = *at;
        else if (!is_utf8 || ((unsigned char)*at & 0xc0) != 0x80) /* not for each byte of a character (RFC 3629) */
            *end++ = replacement;
    *end = '\0';
}

/* A placeholder stays one whatever is replaced in it. */
static int accept_serial(char *text, const char *origin, const struct settings *settings, char ret[SERIAL_MAX],
                         struct failure *failure) {
    AUTO_FREE char *found = strdup(text);
    if (found == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    if (settings->serial_replacement != '\0' && !is_placeholder(text))
        serial_replace(text, settings->serial_replacement);
    const char *wrong = serial_judge(text);
    if (wrong != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the serial number \"%.140s\" from %s cannot be used: %s; set SerialNumber= in [Agent]",
                           found, origin, wrong);
    memcpy(ret, text, strlen(text) + 1);
    return 0;
}

static int from_file(const char *path, const struct settings *settings, char ret[SERIAL_MAX], struct failure *failure) {
    char text[512] = "";
    int r = read_text(path, text, sizeof text);
    if (r < 0)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the serial number cannot be read from %s: %s; set SerialNumber= in [Agent]", path,
                           strerror(-r));
    return accept_serial(text, path, settings, ret, failure);
}

static int from_machine_id(const struct settings *settings, char ret[SERIAL_MAX], struct failure *failure) {
    char id[MACHINE_ID_SIZE];
    const char *wrong = machine_id_read(MACHINE_ID_PATH, id);
    if (wrong != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the machine id in " MACHINE_ID_PATH
                           " cannot be the serial number: %s; set SerialNumber= in "
                           "[Agent]",
                           wrong);
    return accept_serial(id, MACHINE_ID_PATH, settings, ret, failure);
}

static int from_endorsement(const struct settings *settings, struct tpm_endorsement *endorsement, char ret[SERIAL_MAX],
                            struct failure *failure) {
    bool refused;
    if (tpm_endorsement_read(settings->tcti, endorsement, &refused, failure) < 0) {
        failure_append(failure, "; it was to give the serial number: SerialNumber= in [Agent] names another source");
        return -1;
    }
    memcpy(ret, endorsement->serial, sizeof endorsement->serial);
    return 0;
}

/* The first source that is there decides: a device tree with a placeholder is an error and not a reason to take
 * another number, which would be another thing. */
static int from_hardware(const struct settings *settings, struct tpm_endorsement *endorsement, char ret[SERIAL_MAX],
                         struct failure *failure) {
    if (access(DEVICE_TREE, F_OK) == 0)
        return from_file(DEVICE_TREE, settings, ret, failure);
    if (access(DMI, F_OK) == 0)
        return from_file(DMI, settings, ret, failure);
    return from_endorsement(settings, endorsement, ret, failure);
}

int serial_resolve(const struct settings *settings, struct tpm_endorsement *endorsement, char ret[SERIAL_MAX],
                   struct failure *failure) {
    const char *source = settings->serial_number;
    if (strcmp(source, "auto") == 0)
        return from_hardware(settings, endorsement, ret, failure);
    if (strcmp(source, "devicetree") == 0)
        return from_file(DEVICE_TREE, settings, ret, failure);
    if (strcmp(source, "dmi") == 0)
        return from_file(DMI, settings, ret, failure);
    if (strcmp(source, "tpm-ek") == 0)
        return from_endorsement(settings, endorsement, ret, failure);
    if (strcmp(source, "machine-id") == 0)
        return from_machine_id(settings, ret, failure);
    if (strncmp(source, "file:/", 6) == 0)
        return from_file(source + 5, settings, ret, failure);
    if (strncmp(source, "literal:", 8) == 0) {
        AUTO_FREE char *text = strdup(source + 8);
        if (text == NULL)
            return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
        return accept_serial(text, "SerialNumber=literal:", settings, ret, failure);
    }
    return failure_set(
        failure, FAILURE_INVALID, STEP_CONFIGURATION,
        "SerialNumber=%.100s is not auto, devicetree, dmi, tpm-ek, machine-id, file:/PATH or literal:TEXT", source);
}
