#include "common/cleanup.h"
#include "common/machine-id.h"
#include "common/volatile.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#define HEAD "36 35 0:31 / /var/lib rw,relatime shared:1 - overlay "

static void test_parse(void) {
    static const struct {
        const char *line;
        int result;
        const char *path;
    } cases[] = {
        {HEAD "overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n", 1, "/b"},
        {HEAD "overlay rw,upperdir=/b", 1, "/b"},
        {HEAD "o upperdir=/run/a\\040b\\054c\\134d,workdir=/c\n", 1, "/run/a b,c\\d"},
        {"36 35 0:31 / /var/lib rw - overlay overlay rw,upperdir=/b\n", 1, "/b"}, /* no optional fields */
        {"37 35 0:31 / /var/lib rw shared:1 - overlay overlay rw,upperdir=/b\n", 0, NULL},
        {"3 35 0:31 / /36 rw shared:1 - overlay overlay rw,upperdir=/b\n", 0, NULL},
        {"366 35 0:31 / /var/lib rw shared:1 - overlay overlay rw,upperdir=/b\n", 0, NULL},
        {"", 0, NULL},
        {"\n", 0, NULL},
        {"x 36 - overlay overlay upperdir=/b\n", 0, NULL},
        {"36 35 0:31 / /var/lib rw shared:1 - ext4 /dev/sda rw,upperdir=/b\n", -ENODATA, NULL},
        {HEAD "overlay ro,lowerdir=/a:/b\n", -ENODATA, NULL}, /* without a directory to write */
        {HEAD "overlay rw,upperdir=b\n", -ENODATA, NULL},
        {HEAD "overlay rw,upperdir=\n", -ENODATA, NULL},
        {HEAD "overlay rw,xupperdir=/b\n", -ENODATA, NULL},
        {HEAD "overlay rw,upperdir=/a\\04\n", -ENODATA, NULL},
        {HEAD "overlay rw,upperdir=/a\\09x\n", -ENODATA, NULL},
        {HEAD "overlay rw,upperdir=/a\\000b\n", -ENODATA, NULL},
        {HEAD "overlay rw,upperdir=/a\\777b\n", -ENODATA, NULL},
        {HEAD "overlay rw,upperdir=/a-path-that-is-too-long\n", -ENODATA, NULL},
        {HEAD "overlay", -ENODATA, NULL},
        {"36 35 0:31 / /var/lib rw shared:1 - overlay ", -ENODATA, NULL},
        {"36", -ENODATA, NULL},
        {"36 ", -ENODATA, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[24] = "untouched";
        ASSERT_NUMBER(volatile_parse_upper(cases[i].line, 36, path, sizeof path), cases[i].result);
        ASSERT_TEXT(path, cases[i].path != NULL ? cases[i].path : "untouched");
    }
}

static bool is_tmpfs(const char *path) {
    struct statfs status;
    return statfs(path, &status) == 0 && (unsigned long)status.f_type == TMPFS_MAGIC;
}

static void test_judge(void) {
    AUTO_CLOSE int kernel = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_TEXT(volatile_name(volatile_judge(kernel)), "no");
    if (is_tmpfs("/dev/shm")) {
        AUTO_CLOSE int memory = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_TEXT(volatile_name(volatile_judge(memory)), "yes");
    }
    ASSERT_TEXT(volatile_name(volatile_judge(-1)), "unknown");
}

static void check_id(const char *directory, const char *text, const char *words) {
    char path[64], id[MACHINE_ID_SIZE] = "untouched";
    snprintf(path, sizeof path, "%s/test-volatile-XXXXXX", directory);
    AUTO_CLOSE int fd = mkstemp(path);
    ASSERT_NUMBER(write(fd, text, strlen(text)), strlen(text));
    const char *wrong = machine_id_read(path, id);
    unlink(path);
    if (words != NULL) {
        ASSERT_TEXT(id, "untouched");
        if (wrong == NULL || strstr(wrong, words) == NULL)
            ASSERT_TEXT(wrong, words);
        return;
    }
    ASSERT_TEXT(wrong, NULL);
    ASSERT_TEXT(id, "0123456789abcdef0123456789abcdef");
}

static void test_machine_id(void) {
    static const char good[] = "0123456789abcdef0123456789abcdef\n";
    char id[MACHINE_ID_SIZE];
    check_id("/tmp", good, is_tmpfs("/tmp") ? "transient" : NULL);
    if (is_tmpfs("/dev/shm"))
        check_id("/dev/shm", good, "it is transient, another one at each boot");
    check_id("/tmp", "", "not initialized");
    check_id("/tmp", "\n", "not initialized");
    check_id("/tmp", "uninitialized\n", "not initialized");
    check_id("/tmp", "0123456789abcdef", "not 32 hexadecimal digits");
    check_id("/tmp", "0123456789abcdef0123456789abcdef0\n", "not 32 hexadecimal digits");
    check_id("/tmp", "0123456789abcdef0123456789abcdeg\n", "not 32 hexadecimal digits");
    ASSERT_TEXT(machine_id_read("/nonexistent/machine-id", id), "it cannot be read");
    ASSERT_TEXT(machine_id_read("/tmp", id), "it cannot be read");
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"the upper directory of an overlay", test_parse},
        {"file systems", test_judge},
        {"the machine id", test_machine_id},
        {NULL, NULL},
    };
    return unit_run("volatile", tests, argc, argv);
}
