SUMMARY = "Example: a small gateway that has its identity after the first boot"
LICENSE = "MIT"

inherit core-image

IMAGE_INSTALL += "enrolld-example-claim enrolld-bash-completion"
