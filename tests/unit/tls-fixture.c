#include "tls-fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wolfssl/wolfcrypt/cryptocb.h>

static char directory[64];

/* `openssl ca`, for it alone takes any dates in every version of OpenSSL 3. */
const char fixture_functions[] =
    "set -e\n"
    "printf '%s\\n' '[ca]' default_ca=x '[x]' database=index serial=serial new_certs_dir=. default_md=sha256 policy=p"
    "  email_in_dn=no unique_subject=no '[p]' commonName=supplied '[req]' distinguished_name=d '[d]' "
    "  '[authority]' basicConstraints=critical,CA:TRUE keyUsage=keyCertSign,cRLSign > config\n"
    ": > index; echo 1000 > serial\n"
    "authority() { openssl req -x509 -config config -extensions authority -newkey ec -pkeyopt ec_paramgen_curve:P-256"
    "  -nodes -subj /CN=$1 -days 3650 -keyout $1.key -out $1.pem; }\n"
    "issue() { name=$1; ca=$2; san=$3; usage=$4; start=$5; end=$6; shift 6\n"
    "  printf '%s\\n' \"extendedKeyUsage=$usage\" \"subjectAltName=$san\" 'basicConstraints=CA:FALSE' > $name.ext\n"
    "  openssl req -config config -new -newkey \"$@\" -nodes -subj /CN=$name -keyout $name.key -out $name.csr\n"
    "  openssl ca -config config -batch -notext -keyfile $ca.key -cert $ca.pem -startdate $start -enddate $end"
    "    -extfile $name.ext -in $name.csr -out $name.pem; }\n"
    "P256='ec -pkeyopt ec_paramgen_curve:P-256'; P384='ec -pkeyopt ec_paramgen_curve:P-384'\n"
    "NOW=20200101000000Z; LATER=20991231000000Z\n";

static void fixture_end(void) {
    char command[128];
    if (directory[0] == '\0')
        return;
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    if (system(command) != 0)
        perror(command);
}

void fixture_begin(const char *certificates) {
    char command[256];
    /* Short whatever TMPDIR is, for the paths of unix sockets below it. */
    strcpy(directory, "/tmp/enrolld-unit-XXXXXX");
    if (mkdtemp(directory) == NULL || chdir(directory) < 0) {
        perror(directory);
        exit(EXIT_FAILURE);
    }
    atexit(fixture_end);
    setenv("TMPDIR", directory, 1);
    fixture_write("certificates.sh", certificates);
    snprintf(command, sizeof command, "sh certificates.sh > certificates.log 2>&1 || { cat certificates.log; false; }");
    if (system(command) != 0)
        exit(EXIT_FAILURE);
}

const char *fixture_directory(void) {
    return directory;
}

char *fixture_read(const char *name, size_t *ret_size) {
    FILE *file = fopen(name, "r");
    char *text = calloc(1, 65536);
    if (file == NULL || text == NULL) {
        perror(name);
        exit(EXIT_FAILURE);
    }
    *ret_size = fread(text, 1, 65535, file);
    fclose(file);
    return text;
}

void fixture_write(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        perror(name);
        exit(EXIT_FAILURE);
    }
}

static _Noreturn void child_exec(const char *command, int input, int output) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(input, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    execl("/bin/sh", "sh", "-c", command, NULL);
    _exit(127);
}

