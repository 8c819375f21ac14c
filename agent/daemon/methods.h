/* The methods of Methods= in their order, and how each has fared: an attempt begins with the first one, and goes on to
 * the next where the inputs of one cannot be used, or where it is denied and OnDenied=next. Pure. */
#pragma once

#include "common/failure.h"
#include "common/settings.h"

enum method_outcome {
    METHOD_UNTRIED,
    METHOD_TRYING,
    METHOD_DONE,
    METHOD_UNUSABLE,
    METHOD_FAILED,
};

struct method_state {
    char name[SETTINGS_METHOD_MAX];
    enum method_outcome outcome;
    enum failure_class class; /* METHOD_FAILED */
    char message[FAILURE_MESSAGE_MAX];
};

struct methods {
    size_t count;
    struct method_state states[SETTINGS_METHODS_MAX];
    struct method_wait {
        uint64_t total_usec; /* between outcomes that were "not yet" or "denied", without others between them */
        uint64_t last_usec;  /* the last one, if it was one of them; CLOCK_BOOTTIME */
        bool told;           /* it was told "not yet" */
    } waits[SETTINGS_METHODS_MAX];
    size_t present;
    bool tried;          /* in this attempt, a method whose inputs were of use */
    struct failure last; /* of that */
};

/* "", "trying", "done", "unusable" or the class of the failure: as D-Bus has it. */
const char *method_outcome_name(const struct method_state *state);

/* Takes the list over, between two attempts; what is known of methods that stay is kept. */
void methods_set(struct methods *methods, const struct settings *settings);

/* How each has fared, into an array of SETTINGS_METHODS_MAX of which `count` are in use. */
void methods_copy_states(struct method_state *states, size_t *count, const struct methods *methods);

/* Begins an attempt; methods_name() is then the first method. */
void methods_begin(struct methods *methods);
const char *methods_name(const struct methods *methods);

/* For how many seconds the present method was told "not yet", at least 1 if it was; the time in which it reached nobody
 * does not count. */
uint32_t methods_waited_s(const struct methods *methods, uint64_t now_usec);

/* The present method has failed. True if the next one is to be tried, which is then the present one; false if the
 * attempt has failed: *failure is then what to tell of all of them. */
bool methods_fail(struct methods *methods, enum setting_on_denied on_denied, struct failure *failure,
                  uint64_t now_usec);

/* An identity by that method is in use, which need not be among them. */
void methods_done(struct methods *methods, const char *name);

/* Something has changed, or somebody has asked: what was waited for until now does not count, and what was said of the
 * methods may not be true any more. */
void methods_forget(struct methods *methods);
