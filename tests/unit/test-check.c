#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"
#include "harness.h"
#include "scratch.h"
#include "worker/certificate.h"
#include "worker/enrollment.h"
#include "worker/identity.h"
#include "worker/jobs.h"
#include "worker/report.h"
#include "worker/staged.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

static bool clock_is_set;
static const char *told; /* what the job says of the clock, NULL for nothing */

/* In the place of the C library's: what the kernel says about the clock is the test's choice. */
int adjtimex(struct timex *clock) {
    clock->status = clock_is_set ? 0 : STA_UNSYNC;
    return clock_is_set ? TIME_OK : TIME_ERROR;
}

/* The names of the scratch directory's files that a job carries; NULL for the good one. */
struct files {
    const char *configuration, *certificate, *private_key, *root_ca, *identity, *staged;
};
#define ABSENT ""

static void attach(struct message *job, enum file_role role, const char *name, const char *good) {
    char text[8192];
    if (name != NULL && strcmp(name, ABSENT) == 0)
        return;
    size_t size = scratch_read(name != NULL ? name : good, text, sizeof text);
    ASSERT_NUMBER(message_attach(job, role, memfd_create_sealed("test", text, size)), 0);
}

static int check(struct files files, struct message *result, struct report_verdict *verdict, struct failure *failure) {
    struct message job;
    message_init(&job, MESSAGE_JOB);
    if (told != NULL)
        ASSERT_NUMBER(message_add(&job, JOB_KEY_SYNCHRONISED, told), 0);
    message_init(result, MESSAGE_RESULT);
    attach(&job, FILE_CONFIGURATION, files.configuration, "enrolld.conf");
    attach(&job, FILE_CERTIFICATE, files.certificate, "good.pem");
    attach(&job, FILE_PRIVATE_KEY, files.private_key, "good.key");
    attach(&job, FILE_ROOT_CA, files.root_ca, "rsa.pem");
    attach(&job, FILE_IDENTITY, files.identity, "good.json");
    attach(&job, FILE_STAGED, files.staged, ABSENT);
    int r = job_check(&job, result, verdict, failure);
    message_clear(&job);
    return r;
}

