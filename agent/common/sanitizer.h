/* Whether this build has the address sanitizer: the leak detector of it stops the process by ptrace(2) when it ends,
 * which a process that is not dumpable (PR_SET_DUMPABLE) forbids. */
#pragma once

#include <stdbool.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER true
#endif
#endif
#if !defined(UNDER_SANITIZER) && defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER true
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER false
#endif
