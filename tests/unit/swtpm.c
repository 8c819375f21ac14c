#include "swtpm.h"

#include "common/cleanup.h"

#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STORAGE_ROOT_KEY 0x81000001
#define START_DEADLINE_S 20

struct session {
    TSS2_TCTI_CONTEXT *tcti;
    ESYS_CONTEXT *esys;
};

static void close_session(struct session *session) {
    if (session->esys != NULL)
        Esys_Finalize(&session->esys);
    if (session->tcti != NULL)
        Tss2_TctiLdr_Finalize(&session->tcti);
}

#define AUTO_SESSION CLEANUP(close_session)

static int open_session(const struct swtpm *swtpm, struct session *ret) {
    TSS2_RC code = Tss2_TctiLdr_Initialize(swtpm->tcti, &ret->tcti);
    if (code == TSS2_RC_SUCCESS)
        code = Esys_Initialize(&ret->esys, ret->tcti, NULL);
    if (code != TSS2_RC_SUCCESS)
        printf("# opening %s: 0x%x\n", swtpm->tcti, code);
    return code == TSS2_RC_SUCCESS ? 0 : -1;
}

static void execute(const struct swtpm *swtpm) {
    char server[160], control[160], state[160];
    int null = open("/dev/null", O_RDWR);
    snprintf(server, sizeof server, "type=unixio,path=%s/socket", swtpm->directory);
    snprintf(control, sizeof control, "type=unixio,path=%s/socket.ctrl", swtpm->directory);
    snprintf(state, sizeof state, "dir=%s", swtpm->directory);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO); /* it reports every disconnection */
    execlp("swtpm", "swtpm", "socket", "--tpm2", "--server", server, "--ctrl", control, "--tpmstate", state, "--flags",
           "not-need-init,startup-clear", NULL);
    _exit(127);
}

/* Asks for its capabilities (CMD_GET_CAPABILITY of swtpm_ioctls(3)): a connection alone says that it listens, and one
 * that is closed at once would still be in its way. */
static bool answers(const struct swtpm *swtpm) {
    static const uint8_t get_capability[] = {0, 0, 0, 1};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t reply[64];
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", swtpm->directory);
    if (access(address.sun_path, W_OK) != 0)
        return false;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket.ctrl", swtpm->directory);
    return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
           send(fd, get_capability, sizeof get_capability, MSG_NOSIGNAL) == (ssize_t)sizeof get_capability &&
           recv(fd, reply, sizeof reply, 0) > 0;
}

static int wait_until_it_answers(struct swtpm *swtpm) {
    const struct timespec pause = {.tv_nsec = 5000000};
    time_t deadline = time(NULL) + START_DEADLINE_S;
    while (!answers(swtpm)) {
        int status = 0;
        if (waitpid(swtpm->pid, &status, WNOHANG) == swtpm->pid || time(NULL) > deadline) {
            printf("# swtpm did not start (status 0x%x): is it installed?\n", (unsigned)status);
            return -1;
        }
        nanosleep(&pause, NULL);
    }
    return 0;
}

int swtpm_start(struct swtpm *ret) {
    struct swtpm swtpm = {.directory = "/tmp/enrolld-swtpm-XXXXXX"};
    if (mkdtemp(swtpm.directory) == NULL)
        return -1;
    snprintf(swtpm.tcti, sizeof swtpm.tcti, "swtpm:path=%s/socket", swtpm.directory);
    swtpm.pid = fork();
    if (swtpm.pid == 0)
        execute(&swtpm);
    *ret = swtpm;
    if (swtpm.pid < 0 || wait_until_it_answers(ret) < 0) {
        swtpm_stop(ret);
        return -1;
    }
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *position) {
    (void)status, (void)type, (void)position;
    return remove(path);
}

void swtpm_stop(struct swtpm *swtpm) {
    if (swtpm->pid > 0) {
        kill(swtpm->pid, SIGKILL); /* after SIGTERM it may turn round and round in poll(2) for ever */
        waitpid(swtpm->pid, NULL, 0);
    }
    if (swtpm->directory[0] != '\0')
        nftw(swtpm->directory, remove_entry, 4, FTW_DEPTH | FTW_PHYS);
    *swtpm = (struct swtpm){0};
}

