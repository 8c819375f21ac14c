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


def keys_from_cloud(document):
    """For CreateKeysAndCertificate instead of CreateCertificateFromCsr."""
    return narrow_create(document)
