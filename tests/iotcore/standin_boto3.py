"""What boto3 is to a Lambda function, as far as those of etc/aws need it: clients of the services iot and iot-data that
speak with the control plane of a stand-in, which looks at no signature. What the function may do is judged here, by the
policy of its role."""

import datetime
import fnmatch
import json
import urllib.error
import urllib.parse
import urllib.request

TIMES = ("creationDate", "lastModifiedDate", "notBefore", "notAfter")


class ClientError(Exception):
    """Any error that has no class of its own."""


class Exceptions:
    class ResourceAlreadyExistsException(ClientError):
        pass

    class ResourceNotFoundException(ClientError):
        pass


class Account:
    """Where the clients of a function connect, and what its role may do: the policy document, None for everything."""

    def __init__(self, url, region="", number="", policy=None):
        self.url = url
        self.arn = f"arn:aws:iot:{region}:{number}:"
        self.policy = policy

    def client(self, service, **_):
        """As boto3.client(); the endpoint is that of the control plane always."""
        return {"iot": Iot, "iot-data": IotData}[service](self)

    def check(self, action, resource):
        """resource: behind the account's number, "*" for an action that knows none."""
        if self.policy is None or any(self.allows(statement, action, resource) for statement in self.policy["Statement"]):
            return
        raise ClientError(f"AccessDeniedException: the role may not do iot:{action} with {resource}")

    def allows(self, statement, action, resource):
        arn = "*" if resource == "*" else self.arn + resource
        patterns = [pattern for pattern in listed(statement["Resource"]) if pattern == "*" or resource != "*"]
        return (
            statement["Effect"] == "Allow"
            and f"iot:{action}" in listed(statement["Action"])
            and any(fnmatch.fnmatchcase(arn, pattern) for pattern in patterns)
        )


def listed(value):
    return value if isinstance(value, list) else [value]


def with_times(members):
    """A hook of the JSON parser: boto3 has times as such."""
    return {
        name: datetime.datetime.fromtimestamp(value, datetime.timezone.utc) if name in TIMES else value
        for name, value in members.items()
    }


class Client:
    exceptions = Exceptions

    def __init__(self, account):
        self.account = account

    def call(self, method, path, body=None, query=None, **headers):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        query = {name: value for name, value in (query or {}).items() if value is not None}
        path = "/".join(urllib.parse.quote(part, safe="") for part in path) + "?" + urllib.parse.urlencode(query)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=stand-in"
        request = urllib.request.Request(f"{self.account.url}/{path}", body, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as reply:
                return json.loads(reply.read() or b"{}", object_hook=with_times)
        except urllib.error.HTTPError as error:
            code = error.headers.get("x-amzn-ErrorType", "")
            raise getattr(self.exceptions, code, ClientError)(f"{code}: {error.read().decode()}") from error


class Iot(Client):
    """Methods, parameters and replies are those of boto3.client("iot"). Which resources an action knows: Service
    Authorization Reference, "Actions, resources, and condition keys for AWS IoT"."""

    def describe_certificate(self, certificateId):
        self.account.check("DescribeCertificate", f"cert/{certificateId}")
        return self.call("GET", ["certificates", certificateId])

    def update_certificate(self, certificateId, newStatus):
        self.account.check("UpdateCertificate", f"cert/{certificateId}")
        return self.call("PUT", ["certificates", certificateId], query={"newStatus": newStatus})

    def attach_policy(self, policyName, target):
        self.account.check("AttachPolicy", "*")
        return self.call("PUT", ["target-policies", policyName], {"target": target})

    def create_thing(self, thingName):
        self.account.check("CreateThing", f"thing/{thingName}")
        return self.call("POST", ["things", thingName], {})

    def describe_thing(self, thingName):
        self.account.check("DescribeThing", f"thing/{thingName}")
        return self.call("GET", ["things", thingName])

    def attach_thing_principal(self, thingName, principal, thingPrincipalType):
        self.account.check("AttachThingPrincipal", "*")
        query = {"thingPrincipalType": thingPrincipalType}
        return self.call("PUT", ["things", thingName, "principals"], query=query, x_amzn_principal=principal)

    def detach_thing_principal(self, thingName, principal):
        self.account.check("DetachThingPrincipal", "*")
        return self.call("DELETE", ["things", thingName, "principals"], x_amzn_principal=principal)

    def list_thing_principals(self, thingName, nextToken=None):
        self.account.check("ListThingPrincipals", f"thing/{thingName}")
        return self.call("GET", ["things", thingName, "principals"], query={"nextToken": nextToken})

    def list_principal_things(self, principal, nextToken=None):
        self.account.check("ListPrincipalThings", "*")
        return self.call("GET", ["principals", "things"], query={"nextToken": nextToken}, x_amzn_principal=principal)

    def describe_endpoint(self, endpointType):
        self.account.check("DescribeEndpoint", "*")
        return self.call("GET", ["endpoint"], query={"endpointType": endpointType})


class IotData(Client):
    def publish(self, topic, qos=0, payload=b""):
        self.account.check("Publish", f"topic/{topic}")
        return self.call("POST", ["topics", topic], payload, {"qos": qos}, Content_Type="application/octet-stream")
