#include "common/cleanup.h"
#include "common/memfd.h"
#include "daemon/directory.h"
#include "daemon/store.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A state directory of its own for each test. */
static char top[64];
static int top_fd = -1;

static void set_up(void) {
    snprintf(top, sizeof top, "/tmp/test-store-XXXXXX");
    if (mkdtemp(top) == NULL) {
        perror("mkdtemp");
        exit(99);
    }
    top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void tear_down(struct store *store) {
    const char *name = strrchr(top, '/') + 1;
    AUTO_CLOSE int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    store_close(store);
    close(top_fd);
    ASSERT_NUMBER(directory_remove(parent, name), 0);
}

static struct store *open_store(void) {
    struct store *store = NULL;
    struct failure failure = {0};
    if (store_open(top, &store, &failure) < 0)
        ASSERT_TEXT(failure.message, "opened");
    return store;
}

static void write_file(const char *path, const char *text) {
    AUTO_CLOSE int fd = openat(top_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT_NUMBER(write(fd, text, strlen(text)), strlen(text));
}

/* A whole generation, as a commit makes it. */
static void make_generation(const char *path) {
    static const char *const names[] = {"certificate.pem", "private.pem", "root-ca.pem", "identity.json"};
    char file[128];
    mkdirat(top_fd, "generations", 0711);
    ASSERT_NUMBER(mkdirat(top_fd, path, 0750), 0);
    for (size_t i = 0; i < 4; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        write_file(file, "content");
    }
}

static void link_current(const char *target) {
    ASSERT_NUMBER(symlinkat(target, top_fd, "current"), 0);
}

static bool is_there(const char *path) {
    return faccessat(top_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static unsigned mode_of(const char *path) {
    struct stat status = {0};
    fstatat(top_fd, path, &status, AT_SYMLINK_NOFOLLOW);
    return status.st_mode & 07777;
}

static const char *read_file(const char *path) {
    static char text[256];
    int r = directory_read(top_fd, path, text, sizeof text);
    if (r < 0)
        snprintf(text, sizeof text, "(%s)", strerror(-r));
    return text;
}

static const char *read_link(const char *path) {
    static char text[256];
    ssize_t n = readlinkat(top_fd, path, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void make_files(int files[FILE_ROLE_COUNT], const char *text) {
    files[FILE_CONFIGURATION] = -1;
    for (int role = FILE_CERTIFICATE; role < FILE_ROLE_COUNT; role++)
        files[role] = memfd_create_sealed("file", text, strlen(text));
}

static void close_files(int files[FILE_ROLE_COUNT]) {
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        cleanup_close(&files[role]);
}

static int stage(struct store *store, const char *text, struct failure *failure) {
    int files[FILE_ROLE_COUNT];
    make_files(files, text);
    int r = store_stage(store, files, failure);
    close_files(files);
    return r;
}

static void commit(struct store *store, const char *text) {
    struct failure failure = {0};
    if (stage(store, text, &failure) < 0 || store_commit(store, &failure) < 0)
        ASSERT_TEXT(failure.message, "committed");
}

/* --- commit --- */

static void test_empty(void) {
    set_up();
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 0);
    ASSERT_NUMBER(store_next(store), 1);
    ASSERT_NUMBER(mode_of("generations"), 0711);
    tear_down(store);
}

static void test_commit(void) {
    set_up();
    struct store *store = open_store();
    struct failure failure = {0};
    ASSERT_NUMBER(stage(store, "first", &failure), 0);
    ASSERT_NUMBER(mode_of("incoming"), 0700);
    ASSERT_NUMBER(is_there("current"), 0);
    ASSERT_NUMBER(store_commit(store, &failure), 0);
    ASSERT_TEXT(read_link("current"), "generations/1");
    ASSERT_NUMBER(mode_of("generations/1"), 0750);
    ASSERT_NUMBER(mode_of("generations/1/certificate.pem"), 0640);
    ASSERT_NUMBER(mode_of("generations/1/private.pem"), 0640);
    ASSERT_TEXT(read_file("current/root-ca.pem"), "first");
    ASSERT_TEXT(read_file("generations/1/identity.json"), "first");
    ASSERT_NUMBER(is_there("incoming"), 0);
    ASSERT_NUMBER(is_there("current.new"), 0);
    ASSERT_NUMBER(store_current(store), 1);
    ASSERT_NUMBER(store_next(store), 2);
    tear_down(store);
}

static void test_one_predecessor(void) {
    set_up();
    struct store *store = open_store();
    store_keep_generations(store, 1);
    commit(store, "first");
    commit(store, "second");
    ASSERT_NUMBER(is_there("generations/1"), 1);
    commit(store, "third");
    ASSERT_NUMBER(is_there("generations/1"), 0);
    ASSERT_NUMBER(is_there("generations/2"), 1);
    ASSERT_TEXT(read_link("current"), "generations/3");
    store_close(store);
    store = open_store();
    store_keep_generations(store, 1);
    ASSERT_NUMBER(store_current(store), 3);
    ASSERT_NUMBER(is_there("generations/2"), 1);
    tear_down(store);
}

static unsigned count_generations(void) {
    char name[32];
    unsigned count = 0;
    for (unsigned number = 1; number < 20; number++) {
        snprintf(name, sizeof name, "generations/%u", number);
        count += is_there(name);
    }
    return count;
}

/* A start that cannot read its configuration yet removes none. */
static void test_predecessors(void) {
    set_up();
    struct store *store = open_store();
    for (unsigned i = 0; i < 12; i++)
        commit(store, "next");
    store_close(store);
    store = open_store();
    ASSERT_NUMBER(count_generations(), 12);
    store_keep_generations(store, STORE_GENERATIONS_MAX);
    ASSERT_NUMBER(count_generations(), 9);
    ASSERT_NUMBER(is_there("generations/4"), 1);
    commit(store, "next");
    ASSERT_NUMBER(count_generations(), 9);
    store_keep_generations(store, 2);
    ASSERT_NUMBER(count_generations(), 3);
    ASSERT_NUMBER(is_there("generations/11"), 1);
    ASSERT_NUMBER(is_there("generations/12"), 1);
    store_keep_generations(store, 0);
    ASSERT_NUMBER(count_generations(), 1);
    commit(store, "last");
    ASSERT_NUMBER(count_generations(), 1);
    ASSERT_TEXT(read_file("current/private.pem"), "last");
    tear_down(store);
}

/* The key in it may be the only one that the cloud knows. */
static void test_broken_is_kept(void) {
    set_up();
    make_generation("generations/7");
    link_current("generations/7");
    unlinkat(top_fd, "generations/7/root-ca.pem", 0);
    struct store *store = open_store();
    store_keep_generations(store, 0);
    ASSERT_NUMBER(is_there("generations/7.broken"), 1);
    commit(store, "new");
    ASSERT_NUMBER(is_there("generations/7.broken"), 0);
    tear_down(store);
}

static void test_open_files(void) {
    set_up();
    struct store *store = open_store();
    struct failure failure = {0};
    int files[FILE_ROLE_COUNT];
    commit(store, "first");
    ASSERT_NUMBER(stage(store, "second", &failure), 0);
    ASSERT_NUMBER(store_open_current(store, files, &failure), 0);
    for (int role = FILE_CERTIFICATE; role <= FILE_IDENTITY; role++) {
        char *data = NULL;
        size_t size = 0;
        ASSERT_NUMBER(memfd_read(files[role], &data, &size), 0);
        ASSERT_TEXT(data, "first");
        ASSERT_NUMBER(fcntl(files[role], F_GETFL) & O_ACCMODE, O_RDONLY);
        free(data);
    }
    ASSERT_NUMBER(files[FILE_CONFIGURATION], -1);
    close_files(files);
    ASSERT_NUMBER(store_open_staged(store, files, &failure), 0);
    close_files(files);
    store_discard(store);
    ASSERT_NUMBER(store_open_staged(store, files, &failure), -1);
    tear_down(store);
}

static void test_lock(void) {
    set_up();
    struct store *store = open_store(), *second = NULL;
    struct failure failure = {0};
    ASSERT_NUMBER(store_open(top, &second, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "another enrolld uses it"));
    store_close(store);
    store = open_store();
    tear_down(store);
}

static void test_path_is_made(void) {
    char path[80];
    struct store *store = NULL;
    struct failure failure = {0};
    set_up();
    snprintf(path, sizeof path, "%s/state", top);
    ASSERT_NUMBER(store_open(path, &store, &failure), 0);
    ASSERT_NUMBER(mode_of("state"), 0711);
    tear_down(store);
}

static void test_unusable_path(void) {
    struct store *store = NULL;
    struct failure failure = {0};
    ASSERT_NUMBER(store_open("/proc/nowhere/at/all", &store, &failure), -1);
    ASSERT_NUMBER(failure.class, FAILURE_INTERNAL);
    CU_ASSERT_PTR_NULL(store);
}

/* --- what a power cut leaves --- */

static void test_cut_while_staging(void) {
    set_up();
    make_generation("generations/4");
    link_current("generations/4");
    mkdirat(top_fd, "incoming", 0700);
    write_file("incoming/private.pem", "");
    write_file("retry.new", "att");
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 4);
    ASSERT_NUMBER(is_there("incoming"), 0);
    ASSERT_NUMBER(is_there("retry.new"), 0);
    tear_down(store);
}

static void test_cut_before_link(void) {
    set_up();
    make_generation("generations/3");
    make_generation("generations/4");
    make_generation("generations/5");
    link_current("generations/4");
    ASSERT_NUMBER(symlinkat("generations/5", top_fd, "current.new"), 0);
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 4);
    ASSERT_NUMBER(is_there("generations/3"), 1);
    ASSERT_NUMBER(is_there("generations/5"), 0);
    ASSERT_NUMBER(is_there("current.new"), 0);
    ASSERT_NUMBER(store_next(store), 6);
    tear_down(store);
}

static void test_cut_before_first_link(void) {
    set_up();
    make_generation("generations/1");
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 0);
    ASSERT_NUMBER(is_there("generations/1"), 0);
    ASSERT_NUMBER(store_next(store), 2);
    commit(store, "next");
    ASSERT_TEXT(read_link("current"), "generations/2");
    tear_down(store);
}

static void test_cut_before_pruning(void) {
    set_up();
    make_generation("generations/2");
    make_generation("generations/3");
    make_generation("generations/10");
    link_current("generations/10");
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 10);
    ASSERT_NUMBER(is_there("generations/2"), 1); /* until it is known how many */
    store_keep_generations(store, 1);
    ASSERT_NUMBER(is_there("generations/2"), 0);
    ASSERT_NUMBER(is_there("generations/3"), 1);
    tear_down(store);
}

/* --- a state that no power cut makes --- */

static void check_broken(const char *file, const char *text) {
    char path[128];
    set_up();
    make_generation("generations/6");
    make_generation("generations/7");
    link_current("generations/7");
    snprintf(path, sizeof path, "generations/7/%s", file);
    unlinkat(top_fd, path, 0);
    if (text != NULL)
        write_file(path, text);
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 0);
    ASSERT_NUMBER(is_there("current"), 0);
    ASSERT_NUMBER(is_there("generations/7.broken"), 1);
    ASSERT_NUMBER(store_next(store), 8);
    store_close(store);
    store = open_store(); /* and it stays like that */
    store_keep_generations(store, 1);
    ASSERT_NUMBER(is_there("generations/7.broken"), 1);
    ASSERT_NUMBER(store_next(store), 8);
    commit(store, "new");
    ASSERT_NUMBER(is_there("generations/7.broken"), 1);
    commit(store, "newer");
    ASSERT_NUMBER(is_there("generations/7.broken"), 0);
    tear_down(store);
}