static TSS2_RC create_primary(ESYS_CONTEXT *esys, TPMA_OBJECT attributes, const char *password, ESYS_TR *ret) {
    const TPM2B_DATA no_data = {0};
    const TPML_PCR_SELECTION no_pcr = {0};
    TPM2B_SENSITIVE_CREATE sensitive = {0};
    TPM2B_PUBLIC template = {0};
    TPMS_ECC_PARMS *parameters = &template.publicArea.parameters.eccDetail;
    template.publicArea.type = TPM2_ALG_ECC;
    template.publicArea.nameAlg = TPM2_ALG_SHA256;
    template.publicArea.objectAttributes = attributes;
    parameters->symmetric.algorithm = TPM2_ALG_AES;
    parameters->symmetric.keyBits.aes = 128;
    parameters->symmetric.mode.aes = TPM2_ALG_CFB;
    parameters->scheme.scheme = TPM2_ALG_NULL;
    parameters->curveID = TPM2_ECC_NIST_P256;
    parameters->kdf.scheme = TPM2_ALG_NULL;
    template.publicArea.unique.ecc.x.size = 32; /* not the primary of tpm2-openssl */
    sensitive.sensitive.userAuth.size = (UINT16)strlen(password);
    memcpy(sensitive.sensitive.userAuth.buffer, password, strlen(password));
    return Esys_CreatePrimary(esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive,
                              &template, &no_data, &no_pcr, ret, NULL, NULL, NULL, NULL);
}

int swtpm_make_storage_root_key(const struct swtpm *swtpm, TPMA_OBJECT attributes, const char *password) {
    AUTO_SESSION struct session session = {0};
    ESYS_TR primary = ESYS_TR_NONE, persistent = ESYS_TR_NONE;
    if (open_session(swtpm, &session) < 0)
        return -1;
    TSS2_RC code = create_primary(session.esys, attributes, password, &primary);
    if (code == TSS2_RC_SUCCESS)
        code = Esys_EvictControl(session.esys, ESYS_TR_RH_OWNER, primary, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                 STORAGE_ROOT_KEY, &persistent);
    if (primary != ESYS_TR_NONE)
        Esys_FlushContext(session.esys, primary);
    if (code != TSS2_RC_SUCCESS)
        printf("# making the storage root key: 0x%x\n", code);
    return code == TSS2_RC_SUCCESS ? 0 : -1;
}

int swtpm_remove_storage_root_key(const struct swtpm *swtpm) {
    AUTO_SESSION struct session session = {0};
    ESYS_TR object = ESYS_TR_NONE, none = ESYS_TR_NONE;
    if (open_session(swtpm, &session) < 0)
        return -1;
    TSS2_RC code =
        Esys_TR_FromTPMPublic(session.esys, STORAGE_ROOT_KEY, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &object);
    if (code == TSS2_RC_SUCCESS)
        code = Esys_EvictControl(session.esys, ESYS_TR_RH_OWNER, object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                 0, &none);
    return code == TSS2_RC_SUCCESS ? 0 : -1;
}

int swtpm_set_owner_password(const struct swtpm *swtpm, const char *password) {
    AUTO_SESSION struct session session = {0};
    TPM2B_AUTH auth = {.size = (UINT16)strlen(password)};
    memcpy(auth.buffer, password, strlen(password));
    if (open_session(swtpm, &session) < 0)
        return -1;
    TSS2_RC code =
        Esys_HierarchyChangeAuth(session.esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &auth);
    return code == TSS2_RC_SUCCESS ? 0 : -1;
}

static int count_from(ESYS_CONTEXT *esys, UINT32 first) {
    TPMS_CAPABILITY_DATA *data = NULL;
    TPMI_YES_NO more;
    TSS2_RC code = Esys_GetCapability(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES, first,
                                      TPM2_MAX_CAP_HANDLES, &more, &data);
    int count = code == TSS2_RC_SUCCESS ? (int)data->data.handles.count : -1;
    Esys_Free(data);
    return count;
}

int swtpm_count_handles(const struct swtpm *swtpm) {
    static const UINT32 kinds[] = {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST, TPM2_ACTIVE_SESSION_FIRST};
    AUTO_SESSION struct session session = {0};
    int total = 0;
    if (open_session(swtpm, &session) < 0)
        return -1;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        int count = count_from(session.esys, kinds[i]);
        if (count < 0)
            return -1;
        total += count;
    }
    return total;
}
