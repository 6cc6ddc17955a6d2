"""A small strict registry on loopback (distribution-spec 1.1), with faults by script.

It notes each request, and in ``complaints`` what a client should not have sent.
"""

import base64
import contextlib
import hashlib
import json
import re
import ssl
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
TYPES = (
    INDEX,
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
PIECE = 1 << 16


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Repository:
    blobs: dict = field(default_factory=dict)
    manifests: dict = field(default_factory=dict)  # digest: (type, bytes)
    tags: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: dict
    headers: dict
    status: list = field(default_factory=list)

    @property
    def authorization(self):
        return self.headers.get("authorization")


@dataclass
class Fault:
    """What happens instead of an answer to the next ``times`` requests that match."""

    method: str
    path: str
    act: object  # of the handler
    times: int = 1


def status(code, **headers):
    def act(handler):
        handler.drain()
        handler.answer(code, headers={name.replace("_", "-"): one for name, one in headers.items()})

    return act


def hang_up(handler):
    """Close the connection before any answer."""
    handler.close_connection = True


def cut_after(size):
    """Answer as usual, and close the connection after ``size`` bytes of the body."""

    def act(handler):
        handler.cut = size
        handler.serve()

    return act


def change(function):
    """Answer with another body, of which Content-Length is right."""

    def act(handler):
        handler.change = function
        handler.serve()

    return act


class RegistryServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(
        self, address="127.0.0.1", *, referrers=True, page=None, ranges=True, login=None, tls=None
    ):
        """``login`` is None, ``basic`` or ``token``; ``page`` the referrers of a page."""
        super().__init__((address, 0), Handler)
        self.host = f"{address}:{self.server_port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self.has_referrers, self.page, self.ranges, self.login = referrers, page, ranges, login
        self.says_subject = referrers  # OCI-Subject
        self.users = {"alice": "secret"}
        self.identity_tokens = {"refresh-1"}
        self.realm = f"{self.url}/token"
        self.token_uses = 1 << 30  # requests for which a token is good
        self.expires_in = 300
        self.denied = ()  # actions that no token gets
        self.tokens = {}  # token: [scopes, uses left]
        self.deletes = True  # manifests; or the status of its refusal
        self.blobs_at = None  # another server, to which downloads are redirected
        self.uploads_at = None
        self.repositories = {}
        self.uploads = {}
        self.requests, self.faults, self.complaints = [], [], []
        self.lock = threading.Lock()
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls[:2])
            if len(tls) > 2:  # a CA for the certificates of clients
                context.load_verify_locations(tls[2])
                context.verify_mode = ssl.CERT_REQUIRED
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_):
        pass  # a client hung up

    def repository(self, name) -> Repository:
        with self.lock:
            return self.repositories.setdefault(name, Repository())

    def fail(self, method, path, act, times=1):
        self.faults.append(Fault(method, path, act, times))

    def paths(self, method):
        return [seen.path for seen in self.requests if seen.method == method]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # each answer is written in two pieces
    cut = change = None

    def log_message(self, *_):
        pass

    def handle_method(self):
        parts = urlsplit(self.path)
        self.where, self.query = parts.path, parse_qs(parts.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen = Seen(self.command, self.where, self.query, headers)
        with self.server.lock:
            self.server.requests.append(self.seen)
            fault = next(
                (
                    one
                    for one in self.server.faults
                    if one.times and one.method == self.command and re.search(one.path, self.where)
                ),
                None,
            )
            if fault:
                fault.times -= 1
        self.cut = self.change = None
        self.left = int(self.headers.get("Content-Length", 0))
        if "Transfer-Encoding" in self.headers:
            self.complain("a body in chunks")
        if self.headers.get("Accept-Encoding") != "identity":
            self.complain(f"Accept-Encoding {self.headers.get('Accept-Encoding')}")
        if "Cookie" in self.headers:
            self.complain("a cookie")
        (fault.act if fault else Handler.serve)(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_method  # noqa: N815

    def complain(self, what):
        self.server.complaints.append(f"{self.command} {self.path}: {what}")

    def body(self) -> bytes:
        data = b"".join(iter(self._piece, b""))
        if self.left:
            raise ConnectionError
        return data

    def _piece(self):
        piece = self.rfile.read(min(self.left, PIECE))
        self.left -= len(piece)
        return piece

    def drain(self):
        while self._piece():
            pass

    def answer(self, code, body=b"", kind="application/json", headers=()):
        self.seen.status.append(code)
        self.drain()
        if self.change and code == 200:
            body = self.change(body)
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "id=1")
        if body:
            self.send_header("Content-Type", kind)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(ConnectionError):
            if self.cut is not None and self.cut < len(body):
                self.wfile.write(body[: self.cut])
                self.close_connection = True
                return
            self.wfile.write(body)

    def error(self, code, name, message="no", headers=()):
        body = json.dumps({"errors": [{"code": name, "message": message}]}).encode()
        self.answer(code, body, headers=headers)

    def serve(self):
        if self.where == "/token":
            self.token()
            return
        if self.where == "/v2/":
            if self.allowed(None):
                self.answer(200, b"{}")
            return
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs|referrers|tags)/(.*)", self.where)
        if not found:
            self.error(404, "UNSUPPORTED")
            return
        name, kind, what = found.groups()
        if self.allowed(name):
            getattr(self, kind)(self.server.repository(name), name, what)

    def allowed(self, name) -> bool:
        login, sent = self.server.login, self.headers.get("Authorization")
        if login is None:
            if sent:
                self.complain("an Authorization that nobody asked for")
            return True
        action = "pull" if self.command in ("GET", "HEAD") else "push"
        if login == "basic":
            good = sent in [_basic(*pair) for pair in self.server.users.items()]
            challenge = 'Basic realm="here"'
        else:
            scopes, uses = self.server.tokens.get((sent or "").removeprefix("Bearer "), ((), 0))
            with self.server.lock:
                if uses:
                    self.server.tokens[sent.removeprefix("Bearer ")][1] -= 1
            good = uses and (
                name is None
                or any(
                    action in scope.rpartition(":")[2].split(",")
                    for scope in scopes
                    if scope.rpartition(":")[0] == f"repository:{name}"
                )
            )
            if sent and sent.startswith("Basic "):
                self.complain("a password to a registry that wants a token")
            actions = "pull" if action == "pull" else "pull,push"
            challenge = f'Bearer realm="{self.server.realm}",service="here"'
            if name is not None:
                challenge += f',scope="repository:{name}:{actions}",error="invalid_token"'
        if not good:
            self.error(401, "UNAUTHORIZED", "who are you", {"WWW-Authenticate": challenge})
        return bool(good)

    def token(self):
        if self.command == "POST":
            form = parse_qs(self.body().decode())
            good = form.get("refresh_token", [None])[0] in self.server.identity_tokens
            scopes = form.get("scope", [""])[0].split()
            if form.get("grant_type") != ["refresh_token"] or not form.get("client_id"):
                self.complain("a bad form")
        else:
            sent = self.headers.get("Authorization")
            good = sent is None or sent in [_basic(*pair) for pair in self.server.users.items()]
            scopes = self.query.get("scope", [])
        if not good:
            self.error(401, "UNAUTHORIZED")
            return
        token = f"token-{uuid.uuid4().hex}"
        denied = self.server.denied
        given = [
            scope.rpartition(":")[0]
            + ":"
            + ",".join(one for one in scope.rpartition(":")[2].split(",") if one not in denied)
            for scope in scopes
        ]
        with self.server.lock:
            self.server.tokens[token] = [given, self.server.token_uses]
        answer = {"token": token, "expires_in": self.server.expires_in}
        self.answer(200, json.dumps(answer).encode())

    def blobs(self, repository, name, what):
        if self.command in ("POST", "PUT", "DELETE"):
            self.upload(repository, name, what)
            return
        if what not in repository.blobs:
            self.error(404, "BLOB_UNKNOWN")
            return
        if self.server.blobs_at and self.command == "GET":
            location = f"{self.server.blobs_at}{self.where}?signature=hidden"
            self.answer(307, headers={"Location": location})
            return
        data, headers = repository.blobs[what], {"Docker-Content-Digest": what}
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if span and self.server.ranges:
            first = int(span[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[first:], "application/octet-stream", headers)
        else:
            self.answer(200, data, "application/octet-stream", headers)

    def upload(self, repository, name, what):
        ident = what.removeprefix("uploads/")
        if self.command == "POST":
            source = self.server.repository(self.query["from"][0]) if "from" in self.query else None
            digest = self.query.get("mount", [None])[0]
            if source and digest in source.blobs:
                repository.blobs[digest] = source.blobs[digest]
                self.answer(201, headers={"Location": f"/v2/{name}/blobs/{digest}"})
                return
            ident = uuid.uuid4().hex
            self.server.uploads[ident] = name
            base = self.server.uploads_at or ""
            location = f"{base}/v2/{name}/blobs/uploads/{ident}?state=a%2Fb"
            self.answer(202, headers={"Location": location})
            return
        if self.server.uploads.pop(ident, None) != name:
            self.error(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.command == "DELETE":
            self.answer(204)
            return
        if self.query.get("state") != ["a/b"]:
            self.complain("the location of the upload was changed")
        if "Content-Length" not in self.headers:
            self.complain("no Content-Length")
        data = self.body()
        if [sha256(data)] != self.query.get("digest"):
            self.error(400, "DIGEST_INVALID")
            return
        repository.blobs[sha256(data)] = data
        self.answer(201, headers={"Location": f"/v2/{name}/blobs/{sha256(data)}"})

    def manifests(self, repository, name, what):
        if self.command == "PUT":
            self.put_manifest(repository, name, what)
            return
        if self.command == "DELETE":
            self.delete_manifest(repository, what)
            return
        with self.server.lock:
            digest = repository.tags.get(what, what)
        if digest not in repository.manifests:
            self.error(404, "MANIFEST_UNKNOWN")
            return
        kind, data = repository.manifests[digest]
        if kind in TYPES and kind not in self.headers.get("Accept", ""):
            self.complain(f"an Accept without {kind}")
        self.answer(200, data, kind, {"Docker-Content-Digest": digest})

    def delete_manifest(self, repository, what):
        if self.server.deletes is not True:
            self.error(self.server.deletes, "UNSUPPORTED")
            return
        with self.server.lock:
            known = repository.manifests.pop(what, None)
        self.answer(202 if known else 404)

    def put_manifest(self, repository, name, what):
        data, kind = self.body(), self.headers.get("Content-Type")
        value, digest = json.loads(data), sha256(data)
        if kind not in TYPES or value.get("mediaType", kind) != kind:
            self.complain(f"Content-Type {kind}")
        if ":" in what and what != digest:
            self.error(400, "DIGEST_INVALID")
            return
        wanted = [value[one] for one in ("config",) if one in value] + value.get("layers", [])
        if any(one["digest"] not in repository.blobs for one in wanted):
            self.error(400, "MANIFEST_BLOB_UNKNOWN")
            return
        headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
        if "subject" in value and self.server.says_subject:
            headers["OCI-Subject"] = value["subject"]["digest"]
        with self.server.lock:
            repository.manifests[digest] = (kind, data)
            if ":" not in what:
                repository.tags[what] = digest
        self.answer(201, headers=headers)

    def tags(self, repository, name, what):
        if what != "list" or not repository.manifests:
            self.error(404, "NAME_UNKNOWN")
            return
        found, headers = sorted(repository.tags), {}
        last, page = self.query.get("last", [""])[0], self.server.page
        found = [one for one in found if one > last]
        if page and page < len(found):
            found = found[:page]
            headers["Link"] = f'<{self.where}?n={page}&last={found[-1]}>; rel="next"'
        self.answer(200, json.dumps({"name": name, "tags": found}).encode(), headers=headers)

    def referrers(self, repository, name, what):
        if not self.server.has_referrers:
            self.answer(404, b"404 page not found", "text/plain")
            return
        found, headers = [], {}
        for digest, (kind, data) in list(repository.manifests.items()):
            value = json.loads(data)
            if (value.get("subject") or {}).get("digest") == what:
                entry = {"mediaType": kind, "digest": digest, "size": len(data)}
                entry["artifactType"] = value.get("artifactType") or value["config"]["mediaType"]
                entry["annotations"] = value.get("annotations", {})
                found.append(entry)
        if wanted := self.query.get("artifactType"):
            found = [one for one in found if one["artifactType"] == wanted[0]]
            headers["OCI-Filters-Applied"] = "artifactType"
        first, page = int(self.query.get("first", ["0"])[0]), self.server.page
        if page and first + page < len(found):
            headers["Link"] = f'<{self.where}?first={first + page}>; rel="next"'
            if wanted:
                headers["Link"] = headers["Link"].replace("?", f"?artifactType={wanted[0]}&")
        found = found[first : first + page] if page else found
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}).encode()
        self.answer(200, body, INDEX, headers)


def _basic(user, password):
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
