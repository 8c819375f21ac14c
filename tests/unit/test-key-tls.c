#include "common/cleanup.h"
#include "harness.h"
#include "request.h"
#include "scratch.h"
#include "swtpm.h"
#include "tpm-probe.h"
#include "worker/key-backend.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define DEADLINE_S 20

/* One connection of `openssl s_server` on a unix socket, which demands a client certificate of our CA and sends each
 * line back reversed. */
static pid_t start_server(const char *version, const char *server) {
    char program[512];
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(program, sizeof program,
             "cd %s && exec openssl s_server -unix socket -unlink -Verify 2 -verify_return_error -CAfile ca.pem "
             "-cert %s.pem -key %s.key %s -rev -naccept 1 -quiet >server.log 2>&1 </dev/null",
             scratch_directory(), server, server, version);
    execl("/bin/sh", "sh", "-c", program, NULL);
    _exit(127);
}

static int connect_server(void) {
    const struct timespec pause = {.tv_nsec = 5000000};
    const struct timeval timeout = {.tv_sec = DEADLINE_S};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    time_t deadline = time(NULL) + DEADLINE_S;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", scratch_directory());
    while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (time(NULL) > deadline) {
            printf("# no server: %s\n", strerror(errno));
            close(fd);
            return -1;
        }
        nanosleep(&pause, NULL);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    return fd;
}

/* The CA of the clients, and the servers' certificates, one ECDSA and one RSA. */
static int make_ca(void) {
    return scratch_run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key "
                       "-subj /CN=localhost -days 30 -out ca.pem && cp ca.pem ecdsa.pem && cp ca.key ecdsa.key && "
                       "openssl req -x509 -newkey rsa:2048 -nodes -keyout rsa.key -subj /CN=rsa -days 30 "
                       "-out rsa.pem && cat ecdsa.pem rsa.pem >roots.pem");
}

