SUMMARY = "Identity of a gateway in AWS IoT Core, with its key in the TPM"
DESCRIPTION = "Finds at boot that credentials are missing, makes a private key in the TPM, gets a certificate for it, proves it \
by connecting with it, and commits it so that a power cut never leaves half an identity."
SECTION = "net"
# enrolld-worker is linked with wolfSSL, which is GPL: that program as a whole is a GPL work, unless you have a commercial
# licence of wolfSSL.
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=7fde1c0aaab1e60f22989d43c8e194d8"

# What `make dist` makes; put it into the folder files beside this recipe.
SRC_URI = "file://${BP}.tar.xz"

DEPENDS = "curl json-c libinih libseccomp libtasn1 mosquitto systemd tpm2-tss wolfssl"

inherit autotools pkgconfig systemd useradd ptest bash-completion features_check

# enrolld: this layer changes wolfssl and the kernel's configuration only where it is asked for.
REQUIRED_DISTRO_FEATURES = "enrolld systemd"

PACKAGECONFIG ??= "${@bb.utils.contains('PTEST_ENABLED', '1', 'tests', '', d)}"
PACKAGECONFIG[tests] = "--enable-tests,--disable-tests,cunit libmicrohttpd openssl"

EXTRA_OECONF = " \
    --with-systemdsystemunitdir=${systemd_system_unitdir} \
    --with-sysusersdir=${nonarch_libdir}/sysusers.d \
    --with-tmpfilesdir=${nonarch_libdir}/tmpfiles.d \
    --with-catalogdir=${nonarch_libdir}/systemd/catalog \
"

do_install:append() {
    # A claim's key that the line has put into /etc/credstore is sealed to the machine at its first boot.
    install -d ${D}${systemd_system_unitdir}/enrolld-claim@.service.d
    install -m 0644 ${S}/docs/examples/seal-claim/seal-claim.service ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/docs/examples/seal-claim/50-sealed.conf ${D}${systemd_system_unitdir}/enrolld-claim@.service.d
}

do_compile_ptest() {
    oe_runmake unit-test-programs
}

PACKAGES =+ "${PN}-plugin-fleet-claim ${PN}-plugin-jit ${PN}-seal-claim"

FILES:${PN} = " \
    ${bindir}/enrollctl \
    ${libexecdir}/enrolld \
    ${sysconfdir}/enrolld \
    ${systemd_system_unitdir}/enrolld.service \
    ${systemd_system_unitdir}/enrolld.service.d \
    ${systemd_system_unitdir}/enrolld-.service.d \
    ${systemd_system_unitdir}/enrolld-*.path \
    ${systemd_system_unitdir}/enrolld-*.service \
    ${systemd_system_unitdir}/enrolld-*.socket \
    ${systemd_system_unitdir}/enrolld-*.target \
    ${nonarch_libdir}/sysusers.d \
    ${nonarch_libdir}/tmpfiles.d \
    ${nonarch_libdir}/systemd/catalog \
    ${datadir}/dbus-1 \
"
CONFFILES:${PN} = "${sysconfdir}/enrolld/enrolld.conf"

# The udev rule that gives the TPM to the group tss is in the package tpm2-tss; the TCTI is loaded by name.
RDEPENDS:${PN} = "dbus libtss2-tcti-device tpm2-tss"
RRECOMMENDS:${PN} = "${PN}-plugin-fleet-claim ${PN}-plugin-jit"

SUMMARY:${PN}-plugin-fleet-claim = "Fleet provisioning by claim, for enrolld"
FILES:${PN}-plugin-fleet-claim = "${libdir}/enrolld/plugins/fleet-claim.so"
RDEPENDS:${PN}-plugin-fleet-claim = "${PN}"

SUMMARY:${PN}-plugin-jit = "Just-in-time provisioning and registration, for enrolld"
FILES:${PN}-plugin-jit = " \
    ${libdir}/enrolld/plugins/jit.so \
    ${libdir}/enrolld/plugins/jitp.so \
    ${libdir}/enrolld/plugins/jitr.so \
"
RDEPENDS:${PN}-plugin-jit = "${PN}"
# jitp.so and jitr.so are names of methods, no links for a linker.
INSANE_SKIP:${PN}-plugin-jit = "dev-so"

SUMMARY:${PN}-seal-claim = "Seals the claim's key to the machine at its first boot"
FILES:${PN}-seal-claim = " \
    ${systemd_system_unitdir}/seal-claim.service \
    ${systemd_system_unitdir}/enrolld-claim@.service.d \
"
RDEPENDS:${PN}-seal-claim = "${PN} systemd-extra-utils"

# The plugin interface: a header and its pkg-config file.
FILES:${PN}-dev = "${includedir} ${libdir}/pkgconfig"
RDEPENDS:${PN}-dev = ""
FILES:${PN}-doc = "${docdir} ${mandir}"
FILES:${PN}-bash-completion = "${datadir}/bash-completion"

FILES:${PN}-ptest = "${PTEST_PATH}"
RDEPENDS:${PN}-ptest += "libtss2 openssl-bin python3-core python3-email python3-io python3-netclient swtpm tpm2-openssl tpm2-tools"

# The sockets, paths and the target of enrolld come and go with this one.
SYSTEMD_PACKAGES = "${PN} ${PN}-seal-claim"
SYSTEMD_SERVICE:${PN} = "enrolld.service"
SYSTEMD_SERVICE:${PN}-seal-claim = "seal-claim.service"

# The same as sysusers.d/enrolld.conf, for images whose systemd has no sysusers, and for those with a read-only root.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system enrolld-identity; --system enrolld-admin; --system tss"
USERADD_PARAM:${PN} = " \
    --system --user-group --no-create-home --home-dir /var/lib/enrolld --shell /sbin/nologin enrolld; \
    --system --user-group --no-create-home --home-dir / --shell /sbin/nologin enrolld-worker \
"
