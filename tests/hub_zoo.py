"""A stand-in of the Hugging Face hub's endpoints, on loopback, as far as this toolkit asks them.

It keeps files and commits in memory, takes large files by Git LFS as the hub does, and remembers
what it was sent. `hub()` is a context manager that yields it.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_ThisTokenMustBeWrittenNowhere"


@dataclass
class Repository:
    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    @property
    def sha(self) -> str:
        return self.shas[-1]

    @property
    def shas(self) -> list[str]:
        return [hashlib.sha1(b"%d" % n).hexdigest() for n in range(1, len(self.commits) + 1)]

    def index(self, revision: str | None) -> int | None:
        """Which commit a revision names, if any."""
        if revision in (None, "main"):
            return len(self.commits) - 1
        return self.shas.index(revision) if revision in self.shas else None


@dataclass
class Hub:
    url: str
    token: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    # Patterns of "METHOD path": such a request is never answered, its connection is cut, or it is
    # answered by a failure of the server.
    silent: str = "never"
    cut: str = "never"
    failing: str = "never"
    over: threading.Event = field(default_factory=threading.Event)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # pyright: ignore

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def disturbed(self) -> bool:
        """Whether the request is one of those that go wrong, after its body was read."""
        what = f"{self.command} {self.path.partition('?')[0]}"
        if re.search(self.hub.silent, what):
            self.hub.over.wait(20)
        elif re.search(self.hub.failing, what):
            self.answer({"error": "Internal Error"}, 500)
            return True
        elif not re.search(self.hub.cut, what):
            return False
        self.close_connection = True
        return True

    def may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.hub.token}":
            return True
        self.answer({"error": "Invalid username or password."}, 401)
        return False

    def do_POST(self) -> None:
        path, body = self.path.partition("?")[0], self.body()
        self.hub.asked.append(f"POST {path}")
        if self.disturbed():
            return None
        if path == "/api/validate-yaml":
            content = json.loads(body)["content"]
            licence = re.search(r"\nlicense: (.*)", content)
            known = "\ntags:" in content and not (licence and " " in licence[1])
            errors = [] if known else [{"message": '"license" must be one of [apache-2.0, mit]'}]
            return self.answer({"errors": errors, "warnings": []}, 200 if known else 400)
        if not self.may_write():
            return None
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            there = name in self.hub.repositories
            if not there:
                self.hub.repositories[name] = Repository(
                    bool(asked.get("private")) or asked.get("visibility") == "private"
                )
            url = {"url": f"{self.hub.url}/{name}"}
            return self.answer(url, 409 if there else 200)
        if found := re.fullmatch(r"/([\w./-]+)\.git/info/lfs/objects/batch", path):
            objects = [
                {
                    "oid": one["oid"],
                    "size": one["size"],
                    "actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}},
                }
                for one in json.loads(body)["objects"]
            ]
            return self.answer({"transfer": "basic", "objects": objects})
        if re.fullmatch(r"/api/models/[\w./-]+/(?:preupload|commit)/(?!main$)\w+", path):
            return self.answer({"error": "no such branch"}, 404, X_Error_Code="RevisionNotFound")
        if found := re.fullmatch(r"/api/models/([\w./-]+)/preupload/\w+", path):
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if found := re.fullmatch(r"/api/models/([\w./-]+)/commit/\w+", path):
            return self.commit(found[1], [json.loads(line) for line in body.splitlines()])
        return self.answer({"error": f"no stand-in for {path}"}, 404)

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.hub.repositories[name]
        files = dict(repository.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repository.commits.append(files)
        where = f"{self.hub.url}/{name}/commit/{repository.sha}"
        self.answer({"commitUrl": where, "commitOid": repository.sha, "pullRequestUrl": None})

    def do_PUT(self) -> None:
        oid = self.path.rpartition("/")[2]
        content = self.body()
        if self.disturbed():
            return
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.objects[oid] = content
        self.answer(b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        if self.disturbed():
            return None
        api = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/(?:revision|tree)/(\w+))?", path)
        file = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/(\w+)/(.+)", path)
        found = api or file
        repository = self.hub.repositories.get(found[1]) if found else None
        if found is None or repository is None:
            return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        if repository.private and not self.may_write():
            return None
        index = repository.index(found[2])
        if index is None:
            return self.answer({"error": "no such revision"}, 404, X_Error_Code="RevisionNotFound")
        files, sha = repository.commits[index], repository.shas[index]
        if api and "/tree/" in path:
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": git_oid(content)}
                for name, content in sorted(files.items())
            ]
            return self.answer(listed)
        if api:
            siblings = [{"rfilename": name} for name in sorted(files)]
            about = {"id": api[1], "modelId": api[1], "sha": sha}
            return self.answer({**about, "siblings": siblings, "private": repository.private})
        assert file is not None
        content = files.get(file[3])
        if content is None:
            return self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=sha)

    def log_message(self, *arguments: Any) -> None:
        return


@contextmanager
def hub(token: str = TOKEN) -> Iterator[Hub]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}", token)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.hub
    finally:
        server.hub.over.set()
        server.shutdown()
        server.server_close()
