/* The machine id, machine-id(5). */
#pragma once

#define MACHINE_ID_PATH "/etc/machine-id"
#define MACHINE_ID_SIZE 33

/* Reads it from that file. Returns NULL, or why it cannot be used: the file is not there, has no id in it (an image
 * that was never booted), or is in memory. Then it is another one at each boot, as with a read-only root, or not
 * committed to the disk yet, at the first boot (systemd-machine-id-commit.service(8)). *ret is then untouched. */
const char *machine_id_read(const char *path, char ret[MACHINE_ID_SIZE]);
