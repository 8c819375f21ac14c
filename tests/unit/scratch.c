#include "scratch.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char directory[] = "/tmp/enrolld-test-XXXXXX";

void scratch_make(void) {
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        exit(EXIT_FAILURE);
    }
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *position) {
    (void)status, (void)type, (void)position;
    return remove(path);
}

void scratch_remove(void) {
    nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_directory(void) {
    return directory;
}

static void print_output(void) {
    char line[512], path[64];
    snprintf(path, sizeof path, "%s/output", directory);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        printf("#   %s", line);
    fclose(file);
}

int scratch_run(const char *format, ...) {
    char command[2048];
    va_list arguments;
    int used = snprintf(command, sizeof command, "cd %s && { ", directory);
    va_start(arguments, format);
    used += vsnprintf(command + used, sizeof command - (size_t)used, format, arguments);
    va_end(arguments);
    snprintf(command + used, sizeof command - (size_t)used, "; } >output 2>&1");
    int status = system(command);
    if (status != 0) {
        printf("# status 0x%x: %s\n", (unsigned)status, command);
        print_output();
    }
    return status;
}

size_t scratch_read(const char *name, char *text, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    size_t length = fread(text, 1, size - 1, file);
    fclose(file);
    text[length] = '\0';
    return length;
}

int scratch_write(const char *name, const void *text, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return -1;
    size_t written = fwrite(text, 1, size, file);
    return fclose(file) == 0 && written == size ? 0 : -1;
}