static void test_broken_generation(void) {
    check_broken("private.pem", NULL);
    check_broken("certificate.pem", "");
    char *large = malloc(MEMFD_SIZE_MAX + 2);
    memset(large, 'x', MEMFD_SIZE_MAX + 1);
    large[MEMFD_SIZE_MAX + 1] = '\0';
    check_broken("root-ca.pem", large);
    free(large);
}

static void test_dangling_link(void) {
    set_up();
    make_generation("generations/6");
    link_current("generations/9");
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 0);
    ASSERT_NUMBER(is_there("current"), 0);
    ASSERT_NUMBER(store_next(store), 10);
    tear_down(store);
}

/* Which identity was in use is not known then: the newest must survive. */
static void test_foreign_link(void) {
    static const char *const targets[] = {"/etc",          "generations/../x", "generations/07",
                                          "generations/0", "generations/7/..", "generations/4294967296"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        set_up();
        make_generation("generations/7");
        link_current(targets[i]);
        struct store *store = open_store();
        ASSERT_NUMBER(store_current(store), 0);
        ASSERT_NUMBER(is_there("current"), 0);
        ASSERT_TEXT(read_link("current.broken"), targets[i]);
        ASSERT_TEXT(read_file("generations/7.broken/private.pem"), "content");
        tear_down(store);
    }
}

