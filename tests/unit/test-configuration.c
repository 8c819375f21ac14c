#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/settings.h"
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MINIMAL "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=localhost\nRootCA=/ca.pem\n"

static const char *get(const struct configuration *configuration, const char *section, const char *key,
                       const char *otherwise) {
    const struct configuration_entry *entry = configuration_find(configuration, section, key);
    return entry != NULL ? entry->value : otherwise;
}

static struct configuration *parse(const char *text) {
    struct configuration *configuration = configuration_new();
    struct failure failure = {0};
    ASSERT_NUMBER(configuration_parse(configuration, text, strlen(text), "test.conf", &failure), 0);
    ASSERT_TEXT(failure.message, "");
    return configuration;
}

static void test_parse(void) {
    AUTO_CONFIGURATION struct configuration *configuration = parse(
        "# comment\n; comment\n\n[Agent]\n  Methods = fleet-claim \n[Cloud]\nEndpoint=a\nEndpoint=b # not a comment\n"
        "[fleet-claim]\nParameter.Line=1=2\nEmpty=\n");
    ASSERT_TEXT(get(configuration, "Agent", "Methods", NULL), "fleet-claim");
    ASSERT_TEXT(get(configuration, "Cloud", "Endpoint", NULL), "b # not a comment");
    ASSERT_NUMBER(configuration_find(configuration, "Cloud", "Endpoint")->line, 8);
    ASSERT_TEXT(get(configuration, "fleet-claim", "Parameter.Line", NULL), "1=2");
    ASSERT_TEXT(get(configuration, "fleet-claim", "Empty", "default"), "default");
    ASSERT_TEXT(get(configuration, "agent", "Methods", "none"), "none");
}

static void test_malformed(void) {
    static char long_line[400];
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[Agent]\nMethods\n", "test.conf:2: this is neither [Section] nor Key=Value"},
        {"[Agent\nMethods=x\n", "test.conf:1: this is neither [Section] nor Key=Value"},
        {"Methods=x\n", "test.conf:1: a setting needs a [Section] above it and a name"},
        {"[Agent]\n=x\n", "test.conf:2: a setting needs a [Section] above it and a name"},
        {"[Agent]\na\tb=x\n", "test.conf:2: a section or the name of a setting is too long, or holds a tab"},
        {"[a\tb]\nx=1\n", "test.conf:2: a section or the name of a setting is too long, or holds a tab"},
        {"[Agent]\nMethods=\xff\n", "test.conf: this is not UTF-8 text"},
        {long_line, "test.conf:3: the line is too long"},
    };
    snprintf(long_line, sizeof long_line, "[A]\nB=1\nC=%0300d\n", 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO_CONFIGURATION struct configuration *configuration = configuration_new();
        struct failure failure = {0};
        ASSERT_NUMBER(configuration_parse(configuration, cases[i].text, strlen(cases[i].text), "test.conf", &failure),
                      -1);
        ASSERT_TEXT(failure.message, cases[i].message);
        ASSERT_NUMBER(failure.class, FAILURE_INVALID);
    }
}

static void test_too_many_entries(void) {
    AUTO_CONFIGURATION struct configuration *configuration = configuration_new();
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    struct failure failure = {0};
    FILE *stream = open_memstream(&text, &size);
    fputs("[A]\n", stream);
    for (int i = 0; i <= CONFIGURATION_ENTRIES_MAX; i++)
        fprintf(stream, "K%d=1\n", i);
    fclose(stream);
    ASSERT_NUMBER(configuration_parse(configuration, text, size, "test.conf", &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "there are too many settings"));
}