/* A certificate of our CA for the key, in client.pem. */
static void issue(struct key *key) {
    AUTO_FREE char *request = NULL;
    struct failure failure = {0};
    if (make_request(key, "CN=gateway", &request, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(request);
    ASSERT_NUMBER(scratch_write("request.pem", request, strlen(request)), 0);
    ASSERT_NUMBER(scratch_run("openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 30 -out client.pem"),
                  0);
}

/* The certificate may come before or after the key. */
static WOLFSSL_CTX *make_context(struct key *key, bool key_first) {
    char certificate[8192], ca[8192];
    struct failure failure = {0};
    size_t size = scratch_read("client.pem", certificate, sizeof certificate);
    size_t ca_size = scratch_read("roots.pem", ca, sizeof ca);
    WOLFSSL_CTX *context = wolfSSL_CTX_new(wolfTLS_client_method());
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_PEER, NULL);
    ASSERT_NUMBER(wolfSSL_CTX_load_verify_buffer(context, (byte *)ca, (long)ca_size, WOLFSSL_FILETYPE_PEM), 1);
    if (key_first)
        ASSERT_NUMBER(key_use_in_tls(key, context, &failure), 0);
    ASSERT_NUMBER(wolfSSL_CTX_use_certificate_chain_buffer(context, (byte *)certificate, (long)size), 1);
    if (!key_first)
        ASSERT_NUMBER(key_use_in_tls(key, context, &failure), 0);
    ASSERT_TEXT(failure.message, "");
    return context;
}

/* Returns true if the handshake worked and the server echoed. */
static bool talk(struct key *key, WOLFSSL_CTX *context, const char *version, const char *server_name, char *ret_version,
                 size_t size) {
    char reply[8] = "";
    pid_t server = start_server(version, server_name);
    AUTO_CLOSE int fd = connect_server();
    WOLFSSL *tls = wolfSSL_new(context);
    wolfSSL_set_fd(tls, fd);
    key_use_in_session(key, tls);
    int r = wolfSSL_connect(tls);
    if (r != WOLFSSL_SUCCESS)
        printf("# handshake: %d\n", wolfSSL_get_error(tls, r));
    snprintf(ret_version, size, "%s", wolfSSL_get_version(tls));
    bool works = r == WOLFSSL_SUCCESS && wolfSSL_write(tls, "abc\n", 4) == 4 &&
                 wolfSSL_read(tls, reply, sizeof reply - 1) == 4 && strcmp(reply, "cba\n") == 0;
    wolfSSL_free(tls);
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    return works;
}

static const struct { const char *option, *name; } versions[] = {{"-tls1_2", "TLSv1.2"}, {"-tls1_3", "TLSv1.3"}};
static const char *const servers[] = {"ecdsa", "rsa"};

static void expect_works_with(struct key *key, size_t version, const char *server, bool key_first) {
    char name[32] = "";
    WOLFSSL_CTX *context = make_context(key, key_first);
    tpm_probe_reset();
    if (!talk(key, context, versions[version].option, server, name, sizeof name)) {
        printf("# %s key (%s), %s, %s server: %s\n", key_algorithm_name(key_get_algorithm(key)), key_get_origin(key),
               versions[version].name, server, key_last_error(key) != NULL ? key_last_error(key) : "");
        CU_FAIL("no connection");
    }
    ASSERT_TEXT(name, versions[version].name);
    ASSERT_TEXT(tpm_probe_commands(), key_get_backend(key) == KEY_BACKEND_TPM2 ? "Sign " : "");
    ASSERT_TEXT(key_last_error(key), NULL);
    wolfSSL_CTX_free(context);
}

static void expect_works(struct key *key) {
    issue(key);
    for (size_t version = 0; version < 2; version++)
        for (size_t server = 0; server < 2; server++)
            expect_works_with(key, version, servers[server], server == 0);
    expect_works_with(key, 1, servers[0], false);
}

static const enum key_algorithm algorithms[] = {
    KEY_ALGORITHM_P256,
    KEY_ALGORITHM_P384,
    KEY_ALGORITHM_RSA2048,
    KEY_ALGORITHM_RSA3072,
};
#define ALGORITHM_COUNT (sizeof algorithms / sizeof algorithms[0])

static void test_tpm2(void) {
    struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    for (size_t i = 0; i < ALGORITHM_COUNT; i++) {
        struct key_settings settings = {KEY_BACKEND_TPM2, algorithms[i], swtpm.tcti};
        struct key *key = NULL;
        struct failure failure = {0};
        ASSERT_NUMBER(key_create(&settings, &key, &failure), 0);
        ASSERT_TEXT(failure.message, "");
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        expect_works(key);
        key_free(key);
        ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
    }
    swtpm_stop(&swtpm);
}

/* Made in software by the file backend, then brought into the TPM. */
static void test_imported(void) {
    struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    for (size_t i = 0; i < ALGORITHM_COUNT; i++) {
        struct key_settings settings = {KEY_BACKEND_FILE, algorithms[i], swtpm.tcti};
        struct key *software = NULL, *key = NULL;
        struct failure failure = {0};
        size_t size = 0;
        ASSERT_NUMBER(key_create(&settings, &software, &failure), 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(software);
        const char *pem = key_private_pem(software, &size);
        settings.backend = KEY_BACKEND_TPM2;
        ASSERT_NUMBER(key_import(&settings, pem, size, &key, &failure), 0);
        ASSERT_TEXT(failure.message, "");
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        expect_works(software);
        expect_works(key);
        key_free(key);
        key_free(software);
        ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
    }
    swtpm_stop(&swtpm);
}

/* A renewal holds two: each context signs with its own. */
static void test_two_keys(void) {
    struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    struct key_settings settings = {.backend = KEY_BACKEND_TPM2, .tcti = swtpm.tcti};
    struct key *current = NULL, *next = NULL;
    struct failure failure = {0};
    ASSERT_NUMBER(key_create(&settings, &current, &failure), 0);
    ASSERT_NUMBER(key_create(&settings, &next, &failure), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(current);
    CU_ASSERT_PTR_NOT_NULL_FATAL(next);
    expect_works(current);
    expect_works(next);
    key_free(current);
    expect_works(next);
    key_free(next);
    swtpm_stop(&swtpm);
}

static void test_files(void) {
    static const char *const commands[] = {
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem",
        "openssl ecparam -name prime256v1 -genkey -out private.pem",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out private.pem",
        "openssl genrsa -traditional -out private.pem 2048",
        "openssl genrsa -out private.pem 3072",
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct key_settings settings = {.backend = KEY_BACKEND_FILE};
        char pem[KEY_PEM_MAX];
        struct key *key = NULL;
        struct failure failure = {0};
        bool lost;
        ASSERT_NUMBER(scratch_run("%s", commands[i]), 0);
        size_t size = scratch_read("private.pem", pem, sizeof pem);
        ASSERT_NUMBER(key_load(&settings, pem, size, &key, &lost, &failure), 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        expect_works(key);
        key_free(key);
    }
}

/* wolfSSL only knows that a callback failed; the key has the TPM's words. */
static void test_signing_fails(void) {
    struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    struct key_settings settings = {.backend = KEY_BACKEND_TPM2, .tcti = swtpm.tcti};
    struct key *key = NULL;
    struct failure failure = {0};
    char version[32];
    ASSERT_NUMBER(key_create(&settings, &key, &failure), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    issue(key);
    WOLFSSL_CTX *context = make_context(key, true);
    tpm_probe_answer(TPM2_CC_Sign, 0x921);
    CU_ASSERT_FALSE(talk(key, context, "-tls1_3", "ecdsa", version, sizeof version));
    CU_ASSERT_PTR_NOT_NULL_FATAL(key_last_error(key));
    CU_ASSERT_PTR_NOT_NULL(strstr(key_last_error(key), "lockout"));
    tpm_probe_reset();
    wolfSSL_CTX_free(context);
    key_free(key);
    swtpm_stop(&swtpm);
}

/* As from a TPM whose RSA-PSS has a salt of another length: the reason is told. */
static void test_wrong_pss(void) {
    struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    struct key_settings settings = {KEY_BACKEND_TPM2, KEY_ALGORITHM_RSA2048, swtpm.tcti};
    struct key *key = NULL;
    struct failure failure = {0};
    char version[32];
    ASSERT_NUMBER(key_create(&settings, &key, &failure), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    issue(key);
    WOLFSSL_CTX *context = make_context(key, true);
    tpm_probe_damage_signatures();
    CU_ASSERT_FALSE(talk(key, context, "-tls1_3", "ecdsa", version, sizeof version));
    CU_ASSERT_PTR_NOT_NULL_FATAL(key_last_error(key));
    CU_ASSERT_PTR_NOT_NULL(strstr(key_last_error(key), "this TPM makes RSA-PSS signatures that TLS does not take"));
    tpm_probe_reset();
    wolfSSL_CTX_free(context);
    key_free(key);
    swtpm_stop(&swtpm);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"tpm2", test_tpm2},   {"imported", test_imported},           {"two-keys", test_two_keys},
        {"files", test_files}, {"signing-fails", test_signing_fails}, {"wrong-pss", test_wrong_pss},
        {NULL, NULL},
    };
    setenv("TSS2_LOG", "all+NONE", 1);
    signal(SIGPIPE, SIG_IGN);
    scratch_make();
    int status = make_ca() == 0 ? unit_run("key-tls", tests, argc, argv) : EXIT_FAILURE;
    scratch_remove();
    return status;
}