static void test_current_is_directory(void) {
    set_up();
    mkdirat(top_fd, "current", 0700);
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 0);
    ASSERT_NUMBER(is_there("current.broken"), 1);
    commit(store, "new");
    ASSERT_TEXT(read_link("current"), "generations/1");
    tear_down(store);
}

/* --- symbolic links --- */

static void test_file_is_link(void) {
    set_up();
    make_generation("generations/7");
    link_current("generations/7");
    write_file("elsewhere", "content");
    unlinkat(top_fd, "generations/7/private.pem", 0);
    ASSERT_NUMBER(symlinkat("../../elsewhere", top_fd, "generations/7/private.pem"), 0);
    struct store *store = open_store();
    ASSERT_NUMBER(store_current(store), 0);
    tear_down(store);
}

static void test_incoming_is_link(void) {
    set_up();
    mkdirat(top_fd, "elsewhere", 0700);
    write_file("elsewhere/precious", "content");
    struct store *store = open_store();
    struct failure failure = {0};
    ASSERT_NUMBER(symlinkat("elsewhere", top_fd, "incoming"), 0);
    ASSERT_NUMBER(stage(store, "first", &failure), 0);
    ASSERT_TEXT(read_file("elsewhere/precious"), "content");
    ASSERT_NUMBER(is_there("elsewhere/private.pem"), 0);
    ASSERT_NUMBER(store_commit(store, &failure), 0);
    ASSERT_TEXT(read_file("generations/1/private.pem"), "first");
    tear_down(store);
}

