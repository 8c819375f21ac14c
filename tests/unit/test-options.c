#include "worker/options.h"

#include "common/cleanup.h"
#include "harness.h"
#include "worker/plugin-loader.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct enrolld_option table[] = {
    {"Template", ENROLLD_OPTION_TEXT, true, "", NULL, NULL},
    {"Certificate", ENROLLD_OPTION_FILE, false, "", NULL, NULL},
    {"Greeting", ENROLLD_OPTION_TEXT, false, "", NULL, "100%% %s"},
    {"Patience", ENROLLD_OPTION_SPAN, false, "", NULL, "30min"},
    {"Pause", ENROLLD_OPTION_SPAN, false, "", NULL, NULL},
    {"Parameter.", ENROLLD_OPTION_PREFIX, false, "", NULL, NULL},
    {"Both", ENROLLD_OPTION_TEXT, false, "", NULL, "both", ENROLLD_USE_BOTH},
    {"Renewal", ENROLLD_OPTION_TEXT, true, "", NULL, NULL, ENROLLD_USE_RENEW},
    {"Again.", ENROLLD_OPTION_PREFIX, false, "", NULL, NULL, ENROLLD_USE_RENEW},
    {"Later", ENROLLD_OPTION_TEXT, false, "", NULL, "%o", ENROLLD_USE_RENEW},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL},
};
static const struct enrolld_method methods[] = {
    {"other", "", table + 5, false},
    {"method", "", table, false},
    {NULL, NULL, NULL, false},
};
static const struct enrolld_plugin plugin = {
    .methods = methods, .method_size = sizeof *methods, .option_size = sizeof *table};
static const struct specifier_values values = {.serial_number = "SN", .old_certificate_id = "0ddba11"};

static char directory[] = "/tmp/enrolld-test-XXXXXX";

static struct options *read_for(enum enrolld_option_use use, const char *text, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = configuration_new();
    struct options *options = NULL;
    CU_ASSERT_EQUAL(configuration_parse(configuration, text, strlen(text), "test.conf", failure), 0);
    (void)options_read(configuration, &plugin, "method", use, &values, &options, failure);
    return options;
}

static struct options *read_options(const char *text, struct failure *failure) {
    return read_for(ENROLLD_USE_ENROLL, text, failure);
}

static void write_file(const char *name, const char *data, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fwrite(data, 1, size, file);
    fclose(file);
}

static void test_values(void) {
    struct failure failure = {0};
    char text[400];
    write_file("claim.pem", "PEM\n", 4);
    write_file("secret", "hidden\n", 7);
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    snprintf(text, sizeof text,
             "[method]\nTemplate=old\nTemplate=t-%%s\nCertificate=%s/claim.pem\nParameter.A=1 %%s\n"
             "Parameter.B=credential:secret\nParameter.C=file:%s/secret\n",
             directory, directory);
    struct options *options = read_options(text, &failure);
    ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(options);
    ASSERT_TEXT(options_get(options, "Template"), "t-SN");
    ASSERT_TEXT(options_get(options, "Certificate"), "PEM\n");
    CU_ASSERT_PTR_NULL(options_get(options, "Nonsense"));
    const char *name = NULL, *value = NULL;
    char all[128] = "";
    for (size_t position = 0; options_next(options, "Parameter.", &position, &name, &value);)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s=%s;", name, value);
    ASSERT_TEXT(all, "A=1 SN;B=hidden;C=hidden;");
    options_free(options);
}

/* Specifiers are those of a value that is set; what walks the set ones does not meet them. */
static void test_defaults(void) {
    struct failure failure = {0};
    struct options *options = read_options("[method]\nTemplate=x\nPatience=\n", &failure);
    const char *name = NULL, *value = NULL;
    size_t position = 0;
    CU_ASSERT_PTR_NOT_NULL_FATAL(options);
    ASSERT_TEXT(options_get(options, "Greeting"), "100% SN");
    ASSERT_TEXT(options_get(options, "Patience"), "30min");
    CU_ASSERT_TRUE(options_get_span_ms(options, "Patience") == 30 * 60 * 1000);
    CU_ASSERT_TRUE(options_get_span_ms(options, "Pause") == 0);
    CU_ASSERT_PTR_NULL(options_get(options, "Certificate"));
    CU_ASSERT_TRUE(options_next(options, "", &position, &name, &value));
    ASSERT_TEXT(name, "Template");
    CU_ASSERT_FALSE(options_next(options, "", &position, &name, &value));
    options_free(options);
    options = read_options("[method]\nTemplate=x\nGreeting=hi\nPatience=90s\n", &failure);
    CU_ASSERT_PTR_NOT_NULL_FATAL(options);
    ASSERT_TEXT(options_get(options, "Greeting"), "hi");
    CU_ASSERT_TRUE(options_get_span_ms(options, "Patience") == 90000);
    options_free(options);
}

