"""A stand-in of the Hub's HTTP API on loopback: the calls that a push and a download make, with its errors.

It keeps repositories in memory: branches, commits, trees, and the large files that were uploaded by the
LFS protocol or to Xet storage. What it answers was read off huggingface_hub 2.4 and hf_xet 1.8, the
clients that talk to it here.
"""

import base64
import hashlib
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE = (".safetensors", ".png", ".bin", ".model")
XET_TOKEN = "for-storage-alone"
TOKEN = "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0123"


@dataclass
class Repository:
    """Branches point to commits, a commit to its tree: path to content."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, tree: dict[str, bytes], message: str) -> str:
        oid = hashlib.sha1(f"{len(self.commits)} {message} {sorted(tree)}".encode()).hexdigest()
        self.commits[oid] = tree
        self.branches[branch] = oid
        self.messages.append(message)
        return oid

    def tree(self, revision: str) -> dict[str, bytes] | None:
        return self.commits.get(self.branches.get(revision, revision))


@dataclass
class Fault:
    """The answer to the next `times` requests whose method and path match."""

    match: str
    status: int
    times: int = 1
    after: bool = False
    """Do what was asked, and lose the answer."""
    headers: dict[str, str] = field(default_factory=dict)


class HubStandIn:
    """`with HubStandIn() as hub:` serves at `hub.url` until the end of the block."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "HubStandIn":
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def add(self, name: str, files: dict[str, bytes], private: bool = False) -> Repository:
        """A repository that is there already."""
        repository = self.repositories[name] = Repository(private)
        repository.commit("main", {".gitattributes": b"", **files}, "initial commit")
        return repository

    def fail(self, match: str, status: int, **options: object) -> None:
        """Answer the next request that matches with an error."""
        self.faults.append(Fault(match, status, **options))

    def count(self, match: str) -> int:
        """How many requests matched so far."""
        return sum(re.search(match, line) is not None for line in self.seen)


