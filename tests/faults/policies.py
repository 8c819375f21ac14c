"""Policies with the mistakes that people make."""

import copy


def without_action(document, action):
    document = copy.deepcopy(document)
    for statement in document["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        statement["Action"] = [name for name in actions if name != action]
    document["Statement"] = [statement for statement in document["Statement"] if statement["Action"]]
    return document


def no_connect(document):
    return without_action(document, "iot:Connect")


def no_receive(document):
    return without_action(document, "iot:Receive")


def no_publish(document):
    return without_action(document, "iot:Publish")


def narrow_create(document):
    """As in AWS's own example, which is for CreateKeysAndCertificate: create/* does not match create-from-csr/."""
    document = copy.deepcopy(document)
    for statement in document["Statement"]:
        if isinstance(statement["Resource"], list):
            statement["Resource"] = [name.replace("create-from-csr/", "create/") for name in statement["Resource"]]
    return document


def no_register(document):
    """Only the creation of certificates is allowed."""
    document = copy.deepcopy(document)
    for statement in document["Statement"]:
        if isinstance(statement["Resource"], list):
            statement["Resource"] = [name for name in statement["Resource"] if "provisioning-templates" not in name]
    return document


def without_topic(document, part):
    """Statements lose the resources that contain it."""
    document = copy.deepcopy(document)
    for statement in document["Statement"]:
        names = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        statement["Resource"] = [name for name in names if part not in name]
    document["Statement"] = [statement for statement in document["Statement"] if statement["Resource"]]
    return document


def no_renewal(document):
    """A device may not use the template of renewals."""
    return without_topic(document, "enrolld-renew")


def no_retirement(document):
    """A device may not tell of its old certificate."""
    return without_topic(document, "enrolld_retire")


def no_own_topics(document):
    """A device may connect, and publish nothing but what a renewal takes."""
    return without_topic(document, "topic/things/")


def keys_from_cloud(document):
    """For CreateKeysAndCertificate instead of CreateCertificateFromCsr."""
    return narrow_create(document)
