/* enrolld-worker: does one job, then ends. Started by a socket unit or by the daemon it finds its channel at descriptor
 * 3; started by a person it takes the job from its command line. */
#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"
#include "worker/jobs.h"
#include "worker/lockdown.h"
#include "worker/report.h"

#include <curl/curl.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* How long a daemon may take to say what it wants. */
#define JOB_TIMEOUT_MS 10000

static const struct {
    enum file_role role;
    const char *name;
} identity_files[] = {
    {FILE_CERTIFICATE, "certificate.pem"},
    {FILE_PRIVATE_KEY, "private.pem"},
    {FILE_ROOT_CA, "root-ca.pem"},
    {FILE_IDENTITY, "identity.json"},
};
#define IDENTITY_FILE_COUNT (sizeof identity_files / sizeof *identity_files)

struct arguments {
    const char *verb; /* NULL: the channel tells */
    const char *configuration;
    const char *directory;
    const char *old;
    const char *identity;
    const char *staged;
    const char *subject;
    const char *certificate;
    const char *private_key;
};

static int usage(FILE *stream) {
    fprintf(stream,
            "Usage: enrolld-worker check        [--config=FILE] [--directory=DIR]\n"
            "       enrolld-worker enroll       [--config=FILE] --directory=DIR\n"
            "       enrolld-worker renew        [--config=FILE] --directory=DIR [--identity=DIR] [--staged=FILE]\n"
            "       enrolld-worker prove        [--config=FILE] [--directory=DIR]\n"
            "       enrolld-worker retire       [--config=FILE] [--directory=DIR] --old=ID\n"
            "       enrolld-worker check-config [--config=FILE]\n"
            "       enrolld-worker plugins\n"
            "       enrolld-worker diagnose     [--config=FILE]\n"
            "       enrolld-worker request      [--config=FILE] [--identity=DIR] --staged=FILE [--subject=TEXT] "
            ">REQUEST\n"
            "       enrolld-worker import       [--config=FILE] [--identity=DIR] --staged=FILE --certificate=FILE "
            "[--private-key=FILE]\n"
            "Does one job of enrolld by hand.\n\n"
            "  --config=FILE       the configuration; its drop-ins are FILE.d/*.conf\n"
            "  --directory=DIR     check, prove, retire: the identity (default: current in the state directory)\n"
            "                      enroll, renew: where to write the new one, must not exist\n"
            "  --identity=DIR      renew: the identity that is renewed (default: as of check)\n"
            "                      request, import: the one that gets a successor (default: none)\n"
            "  --old=ID            the certificate that it has replaced; several with blanks between\n"
            "  --staged=FILE       what keeps the key, and later its certificate; made by the first request\n"
            "  --subject=TEXT      in place of Subject= in section [Request]\n"
            "  --certificate=FILE  the chain in PEM, the device's certificate first\n"
            "  --private-key=FILE  its key in PEM, if that was not made by a request\n"
            "  --version, --help\n\n"
            "Environment: STATE_DIRECTORY, CREDENTIALS_DIRECTORY, ENROLLD_PLUGIN_DIR, RUNTIME_DIRECTORY, "
            "TMPDIR\n"
            "Exit codes: 0 done, 1 failed, 2 wrong usage\n");
    return stream == stdout ? EXIT_SUCCESS : 2;
}

static bool has_hung_up(void) {
    struct pollfd hangup = {.fd = CHANNEL_WORKER_FD, .events = POLLRDHUP};
    return poll(&hangup, 1, 0) > 0 && (hangup.revents & (POLLHUP | POLLRDHUP)) != 0;
}

static void on_channel(int number) {
    int error = errno;
    (void)number;
    if (has_hung_up())
        kill(getpid(), SIGTERM);
    errno = error;
}

/* A hang-up of the daemon is this process's SIGTERM, however stuck it is: the daemon runs as another user and can
 * only close the channel (fcntl(2), F_SETSIG). The same signal comes with each of its messages. */
static int watch_channel(int fd) {
    struct sigaction action = {.sa_handler = on_channel, .sa_flags = SA_RESTART};
    if (sigaction(SIGRTMIN, &action, NULL) < 0 || fcntl(fd, F_SETOWN, getpid()) < 0 ||
        fcntl(fd, F_SETSIG, SIGRTMIN) < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC) < 0)
        return -errno;
    return has_hung_up() ? -ECONNRESET : 0;
}

