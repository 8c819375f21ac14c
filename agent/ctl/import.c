#include "ctl/import.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/sanitizer.h"
#include "ctl/follow.h"
#include "ctl/pem-complaint.h"
#include "ctl/pem-input.h"
#include "ctl/wipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

struct source {
    const char *path; /* "-": standard input; NULL: there is none */
    int fd;
    struct pem_stream *stream;
    struct wipe wipe;
};

#define SOURCE_NONE                                                                                                    \
    { .fd = -1, .wipe = WIPE_NONE }

static void source_clear(struct source *source) {
    source->stream = pem_stream_free(source->stream);
    wipe_clear(&source->wipe);
    if (source->fd != STDIN_FILENO)
        cleanup_close(&source->fd);
}
#define AUTO_SOURCE CLEANUP(source_clear)

static bool is_standard_input(const char *path) {
    return strcmp(path, "-") == 0;
}

/* For messages; NULL for standard input. */
static const char *source_name(const struct source *source) {
    return is_standard_input(source->path) ? NULL : source->path;
}

static bool source_has(const struct source *source, enum pem_part part) {
    return source->stream != NULL && pem_stream_count(source->stream, part) > 0;
}

/* Secrets come into this process: nobody else of its user may look into it, and it leaves no core file. */
static int protect_process(void) {
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) < 0 || (!UNDER_SANITIZER && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
        return -errno;
    return 0;
}

static enum exit_code complain(const char *what, const char *why) {
    fprintf(stderr, "enrollctl: %s: %s.\n", what, why);
    return EXIT_CODE_FAILED;
}

/* --- reading --- */

static enum exit_code source_read(struct source *source, const char *path, bool needs_certificate, bool needs_key) {
    source->path = path;
    const char *name = source_name(source) != NULL ? path : "standard input";
    source->fd = is_standard_input(path) ? STDIN_FILENO : open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (source->fd < 0)
        return complain(name, strerror(errno));
    source->stream = pem_stream_new();
    if (source->stream == NULL)
        return complain(name, strerror(ENOMEM));
    int r = pem_input_read(source->fd, name, needs_certificate, needs_key, source->stream);
    if (r < 0)
        return complain(name, strerror(-r));
    if (pem_stream_problem(source->stream) == PEM_PROBLEM_NONE)
        return EXIT_CODE_DONE;
    pem_complain(source->stream, source_name(source));
    return EXIT_CODE_FAILED;
}

/* The key comes from `key` alone if that is given, else from where the certificate is. Both may be standard input. */
static enum exit_code read_sources(struct source *chain, struct source *key, const char *chain_path,
                                   const char *key_path) {
    bool one = key_path != NULL && is_standard_input(key_path) && is_standard_input(chain_path);
    enum exit_code code = EXIT_CODE_DONE;
    if (key_path != NULL && !one)
        code = source_read(key, key_path, false, true);
    if (code == EXIT_CODE_DONE)
        code = source_read(chain, chain_path, true, one);
    if (code != EXIT_CODE_DONE)
        return code;
    const char *chain_name = source_name(chain) != NULL ? chain_path : "the input";
    if (!source_has(chain, PEM_CHAIN) && source_has(chain, PEM_KEY))
        return complain(chain_name, "there is a private key: the certificate is missing");
    if (!source_has(chain, PEM_CHAIN))
        return complain(chain_name, "no certificate in it; one begins with -----BEGIN CERTIFICATE-----");
    if (key_path != NULL && !source_has(one ? chain : key, PEM_KEY))
        return complain(one ? chain_name : key_path,
                        "no private key in it; one begins with -----BEGIN PRIVATE KEY-----");
    if (source_has(key, PEM_KEY) && source_has(chain, PEM_KEY))
        return complain(chain_name, "a private key is in it, too: leave out --key=, or that key");
    return EXIT_CODE_DONE;
}

/* --- destroying --- */

