/* enrolld --check-config: what the configuration says, where each value comes from, and what is wrong with it. */
#pragma once

/* Prints to stdout; then becomes `enrolld-worker check-config`, which judges the section of the method, if there is a
 * worker: `worker`, or the installed one beside this program if it is NULL. Returns the exit code if it does return. */
int check_configuration(const char *path, const char *worker);
