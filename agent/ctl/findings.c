#include "ctl/findings.h"

#include "common/cleanup.h"
#include "common/text.h"
#include "ctl/terminal.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#define VERDICT_WIDTH 9
#define WHAT_WIDTH 28
#define INDENT (VERDICT_WIDTH + WHAT_WIDTH)

static char *printable(const char *text) {
    char *copy = strdup(text);
    if (copy != NULL)
        text_make_printable(copy);
    return copy;
}

static void finding_free(struct finding *finding) {
    free(finding->what);
    free(finding->verdict);
    free(finding->text);
    free(finding->advice);
}

void findings_add(struct findings *findings, const char *what, const char *verdict, const char *text,
                  const char *advice) {
    struct finding finding = {printable(what), printable(verdict), printable(text), printable(advice)};
    bool whole = finding.what != NULL && finding.verdict != NULL && finding.text != NULL && finding.advice != NULL;
    if (whole && findings->count < FINDINGS_MAX)
        findings->rows[findings->count++] = finding;
    else
        finding_free(&finding);
}

void findings_clear(struct findings *findings) {
    for (size_t i = 0; i < findings->count; i++)
        finding_free(&findings->rows[i]);
    findings->count = 0;
}

size_t findings_count(const struct findings *findings, const char *verdict) {
    size_t count = 0;
    for (size_t i = 0; i < findings->count; i++)
        count += strcmp(findings->rows[i].verdict, verdict) == 0;
    return count;
}

static enum terminal_colour colour_of(const char *verdict) {
    if (strcmp(verdict, "ok") == 0)
        return TERMINAL_GREEN;
    if (strcmp(verdict, "skipped") == 0)
        return TERMINAL_FAINT;
    return strcmp(verdict, "warning") == 0 ? TERMINAL_YELLOW : TERMINAL_RED;
}

static void print_finding(const struct finding *finding) {
    int width = printf("%s%-*s%s", terminal_colour(colour_of(finding->verdict)), VERDICT_WIDTH - 1, finding->verdict,
                       terminal_plain());
    (void)width;
    printf(" %-*s ", WHAT_WIDTH - 1, finding->what);
    terminal_print_wrapped(finding->text, INDENT + 1, INDENT + 1);
    if (finding->advice[0] == '\0')
        return;
    printf("%*s-> ", INDENT + 1, "");
    terminal_print_wrapped(finding->advice, INDENT + 4, INDENT + 4);
}

void findings_print(const struct findings *findings) {
    for (size_t i = 0; i < findings->count; i++)
        print_finding(&findings->rows[i]);
    size_t wrong = findings_count(findings, "wrong"), warnings = findings_count(findings, "warning");
    printf("\n%zu wrong, %zu warning%s\n", wrong, warnings, warnings == 1 ? "" : "s");
}

/* --- JSON --- */

static void object_put(json_object **object) {
    json_object_put(*object);
}
#define AUTO_JSON CLEANUP(object_put)

static int add(json_object *object, const char *name, json_object *value) {
    if (value != NULL && json_object_object_add(object, name, value) == 0)
        return 0;
    json_object_put(value);
    return -ENOMEM;
}

static json_object *finding_object(const struct finding *finding) {
    json_object *object = json_object_new_object();
    if (object != NULL && (add(object, "What", json_object_new_string(finding->what)) < 0 ||
                           add(object, "Verdict", json_object_new_string(finding->verdict)) < 0 ||
                           add(object, "Text", json_object_new_string(finding->text)) < 0 ||
                           add(object, "Advice", json_object_new_string(finding->advice)) < 0)) {
        json_object_put(object);
        return NULL;
    }
    return object;
}

int findings_print_json(const struct findings *findings) {
    AUTO_JSON json_object *object = json_object_new_object();
    AUTO_JSON json_object *rows = json_object_new_array();
    if (object == NULL || rows == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < findings->count; i++) {
        json_object *row = finding_object(&findings->rows[i]);
        if (row == NULL || json_object_array_add(rows, row) < 0) {
            json_object_put(row);
            return -ENOMEM;
        }
    }
    if (add(object, "Rows", TAKE_POINTER(rows)) < 0 ||
        add(object, "Wrong", json_object_new_uint64(findings_count(findings, "wrong"))) < 0 ||
        add(object, "Warnings", json_object_new_uint64(findings_count(findings, "warning"))) < 0)
        return -ENOMEM;
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    return text != NULL && puts(text) >= 0 ? 0 : -ENOMEM;
}