static enum exit_code prepare_wipe(struct source *source) {
    if (!source_has(source, PEM_KEY))
        return EXIT_CODE_DONE;
    if (is_standard_input(source->path))
        return complain("--wipe", "the private key comes from standard input: there is no file to destroy");
    const char *obstacle = wipe_prepare(source->path, source->fd, &source->wipe);
    if (obstacle == NULL)
        return EXIT_CODE_DONE;
    fprintf(stderr, "enrollctl: %s could not be destroyed by --wipe: %s. Nothing was imported.\n", source->path,
            obstacle);
    return EXIT_CODE_FAILED;
}

static enum exit_code prepare_wipes(struct source *chain, struct source *key) {
    if (!source_has(chain, PEM_KEY) && !source_has(key, PEM_KEY))
        return complain("--wipe", "there is no private key in what is imported, so nothing to destroy");
    enum exit_code code = prepare_wipe(key);
    return code == EXIT_CODE_DONE ? prepare_wipe(chain) : code;
}

static enum exit_code run_wipe(struct source *source) {
    if (source->wipe.file < 0)
        return EXIT_CODE_DONE;
    int r = wipe_run(&source->wipe);
    if (r < 0) {
        fprintf(stderr, "enrollctl: %s is imported, but could not be destroyed: %s. Do it yourself.\n", source->path,
                strerror(-r));
        return EXIT_CODE_FAILED;
    }
    fprintf(
        stderr,
        "enrollctl: %s is overwritten and removed. On flash this is no more than that: old copies of its blocks may "
        "stay until the storage reuses them.\n",
        source->path);
    return EXIT_CODE_DONE;
}

/* --- handing over --- */

static int make_memfd(const struct pem_stream *stream, enum pem_part part) {
    size_t size;
    const char *text = pem_stream_text(stream, part, &size);
    return memfd_create_sealed(part == PEM_KEY ? "private-key" : "certificate", text, size);
}

static int start_job(sd_bus *bus, const struct source *chain, const struct source *key, uint32_t *ret_job,
                     sd_bus_error *error) {
    const struct source *holder = source_has(key, PEM_KEY) ? key : chain;
    AUTO_CLOSE int chain_fd = make_memfd(chain->stream, PEM_CHAIN), key_fd = -1;
    if (chain_fd < 0)
        return chain_fd;
    if (!source_has(holder, PEM_KEY))
        return bus_start_job(bus, ret_job, error, "ImportCertificate", "h", chain_fd);
    key_fd = make_memfd(holder->stream, PEM_KEY);
    return key_fd < 0 ? key_fd : bus_start_job(bus, ret_job, error, "Import", "hh", chain_fd, key_fd);
}

/* Our copies of the key end as soon as the daemon has its own. */
static enum exit_code hand_over(sd_bus *bus, struct source *chain, struct source *key) {
    static const char what[] = "cannot import";
    AUTO_WATCH struct watch watch = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    uint32_t job = 0;
    int r = watch_init(&watch, bus, WATCH_USUAL_PATIENCE, &error);
    if (r >= 0)
        r = start_job(bus, chain, key, &job, &error);
    chain->stream = pem_stream_free(chain->stream);
    key->stream = pem_stream_free(key->stream);
    if (r < 0)
        return bus_complain(what, r, &error);
    enum exit_code code = follow_job(&watch, job, what, NULL);
    if (code == EXIT_CODE_DONE)
        puts(watch.event.detail);
    return code;
}

enum exit_code import_run(sd_bus *bus, const char *chain_path, const char *key_path, bool wipe) {
    AUTO_SOURCE struct source chain = SOURCE_NONE, key = SOURCE_NONE;
    int r = protect_process();
    if (r < 0)
        return complain("cannot forbid core dumps", strerror(-r));
    enum exit_code code = read_sources(&chain, &key, chain_path, key_path);
    if (code == EXIT_CODE_DONE && wipe)
        code = prepare_wipes(&chain, &key);
    if (code == EXIT_CODE_DONE)
        code = hand_over(bus, &chain, &key);
    if (code != EXIT_CODE_DONE)
        return code;
    enum exit_code of_key = run_wipe(&key), of_chain = run_wipe(&chain);
    return of_key != EXIT_CODE_DONE ? of_key : of_chain;
}