static void test_serialize(void) {
    AUTO_CONFIGURATION struct configuration *configuration = parse(MINIMAL "[fleet-claim]\nA=x\ty\nB=\n");
    AUTO_CONFIGURATION struct configuration *copy = NULL;
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    ASSERT_NUMBER(configuration_serialize(configuration, &text, &size), 0);
    ASSERT_NUMBER(configuration_deserialize(text, size, &copy), 0);
    ASSERT_NUMBER((long long)copy->count, (long long)configuration->count);
    ASSERT_TEXT(get(copy, "fleet-claim", "A", NULL), "x\ty");
    ASSERT_NUMBER(configuration_find(copy, "Cloud", "RootCA")->line, 5);
    ASSERT_TEXT(configuration_find(copy, "Cloud", "RootCA")->file, "test.conf");
}

static void test_deserialize_malformed(void) {
    static const char *const bad[] = {"x",
                                      "x\n",
                                      "f\t1\ts\tk\n",
                                      "f\tx\ts\tk\tv\n",
                                      "f\t1\t\tk\tv\n",
                                      "f\t1\ts\t\tv\n",
                                      "f\t1\ts\tk\t\xff\n",
                                      "f\t9999999\ts\tk\tv\n",
                                      "f\t1\ts\tk\tv"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct configuration *configuration = NULL;
        ASSERT_NUMBER(configuration_deserialize(bad[i], strlen(bad[i]), &configuration), -EBADMSG);
        CU_ASSERT_PTR_NULL(configuration);
    }
}

static void write_file(const char *directory, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
}

static void remove_tree(const char *directory) {
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    CU_ASSERT_EQUAL(system(command), 0);
}

/* The file, then its drop-ins by name; the last one wins, an empty value restores the default. */
static void test_drop_ins(void) {
    char directory[] = "/tmp/enrolld-test-XXXXXX", path[256], drop_ins[300];
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    struct failure failure = {0};
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/enrolld.conf", directory);
    snprintf(drop_ins, sizeof drop_ins, "%s.d", path);
    CU_ASSERT_EQUAL(mkdir(drop_ins, 0700), 0);
    write_file(directory, "enrolld.conf", MINIMAL "Port=1000\n");
    write_file(drop_ins, "20-b.conf", "[Cloud]\nPort=\n");
    write_file(drop_ins, "10-a.conf", "[Cloud]\nPort=2000\nEndpoint=other\n");
    write_file(drop_ins, "30-c.txt", "[Cloud]\nEndpoint=ignored\n");
    ASSERT_NUMBER(configuration_load(path, &configuration, &failure), 0);
    ASSERT_TEXT(get(configuration, "Cloud", "Endpoint", NULL), "other");
    CU_ASSERT_PTR_NULL(configuration_find(configuration, "Cloud", "Port"));
    write_file(drop_ins, "40-d.conf", "nonsense\n");
    AUTO_CONFIGURATION struct configuration *broken = NULL;
    ASSERT_NUMBER(configuration_load(path, &broken, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "/enrolld.conf.d/40-d.conf:1: "));
    /* A FIFO must not hang the daemon. */
    char fifo[400];
    snprintf(fifo, sizeof fifo, "%s/05-fifo.conf", drop_ins);
    CU_ASSERT_EQUAL(mkfifo(fifo, 0600), 0);
    ASSERT_NUMBER(configuration_load(path, &broken, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "/05-fifo.conf: "));
    remove_tree(directory);
    ASSERT_NUMBER(configuration_load(path, &broken, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "No such file"));
}

