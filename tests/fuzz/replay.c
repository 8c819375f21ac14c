/* Runs a fuzz target over files: those named on the command line, or all of its corpus. TAP, one test for all of them:
 * an input that fails ends the program, and the last comment names it. */
#include "common/cleanup.h"
#include "common/memfd.h"
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

/* Of files of the corpora. */
static const char prefix[] = "fuzz-";

static int run_file(const char *path) {
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO_FREE char *text = NULL;
    AUTO_FREE uint8_t *data = NULL;
    size_t size = 0;
    int r = fd < 0 ? -errno : memfd_read(fd, &text, &size);
    if (r < 0 || (data = malloc(size > 0 ? size : 1)) == NULL) {
        printf("# %s: %s\n", path, strerror(-r));
        return -1;
    }
    printf("# %s\n", path);
    fflush(stdout);
    memcpy(data, text, size);
    LLVMFuzzerTestOneInput(data, size);
    return 0;
}

/* Returns how many files there are, or -1. */
static int run_corpus(const char *directory) {
    struct dirent **names = NULL;
    int n = scandir(directory, &names, NULL, alphasort), count = 0;
    bool failed = n < 0;
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *path = NULL;
        if (names[i]->d_name[0] != '.') {
            count++;
            failed |= asprintf(&path, "%s/%s", directory, names[i]->d_name) < 0 || run_file(path) < 0;
        }
        free(names[i]);
    }
    free(names);
    return failed ? -1 : count;
}

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/'), *source = getenv("SOURCE_DIR");
    const char *name = slash != NULL ? slash + 1 : argv[0];
    AUTO_FREE char *directory = NULL;
    int count = argc - 1;
    if (strncmp(name, prefix, strlen(prefix)) == 0)
        name += strlen(prefix);
    if (asprintf(&directory, "%s/tests/fuzz/corpus/%s", source != NULL ? source : ".", name) < 0)
        return EXIT_FAILURE;
    printf("1..1\n");
    for (int i = 1; i < argc && count > 0; i++)
        if (run_file(argv[i]) < 0)
            count = -1;
    if (argc == 1)
        count = run_corpus(directory);
    printf("%s 1 - %s, %d inputs\n", count > 0 ? "ok" : "not ok", name, count);
    return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