@contextmanager
def connected(monkeypatch, home):
    """A stand-in that the client of this process talks to, with TOKEN, a cache of its own, and the LFS protocol.

    Xet storage, which that client prefers, would write a log and a cache of chunks elsewhere.
    """
    from huggingface_hub import constants

    with HubStandIn() as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        settings = {"ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
        settings |= {"HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(home / "hub")}
        settings |= {"HF_TOKEN_PATH": str(home / "token"), "HF_STORED_TOKENS_PATH": str(home / "tokens")}
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET

    def _handle(self) -> None:
        hub, parts = self.hub, urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self._chunks()
        path, line = unquote(parts.path), f"{self.command} {parts.path}"
        self.query = parse_qs(parts.query)
        hub.seen.append(line)
        fault = next((fault for fault in hub.faults if fault.times and re.search(fault.match, line)), None)
        if fault:
            fault.times -= 1
            if not fault.after:
                return self._answer(fault.status, {"error": "stand-in"}, fault.headers)
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split("|"):
                wanted = {"Bearer " + (XET_TOKEN if path.startswith(("/v1/", "/v2/")) else TOKEN)}
                if answer is _Handler.put_large:
                    wanted = {None}  # the address itself is the permission, as at a storage provider
                if self.headers.get("Authorization") not in wanted:
                    headers = {"X-Error-Message": "Invalid credentials in Authorization header"}
                    return self._answer(401, {"error": "Invalid credentials"}, headers)
                status, document, headers = answer(self, **found.groupdict())
                if fault:
                    return self._answer(fault.status, {"error": "stand-in"}, fault.headers)
                return self._answer(status, document, headers)
        self._answer(404, {"error": f"the stand-in knows no {line}"}, {})

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, document: object, headers: dict[str, str]) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self) -> dict:
        return json.loads(self.body)

    def create(self):
        asked = self._json()
        name = f"{asked['organization']}/{asked['name']}"
        if asked.get("type") == "dataset":
            name = f"datasets/{name}"
        url = {"url": f"{self.hub.url}/{name}", "name": name.removeprefix("datasets/")}
        if name in self.hub.repositories:
            return 409, {"error": "You already created this repo", **url}, {}
        self.hub.add(name, {}, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        return 200, url, {}

    def info(self, name, revision="main"):
        repository = self.hub.repositories.get(name)
        if repository is None:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        tree = repository.tree(revision)
        if tree is None:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        siblings = [{"rfilename": path} for path in tree]
        sha = repository.branches.get(revision, revision)
        id = name.removeprefix("datasets/")
        return 200, {"id": id, "sha": sha, "private": repository.private, "tags": [], "siblings": siblings}, {}

    def tree(self, name, revision):
        status, document, headers = self.info(name, revision)
        if status != 200:
            return status, document, headers
        tree = self.hub.repositories[name].tree(revision)
        return 200, [{"type": "file", "path": p, "size": len(c), "oid": _oid(p, c)} for p, c in tree.items()], {}

    def branch(self, name, revision):
        repository = self.hub.repositories[name]
        if revision in repository.branches:
            return 409, {"error": "Reference already exists"}, {}
        repository.branches[revision] = repository.branches["main"]
        return 200, {}, {}

    def validate(self):
        text = self._json()["content"]
        try:
            data = yaml.safe_load(text.split("---\n")[1])
            errors = [{"message": f"{name} is required"} for name in ("license",) if name not in data]
        except (yaml.YAMLError, IndexError) as error:
            errors = [{"message": str(error)}]
        return (400 if errors else 200), {"errors": errors, "warnings": []}, {}

    def preupload(self, name, revision):
        tree = self.hub.repositories[name].tree(revision)
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": _oid(file["path"], tree[file["path"]]) if file["path"] in tree else None,
            }
            for file in self._json()["files"]
        ]
        return 200, {"files": modes}, {}

    def batch(self, name):
        objects = []
        for wanted in self._json()["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.large:
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.url}/large/{wanted['oid']}"},
                    "verify": {"href": f"{self.hub.url}/verify/{wanted['oid']}"},
                }
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}, {}

    def put_large(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.large[oid] = self.body
        return 200, {}, {}

    def xet_token(self, name, revision):
        expires = int(time.time()) + 3600
        return 200, {"accessToken": XET_TOKEN, "exp": expires, "casUrl": self.hub.url}, {}

    def xorb(self, oid):
        """Chunks, each after 8 bytes: version, stored length (3 bytes), compression, length (3 bytes).

        One file at a time, and of bytes that cannot be compressed: then the chunks in order are the file.
        """
        content, place = b"", 0
        while place < len(self.body) and self.body[place : place + 7] != b"XETBLOB":
            length = int.from_bytes(self.body[place + 1 : place + 4], "little")
            assert self.body[place + 4] == 0, "compressed"
            content += self.body[place + 8 : place + 8 + length]
            place += 8 + length
        self.hub.large[hashlib.sha256(content).hexdigest()] = content
        return 200, {"was_inserted": True}, {}

    def shard(self):
        return 200, {"result": 1}, {}

    def verify(self, oid):
        assert len(self.hub.large[oid]) == self._json()["size"]
        return 200, {}, {}

    def commit(self, name, revision):
        repository = self.hub.repositories[name]
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        header = header["value"]
        if header.get("parentCommit") not in (None, repository.branches[revision]):
            return 412, {"error": "A commit has happened since. Please refresh and try again."}, {}
        tree = dict(repository.tree(revision))
        for operation in operations:
            key, value = operation["key"], operation["value"]
            if key == "deletedFile":
                del tree[value["path"]]
            else:
                large = key == "lfsFile"
                tree[value["path"]] = self.hub.large[value["oid"]] if large else base64.b64decode(value["content"])
        oid = repository.commit(revision, tree, header["summary"])
        return 200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "success": True}, {}

    def discussion(self, name):
        repository = self.hub.repositories[name]
        number = sum(branch.startswith("refs/pr/") for branch in repository.branches) + 1
        repository.branches[f"refs/pr/{number}"] = repository.branches["main"]
        return 200, {"num": number}, {}

    def details(self, name, number):
        return 200, {
            "title": "pull request", "num": int(number), "createdAt": "2025-01-01T00:00:00.000Z", "status": "draft",
            "repo": {"name": name, "type": "model"}, "isPullRequest": True, "events": [], "filesWithConflicts": [],
            "changes": {"base": "refs/heads/main"},
        }, {}  # fmt: skip

    def resolve(self, name, revision, path):
        status, document, headers = self.info(name, revision)
        if status != 200:
            return status, document, headers
        repository = self.hub.repositories[name]
        commit = {"X-Repo-Commit": repository.branches.get(revision, revision)}
        content = repository.tree(revision).get(path)
        if content is None:
            return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", **commit}
        return 200, content, {"ETag": f'"{_oid(path, content)}"', **commit}


def _oid(path: str, content: bytes) -> str:
    """What git calls the content: of a large file its SHA-256, else of the blob."""
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


# A model is called USER/NAME here, a dataset datasets/USER/NAME.
_REPO, _REVISION = r"(?P<name>(?:datasets/)?[\w.-]+/[\w.-]+)", r"(?P<revision>refs/pr/\d+|[\w.-]+)"
_ROUTES = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", f"/api/(?:models/)?{_REPO}", _Handler.info),
    ("GET", f"/api/(?:models/)?{_REPO}/revision/{_REVISION}", _Handler.info),
    ("GET", f"/api/(?:models/)?{_REPO}/tree/{_REVISION}", _Handler.tree),
    ("POST", f"/api/(?:models/)?{_REPO}/branch/{_REVISION}", _Handler.branch),
    ("POST", f"/api/(?:models/)?{_REPO}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", f"/{_REPO}.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/large/(?P<oid>[0-9a-f]{64})", _Handler.put_large),
    ("POST", "/verify/(?P<oid>[0-9a-f]{64})", _Handler.verify),
    ("GET", f"/api/(?:models/)?{_REPO}/xet-write-token/{_REVISION}", _Handler.xet_token),
    ("POST", "/v1/xorbs/default/(?P<oid>[0-9a-f]{64})", _Handler.xorb),
    ("POST", "/v1/shards", _Handler.shard),
    ("POST", f"/api/(?:models/)?{_REPO}/commit/{_REVISION}", _Handler.commit),
    ("POST", f"/api/(?:models/)?{_REPO}/discussions", _Handler.discussion),
    ("GET", rf"/api/(?:models/)?{_REPO}/discussions/(?P<number>\d+)", _Handler.details),
    ("GET|HEAD", f"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", _Handler.resolve),
]