static void test_generations_is_link(void) {
    set_up();
    mkdirat(top_fd, "elsewhere", 0700);
    ASSERT_NUMBER(symlinkat("elsewhere", top_fd, "generations"), 0);
    struct store *store = NULL;
    struct failure failure = {0};
    ASSERT_NUMBER(store_open(top, &store, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "generations"));
    tear_down(NULL);
}

static void test_foreign_names_stay(void) {
    set_up();
    mkdirat(top_fd, "generations", 0711);
    mkdirat(top_fd, "generations/lost+found", 0700);
    write_file("generations/4294967296", "x");
    struct store *store = open_store();
    ASSERT_NUMBER(store_next(store), 1);
    ASSERT_NUMBER(is_there("generations/lost+found"), 1);
    ASSERT_NUMBER(is_there("generations/4294967296"), 1);
    tear_down(store);
}

/* --- wrong input, full disk --- */

static void test_wrong_files(void) {
    set_up();
    struct store *store = open_store();
    struct failure failure = {0};
    int files[FILE_ROLE_COUNT];
    make_files(files, "text");
    close(files[FILE_PRIVATE_KEY]);
    files[FILE_PRIVATE_KEY] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    ASSERT_NUMBER(store_stage(store, files, &failure), -1);
    ASSERT_NUMBER(is_there("incoming"), 0);
    close_files(files);
    ASSERT_NUMBER(stage(store, "", &failure), 0);
    ASSERT_NUMBER(store_commit(store, &failure), -1);
    ASSERT_NUMBER(failure.class, FAILURE_INTERNAL);
    ASSERT_NUMBER(is_there("current"), 0);
    store_discard(store);
    ASSERT_NUMBER(store_commit(store, &failure), -1);
    tear_down(store);
}

static void test_create_is_new(void) {
    set_up();
    write_file("there", "old");
    ASSERT_NUMBER(directory_create(top_fd, "there", "new", 3), -EEXIST);
    ASSERT_NUMBER(symlinkat("elsewhere", top_fd, "link"), 0);
    ASSERT_NUMBER(directory_create(top_fd, "link", "new", 3), -EEXIST);
    ASSERT_TEXT(read_file("there"), "old");
    ASSERT_NUMBER(is_there("elsewhere"), 0);
    tear_down(NULL);
}

