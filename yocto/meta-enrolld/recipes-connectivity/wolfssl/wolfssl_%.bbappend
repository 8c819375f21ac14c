require ${@bb.utils.contains('DISTRO_FEATURES', 'enrolld', 'wolfssl-enrolld.inc', '', d)}