static int receive_job(int fd, struct message *job, struct failure *failure) {
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    const char *reason = "nothing came";
    int r = poll(&ready, 1, JOB_TIMEOUT_MS) > 0 ? channel_receive(fd, 0, job, &reason) : -ETIMEDOUT;
    if (r == 1 && job->type == MESSAGE_JOB)
        return 0;
    if (r == 1)
        message_clear(job);
    return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "no job on the channel: %s",
                       r == -EBADMSG ? reason
                       : r == 1      ? "it is another message"
                       : r == 0      ? "it is closed"
                                     : strerror(-r));
}

static int attach_file(struct message *job, enum file_role role, const char *path, struct failure *failure) {
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "%s: %s", path, strerror(errno));
    return message_attach(job, role, fd);
}

/* Of an identity; roles: a bit for each file. */
static int attach_identity(struct message *job, const char *directory, unsigned roles, struct failure *failure) {
    for (size_t i = 0; i < IDENTITY_FILE_COUNT; i++) {
        AUTO_FREE char *path = NULL;
        if (asprintf(&path, "%s/%s", directory, identity_files[i].name) < 0)
            return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of memory");
        if ((roles & 1U << identity_files[i].role) != 0 && attach_file(job, identity_files[i].role, path, failure) < 0)
            return -1;
    }
    return 0;
}

/* For request and import: what they get of it from the daemon. */
static int attach_predecessor(const struct arguments *arguments, struct message *job, struct failure *failure) {
    bool requests = strcmp(arguments->verb, JOB_REQUEST) == 0;
    unsigned roles = 1U << FILE_IDENTITY | (requests ? 1U << FILE_PRIVATE_KEY : 0);
    return attach_identity(job, arguments->identity, roles, failure);
}

/* Where none is named: the one in use. */
static int attach_current(struct message *job, const char *directory, struct failure *failure) {
    AUTO_FREE char *current = NULL;
    const char *state = getenv("STATE_DIRECTORY");
    if (asprintf(&current, "%s/current", state != NULL ? state : "/var/lib/enrolld") < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of memory");
    return attach_identity(job, directory != NULL ? directory : current, ~0U, failure);
}

/* For request, import and renew. */
static int attach_material(const struct arguments *arguments, struct message *job, struct failure *failure) {
    report_keep_staged(arguments->staged);
    if (access(arguments->staged, F_OK) == 0 && attach_file(job, FILE_STAGED, arguments->staged, failure) < 0)
        return -1;
    if (arguments->certificate != NULL && attach_file(job, FILE_CERTIFICATE, arguments->certificate, failure) < 0)
        return -1;
    if (arguments->private_key != NULL && attach_file(job, FILE_PRIVATE_KEY, arguments->private_key, failure) < 0)
        return -1;
    if (arguments->subject != NULL && message_add(job, JOB_KEY_SUBJECT, arguments->subject) < 0)
        return failure_set(failure, FAILURE_INVALID, STEP_REQUEST, "the subject is too long");
    return 0;
}

static int attach_configuration(struct message *job, const char *path, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    if (configuration_load(path, &configuration, failure) < 0)
        return -1;
    int fd = configuration_serialize(configuration, &text, &size);
    if (fd == 0)
        fd = memfd_create_sealed("configuration", text, size);
    if (fd < 0)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "the configuration cannot be handed on: %s",
                           strerror(-fd));
    return message_attach(job, FILE_CONFIGURATION, fd);
}

static bool uses_identity(const char *verb) {
    return strcmp(verb, JOB_CHECK) == 0 || strcmp(verb, JOB_PROVE) == 0 || strcmp(verb, JOB_RETIRE) == 0;
}

static bool makes_identity(const char *verb) {
    return strcmp(verb, JOB_ENROLL) == 0 || strcmp(verb, JOB_RENEW) == 0;
}