/* What an option is not there for is not read, not even where it could not be. */
static void test_use(void) {
    struct failure failure = {0};
    const char *name = NULL, *value = NULL;
    size_t position = 0;
    struct options *options = read_options("[method]\nTemplate=x\nRenewal=%t\nAgain.A=file:/nonexistent\n", &failure);
    CU_ASSERT_PTR_NOT_NULL_FATAL(options);
    ASSERT_TEXT(options_get(options, "Template"), "x");
    ASSERT_TEXT(options_get(options, "Both"), "both");
    CU_ASSERT_PTR_NULL(options_get(options, "Renewal"));
    CU_ASSERT_PTR_NULL(options_get(options, "Later"));
    CU_ASSERT_FALSE(options_next(options, "Again.", &position, &name, &value));
    options_free(options);
    options = read_for(ENROLLD_USE_RENEW, "[method]\nCertificate=/nonexistent\nRenewal=of-%o\nAgain.A=%s\n", &failure);
    ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(options);
    ASSERT_TEXT(options_get(options, "Renewal"), "of-0ddba11");
    ASSERT_TEXT(options_get(options, "Later"), "0ddba11");
    ASSERT_TEXT(options_get(options, "Both"), "both");
    CU_ASSERT_PTR_NULL(options_get(options, "Greeting"));
    position = 0;
    CU_ASSERT_TRUE(options_next(options, "Again.", &position, &name, &value));
    ASSERT_TEXT(value, "SN");
    options_free(options);
    CU_ASSERT_PTR_NULL(read_for(ENROLLD_USE_RENEW, "[method]\nTemplate=x\n", &failure));
    ASSERT_TEXT(failure.message, "Renewal= is missing in section [method] of test.conf");
    CU_ASSERT_PTR_NULL(read_options("[method]\nTemplate=x\nAgain.A=credential:x\n", &failure));
    ASSERT_TEXT(failure.message, "test.conf:3: Again.A=credential:x is a credential, and there are none where "
                                 "identities are renewed");
}

/* A plugin that was built before there was a use: everything is for enrolments, and it renews nothing. */
static void test_older_plugin(void) {
    struct enrolld_plugin older = plugin;
    older.size = offsetof(struct enrolld_plugin, renew);
    older.renew = (int (*)(const struct enrolld_host *))test_use; /* what lies behind its end */
    older.option_size = offsetof(struct enrolld_option, use);
    CU_ASSERT_FALSE(plugin_can_renew(&older));
    CU_ASSERT_TRUE(plugin_option_serves(&older, &table[7], ENROLLD_USE_ENROLL));
    CU_ASSERT_FALSE(plugin_option_serves(&older, &table[7], ENROLLD_USE_RENEW));
    older.size = sizeof older;
    CU_ASSERT_TRUE(plugin_can_renew(&older));
    older.renew = NULL;
    CU_ASSERT_FALSE(plugin_can_renew(&older));
}

/* Tables are walked by the size that the plugin tells, not by what this header makes of it. */
static void test_stride(void) {
    struct wide {
        struct enrolld_option option;
        const char *later;
    };
    struct wide_method {
        struct enrolld_method method;
        const char *later;
    };
    const struct wide wide_table[] = {{{"One", ENROLLD_OPTION_TEXT, false, "", NULL, "1"}, "x"},
                                      {{"Two", ENROLLD_OPTION_TEXT, false, "", NULL, "2"}, "x"},
                                      {{NULL, ENROLLD_OPTION_TEXT, false, NULL, NULL, NULL}, "x"}};
    const struct wide_method wide_methods[] = {{{"first", "", &wide_table[2].option, false}, "x"},
                                               {{"second", "", &wide_table[0].option, true}, "x"},
                                               {{NULL, NULL, NULL, false}, "x"}};
    const struct enrolld_plugin wide_plugin = {
        .methods = &wide_methods[0].method, .method_size = sizeof *wide_methods, .option_size = sizeof *wide_table};
    CU_ASSERT_PTR_EQUAL(plugin_method(&wide_plugin, "second"), &wide_methods[1].method);
    CU_ASSERT_PTR_NULL(plugin_method(&wide_plugin, "third"));
    const struct enrolld_option *option =
        plugin_next_option(&wide_plugin, plugin_method(&wide_plugin, "second")->options);
    ASSERT_TEXT(option->name, "Two");
    CU_ASSERT_PTR_NULL(plugin_next_option(&wide_plugin, option)->name);
}

static void refused(const char *text, const char *message) {
    struct failure failure = {0};
    struct options *options = read_options(text, &failure);
    CU_ASSERT_PTR_NULL(options);
    options_free(options);
    ASSERT_TEXT(failure.message, message);
    ASSERT_NUMBER(failure.class, FAILURE_INVALID);
}

