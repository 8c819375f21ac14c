"""An HTTPS server that misbehaves as the path of a request says: for test-https. Prints "PORT n", then what it is sent,
each request as one line of JSON."""

import email.utils
import json
import socket
import ssl
import sys
import time

LATE = 120  # seconds after the time in the Date header


def date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


RESPONSES = {
    "/ok": "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}",
    "/nul": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\0b",
    "/empty": "HTTP/1.1 204 No Content\r\n\r\n",
    "/chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "/continue": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    "/redirect": "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n",
    "/401": 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n',
    "/429": "HTTP/1.1 429 Too Many\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n",
    "/503-date": "HTTP/1.1 503 Busy\r\n"
    f"Date: {date(1000000000)}\r\nRetry-After: {date(1000000000 + LATE)}\r\nContent-Length: 0\r\n\r\n",
    "/503-past": "HTTP/1.1 503 Busy\r\n"
    f"Date: {date(1000000000)}\r\nRetry-After: {date(1000000000 - LATE)}\r\nContent-Length: 0\r\n\r\n",
    "/503-local": f"HTTP/1.1 503 Busy\r\nRetry-After: {date(time.time() + 3600)}\r\nContent-Length: 0\r\n\r\n",
    "/503-forms": "HTTP/1.1 503 Busy\r\nDate: Sun Sep  9 01:46:40 2001\r\n"
    "Retry-After: Sunday, 09-Sep-01 01:48:40 GMT\r\nContent-Length: 0\r\n\r\n",
    "/503-late": "HTTP/1.1 503 Busy\r\n"
    f"Date: {date(2500000000)}\r\nRetry-After: {date(2500000000 + LATE)}\r\nContent-Length: 0\r\n\r\n",
    "/503-huge": "HTTP/1.1 503 Busy\r\nRetry-After: 99999999999999999999999\r\nContent-Length: 0\r\n\r\n",
    "/503-words": "HTTP/1.1 503 Busy\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n",
    "/limit": "HTTP/1.1 200 OK\r\nContent-Length: 131072\r\n\r\n" + "x" * 131072,
    "/large": "HTTP/1.1 200 OK\r\nContent-Length: 131073\r\n\r\n" + "x" * 131073,
    "/large-chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + ("8000\r\n" + "x" * 32768 + "\r\n") * 5,
    "/headers": "HTTP/1.1 200 OK\r\n" + ("X-Filler: " + "x" * 1000 + "\r\n") * 40 + "Content-Length: 0\r\n\r\n",
    "/cut": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
    "/cut-chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
    "/cut-head": "HTTP/1.1 200 OK\r\nContent-Le",
    "/until-close": "HTTP/1.1 200 OK\r\n\r\nall of it",
    "/until-cut": "HTTP/1.1 200 OK\r\n\r\nnot all of",
    "/nothing": "",
    "/0.9": "this is HTTP 0.9\r\n",
    "/garbage": "\x01\x02\x03 \r\n\r\n",
    "/silent": "",
    "/slow": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
}


def read_request(stream):
    data = b""
    while b"\r\n\r\n" not in data:
        part = stream.recv(65536)
        if not part:
            return None
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    line, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    while len(body) < int(headers.get("Content-Length", 0)):
        body += stream.recv(65536)
    method, target, version = line.split(" ")
    certificate = stream.getpeercert() or {}
    return {
        "method": method,
        "target": target,
        "version": version,
        "headers": headers,
        "size": len(body),
        "body": body[:100].decode("latin-1"),
        "client": dict(pair for rdn in certificate.get("subject", ()) for pair in rdn).get("commonName", ""),
        "alpn": stream.selected_alpn_protocol(),
    }


def serve(stream):
    request = read_request(stream)
    if request is None:
        return
    print("REQUEST " + json.dumps(request), flush=True)
    path = request["target"].split("?")[0]
    try:
        stream.sendall(RESPONSES.get(path, RESPONSES["/ok"]).encode("latin-1"))
        while path == "/slow":
            time.sleep(0.05)
            stream.sendall(b"x")
        if path == "/silent":
            stream.recv(1)
        if path in ("/until-close", "/0.9"):
            stream.unwrap()
    except OSError:
        pass  # the client has had enough


def main():
    name, *options = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{name}.pem", f"{name}.key")
    if "http/1.1" in options:
        context.set_alpn_protocols(["http/1.1"])
    if "verify" in options:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations("ca.pem")
    family = socket.AF_INET6 if "ipv6" in options else socket.AF_INET
    listener = socket.create_server(("::1" if "ipv6" in options else "127.0.0.1", 0), family=family)
    print(f"PORT {listener.getsockname()[1]}", flush=True)
    while True:
        client, _ = listener.accept()
        try:
            with context.wrap_socket(client, server_side=True) as stream:
                serve(stream)
        except (ssl.SSLError, OSError):
            pass


main()