/* The job of a person: the same message as from the daemon. */
static int make_job(const struct arguments *arguments, struct message *job, struct failure *failure) {
    message_init(job, MESSAGE_JOB);
    bool diagnoses = strcmp(arguments->verb, JOB_DIAGNOSE) == 0; /* as before the first enrolment */
    if (message_add(job, JOB_KEY_VERB, arguments->verb) < 0 ||
        message_add_number(job, JOB_KEY_GENERATION, diagnoses ? 0 : 1) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of room");
    if (strcmp(arguments->verb, JOB_PLUGINS) == 0)
        return 0;
    if (attach_configuration(job, arguments->configuration, failure) < 0)
        return -1;
    /* Before anything is asked of the cloud: a certificate that cannot be written would be wasted. */
    if (makes_identity(arguments->verb) && arguments->directory != NULL && mkdir(arguments->directory, 0700) < 0)
        return failure_set(failure, FAILURE_INVALID, STEP_COMMIT, "%s: %s", arguments->directory, strerror(errno));
    if (arguments->staged != NULL && attach_material(arguments, job, failure) < 0)
        return -1;
    if (arguments->old != NULL && message_add(job, JOB_KEY_OLD, arguments->old) < 0)
        return failure_set(failure, FAILURE_INVALID, STEP_RETIRE, "--old= is too long");
    if (uses_identity(arguments->verb))
        return attach_current(job, arguments->directory, failure);
    if (strcmp(arguments->verb, JOB_RENEW) == 0)
        return attach_current(job, arguments->identity, failure);
    return arguments->identity != NULL ? attach_predecessor(arguments, job, failure) : 0;
}

/* Writes the files of a result for a person; the daemon does this with more care, in its store. */
static int write_files(struct message *result, const char *directory, struct failure *failure) {
    for (size_t i = 0; i < IDENTITY_FILE_COUNT; i++) {
        AUTO_FREE char *path = NULL;
        AUTO_FREE char *text = NULL;
        size_t size = 0;
        if (asprintf(&path, "%s/%s", directory, identity_files[i].name) < 0)
            return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "out of memory");
        if (job_read_file(result, identity_files[i].role, &text, &size, failure) < 0)
            return -1;
        AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        errno = ENOSPC; /* what a short write means */
        bool written = fd >= 0 && write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
        explicit_bzero(text, size);
        if (!written)
            return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "%s: %s", path, strerror(errno));
    }
    return 0;
}

/* The request alone is on standard output. */
static int print_request(struct message *result, struct failure *failure) {
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    if (job_read_file(result, FILE_REQUEST, &text, &size, failure) < 0)
        return -1;
    if (fwrite(text, 1, size, stdout) != size || fflush(stdout) != 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_REQUEST, "the request cannot be printed: %s",
                           strerror(errno));
    return 0;
}

static int run_job(struct message *job, struct message *result, struct report_verdict *verdict, bool *resume,
                   struct failure *failure) {
    const char *verb = message_get(job, JOB_KEY_VERB);
    message_init(result, MESSAGE_RESULT);
    if (verb != NULL && strcmp(verb, JOB_CHECK) == 0)
        return job_check(job, result, verdict, failure);
    if (verb != NULL && strcmp(verb, JOB_PROVE) == 0)
        return job_prove(job, verdict, failure);
    if (verb != NULL && strcmp(verb, JOB_RETIRE) == 0)
        return job_retire(job, failure);
    if (verb != NULL && strcmp(verb, JOB_ENROLL) == 0)
        return job_enroll(job, result, resume, failure);
    if (verb != NULL && strcmp(verb, JOB_RENEW) == 0)
        return job_renew(job, result, resume, failure);
    if (verb != NULL && strcmp(verb, JOB_CHECK_CONFIG) == 0)
        return job_check_configuration(job, result, failure);
    if (verb != NULL && strcmp(verb, JOB_PLUGINS) == 0)
        return job_plugins(result, failure);
    if (verb != NULL && strcmp(verb, JOB_REQUEST) == 0)
        return job_request(job, result, failure);
    if (verb != NULL && strcmp(verb, JOB_IMPORT) == 0)
        return job_import(job, result, failure);
    if (verb != NULL && strcmp(verb, JOB_DIAGNOSE) == 0)
        return job_diagnose(job, result, failure);
    return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "this worker knows no job of that name");
}

static int work(const struct arguments *arguments, struct report_verdict *verdict, struct failure *failure) {
    bool by_hand = arguments->verb != NULL, resume = false;
    struct message job, result;
    message_init(&job, MESSAGE_JOB);
    message_init(&result, MESSAGE_RESULT);
    int r = lockdown_begin(failure);
    if (r == 0)
        r = by_hand ? make_job(arguments, &job, failure) : receive_job(CHANNEL_WORKER_FD, &job, failure);
    if (r == 0 && !by_hand && (r = watch_channel(CHANNEL_WORKER_FD)) < 0)
        r = failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "the channel cannot be watched: %s", strerror(-r));
    bool makes_directory = by_hand && makes_identity(arguments->verb) && arguments->directory != NULL;
    if (r == 0 && (r = run_job(&job, &result, verdict, &resume, failure)) < 0 && makes_directory)
        (void)rmdir(arguments->directory); /* made by make_job() and still empty: the next try makes it again */
    if (r == 0 && makes_directory)
        r = write_files(&result, arguments->directory, failure);
    if (r == 0 && by_hand && result.files[FILE_REQUEST] >= 0)
        r = print_request(&result, failure);
    if (r == 0 && (r = resume ? report_resume() : report_done(&result)) < 0)
        r = failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "the result cannot be sent: %s", strerror(-r));
    message_clear(&result);
    message_clear(&job);
    return r;
}