static void test_refused(void) {
    char text[300], message[400];
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    refused("[method]\nTemplate=x\nTemplat=y\n", "test.conf:3: the method method knows no key Templat=");
    refused("[method]\nTemplate=x\nParameter.=y\n", "test.conf:3: the method method knows no key Parameter.=");
    refused("[method]\nCertificate=/x\n", "Template= is missing in section [method] of test.conf");
    refused("", "Template= is missing in section [method] of enrolld.conf");
    refused(
        "[method]\nTemplate=x\nPatience=soon\n",
        "test.conf:3: Patience=soon is no time span of at most 365 days: one number and one of ms, s, min, h, d, like "
        "30min");
    refused("[method]\nTemplate=x\nPause=366d\n",
            "test.conf:3: Pause=366d is no time span of at most 365 days: one number and one of ms, s, min, h, d, like "
            "30min");
    refused("[method]\nTemplate=%t\n", "Template=: %t is no specifier, or has no value here");
    refused("[method]\nTemplate=x\nCertificate=/nonexistent\n",
            "test.conf:3: Certificate=/nonexistent cannot be read: No such file or directory");
    refused("[method]\nTemplate=%q\n",
            "test.conf:2: Template=%q has a % that starts no specifier (there are %s, %t, %c, %i, %o, %m, %H "
            "and %%)");
    refused("[method]\nTemplate=x\nCertificate=relative.pem\n",
            "test.conf:3: Certificate=relative.pem is neither an absolute path nor credential:ID");
    refused("[method]\nTemplate=x\nParameter.A=file:relative\n",
            "test.conf:3: Parameter.A=file:relative is not file: and an absolute path");
    refused("[method]\nTemplate=x\nCertificate=credential:../x\n",
            "test.conf:3: Certificate=credential:../x cannot be read: it is not text, or not a legal ID");
    refused("[method]\nTemplate=x\nCertificate=credential:absent\n",
            "test.conf:3: Certificate=credential:absent cannot be read: No such file or directory");
    write_file("binary", "a\0b", 3);
    snprintf(text, sizeof text, "[method]\nTemplate=x\nCertificate=%s/binary\n", directory);
    snprintf(message, sizeof message,
             "test.conf:3: Certificate=%s/binary cannot be read: it is not text, or not a legal ID", directory);
    refused(text, message);
}

/* What a stranger may write is never loaded, whatever it is called. */
static void test_plugin_path(void) {
    const struct enrolld_plugin *loaded = NULL;
    struct failure failure = {0};
    char file[] = "test.conf";
    const struct configuration_entry said = {.file = file, .line = 7};
    setenv("ENROLLD_PLUGIN_DIR", directory, 1);
    ASSERT_NUMBER(plugin_load("absent", &said, &loaded, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "test.conf:7: there is no plugin for the method absent: "));
    write_file("junk.so", "junk", 4);
    ASSERT_NUMBER(plugin_load("junk", NULL, &loaded, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "cannot be loaded"));
    CU_ASSERT_EQUAL(chmod(directory, 0777), 0);
    ASSERT_NUMBER(plugin_load("junk", NULL, &loaded, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "can be changed by others than root"));
    CU_ASSERT_EQUAL(chmod(directory, 0700), 0);
    CU_ASSERT_PTR_NULL(loaded);
}

/* Directory and file alike: root's, or the worker's own. */
static void test_plugin_owner(void) {
    static const char *const paths[] = {"", "/owned.so"};
    const struct enrolld_plugin *loaded = NULL;
    struct failure failure = {0};
    char path[64];
    if (geteuid() != 0) {
        printf("# only root can give files away: not tested\n");
        return;
    }
    setenv("ENROLLD_PLUGIN_DIR", directory, 1);
    write_file("owned.so", "junk", 4);
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s", directory, paths[i]);
        CU_ASSERT_EQUAL(chown(path, 65534, (gid_t)-1), 0);
        ASSERT_NUMBER(plugin_load("owned", NULL, &loaded, &failure), -1);
        CU_ASSERT_EQUAL(strncmp(failure.message, path, strlen(path)), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, " can be changed by others than root"));
        CU_ASSERT_EQUAL(chown(path, 0, (gid_t)-1), 0);
    }
    CU_ASSERT_PTR_NULL(loaded);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"values", test_values},
        {"defaults", test_defaults},
        {"stride", test_stride},
        {"options of enrolments and of renewals", test_use},
        {"a plugin of before there were renewals", test_older_plugin},
        {"refused", test_refused},
        {"plugin-path", test_plugin_path},
        {"plugin-owner", test_plugin_owner},
        {NULL, NULL},
    };
    char command[64];
    if (mkdtemp(directory) == NULL)
        return EXIT_FAILURE;
    int r = unit_run("options", tests, argc, argv);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? r : EXIT_FAILURE;
}