void server_spawn(struct server *ret, const char *format, ...) {
    char command[1024];
    int input[2], output[2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    pid_t pid = pipe2(input, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0 ? -1 : fork();
    if (pid < 0) {
        perror("server_spawn");
        exit(EXIT_FAILURE);
    }
    if (pid == 0)
        child_exec(command, input[0], output[1]);
    close(input[0]);
    close(output[1]);
    *ret = (struct server){.pid = pid, .input = input[1], .output = output[0]};
}

/* Byte by byte, so that nothing of the next line is lost; the outputs are short. */
const char *server_expect(struct server *server, const char *prefix) {
    static char line[1024];
    size_t length = 0;
    int64_t deadline = tls_now_ms() + FIXTURE_DEADLINE_MS;
    struct pollfd pollfd = {server->output, POLLIN, 0};
    for (;;) {
        int64_t left = deadline - tls_now_ms();
        if (left <= 0 || poll(&pollfd, 1, (int)left) <= 0 || read(server->output, line + length, 1) <= 0) {
            printf("# no line \"%s\" from the server; last: \"%.*s\"\n", prefix, (int)length, line);
            return NULL;
        }
        if (line[length] != '\n') {
            length += length < sizeof line - 2;
            continue;
        }
        line[length] = '\0';
        if (strncmp(line, prefix, strlen(prefix)) == 0)
            return line + strlen(prefix);
        length = 0;
    }
}

void server_start_openssl(struct server *ret, const char *options) {
    server_spawn(ret, "exec openssl s_server -accept 127.0.0.1:0 -rev %s", options);
    const char *port = server_expect(ret, "ACCEPT 127.0.0.1:");
    ret->port = port != NULL ? (uint16_t)atoi(port) : 0;
}

static int listen_anywhere(uint16_t *ret_port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 4) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
        perror("listen_anywhere");
        exit(EXIT_FAILURE);
    }
    *ret_port = ntohs(address.sin_port);
    return listener;
}

void server_start_fake(struct server *ret, void (*serve)(int socket)) {
    uint16_t port;
    int listener = listen_anywhere(&port);
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("server_start_fake");
        exit(EXIT_FAILURE);
    }
    if (pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int client = accept(listener, NULL, NULL);
        serve(client);
        _exit(0);
    }
    close(listener);
    *ret = (struct server){.pid = pid, .port = port, .input = -1, .output = -1};
}

void server_stop(struct server *server) {
    setpgid(server->pid, server->pid); /* the child may not have got so far */
    kill(-server->pid, SIGKILL);
    while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (server->input >= 0)
        close(server->input);
    if (server->output >= 0)
        close(server->output);
}

/* The test's own key, in the place of the worker's key.c. */
struct key {
    char *pem;
    size_t size;
    bool broken;
    bool failed;
};

struct key *fixture_key(const char *name) {
    char file[64];
    struct key *key = calloc(1, sizeof *key);
    if (key == NULL)
        exit(EXIT_FAILURE);
    snprintf(file, sizeof file, "%s.key", name);
    key->pem = fixture_read(file, &key->size);
    return key;
}

struct key *fixture_broken_key(const char *name) {
    struct key *key = fixture_key(name);
    key->broken = true;
    return key;
}

struct key *key_free(struct key *key) {
    if (key != NULL)
        free(key->pem);
    free(key);
    return NULL;
}

static int sign_never(int device, wc_CryptoInfo *info, void *context) {
    struct key *key = context;
    (void)device;
    if (info->algo_type != WC_ALGO_TYPE_PK || info->pk.type != WC_PK_TYPE_ECDSA_SIGN)
        return CRYPTOCB_UNAVAILABLE;
    key->failed = true;
    return WC_HW_E;
}

int key_use_in_tls(struct key *key, WOLFSSL_CTX *context, struct failure *failure) {
    static const unsigned char id[] = "test";
    const int device = 0x74657374;
    int result;
    if (key->broken) {
        wolfSSL_Init();
        wc_CryptoCb_RegisterDevice(device, sign_never, key);
        result = wolfSSL_CTX_use_PrivateKey_Id(context, id, sizeof id, device);
    } else
        result = wolfSSL_CTX_use_PrivateKey_buffer(context, (const unsigned char *)key->pem, (long)key->size,
                                                   WOLFSSL_FILETYPE_PEM);
    return result == WOLFSSL_SUCCESS ? 0 : failure_set(failure, FAILURE_INVALID, "key", "wolfSSL: %d", result);
}

void key_use_in_session(struct key *key, WOLFSSL *session) {
    (void)key, (void)session;
}

const char *key_last_error(const struct key *key) {
    return key->failed ? "TPM: in lockout mode (0x921)" : NULL;
}