static void expect_good(struct files files) {
    struct message result;
    struct failure failure = {0};
    struct report_verdict verdict = {.lost = "unset"};
    if (check(files, &result, &verdict, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NULL(verdict.lost);
    message_clear(&result);
}

static void expect_failure(struct files files, const char *class, const char *step, bool expected_lost,
                           const char *words) {
    struct message result;
    struct failure failure = {0};
    struct report_verdict verdict = {.lost = "unset"};
    ASSERT_NUMBER(check(files, &result, &verdict, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), class);
    ASSERT_TEXT(failure.step, step);
    ASSERT_TEXT(verdict.lost, expected_lost ? JOB_LOST_YES : NULL);
    if (strstr(failure.message, words) == NULL)
        ASSERT_TEXT(failure.message, words);
    ASSERT_NUMBER((long long)result.field_count, 0);
    message_clear(&result);
}

static void read_certificate(const char *name, struct certificate *ret) {
    char file[64], text[8192];
    struct failure failure = {0};
    snprintf(file, sizeof file, "%s.pem", name);
    size_t size = scratch_read(file, text, sizeof text);
    if (certificate_parse(text, size, "test", ret, &failure) < 0) {
        printf("Bail out! %s: %s\n", file, failure.message);
        exit(EXIT_FAILURE);
    }
}

static void test_good(void) {
    struct message result;
    struct failure failure = {0};
    struct certificate certificate;
    struct report_verdict verdict = {.lost = "unset"};
    uint64_t number = 0;
    read_certificate("good", &certificate);
    clock_is_set = true;
    ASSERT_NUMBER(check((struct files){0}, &result, &verdict, &failure), 0);
    ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NULL(verdict.lost);
    ASSERT_TEXT(message_get(&result, JOB_KEY_METHOD), "fleet-claim");
    ASSERT_TEXT(message_get(&result, JOB_KEY_THING_NAME), "gateway-1");
    ASSERT_TEXT(message_get(&result, JOB_KEY_CERTIFICATE_ID), certificate.id);
    ASSERT_TEXT(message_get(&result, JOB_KEY_KEY_BACKEND), "file");
    ASSERT_TEXT(message_get(&result, JOB_KEY_KEY_ALGORITHM), "P-256");
    ASSERT_TEXT(message_get(&result, JOB_KEY_KEY_ORIGIN), "file");
    ASSERT_TEXT(message_get(&result, JOB_KEY_ENDPOINT), "cloud.example");
    ASSERT_NUMBER(message_get_number(&result, JOB_KEY_NOT_BEFORE, &number), 0);
    ASSERT_NUMBER((long long)number, 1577836800); /* 2020-01-01 */
    ASSERT_NUMBER(message_get_number(&result, JOB_KEY_NOT_AFTER, &number), 0);
    ASSERT_NUMBER((long long)number, 4102358400); /* 2099-12-31 */
    ASSERT_NUMBER(message_get_number(&result, JOB_KEY_ISSUED_AT, &number), 0);
    ASSERT_NUMBER((long long)number, 1);
    message_clear(&result);
    expect_good((struct files){.certificate = "rsa.pem", .private_key = "rsa.key", .identity = "rsa.json"});
}

/* What a job of this configuration leaves possible in its process: the errno of opening an Internet socket. The job
 * lacks a file: nothing of the identity was read yet. */
static int errno_of_socket_after(const char *configuration) {
    int status = -1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct message result;
        struct failure failure = {0};
        struct report_verdict verdict;
        (void)check((struct files){.configuration = configuration, .certificate = ABSENT}, &result, &verdict, &failure);
        _exit(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 ? errno : 0);
    }
    CU_ASSERT_FATAL(child > 0);
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Filters cannot be taken off: children run these jobs, and this test runs first. */
static void test_no_network(void) {
    ASSERT_NUMBER(errno_of_socket_after("enrolld.conf"), EPERM);
    ASSERT_NUMBER(errno_of_socket_after("tcp.conf"), 0);
}

static void test_foreign_key(void) {
    static const char words[] = "the certificate does not belong to the key";
    expect_failure((struct files){.private_key = "other.key"}, "invalid", STEP_VERIFY, true, words);
    expect_failure((struct files){.private_key = "rsa.key"}, "invalid", STEP_VERIFY, true, words);
}

/* The public half of rsa.key, whose private half is another's: only a signature shows it. */
static void test_key_that_signs_wrongly(void) {
    expect_failure((struct files){.certificate = "rsa.pem", .private_key = "mixed.key", .identity = "rsa.json"},
                   "invalid", STEP_KEY, false, "the private key does not belong to its public key");
}

static void test_damaged_key(void) {
    expect_failure((struct files){.private_key = "damaged.key"}, "invalid", STEP_KEY, true,
                   "this private key cannot be used");
    expect_failure((struct files){.private_key = "cut.key"}, "invalid", STEP_KEY, true, "the private key is damaged");
    expect_failure((struct files){.private_key = "good.pem"}, "invalid", STEP_KEY, true,
                   "there is no private key in it");
    expect_failure((struct files){.private_key = "empty"}, "invalid", STEP_KEY, true, "there is no private key in it");
}

static void test_damaged_certificates(void) {
    static const struct {
        const char *name, *words;
    } bad[] = {
        {"damaged.pem", "certificate 1 is damaged"},
        {"second-damaged.pem", "certificate 2 is damaged"},
        {"good.key", "there is a private key among the certificates"},
        {"good.json", "there is no certificate in it"},
        {"empty", "there is no certificate in it"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_failure((struct files){.certificate = bad[i].name}, "invalid", STEP_VERIFY, true, bad[i].words);
        expect_failure((struct files){.root_ca = bad[i].name}, "invalid", STEP_VERIFY, true, bad[i].words);
    }
}

static void test_wrong_identity(void) {
    expect_failure((struct files){.identity = "other.json"}, "invalid", STEP_VERIFY, true,
                   "identity.json speaks of another certificate than certificate.pem");
    expect_failure((struct files){.identity = "damaged.json"}, "invalid", STEP_VERIFY, true,
                   "identity.json is not a JSON object");
    expect_failure((struct files){.identity = "empty"}, "invalid", STEP_VERIFY, true,
                   "identity.json is not a JSON object");
}

/* The certificate of the good key, of a time that is over, or still to come. */
static void test_dates(void) {
    const struct files expired = {.certificate = "expired.pem", .identity = "expired.json"};
    const struct files early = {.certificate = "early.pem", .identity = "early.json"};
    clock_is_set = true;
    expect_failure(expired, "invalid", STEP_VERIFY, true, "the certificate expired on 2021-01-02T03:04:05Z");
    expect_failure(early, "clock", STEP_VERIFY, false, "the certificate is not valid before 2098-01-02T03:04:05Z");
    clock_is_set = false;
    expect_good(expired);
    expect_good(early);
    told = "yes"; /* the daemon knows better: in a sandbox the kernel tells a worker nothing */
    expect_failure(expired, "invalid", STEP_VERIFY, true, "the certificate expired on 2021-01-02T03:04:05Z");
    clock_is_set = true;
    told = "no";
    expect_good(expired);
    expect_good(early);
    told = NULL;
}

/* What a method has that takes this certificate of a staged identity. */
static int take_imported(const char *file, struct failure *failure) {
    static const struct settings settings = {.key_backend = SETTING_KEY_FILE};
    struct enrollment enrollment = {.settings = &settings, .method = "jitp", .failure = failure};
    char key[8192], certificate[8192];
    struct staged staged = {.key_origin = "file", .private_pem = key, .certificate_pem = certificate};
    struct message job;
    AUTO_FREE char *json = NULL;
    message_init(&job, MESSAGE_JOB);
    scratch_read("good.key", key, sizeof key);
    scratch_read(file, certificate, sizeof certificate);
    ASSERT_NUMBER(staged_encode(&staged, &json, failure), 0);
    ASSERT_NUMBER(message_attach(&job, FILE_STAGED, memfd_create_sealed("test", json, strlen(json))), 0);
    int r = enrollment_take_imported(&enrollment, &job);
    message_clear(&job);
    key_free(enrollment.key);
    checkpoint_clear(&enrollment.held);
    return r;
}

/* An import outlives its certificate: what was good when it came is judged again, by a clock that is set. */
static void test_imported_dates(void) {
    static const struct {
        const char *file, *words, *advice;
    } cases[] = {
        {"expired.pem", "has expired: it is valid from 2020-01-01T00:00:00Z to 2021-01-02T03:04:05Z, and this clock",
         "have another one issued for the same request"},
        {"early.pem", "is not valid yet: it is valid from 2098-01-02T03:04:05Z to 2099-12-31T00:00:00Z, and this",
         "it is used from then on"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct failure failure = {0};
        clock_is_set = false;
        ASSERT_NUMBER(take_imported(cases[i].file, &failure), 0);
        clock_is_set = true;
        ASSERT_NUMBER(take_imported(cases[i].file, &failure), -1);
        ASSERT_TEXT(failure_class_name(failure.class), "invalid");
        CU_ASSERT_TRUE(failure.unusable);
        if (strstr(failure.message, cases[i].words) == NULL)
            ASSERT_TEXT(failure.message, cases[i].words);
        CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, cases[i].advice));
    }
    struct failure failure = {0};
    ASSERT_NUMBER(take_imported("good.pem", &failure), 0);
}

/* Which identity was lost, for what comes after it. */
static void expect_identity(struct files files, const char *certificate, const char *method) {
    struct message result;
    struct failure failure = {0};
    struct report_verdict verdict = {.lost = NULL};
    struct certificate expected = {.id = ""};
    if (certificate != NULL)
        read_certificate(certificate, &expected);
    ASSERT_NUMBER(check(files, &result, &verdict, &failure), -1);
    ASSERT_TEXT(verdict.certificate_id, expected.id);
    ASSERT_TEXT(verdict.method, method);
    CU_ASSERT_FALSE(verdict.refused);
    message_clear(&result);
}

static void test_identity_of_failure(void) {
    clock_is_set = true;
    expect_identity((struct files){.certificate = "expired.pem", .identity = "expired.json"}, "expired", "fleet-claim");
    expect_identity((struct files){.private_key = "other.key"}, "good", "fleet-claim");
    expect_identity((struct files){.certificate = "damaged.pem"}, "good", "fleet-claim");
    expect_identity((struct files){.root_ca = "empty"}, "good", "fleet-claim");
    expect_identity((struct files){.identity = "damaged.json"}, "good", "");
    expect_identity((struct files){.identity = "other.json"}, "good", "fleet-claim");
    expect_identity((struct files){.certificate = "empty", .identity = "empty"}, NULL, "");
    expect_identity((struct files){.certificate = ABSENT}, NULL, "");
    clock_is_set = false;
}

/* What a good identity says of its renewal. */
static void expect_renewal(struct files files, const char *method, const char *hindrance) {
    struct message result;
    struct failure failure = {0};
    struct report_verdict verdict = {.lost = NULL};
    ASSERT_NUMBER(check(files, &result, &verdict, &failure), 0);
    ASSERT_TEXT(failure.message, "");
    ASSERT_TEXT(message_get(&result, JOB_KEY_RENEW_METHOD), method);
    const char *told_hindrance = message_get(&result, JOB_KEY_HINDRANCE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(told_hindrance);
    if (strstr(told_hindrance, hindrance) == NULL)
        ASSERT_TEXT(told_hindrance, hindrance);
    ASSERT_TEXT(message_get(&result, JOB_KEY_IMPORTED), "no");
    message_clear(&result);
}

static void test_renewal(void) {
    expect_renewal((struct files){0}, "fleet-claim", "there is no plugin for the method fleet-claim");
    expect_renewal((struct files){.configuration = "renew-by.conf"}, "other",
                   "there is no plugin for the method other");
    expect_renewal((struct files){.configuration = "renew-none.conf"}, "", "RenewMethod=none in [Renewal]");
    expect_renewal((struct files){.staged = "damaged.json"}, "fleet-claim", "there is no plugin");
}

/* The authorities of RootCA= now: handed over where they are others and usable, else nothing is. */
static void expect_root_ca(const char *configuration, const char *expected) {
    struct message result;
    struct failure failure = {0};
    struct report_verdict verdict = {.lost = NULL};
    ASSERT_NUMBER(check((struct files){.configuration = configuration}, &result, &verdict, &failure), 0);
    ASSERT_TEXT(failure.message, "");
    ASSERT_NUMBER(result.files[FILE_ROOT_CA] >= 0, expected != NULL);
    if (expected != NULL && result.files[FILE_ROOT_CA] >= 0) {
        AUTO_FREE char *text = NULL;
        char wanted[8192];
        size_t size = 0;
        ASSERT_NUMBER(memfd_read(result.files[FILE_ROOT_CA], &text, &size), 0);
        scratch_read(expected, wanted, sizeof wanted);
        ASSERT_TEXT(text, wanted);
    }
    message_clear(&result);
}

static void test_root_ca(void) {
    expect_root_ca("enrolld.conf", NULL); /* a path that leads nowhere */
    expect_root_ca("root-same.conf", NULL);
    expect_root_ca("root-other.conf", "good.pem");
    expect_root_ca("root-damaged.conf", NULL);
    expect_root_ca("root-key.conf", NULL);
    expect_root_ca("root-empty.conf", NULL);
    expect_root_ca("root-directory.conf", NULL);
}

/* What is wrong with the job says nothing about the identity. */
static void test_incomplete_job(void) {
    expect_failure((struct files){.certificate = ABSENT}, "internal", STEP_WORKER, false, "its file certificate");
    expect_failure((struct files){.private_key = ABSENT}, "internal", STEP_WORKER, false, "its file private-key");
    expect_failure((struct files){.root_ca = ABSENT}, "internal", STEP_WORKER, false, "its file root-ca");
    expect_failure((struct files){.identity = ABSENT}, "internal", STEP_WORKER, false, "its file identity");
    expect_failure((struct files){.configuration = ABSENT}, "internal", STEP_WORKER, false, "its file configuration");
    expect_failure((struct files){.configuration = "good.pem"}, "internal", STEP_WORKER, false,
                   "the job's configuration is unreadable");
    expect_failure((struct files){.configuration = "incomplete.conf"}, "invalid", STEP_CONFIGURATION, false,
                   "Endpoint");
}

static void write_identity(const char *name) {
    struct certificate certificate;
    struct failure failure = {0};
    AUTO_FREE char *json = NULL;
    char file[64];
    read_certificate(name, &certificate);
    struct identity identity = {
        .generation = 1,
        .method = "fleet-claim",
        .endpoint = "cloud.example",
        .client_id = "gateway-1-enrolld",
        .thing_name = "gateway-1",
        .serial_number = "1",
        .key_backend = "file",
        .key_algorithm = "P-256",
        .key_origin = "file",
        .not_before = certificate.not_before,
        .not_after = certificate.not_after,
        .issued_at = 1,
    };
    memcpy(identity.certificate_id, certificate.id, sizeof identity.certificate_id);
    snprintf(file, sizeof file, "%s.json", name);
    if (identity_encode(&identity, &json, &failure) < 0 || scratch_write(file, json, strlen(json)) < 0)
        exit(EXIT_FAILURE);
}

static void write_configuration(const char *name, const char *text) {
    AUTO_CONFIGURATION struct configuration *configuration = configuration_new();
    AUTO_FREE char *serialized = NULL;
    struct failure failure = {0};
    size_t size = 0;
    if (configuration_parse(configuration, text, strlen(text), "test.conf", &failure) < 0 ||
        configuration_serialize(configuration, &serialized, &size) < 0 || scratch_write(name, serialized, size) < 0)
        exit(EXIT_FAILURE);
}

static void write_root_ca_configurations(void) {
    static const char *const files[][2] = {
        {"same", "rsa.pem"}, {"other", "good.pem"}, {"damaged", "damaged.pem"},
        {"key", "good.key"}, {"empty", "empty"},    {"directory", "."},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[64], text[512];
        snprintf(name, sizeof name, "root-%s.conf", files[i][0]);
        snprintf(text, sizeof text, "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=cloud.example\nRootCA=%s/%s\n",
                 scratch_directory(), files[i][1]);
        write_configuration(name, text);
    }
}

/* `openssl ca`, for it alone takes any dates in every version of OpenSSL 3. */
static const char certificates[] =
    "set -e\n"
    "printf '%s\\n' '[ca]' default_ca=x '[x]' database=index serial=serial new_certs_dir=. default_md=sha256 policy=p"
    "  email_in_dn=no unique_subject=no '[p]' commonName=supplied '[req]' distinguished_name=d '[d]' > config\n"
    ": > index; echo 1000 > serial\n"
    "issue() { openssl req -config config -new -key $2.key -subj /CN=$1 -out $1.csr\n"
    "  openssl ca -config config -batch -notext -selfsign -keyfile $2.key -startdate $3 -enddate $4 -in $1.csr"
    "    -out $1.pem; }\n"
    "for name in good other; do\n"
    "  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $name.key; done\n"
    "for name in rsa half; do openssl genrsa -out $name.key 2048; done\n"
    "for name in good other rsa; do issue $name $name 20200101000000Z 20991231000000Z; done\n"
    "issue expired good 20200101000000Z 20210102030405Z\n"
    "issue early good 20980102030405Z 20991231000000Z\n"
    /* RFC 8017, appendix A.1.2: version, modulus, public exponent, then all that is private. */
    "numbers() { openssl rsa -in $1 -traditional | openssl asn1parse | awk -F: '/INTEGER/ {print $NF}'; }\n"
    "{ echo asn1=SEQUENCE:key; echo '[key]'\n"
    "  { numbers rsa.key | head -n 3; numbers half.key | tail -n +4; } | awk '{print \"n\" NR \"=INTEGER:0x\" $0}'\n"
    "} > mixed.conf\n"
    "openssl asn1parse -genconf mixed.conf -noout -out mixed.der\n"
    "{ echo '-----BEGIN RSA PRIVATE KEY-----'; openssl base64 -in mixed.der; echo '-----END RSA PRIVATE KEY-----'\n"
    "} > mixed.key\n"
    "for name in good.pem good.key; do sed '3d' $name > damaged.${name#*.}; done; head -n 2 good.key > cut.key\n"
    "cat good.pem damaged.pem > second-damaged.pem; : > empty; echo '{\"schema\": 1' > damaged.json\n";

/* Everything is made before the first job, which may take away the right to run programs. */
static void make_files(void) {
    static const char *const identities[] = {"good", "other", "rsa", "expired", "early"};
    if (scratch_write("certificates", certificates, strlen(certificates)) < 0 || scratch_run("sh certificates") != 0)
        exit(EXIT_FAILURE);
    for (size_t i = 0; i < sizeof identities / sizeof *identities; i++)
        write_identity(identities[i]);
    write_configuration("enrolld.conf",
                        "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=cloud.example\nRootCA=/root-ca.pem\n");
    write_configuration("tcp.conf", "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=cloud.example\n"
                                    "RootCA=/root-ca.pem\n[Key]\nTCTI=swtpm:host=localhost,port=1\n");
    write_configuration("renew-by.conf", "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=cloud.example\n"
                                         "RootCA=/root-ca.pem\n[Renewal]\nRenewMethod=other\n");
    write_configuration("renew-none.conf", "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=cloud.example\n"
                                           "RootCA=/root-ca.pem\n[Renewal]\nRenewMethod=none\n");
    write_root_ca_configurations();
    write_configuration("incomplete.conf", "[Agent]\nMethods=fleet-claim\n[Cloud]\nRootCA=/root-ca.pem\n");
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"no-network", test_no_network},
        {"good", test_good},
        {"foreign-key", test_foreign_key},
        {"key-that-signs-wrongly", test_key_that_signs_wrongly},
        {"damaged-key", test_damaged_key},
        {"damaged-certificates", test_damaged_certificates},
        {"wrong-identity", test_wrong_identity},
        {"dates", test_dates},
        {"imported-dates", test_imported_dates},
        {"identity-of-failure", test_identity_of_failure},
        {"renewal", test_renewal},
        {"root-ca", test_root_ca},
        {"incomplete-job", test_incomplete_job},
        {NULL, NULL},
    };
    scratch_make();
    setenv("ENROLLD_PLUGIN_DIR", scratch_directory(), 1); /* which has no plugin */
    atexit(scratch_remove);
    make_files();
    return unit_run("check", tests, argc, argv);
}
