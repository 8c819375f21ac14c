/* What is kept beside the identities: for a successor, the records, and root-ca.pem of the one in use. */
#include "common/cleanup.h"
#include "common/memfd.h"
#include "daemon/directory.h"
#include "daemon/store.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_1 "1111111111111111111111111111111111111111111111111111111111111111"
#define ID_2 "2222222222222222222222222222222222222222222222222222222222222222"

static char top[64];
static int top_fd = -1;

static struct store *open_store(void) {
    struct store *store = NULL;
    struct failure failure = {0};
    if (store_open(top, &store, &failure) < 0)
        ASSERT_TEXT(failure.message, "opened");
    return store;
}

static struct store *set_up(void) {
    snprintf(top, sizeof top, "/tmp/test-store-XXXXXX");
    if (mkdtemp(top) == NULL)
        exit(99);
    top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return open_store();
}

static void tear_down(struct store *store) {
    AUTO_CLOSE int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    store_close(store);
    close(top_fd);
    ASSERT_NUMBER(directory_remove(parent, strrchr(top, '/') + 1), 0);
}

static void write_file(const char *path, const char *text) {
    AUTO_CLOSE int fd = openat(top_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT_NUMBER(write(fd, text, strlen(text)), strlen(text));
}

static const char *read_file(const char *path) {
    static char text[256];
    int r = directory_read(top_fd, path, text, sizeof text);
    if (r < 0)
        snprintf(text, sizeof text, "(%s)", strerror(-r));
    return text;
}

static bool is_there(const char *path) {
    return faccessat(top_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static unsigned mode_of(const char *path) {
    struct stat status = {0};
    fstatat(top_fd, path, &status, AT_SYMLINK_NOFOLLOW);
    return status.st_mode & 07777;
}

static void commit(struct store *store, const char *text) {
    struct failure failure = {0};
    int files[FILE_ROLE_COUNT];
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        files[role] = memfd_create_sealed("file", text, strlen(text));
    if (store_stage(store, files, &failure) < 0 || store_commit(store, &failure) < 0)
        ASSERT_TEXT(failure.message, "committed");
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        cleanup_close(&files[role]);
}

static void keep(struct store *store, const char *name, const char *text) {
    AUTO_CLOSE int file = memfd_create_sealed("kept", text, strlen(text));
    struct failure failure = {0};
    if (store_keep(store, name, file, &failure) < 0)
        ASSERT_TEXT(failure.message, "kept");
}

/* What a worker would be given: "" for nothing. */
static const char *kept(struct store *store, const char *name) {
    static char text[64];
    struct failure failure = {0};
    int file = -1;
    ASSERT_NUMBER(store_open_kept(store, name, &file, &failure), 0);
    ssize_t size = file >= 0 ? read(file, text, sizeof text - 1) : 0;
    text[size > 0 ? size : 0] = '\0';
    cleanup_close(&file);
    return text;
}

/* --- what is kept for workers --- */

/* A check of the identity in use takes away what has led to it, not what is to follow it. */
static void test_successor(void) {
    struct store *store = set_up();
    keep(store, "staged", "for the first");
    keep(store, "checkpoint-x", "of the first");
    ASSERT_TEXT(read_file("staged"), "for the first");
    commit(store, "first");
    store_drop_all_kept(store);
    ASSERT_NUMBER(is_there("staged"), 0);
    ASSERT_NUMBER(is_there("checkpoint-x"), 0);
    keep(store, "staged", "for the second");
    keep(store, "renewal-x", "of the second");
    keep(store, "checkpoint-x", "of no use");
    ASSERT_TEXT(read_file("staged.1"), "for the second");
    store_drop_all_kept(store);
    ASSERT_TEXT(kept(store, "staged"), "for the second");
    ASSERT_TEXT(kept(store, "renewal-x"), "of the second");
    ASSERT_TEXT(kept(store, "checkpoint-x"), "");
    store_close(store);
    store = open_store();
    ASSERT_TEXT(kept(store, "renewal-x"), "of the second");
    tear_down(store);
}

/* Power cut right behind the commit: nobody gets to see what belongs to the identity before. */
static void test_cut_behind_commit(void) {
    struct store *store = set_up();
    commit(store, "first");
    keep(store, "staged", "for the second");
    keep(store, "renewal-x", "of the second");
    commit(store, "second");
    store_close(store);
    store = open_store();
    ASSERT_TEXT(kept(store, "staged"), "");
    ASSERT_TEXT(kept(store, "renewal-x"), "");
    keep(store, "staged", "for the third");
    store_drop_all_kept(store);
    ASSERT_NUMBER(is_there("staged.1"), 0);
    ASSERT_NUMBER(is_there("renewal-x.1"), 0);
    ASSERT_TEXT(kept(store, "staged"), "for the third");
    store_drop_kept(store, "staged");
    ASSERT_NUMBER(is_there("staged.2"), 0);
    tear_down(store);
}

/* --- records --- */

/* A power cut right after the commit leaves the record of the attempts before it: nothing has failed since. */
static void test_schedule_of_the_one_before(void) {
    struct store *store = set_up();
    struct failure failure = {0};
    struct retry renew = {.attempts = 5}, loaded;
    commit(store, "first");
    ASSERT_NUMBER(store_save_retry(store, STORE_RETRY_RENEWAL, &renew, &failure), 0);
    store_load_retry(store, STORE_RETRY_RENEWAL, &loaded);
    ASSERT_NUMBER(loaded.attempts, 5);
    commit(store, "second");
    store_load_retry(store, STORE_RETRY_RENEWAL, &loaded);
    ASSERT_NUMBER(loaded.attempts, 0);
    ASSERT_NUMBER(is_there("retry-renewal.1"), 1);
    store_drop_all_kept(store);
    ASSERT_NUMBER(is_there("retry-renewal.1"), 0);
    tear_down(store);
}

static void test_two_schedules(void) {
    struct store *store = set_up();
    struct failure failure = {0};
    struct retry enroll = {.attempts = 3}, renew = {.attempts = 5}, loaded;
    ASSERT_NUMBER(store_save_retry(store, STORE_RETRY, &enroll, &failure), 0);
    ASSERT_NUMBER(store_save_retry(store, STORE_RETRY_RENEWAL, &renew, &failure), 0);
    store_load_retry(store, STORE_RETRY, &loaded);
    ASSERT_NUMBER(loaded.attempts, 3);
    store_clear_record(store, STORE_RETRY);
    store_load_retry(store, STORE_RETRY_RENEWAL, &loaded);
    ASSERT_NUMBER(loaded.attempts, 5);
    tear_down(store);
}

static void test_retired(void) {
    struct store *store = set_up();
    struct failure failure = {0};
    struct retired retired = {0}, loaded;
    char dropped[RETIRED_ID_SIZE];
    store_load_retired(store, &loaded);
    ASSERT_NUMBER(loaded.count, 0);
    ASSERT_NUMBER(retired_add(&retired, ID_1, dropped), 1);
    ASSERT_NUMBER(retired_add(&retired, ID_2, dropped), 1);
    ASSERT_NUMBER(retired_add(&retired, ID_1, dropped), 1); /* is there already */
    ASSERT_NUMBER(store_save_retired(store, &retired, &failure), 0);
    ASSERT_TEXT(read_file("retire"), ID_1 "\n" ID_2 "\n");
    store_load_retired(store, &loaded);
    ASSERT_NUMBER(memcmp(&loaded, &retired, sizeof loaded), 0);
    ASSERT_NUMBER(store_retire(store, ID_2, &failure), 0);
    ASSERT_NUMBER(store_retire(store, "no id", &failure), 0);
    ASSERT_TEXT(read_file("retire"), ID_1 "\n" ID_2 "\n");
    ASSERT_NUMBER(retired_remove(&loaded, ID_1), 1);
    ASSERT_NUMBER(retired_remove(&loaded, ID_1), 0);
    ASSERT_NUMBER(loaded.count, 1);
    ASSERT_TEXT(loaded.ids[0], ID_2);
    ASSERT_TEXT(loaded.ids[1], "");
    tear_down(store);
}

static void test_many_retired(void) {
    struct retired retired = {0};
    char id[RETIRED_ID_SIZE], dropped[RETIRED_ID_SIZE], text[RETIRED_TEXT_MAX];
    for (unsigned i = 0; i < RETIRED_MAX; i++) {
        snprintf(id, sizeof id, "%064x", i);
        ASSERT_NUMBER(retired_add(&retired, id, dropped), 1);
        ASSERT_TEXT(dropped, "");
    }
    retired_format(&retired, text);
    ASSERT_NUMBER(strlen(text), RETIRED_TEXT_MAX - 1);
    ASSERT_NUMBER(retired_parse(text, &retired), 0);
    ASSERT_NUMBER(retired_add(&retired, ID_1, dropped), 1);
    snprintf(id, sizeof id, "%064x", 0);
    ASSERT_TEXT(dropped, id);
    ASSERT_NUMBER(retired.count, RETIRED_MAX);
    ASSERT_TEXT(retired.ids[RETIRED_MAX - 1], ID_1);
}

static void test_bad_retired(void) {
    static const char *const bad[] = {"x", ID_1, ID_1 "\n\n", ID_1 " " ID_2 "\n", "1" ID_1 "\n", ID_1 "\nshort\n"};
    struct store *store = set_up();
    struct retired retired = {0};
    char dropped[RETIRED_ID_SIZE];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file("retire", bad[i]);
        store_load_retired(store, &retired);
        ASSERT_NUMBER(retired.count, 0);
    }
    ASSERT_NUMBER(retired_add(&retired, "", dropped), 0);
    ASSERT_NUMBER(retired_add(&retired, ID_1 "1", dropped), 0);
    ASSERT_NUMBER(retired_add(&retired, "a blank, and more than that, is no id of a certificate: 64 digits", dropped),
                  0);
    tear_down(store);
}

static void test_refusal(void) {
    static const char *const bad[] = {"", "generation=0\nsince=1\nlasted=2\n", "generation=1\nsince=1\n",
                                      "generation=1\nsince=1\nlasted=-2\n",
                                      "generation=1\ngeneration=1\nsince=1\nlasted=2\n"};
    struct store *store = set_up();
    struct failure failure = {0};
    struct refusal refusal = {.generation = 1, .since_usec = 12345, .lasted_usec = UINT64_MAX}, loaded;
    commit(store, "first");
    ASSERT_NUMBER(store_save_refusal(store, &refusal, &failure), 0);
    store_load_refusal(store, &loaded);
    ASSERT_NUMBER(loaded.since_usec, 12345);
    CU_ASSERT(loaded.lasted_usec == UINT64_MAX);
    commit(store, "second"); /* which nobody has refused */
    store_load_refusal(store, &loaded);
    ASSERT_NUMBER(loaded.generation, 0);
    ASSERT_NUMBER(loaded.since_usec, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ASSERT_NUMBER(refusal_parse(bad[i], &loaded), -EBADMSG);
    ASSERT_NUMBER(refusal_parse("generation=2\nnew=x\nsince=1\nlasted=2\n", &loaded), 0);
    tear_down(store);
}

/* --- the authorities of the identity in use --- */

static int replace(struct store *store, const char *text) {
    AUTO_CLOSE int file = memfd_create_sealed("root-ca", text, strlen(text));
    struct failure failure = {0};
    return store_replace_root_ca(store, file, &failure);
}

static void test_root_ca(void) {
    struct stat status = {0};
    struct store *store = set_up();
    ASSERT_NUMBER(replace(store, "authorities"), -1);
    commit(store, "first");
    AUTO_CLOSE int before = openat(top_fd, "current/root-ca.pem", O_RDONLY | O_CLOEXEC);
    ASSERT_NUMBER(replace(store, "authorities"), 0);
    ASSERT_TEXT(read_file("current/root-ca.pem"), "authorities");
    ASSERT_TEXT(read_file("current/private.pem"), "first");
    ASSERT_NUMBER(store_current(store), 1);
    fstatat(top_fd, "current/root-ca.pem", &status, 0);
    ASSERT_NUMBER(status.st_mode & 07777, 0640);
    char old[16] = ""; /* who has it open reads it to its end */
    ASSERT_NUMBER(read(before, old, sizeof old - 1), 5);
    ASSERT_TEXT(old, "first");
    tear_down(store);
}

/* A power cut before the rename. */
static void test_half_root_ca(void) {
    struct store *store = set_up();
    commit(store, "first");
    write_file("generations/1/root-ca.pem.new", "autho");
    store_close(store);
    store = open_store();
    ASSERT_NUMBER(is_there("generations/1/root-ca.pem.new"), 0);
    ASSERT_TEXT(read_file("current/root-ca.pem"), "first");
    write_file("generations/1/root-ca.pem.new", "autho"); /* of a failure that could not be cleared */
    ASSERT_NUMBER(replace(store, "authorities"), 0);
    ASSERT_TEXT(read_file("current/root-ca.pem"), "authorities");
    ASSERT_NUMBER(is_there("generations/1/root-ca.pem.new"), 0);
    tear_down(store);
}

/* --- checkpoints and the record of attempts --- */

static void test_retry(void) {
    struct store *store = set_up();
    struct failure failure = {0};
    struct retry retry = {.attempts = 3, .begun = true, .class = FAILURE_TPM, .next_usec = 12345}, again;
    store_load_retry(store, STORE_RETRY, &again);
    ASSERT_NUMBER(again.attempts, 0);
    ASSERT_NUMBER(store_save_retry(store, STORE_RETRY, &retry, &failure), 0);
    ASSERT_NUMBER(mode_of("retry"), 0600);
    ASSERT_NUMBER(is_there("retry.new"), 0);
    store_load_retry(store, STORE_RETRY, &again);
    ASSERT_NUMBER(again.attempts, 3);
    ASSERT_NUMBER(again.begun, 1);
    ASSERT_NUMBER(again.class, FAILURE_TPM);
    store_clear_record(store, STORE_RETRY);
    store_clear_record(store, STORE_RETRY);
    ASSERT_NUMBER(is_there("retry"), 0);
    tear_down(store);
}

static int save_checkpoint(struct store *store, const char *text, struct failure *failure) {
    AUTO_CLOSE int file = memfd_create_sealed("checkpoint", text, strlen(text));
    return store_keep(store, "checkpoint-x", file, failure);
}

static int open_checkpoint(struct store *store) {
    struct failure failure = {0};
    int file = -2;
    ASSERT_NUMBER(store_open_kept(store, "checkpoint-x", &file, &failure), 0);
    return file;
}

static void test_checkpoint(void) {
    struct store *store = set_up();
    struct failure failure = {0};
    ASSERT_NUMBER(open_checkpoint(store), -1);
    ASSERT_NUMBER(save_checkpoint(store, "one", &failure), 0);
    ASSERT_NUMBER(save_checkpoint(store, "two", &failure), 0);
    ASSERT_NUMBER(mode_of("checkpoint-x"), 0600);
    ASSERT_NUMBER(is_there("checkpoint-x.new"), 0);
    ASSERT_TEXT(read_file("checkpoint-x"), "two");
    AUTO_CLOSE int file = open_checkpoint(store);
    ASSERT_NUMBER(fcntl(file, F_GETFL) & O_ACCMODE, O_RDONLY);
    store_drop_kept(store, "checkpoint-x");
    store_drop_kept(store, "checkpoint-x");
    ASSERT_NUMBER(is_there("checkpoint-x"), 0);
    ASSERT_NUMBER(save_checkpoint(store, "three", &failure), 0);
    write_file("staged", "four");
    store_drop_all_kept(store);
    ASSERT_NUMBER(is_there("checkpoint-x"), 0);
    ASSERT_NUMBER(is_there("staged"), 0);
    ASSERT_NUMBER(is_there("generations"), 1);
    tear_down(store);
}

/* One that no worker could take would fail each attempt for ever. */
static void test_bad_checkpoint(void) {
    struct store *store = set_up();
    ASSERT_NUMBER(symlinkat("/etc/passwd", top_fd, "checkpoint-x"), 0);
    ASSERT_NUMBER(open_checkpoint(store), -1);
    ASSERT_NUMBER(is_there("checkpoint-x"), 0);
    ASSERT_NUMBER(mkdirat(top_fd, "checkpoint-x", 0700), 0);
    ASSERT_NUMBER(open_checkpoint(store), -1);
    ASSERT_NUMBER(is_there("checkpoint-x"), 0);
    write_file("checkpoint-x", "x");
    AUTO_CLOSE int file = openat(top_fd, "checkpoint-x", O_WRONLY | O_CLOEXEC);
    ASSERT_NUMBER(ftruncate(file, MEMFD_SIZE_MAX + 1), 0);
    ASSERT_NUMBER(open_checkpoint(store), -1);
    ASSERT_NUMBER(is_there("checkpoint-x"), 0);
    tear_down(store);
}

static void test_bad_retry(void) {
    struct store *store = set_up();
    struct retry retry;
    char large[4096];
    memset(large, '\n', sizeof large);
    large[sizeof large - 1] = '\0';
    write_file("retry", "garbage");
    store_load_retry(store, STORE_RETRY, &retry);
    ASSERT_NUMBER(retry.attempts, 0);
    write_file("retry", large);
    store_load_retry(store, STORE_RETRY, &retry);
    ASSERT_NUMBER(retry.attempts, 0);
    unlinkat(top_fd, "retry", 0);
    write_file("elsewhere", "attempts=9\nbegun=no\nclass=tpm\nnext=5\n");
    ASSERT_NUMBER(symlinkat("elsewhere", top_fd, "retry"), 0);
    store_load_retry(store, STORE_RETRY, &retry);
    ASSERT_NUMBER(retry.attempts, 0);
    unlinkat(top_fd, "retry", 0);
    ASSERT_NUMBER(mkfifoat(top_fd, "retry", 0600), 0);
    store_load_retry(store, STORE_RETRY, &retry);
    ASSERT_NUMBER(retry.attempts, 0);
    tear_down(store);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"what waits for a successor", test_successor},
        {"a power cut right behind the commit", test_cut_behind_commit},
        {"a schedule of enrolments, one of renewals", test_two_schedules},
        {"a schedule of renewals of another identity", test_schedule_of_the_one_before},
        {"certificates to be retired", test_retired},
        {"more of them than there is room for", test_many_retired},
        {"a list of them that is damaged", test_bad_retired},
        {"a refusal belongs to an identity", test_refusal},
        {"other authorities", test_root_ca},
        {"other authorities, cut off", test_half_root_ca},
        {"the record of attempts", test_retry},
        {"the checkpoint", test_checkpoint},
        {"a checkpoint that cannot be used is removed", test_bad_checkpoint},
        {"a bad record of attempts counts as none", test_bad_retry},
        {NULL, NULL},
    };
    umask(0077);
    return unit_run("store-kept", tests, argc, argv);
}