/* The numbers that are left over by a commit that failed are not used again. */
static void test_commit_fails(void) {
    set_up();
    struct store *store = open_store();
    struct failure failure = {0};
    commit(store, "first");
    ASSERT_NUMBER(stage(store, "second", &failure), 0);
    make_generation("generations/2"); /* in the way */
    ASSERT_NUMBER(store_commit(store, &failure), -1);
    ASSERT_TEXT(read_link("current"), "generations/1");
    ASSERT_NUMBER(store_current(store), 1);
    commit(store, "third");
    ASSERT_TEXT(read_link("current"), "generations/3");
    tear_down(store);
}

static int small_file_system(void) {
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", top, "tmpfs", 0, "size=64k") == 0;
}

/* In a child: mounts and limits are its own. Returns what went wrong, 0 for nothing. */
static int fill_up(void) {
    struct store *store = NULL;
    struct failure failure = {0};
    struct retry retry = {.attempts = 1};
    char text[40 * 1024];
    int files[FILE_ROLE_COUNT];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    make_files(files, text);
    if (small_file_system()) {
        close(top_fd);
        top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        store = open_store();
        commit(store, "first");
    } else {
        signal(SIGXFSZ, SIG_IGN);
        store = open_store();
        commit(store, "first");
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){1024, 1024});
    }
    int r = store_stage(store, files, &failure);
    close_files(files);
    if (r == 0)
        return 1;
    if (strstr(failure.message, "No space left") == NULL && strstr(failure.message, "too large") == NULL)
        return 2;
    if (is_there("incoming/certificate.pem") || strcmp(read_link("current"), "generations/1") != 0)
        return 3;
    if (store_save_retry(store, STORE_RETRY, &retry, &failure) < 0)
        return 4;
    commit(store, "second"); /* there is room again */
    if (store_current(store) != 2)
        return 5;
    store_close(store);
    return 0;
}

static void test_full(void) {
    int status = 0;
    set_up();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fill_up());
    ASSERT_NUMBER(waitpid(pid, &status, 0), pid);
    ASSERT_NUMBER(status, 0);
    tear_down(NULL);
}

/* --- all of it --- */

/* All of it by the store itself, durably; nobody is asked to clear anything before. */
static void test_forget(void) {
    static const char *const names[] = {"retry",     "retry-renewal", "retire",          "refused",
                                        "staged",    "staged.1",      "checkpoint-jitp", "current.broken",
                                        "retry.new", "renewal-x.1",   "renewal-x.2",     "renewal-x.1.new"};
    struct failure failure = {0};
    set_up();
    struct store *store = open_store();
    commit(store, "first");
    store_note_certificate(store, 1500000000000000);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        write_file(names[i], "x");
    write_file("other", "x");
    ASSERT_NUMBER(store_forget(store, &failure), 0);
    ASSERT_NUMBER(store_current(store), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_there(names[i]))
            ASSERT_TEXT(names[i], "gone");
    ASSERT_NUMBER(is_there("other"), 1);
    ASSERT_NUMBER(store_newest_certificate(store), 1500000000000000);
    tear_down(store);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"an empty directory", test_empty},
        {"commit: link, modes, content", test_commit},
        {"one predecessor is kept", test_one_predecessor},
        {"as many predecessors as are wanted are kept", test_predecessors},
        {"a broken one stays until there is another", test_broken_is_kept},
        {"the files of the identity are opened read-only", test_open_files},
        {"two daemons cannot share it", test_lock},
        {"the directory is made", test_path_is_made},
        {"a path that cannot be", test_unusable_path},
        {"cut while staging", test_cut_while_staging},
        {"cut between rename and link", test_cut_before_link},
        {"cut between rename and the first link", test_cut_before_first_link},
        {"cut before old generations were removed", test_cut_before_pruning},
        {"a generation that is not whole is set aside", test_broken_generation},
        {"a link to nothing", test_dangling_link},
        {"a link that somebody else made", test_foreign_link},
        {"current is a directory", test_current_is_directory},
        {"a file of the identity is a link", test_file_is_link},
        {"incoming is a link", test_incoming_is_link},
        {"generations is a link", test_generations_is_link},
        {"foreign names in generations stay", test_foreign_names_stay},
        {"files that are no files, or empty", test_wrong_files},
        {"a new file never takes the place of another", test_create_is_new},
        {"a commit that fails changes nothing", test_commit_fails},
        {"a full disk changes nothing", test_full},
        {"all is forgotten but what the clock is worth", test_forget},
        {NULL, NULL},
    };
    umask(0077);
    return unit_run("store", tests, argc, argv);
}
