SUMMARY = "Example: what a gateway needs to enrol by a claim"
DESCRIPTION = "Copy this recipe into your own layer. As it is it takes the claim from a folder outside of all layers, so that the \
key is in no repository; BitBake's work folder, sstate cache and package have it."
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

# In local.conf. The folder has claim.pem, claim.key and root-ca.pem.
ENROLLD_CLAIM_DIR ?= ""
ENROLLD_ENDPOINT ?= ""
ENROLLD_TEMPLATE ?= "enrolld"
# image: the key is in the image, and who has one device has it. line: the line writes it into /etc/credstore of each
# device, and it is sealed to the machine at the first boot.
ENROLLD_CLAIM_KEY ?= "image"

FILESEXTRAPATHS:prepend := "${THISDIR}/files:${ENROLLD_CLAIM_DIR}:"
SRC_URI = " \
    file://50-gateway.conf.in \
    file://claim.pem \
    file://root-ca.pem \
    ${@'file://claim.key' if d.getVar('ENROLLD_CLAIM_KEY') == 'image' else ''} \
"
# From styhead on files are unpacked into a folder of their own; scarthgap may not know it.
S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"

python () {
    missing = [name for name in ('ENROLLD_CLAIM_DIR', 'ENROLLD_ENDPOINT') if not d.getVar(name)]
    if missing:
        raise bb.parse.SkipRecipe('set %s in local.conf: README.md of meta-enrolld' % ' and '.join(missing))
}

do_install() {
    install -d ${D}${nonarch_libdir}/enrolld/enrolld.conf.d ${D}${datadir}/enrolld-example
    sed -e 's|@ENDPOINT@|${ENROLLD_ENDPOINT}|' -e 's|@TEMPLATE@|${ENROLLD_TEMPLATE}|' -e 's|@DATADIR@|${datadir}|' \
        ${S}/50-gateway.conf.in > ${D}${nonarch_libdir}/enrolld/enrolld.conf.d/50-gateway.conf
    install -m 0644 ${S}/root-ca.pem ${D}${datadir}/enrolld-example

    # systemd hands both to enrolld-claim@.service alone.
    install -d -m 0700 ${D}${nonarch_libdir}/credstore
    install -m 0600 ${S}/claim.pem ${D}${nonarch_libdir}/credstore/claim-certificate
    if [ "${ENROLLD_CLAIM_KEY}" = image ]; then
        install -m 0600 ${S}/claim.key ${D}${nonarch_libdir}/credstore/claim-key
    fi
}

FILES:${PN} = "${nonarch_libdir}/enrolld/enrolld.conf.d ${nonarch_libdir}/credstore ${datadir}/enrolld-example"
RDEPENDS:${PN} = "enrolld enrolld-plugin-fleet-claim ${@'enrolld-seal-claim' if d.getVar('ENROLLD_CLAIM_KEY') == 'line' else ''}"
