/* `TSS2 PRIVATE KEY`: the first byte says whether the rest is a PEM text, DER to be wrapped, or the two structures of a
 * TPM to be written. What was read can be written, and what was written reads as the same. */
#include "fuzz.h"
#include "worker/tss2-pem.h"

#include <tss2/tss2_mu.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/coding.h>

#include <errno.h>

#define BEGIN "-----BEGIN TSS2 PRIVATE KEY-----\n"
#define END "-----END TSS2 PRIVATE KEY-----\n"

static void check_round_trip(const struct tss2_key *key) {
    char text[TSS2_PEM_MAX], again[TSS2_PEM_MAX];
    struct tss2_key copy = {0};
    const char *reason = NULL;
    int size = tss2_pem_encode(key, text, sizeof text);
    REQUIRE(size > 0 || size == -ENOBUFS || size == -EINVAL);
    if (size < 0)
        return;
    REQUIRE((size_t)size == strlen(text) && tss2_pem_is(text, (size_t)size));
    REQUIRE(tss2_pem_decode(text, (size_t)size, &copy, &reason) == 0);
    REQUIRE(copy.parent == key->parent && copy.private.size == key->private.size);
    REQUIRE(memcmp(copy.private.buffer, key->private.buffer, key->private.size) == 0);
    REQUIRE(tss2_pem_encode(&copy, again, sizeof again) == size && strcmp(text, again) == 0);
}

static void check_text(const char *text, size_t size) {
    struct tss2_key key = {.parent = 7};
    const char *reason = NULL;
    if (tss2_pem_decode(text, size, &key, &reason) < 0) {
        REQUIRE(reason != NULL && key.parent == 7);
        return;
    }
    REQUIRE(tss2_pem_is(text, size) && size <= TSS2_PEM_MAX);
    REQUIRE(key.parent == TPM2_RH_OWNER || (key.parent & 0xff000000) == 0x81000000);
    REQUIRE(key.private.size > 0 && key.private.size <= sizeof key.private.buffer);
    check_round_trip(&key);
}

static void check_der(struct input der) {
    char base64[TSS2_PEM_MAX], text[TSS2_PEM_MAX + 128];
    word32 base64_size = sizeof base64;
    if (der.size == 0 || Base64_Encode(der.data, (word32)der.size, (byte *)base64, &base64_size) != 0)
        return;
    int size = snprintf(text, sizeof text, BEGIN "%.*s" END, (int)base64_size, base64);
    check_text(text, (size_t)size);
}

static void check_structures(struct input input) {
    struct tss2_key key = {.parent = input_byte(&input) % 2 == 0 ? TPM2_RH_OWNER : 0x81000001};
    struct input public = input_part(&input);
    size_t offset = 0;
    if (Tss2_MU_TPM2B_PUBLIC_Unmarshal(public.data, public.size, &offset, &key.public) != TSS2_RC_SUCCESS ||
        input.size == 0 || input.size > sizeof key.private.buffer)
        return;
    key.private.size = (UINT16)input.size;
    memcpy(key.private.buffer, input.data, input.size);
    check_round_trip(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    switch (input_byte(&input) % 3) {
    case 0:
        check_text((const char *)input.data, input.size);
        break;
    case 1:
        check_der(input);
        break;
    case 2:
        check_structures(input);
        break;
    }
    return 0;
}