static void test_settings_defaults(void) {
    AUTO_CONFIGURATION struct configuration *configuration = parse(MINIMAL);
    struct settings settings;
    struct failure failure = {0};
    ASSERT_NUMBER(settings_read(configuration, &settings, &failure), 0);
    ASSERT_NUMBER(settings.method_count, 1);
    ASSERT_TEXT(settings.methods[0], "fleet-claim");
    ASSERT_TEXT(settings.serial_number, "auto");
    ASSERT_NUMBER(settings.port, 8883);
    ASSERT_NUMBER(settings.key_backend, SETTING_KEY_TPM2);
    ASSERT_NUMBER(settings.key_algorithm, SETTING_KEY_P256);
    ASSERT_TEXT(settings.tcti, "device:/dev/tpmrm0");
    ASSERT_NUMBER(settings.on_wrong_tpm, SETTING_WRONG_TPM_FAIL);
    ASSERT_NUMBER(settings.serial_replacement, 0);
    ASSERT_NUMBER((long long)settings.clock_wait_ms, 90 * 1000);
    ASSERT_NUMBER(settings.volatile_state, false);
    ASSERT_NUMBER((long long)settings.retry[FAILURE_NETWORK].base_ms, 2000);
    ASSERT_NUMBER((long long)settings.retry[FAILURE_DENIED].cap_ms, 3600 * 1000);
    ASSERT_NUMBER((long long)settings.retry[FAILURE_INTERNAL].cap_ms, 15 * 60 * 1000);
}

static void test_settings_key_algorithms(void) {
    static const struct {
        const char *text;
        enum setting_key_algorithm algorithm;
    } cases[] = {
        {MINIMAL "[Key]\nAlgorithm=\n", SETTING_KEY_P256},
        {MINIMAL "[Key]\nAlgorithm=P-256\n", SETTING_KEY_P256},
        {MINIMAL "[Key]\nAlgorithm=P-384\n", SETTING_KEY_P384},
        {MINIMAL "[Key]\nAlgorithm=RSA-2048\n", SETTING_KEY_RSA2048},
        {MINIMAL "[Key]\nAlgorithm=RSA-3072\n", SETTING_KEY_RSA3072},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO_CONFIGURATION struct configuration *configuration = parse(cases[i].text);
        struct settings settings;
        struct failure failure = {0};
        ASSERT_NUMBER(settings_read(configuration, &settings, &failure), 0);
        ASSERT_NUMBER(settings.key_algorithm, cases[i].algorithm);
    }
}

static void test_settings_renewal(void) {
    AUTO_CONFIGURATION struct configuration *defaults = parse(MINIMAL);
    AUTO_CONFIGURATION struct configuration *configuration =
        parse(MINIMAL "ProveTopic=$aws/rules/a/%t/%i/%o\n[Renewal]\nRenewMethod=fleet-claim\nLifetime=95%\n"
                      "MaxAge=36500d\nSpread=0%\nReuseKey=yes\nRetireTopic=retire/%s\nRetireAcknowledged=yes\n"
                      "KeepGenerations=0\nProveInterval=1s\nOnRefused=enroll\nRefusedGrace=2d\nKeepClaim=no\n");
    struct settings settings;
    struct failure failure = {0};
    ASSERT_NUMBER(settings_read(defaults, &settings, &failure), 0);
    ASSERT_TEXT(settings.prove_topic, "");
    ASSERT_TEXT(settings.renew_method, "");
    ASSERT_NUMBER(settings.renew_percent, 66);
    ASSERT_NUMBER((long long)settings.max_age_ms, 0);
    ASSERT_NUMBER(settings.spread_percent, 10);
    ASSERT_NUMBER(settings.reuse_key, false);
    ASSERT_TEXT(settings.retire_topic, "");
    ASSERT_NUMBER(settings.retire_acknowledged, false);
    ASSERT_NUMBER(settings.keep_generations, 1);
    ASSERT_NUMBER((long long)settings.prove_interval_ms, 0);
    ASSERT_NUMBER(settings.on_refused, SETTING_REFUSED_WAIT);
    ASSERT_NUMBER((long long)settings.refused_grace_ms, 3600 * 1000);
    ASSERT_NUMBER(settings.keep_claim, true);
    ASSERT_NUMBER(settings_read(configuration, &settings, &failure), 0);
    ASSERT_TEXT(failure.message, "");
    ASSERT_TEXT(settings.prove_topic, "$aws/rules/a/%t/%i/%o");
    ASSERT_TEXT(settings.renew_method, "fleet-claim");
    ASSERT_NUMBER(settings.renew_percent, 95);
    ASSERT_NUMBER((long long)settings.max_age_ms, 36500LL * 86400 * 1000);
    ASSERT_NUMBER(settings.spread_percent, 0);
    ASSERT_NUMBER(settings.reuse_key, true);
    ASSERT_TEXT(settings.retire_topic, "retire/%s");
    ASSERT_NUMBER(settings.retire_acknowledged, true);
    ASSERT_NUMBER(settings.keep_generations, 0);
    ASSERT_NUMBER((long long)settings.prove_interval_ms, 1000);
    ASSERT_NUMBER(settings.on_refused, SETTING_REFUSED_ENROLL);
    ASSERT_NUMBER((long long)settings.refused_grace_ms, 2 * 86400 * 1000);
    ASSERT_NUMBER(settings.keep_claim, false);
}

