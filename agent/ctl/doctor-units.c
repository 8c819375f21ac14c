#include "ctl/doctor-units.h"

#include "ctl/bus.h"

#include <stdio.h>
#include <string.h>

#define MANAGER "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define TEXT_MAX 256

/* What enrolld cannot do without, and what only others notice. */
static const struct unit {
    const char *name;
    bool needed;
    const char *consequence; /* where it is not active */
} units[] = {
    {"enrolld.service", true, "nothing is done for the identity of this device"},
    {"enrolld-check.socket", true, "an identity cannot be checked, nothing can be requested or imported"},
    {"enrolld-worker.socket", true, "methods without credentials cannot enroll"},
    {"enrolld-claim.socket", true, "methods with credentials cannot enroll"},
    {"enrolld-network.socket", false, "a changed network does not bring the next attempt forward"},
    {"enrolld-provisioned.path", false, "enrolld-provisioned.target does not start, and no unit that waits for it"},
    {"enrolld-discard-claim.path", false, "KeepClaim=no does not destroy the claim"},
    {"enrolld-lost.path", false, "enrolld-provisioned.target does not stop when the identity is lost"},
};

/* org.freedesktop.systemd1(5): LoadUnit() also finds those that are not in memory. */
static int load_unit(sd_bus *bus, const char *name, char **ret_path, sd_bus_error *error) {
    AUTO_MESSAGE sd_bus_message *call = NULL, *reply = NULL;
    const char *path = NULL;
    int r = sd_bus_message_new_method_call(bus, &call, MANAGER, MANAGER_PATH, MANAGER ".Manager", "LoadUnit");
    if (r >= 0)
        r = sd_bus_message_append(call, "s", name);
    if (r >= 0)
        r = sd_bus_message_set_auto_start(call, 0);
    if (r >= 0)
        r = sd_bus_call(bus, call, 0, error, &reply);
    if (r >= 0)
        r = sd_bus_message_read(reply, "o", &path);
    if (r < 0)
        return r;
    *ret_path = strdup(path);
    return *ret_path != NULL ? 0 : -1;
}

static char *get_property(sd_bus *bus, const char *path, const char *name) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    char *value = NULL;
    int r = sd_bus_get_property_string(bus, MANAGER, path, MANAGER ".Unit", name, &error, &value);
    return r < 0 ? NULL : value;
}

static void add_inactive(struct findings *findings, const struct unit *unit, const char *state) {
    char text[TEXT_MAX], advice[TEXT_MAX];
    bool failed = strcmp(state, "failed") == 0;
    snprintf(text, sizeof text, "%s: %s", state, unit->consequence);
    snprintf(advice, sizeof advice, failed ? "`systemctl status %s` says why" : "systemctl start %s", unit->name);
    findings_add(findings, unit->name, unit->needed ? "wrong" : "warning", text, advice);
}

static void judge(struct findings *findings, const struct unit *unit, const char *load, const char *active,
                  const char *file) {
    bool is_service = strstr(unit->name, ".service") != NULL;
    if (load == NULL || active == NULL)
        findings_add(findings, unit->name, "skipped", "systemd does not say", "");
    else if (strcmp(load, "loaded") != 0)
        findings_add(findings, unit->name, unit->needed ? "wrong" : "warning", load,
                     "is all of enrolld installed? Then: systemctl daemon-reload");
    else if (strcmp(active, "active") != 0 && strcmp(active, "activating") != 0 && strcmp(active, "reloading") != 0)
        add_inactive(findings, unit, active);
    else if (is_service && file != NULL && strcmp(file, "disabled") == 0)
        findings_add(findings, unit->name, "warning", "active, but not at the next boot: disabled",
                     "systemctl enable enrolld.service");
    else
        findings_add(findings, unit->name, "ok", active, "");
}

/* False: there is no systemd to ask. */
static bool look_at(sd_bus *bus, const struct unit *unit, struct findings *findings) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    AUTO_FREE char *path = NULL;
    int r = load_unit(bus, unit->name, &path, &error);
    if (r < 0 && bus_daemon_is_absent(r, &error)) {
        findings_add(findings, "units", "skipped", "systemd is not on this bus", "");
        return false;
    }
    if (r < 0) {
        findings_add(findings, unit->name, "skipped", error.message != NULL ? error.message : strerror(-r), "");
        return true;
    }
    AUTO_FREE char *load = get_property(bus, path, "LoadState"), *active = get_property(bus, path, "ActiveState"),
                   *file = get_property(bus, path, "UnitFileState");
    judge(findings, unit, load, active, file);
    return true;
}

void doctor_look_at_units(sd_bus *bus, struct findings *findings) {
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!look_at(bus, &units[i], findings))
            return;
}
