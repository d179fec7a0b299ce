"""A server on loopback that speaks as much of the Hub's HTTP protocol as its Python clients use."""

import hashlib
import json
import re
import secrets
import socket
import struct
import threading
from base64 import b64decode
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

USER, TOKEN = "someone", "hf_" + "t0ken" * 7
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w[\w-]*)(?:/([^/]+)(?:/(.*))?)?)?$")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
_LFS = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch$")


@dataclass
class Repository:
    """Files by path at each commit."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def commit(self, files: dict[str, bytes]) -> str:
        name = secrets.token_hex(20)
        self.commits[name] = files
        return name


class HubServer(ThreadingHTTPServer):
    """`repositories[kind, "org/name"]`, kind "models" or "datasets"; `blobs` are uploads not committed yet.

    `cut` holds paths in whose middle the connection is cut, each time; `refuse` is a status for every commit.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reset()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.refuse: int | None = None
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, kind: str, name: str, files: dict[str, bytes], private: bool = False) -> Repository:
        repository = self.repositories[kind, name] = Repository(private)
        repository.commit(files)
        return repository


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        path, self.query = unquote(address.path), parse_qs(address.query)
        if path == "/api/whoami-v2":
            return self._whoami()
        if path == "/api/repos/create":
            return self._create()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.startswith("/blobs/"):
            self.server.blobs[path.removeprefix("/blobs/")] = self.body
            return self._send(200)
        if found := _LFS.match(path):
            return self._lfs_batch()
        if found := _RESOLVE.match(path):
            return self._resolve("datasets" if found[1] else "models", *found.group(2, 3, 4))
        if found := _API.match(path):
            return self._api(*found.groups())
        return self._problem(404, None, "no such page")

    def _whoami(self) -> None:
        if not self._logged_in:
            return self._problem(401, None, "Invalid username or password.")
        self._json({"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": {"type": "access_token"}})

    def _create(self) -> None:
        if not self._logged_in:
            return self._problem(401, None, "Invalid username or password.")
        wanted = json.loads(self.body)
        owner = wanted.get("organization") or USER
        if owner != USER:
            return self._problem(403, None, "You don't have the rights to create a model under this namespace")
        kind, name = f"{wanted.get('type', 'model')}s", f"{owner}/{wanted['name']}"
        status = 409 if (kind, name) in self.server.repositories else 200
        if status == 200:
            self.server.add(kind, name, {".gitattributes": b""}, wanted.get("visibility") == "private")
        prefix = "" if kind == "models" else f"{kind}/"
        self._json({"url": f"{self.server.url}/{prefix}{name}", "name": name, "id": "0"}, status)

    @property
    def _logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, kind: str, name: str) -> Repository | None:
        """The repository, or None after the answer that the Hub gives where there is none to be seen."""
        repository = self.server.repositories.get((kind, name))
        if repository is None or (repository.private and not self._logged_in):
            status = 404 if self._logged_in else 401
            code = "RepoNotFound" if self._logged_in else None
            self._problem(status, code, "Repository not found" if code else "Invalid username or password.")
            return None
        return repository

    def _at(self, repository: Repository, revision: str) -> str | None:
        commit = repository.head if revision == "main" else revision
        if commit not in repository.commits:
            self._problem(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit

    def _lfs_batch(self) -> None:
        objects = json.loads(self.body)["objects"]
        for one in objects:
            if one["oid"] not in self.server.blobs:
                one["actions"] = {"upload": {"href": f"{self.server.url}/blobs/{one['oid']}", "header": {}}}
        self._json({"transfer": "basic", "objects": objects})

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self._repository(kind, name)
        commit = repository and self._at(repository, revision)
        if not commit:
            return
        content = repository.commits[commit].get(path)
        if content is None:
            return self._problem(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_sha(content)}"', "X-Linked-Size": str(len(content))}
        headers |= {"X-Linked-ETag": headers["ETag"], "Accept-Ranges": "bytes"}
        status, part = 200, content
        if wanted := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
            status, part = 206, content[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        self._send(status, part, headers, cut=path in self.server.cut)

    def _api(self, kind: str, name: str, action: str | None, revision: str | None, path: str | None) -> None:
        repository = self._repository(kind, name)
        commit = repository and self._at(repository, revision or "main")
        if not commit:
            return
        files = repository.commits[commit]
        if action in (None, "revision"):
            return self._json(self._info(kind, name, repository, commit))
        if action == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head}
            return self._json({"branches": [main], "tags": [], "converts": []})
        if action == "tree":
            return self._json(_tree(files, path or "", self.query.get("recursive") == ["True"]))
        if action == "paths-info":
            wanted = json.loads(self.body)["paths"] if self.body[:1] == b"{" else parse_qs(self.body.decode())["paths"]
            everything = _tree(files, "", True)
            return self._json([entry for entry in everything if entry["path"] in wanted])
        if not self._logged_in:
            return self._problem(401, None, "Invalid username or password.")
        if action == "preupload":
            asked = json.loads(self.body)["files"]
            answers = [{**one, "uploadMode": _mode(one["path"]), "shouldIgnore": False} for one in asked]
            return self._json({"files": answers})
        if action == "commit":
            if self.server.refuse:
                return self._problem(self.server.refuse, None, "The Hub is having a bad day")
            return self._commit(kind, name, repository)
        return self._problem(404, None, f"no action {action}")

    def _info(self, kind: str, name: str, repository: Repository, commit: str) -> dict:
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        own = {"id": name, "modelId": name, "sha": commit, "private": repository.private, "siblings": siblings}
        return own | {"tags": [], "downloads": 0, "likes": 0, "gated": False, "disabled": False}

    def _commit(self, kind: str, name: str, repository: Repository) -> None:
        files = dict(repository.commits[repository.head])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        commit = repository.commit(files)
        self._json({"success": True, "commitOid": commit, "commitUrl": f"{self.server.url}/{name}/commit/{commit}"})

    def _json(self, values, status: int = 200) -> None:
        self._send(status, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _problem(self, status: int, code: str | None, text: str, headers: dict | None = None) -> None:
        named = {"X-Error-Message": text} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": text}).encode(), named | (headers or {}))

    def _send(self, status: int, content: bytes = b"", headers: dict | None = None, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            # Without a farewell: what was not sent is lost, as when a line goes dead.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".png", ".parquet")) else "regular"


def _tree(files: dict[str, bytes], below: str, recursive: bool) -> list[dict]:
    below = below.strip("/")
    entries = {}
    for path, content in files.items():
        if below and not path.startswith(f"{below}/"):
            continue
        rest = path[len(below) :].strip("/").split("/")
        parents = ["/".join(filter(None, [below, *rest[:depth]])) for depth in range(1, len(rest))]
        for parent in parents if recursive else parents[:1]:
            entries[parent] = {"type": "directory", "path": parent, "oid": _sha(parent.encode())[:40], "size": 0}
        if recursive or not parents:
            entries[path] = {"type": "file", "path": path, "oid": _sha(content)[:40], "size": len(content)}
    return list(entries.values())
