/* What `enrollctl doctor` has found, row by row. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FINDINGS_MAX 96

struct finding {
    char *what, *verdict, *text, *advice; /* printable */
};

struct findings {
    struct finding rows[FINDINGS_MAX];
    size_t count;
};

/* verdict: one of diagnosis_verdict_name(), or whatever a newer daemon says. What has no room is left out. */
void findings_add(struct findings *findings, const char *what, const char *verdict, const char *text,
                  const char *advice);
void findings_clear(struct findings *findings);
#define AUTO_FINDINGS __attribute__((cleanup(findings_clear)))

/* How many have that verdict. */
size_t findings_count(const struct findings *findings, const char *verdict);

void findings_print(const struct findings *findings);

/* One object on one line: Rows, an array of objects of What, Verdict, Text and Advice; Wrong and Warnings, how many of
 * them are that. Returns 0 or -ENOMEM. */
int findings_print_json(const struct findings *findings);