static void collect_warning(const char *text, void *data) {
    char *all = data;
    snprintf(all + strlen(all), 1024 - strlen(all), "%s|", text);
}

/* Its section is one of a method, although Methods= has another. */
static void test_section_of_renew_method(void) {
    AUTO_CONFIGURATION struct configuration *configuration =
        parse(MINIMAL "[Renewal]\nRenewMethod=est\n[est]\nUrl=x\n");
    struct settings settings;
    struct failure failure = {0};
    char warnings[1024] = "";
    ASSERT_NUMBER(settings_read(configuration, &settings, &failure), 0);
    settings_warn_unknown(configuration, &settings, collect_warning, warnings);
    ASSERT_TEXT(warnings, "");
}

static void test_settings_bad(void) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[Cloud]\nEndpoint=x\nRootCA=/x\n", "Methods= is missing in section [Agent] of enrolld.conf"},
        {"[Agent]\nMethods=x\n[Cloud]\nRootCA=/x\n", "Endpoint= is missing in section [Cloud] of enrolld.conf"},
        {"[Agent]\nMethods=x\n[Cloud]\nEndpiont=x\n",
         "Endpoint= is missing in section [Cloud] of enrolld.conf; is it test.conf:4: Endpiont=?"},
        {"[Agent]\nMethods=x\n[Cloud]\nEndpoint=x\n", "RootCA= is missing in section [Cloud] of enrolld.conf"},
        {MINIMAL "Port=0\n", "test.conf:6: Port= must be a port number, 1 to 65535, but it is \"0\""},
        {MINIMAL "Port=65536\n", "test.conf:6: Port= must be a port number, 1 to 65535, but it is \"65536\""},
        {MINIMAL "RootCA=ca.pem\n", "test.conf:6: RootCA= must be an absolute path, but it is \"ca.pem\""},
        {MINIMAL "Endpoint=https://x\n",
         "test.conf:6: Endpoint= must be a host name alone, without scheme, port or path, but it is \"https://x\""},
        {MINIMAL "MinimumTLS=1.1\n", "test.conf:6: MinimumTLS= must be 1.2 or 1.3, but it is \"1.1\""},
        {MINIMAL "Proxy=proxy:8080\n", "test.conf:6: Proxy= must be http://HOST:PORT, but it is \"proxy:8080\""},
        {MINIMAL "[Key]\nBackend=disk\n", "test.conf:7: Backend= must be tpm2 or file, but it is \"disk\""},
        {MINIMAL "[Key]\nAlgorithm=RSA-1024\n",
         "test.conf:7: Algorithm= must be P-256, P-384, RSA-2048 or RSA-3072, but it is \"RSA-1024\""},
        {MINIMAL "[Agent]\nMethods=jitp fleet-claim jitp\n",
         "test.conf:7: Methods= names a method twice, but it is \"jitp fleet-claim jitp\""},
        {MINIMAL "[Agent]\nMethods=a b c d e f g h i\n",
         "test.conf:7: Methods= has more than 8 methods, but it is \"a b c d e f g h i\""},
        {MINIMAL "[Agent]\nMethods=../x\n",
         "test.conf:7: Methods= must be names of methods: lower-case letters, digits "
         "and hyphens, with a blank between them, but it is \"../x\""},
        {"[Agent]\nMethods=\n[Cloud]\nEndpoint=x\nRootCA=/x\n",
         "Methods= is missing in section [Agent] of enrolld.conf"},
        {MINIMAL "[Agent]\nOnDenied=never\n", "test.conf:7: OnDenied= must be wait or next, but it is \"never\""},
        {MINIMAL "[Request]\nSubject=CN=%q\n",
         "test.conf:7: Subject= has a % that starts no specifier (there are %s, %t, %c, %i, %o, %m, %H and %%), but it "
         "is "
         "\"CN=%q\""},
        {MINIMAL "[Agent]\nSerialNumber=mac\n", "test.conf:7: SerialNumber= must be auto, devicetree, dmi, tpm-ek, "
                                                "machine-id, file:/PATH or literal:TEXT, but it "
                                                "is \"mac\""},
        {MINIMAL "[Agent]\nSerialNumberReplacement=--\n",
         "test.conf:7: SerialNumberReplacement= must be one character of a-z A-Z 0-9 : _ -, but it is \"--\""},
        {MINIMAL "[Agent]\nSerialNumberReplacement=/\n",
         "test.conf:7: SerialNumberReplacement= must be one character of a-z A-Z 0-9 : _ -, but it is \"/\""},
        {MINIMAL "[Key]\nOnWrongTPM=ignore\n", "test.conf:7: OnWrongTPM= must be fail or enroll, but it is \"ignore\""},
        {MINIMAL "[Agent]\nClientId=%z\n",
         "test.conf:7: ClientId= has a % that starts no specifier (there are %s, %t, %c, %i, %o, %m, %H "
         "and %%), but it is \"%z\""},
        {MINIMAL "[Agent]\nClockWait=90\n", "test.conf:7: ClockWait= must be a time span, like 90s, but it is \"90\""},
        {MINIMAL "[Agent]\nVolatileState=on\n", "test.conf:7: VolatileState= must be yes or no, but it is \"on\""},
        {MINIMAL "[Retry]\nNetwork=2s\n",
         "test.conf:7: Network= must be two time spans, the first wait and the longest one, "
         "like 2s 15min, but it is \"2s\""},
        {MINIMAL "ProveTopic=a/#\n", "test.conf:6: ProveTopic= must be a topic, without + and #, but it is \"a/#\""},
        {MINIMAL "[Renewal]\nRetireTopic=+/a\n",
         "test.conf:7: RetireTopic= must be a topic, without + and #, but it is \"+/a\""},
        {MINIMAL "[Renewal]\nRenewMethod=a b\n",
         "test.conf:7: RenewMethod= must be the name of one method, or none, but it is \"a b\""},
        {MINIMAL "[Renewal]\nLifetime=66\n", "test.conf:7: Lifetime= must be a percentage, like 66%, but it is \"66\""},
        {MINIMAL "[Renewal]\nLifetime=0%\n",
         "test.conf:7: Lifetime= is a percentage beyond what it may be, but it is \"0%\""},
        {MINIMAL "[Renewal]\nLifetime=96%\n",
         "test.conf:7: Lifetime= is a percentage beyond what it may be, but it is \"96%\""},
        {MINIMAL "[Renewal]\nLifetime=6 6%\n",
         "test.conf:7: Lifetime= must be a percentage, like 66%, but it is \"6 6%\""},
        {MINIMAL "[Renewal]\nSpread=51%\n",
         "test.conf:7: Spread= is a percentage beyond what it may be, but it is \"51%\""},
        {MINIMAL "[Renewal]\nMaxAge=1y\n", "test.conf:7: MaxAge= must be a time span, like 365d, but it is \"1y\""},
        {MINIMAL "[Renewal]\nMaxAge=0d\n", "test.conf:7: MaxAge= must be a time span, like 365d, but it is \"0d\""},
        {MINIMAL "[Renewal]\nReuseKey=1\n", "test.conf:7: ReuseKey= must be yes or no, but it is \"1\""},
        {MINIMAL "[Renewal]\nRetireAcknowledged=x\n",
         "test.conf:7: RetireAcknowledged= must be yes or no, but it is \"x\""},
        {MINIMAL "[Renewal]\nKeepGenerations=9\n",
         "test.conf:7: KeepGenerations= must be a number from 0 to 8, but it is \"9\""},
        {MINIMAL "[Renewal]\nProveInterval=999ms\n",
         "test.conf:7: ProveInterval= must be a time span of at least 1s, like 1d, or empty, but it is \"999ms\""},
        {MINIMAL "[Renewal]\nOnRefused=next\n", "test.conf:7: OnRefused= must be wait or enroll, but it is \"next\""},
        {MINIMAL "[Renewal]\nRefusedGrace=-1h\n",
         "test.conf:7: RefusedGrace= must be a time span, like 1h, but it is \"-1h\""},
        {MINIMAL "[Renewal]\nKeepClaim=maybe\n", "test.conf:7: KeepClaim= must be yes or no, but it is \"maybe\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO_CONFIGURATION struct configuration *configuration = parse(cases[i].text);
        struct settings settings = {.port = 7};
        struct failure failure = {0};
        ASSERT_NUMBER(settings_read(configuration, &settings, &failure), -1);
        ASSERT_TEXT(failure.message, cases[i].message);
        ASSERT_TEXT(failure.step, "configuration");
        ASSERT_NUMBER(settings.port, 7);
    }
}

