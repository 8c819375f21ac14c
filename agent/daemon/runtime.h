/* The flag files in the runtime directory (/run/enrolld), by which units and applications follow the identity without
 * a process of their own:
 *
 *     provisioned   there while an identity is usable: enrolld-provisioned.path starts the target
 *     lost          made when it stops being usable: enrolld-lost.path stops the target and removes the file
 *     generation    the number in use; written after each commit and each change of a file of the identity, which is
 *                   what PathChanged= sees
 *     discard-claim made when an identity is in use and KeepClaim=no: enrolld-discard-claim.path has the claim wiped */
#pragma once

#include <stdint.h>

/* Opens the directory, making its last component if it is missing. Returns the descriptor or a negative errno. */
int runtime_open(const char *path);

/* Failures are logged: the identity is good all the same. */
void runtime_set_provisioned(int directory, uint32_t generation);
void runtime_set_lost(int directory);
/* Also if it is the same number. */
void runtime_write_generation(int directory, uint32_t generation);
void runtime_set_discard_claim(int directory);