/* Whether the job is known, and has what it needs and nothing else. given: letters of options. */
static bool is_complete(const char *verb, const char *given) {
    static const struct {
        const char *verb, *takes, *needs;
    } jobs[] = {
        {JOB_CHECK, "d", ""},       {JOB_PROVE, "d", ""},       {JOB_RETIRE, "do", "o"}, {JOB_ENROLL, "d", "d"},
        {JOB_RENEW, "dit", "d"},    {JOB_CHECK_CONFIG, "", ""}, {JOB_PLUGINS, "", ""},   {JOB_REQUEST, "tsi", "t"},
        {JOB_IMPORT, "tCKi", "tC"}, {JOB_DIAGNOSE, "", ""},
    };
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        if (strcmp(jobs[i].verb, verb) != 0)
            continue;
        bool complete = strspn(given, jobs[i].takes) == strlen(given);
        for (const char *need = jobs[i].needs; *need != '\0'; need++)
            complete = complete && strchr(given, *need) != NULL;
        return complete;
    }
    return false;
}

/* Returns -1 to go on, else the exit code. */
static int read_arguments(int argc, char **argv, struct arguments *arguments) {
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"directory", required_argument, NULL, 'd'},
        {"old", required_argument, NULL, 'o'},
        {"identity", required_argument, NULL, 'i'},
        {"staged", required_argument, NULL, 't'},
        {"subject", required_argument, NULL, 's'},
        {"certificate", required_argument, NULL, 'C'},
        {"private-key", required_argument, NULL, 'K'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    char given[8] = "";
    size_t given_count = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option != 'c' && given_count + 1 < sizeof given)
            given[given_count++] = (char)option;
        switch (option) {
        case 'c':
            arguments->configuration = optarg;
            break;
        case 'd':
            arguments->directory = optarg;
            break;
        case 'o':
            arguments->old = optarg;
            break;
        case 'i':
            arguments->identity = optarg;
            break;
        case 't':
            arguments->staged = optarg;
            break;
        case 's':
            arguments->subject = optarg;
            break;
        case 'C':
            arguments->certificate = optarg;
            break;
        case 'K':
            arguments->private_key = optarg;
            break;
        case 'V':
            printf("enrolld-worker %s\n", PACKAGE_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            return usage(stdout);
        default:
            return usage(stderr);
        }
    }
    arguments->verb = optind < argc ? argv[optind] : NULL;
    if (argc - optind > 1)
        return usage(stderr);
    if (arguments->verb == NULL)
        return argc == 1 ? -1 : usage(stderr);
    return is_complete(arguments->verb, given) ? -1 : usage(stderr);
}

static bool has_channel(void) {
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(CHANNEL_WORKER_FD, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

int main(int argc, char **argv) {
    struct arguments arguments = {0};
    struct failure failure = {0};
    struct report_verdict verdict = {.lost = NULL};
    int r = read_arguments(argc, argv, &arguments);
    if (r >= 0)
        return r;
    if (arguments.verb == NULL && !has_channel()) {
        fprintf(stderr, "enrolld-worker: no channel at descriptor %d; see --help for the jobs it does by hand\n",
                CHANNEL_WORKER_FD);
        return 2;
    }
    bool prints_request = arguments.verb != NULL && strcmp(arguments.verb, JOB_REQUEST) == 0;
    report_open(arguments.verb == NULL ? CHANNEL_WORKER_FD : -1);
    if (prints_request)
        report_print_on(stderr);
    signal(SIGPIPE, SIG_IGN);          /* of libraries that write to a socket whose other end is gone */
    setenv("TSS2_LOG", "all+NONE", 0); /* it logs expected errors, and authorization values at its highest level */
    curl_global_init(CURL_GLOBAL_NOTHING);
    r = work(&arguments, &verdict, &failure);
    if (r < 0)
        report_failure(&failure, &verdict);
    curl_global_cleanup();
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