static void test_unknown_keys(void) {
    AUTO_CONFIGURATION struct configuration *configuration =
        parse(MINIMAL "Prot=1\n[fleet-claim]\nAnything=1\n[Cluod]\nPort=2\n");
    struct settings settings;
    struct failure failure = {0};
    char warnings[1024] = "";
    ASSERT_NUMBER(settings_read(configuration, &settings, &failure), 0);
    settings_warn_unknown(configuration, &settings, collect_warning, warnings);
    ASSERT_TEXT(
        warnings,
        "test.conf:6: unknown key Prot= in section [Cloud] is ignored|"
        "test.conf:10: Port= is ignored: section [Cluod] is neither enrolld's nor that of a method in Methods=|");
}

static void collect_row(const struct setting_row *row, void *data) {
    char *all = data;
    if (strcmp(row->key, "Port") == 0 || strcmp(row->key, "Endpoint") == 0 || strcmp(row->section, "fleet-claim") == 0)
        snprintf(all + strlen(all), 1024 - strlen(all), "%s.%s=%s %s:%u|", row->section, row->key, row->value,
                 row->file != NULL ? row->file : "default", row->line);
}

static void test_enumerate(void) {
    AUTO_CONFIGURATION struct configuration *configuration = parse(MINIMAL "[fleet-claim]\nTemplate=a\nTemplate=b\n");
    char rows[1024] = "";
    settings_enumerate(configuration, collect_row, rows);
    ASSERT_TEXT(rows,
                "Cloud.Endpoint=localhost test.conf:4|Cloud.Port=8883 default:0|fleet-claim.Template=b test.conf:8|");
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"parse", test_parse},
        {"malformed", test_malformed},
        {"too-many-entries", test_too_many_entries},
        {"serialize", test_serialize},
        {"deserialize-malformed", test_deserialize_malformed},
        {"drop-ins", test_drop_ins},
        {"settings-defaults", test_settings_defaults},
        {"settings-key-algorithms", test_settings_key_algorithms},
        {"settings-renewal", test_settings_renewal},
        {"section-of-renew-method", test_section_of_renew_method},
        {"settings-bad", test_settings_bad},
        {"unknown-keys", test_unknown_keys},
        {"enumerate", test_enumerate},
        {NULL, NULL},
    };
    return unit_run("configuration", tests, argc, argv);
}
