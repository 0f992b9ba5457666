"""A Hugging Face hub of its own, on the loopback interface: as much of its API as uploads and snapshots take."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import yaml

TOKEN = "hf_local"
LARGE = (".parquet", ".safetensors")


class Hub(ThreadingHTTPServer):
    """``repositories`` holds ("models" or "datasets", OWNER/NAME) -> file -> content; ``private`` those that are."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[tuple[str, str], dict[str, bytes]] = {}
        self.private: set[tuple[str, str]] = set()
        self.large: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def _answer(self, content: object, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _parts(self) -> list[str]:
        return [unquote(part) for part in self.path.partition("?")[0].strip("/").split("/")]

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        parts, body = self._parts(), self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer({"error": "no token"}, 401)
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            kind = "datasets" if asked.get("type") == "dataset" else "models"
            key = kind, f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(key, {})
            self.server.private |= {key} if asked.get("visibility") == "private" or asked.get("private") else set()
            prefix = "datasets/" if kind == "datasets" else ""
            return self._answer({"url": f"{self.server.address}/{prefix}{key[1]}"})
        if parts[-1] == "batch":
            actions = [
                {"oid": one["oid"], "size": one["size"],
                 "actions": {"upload": {"href": f"{self.server.address}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]  # fmt: skip
            return self._answer({"transfer": "basic", "objects": actions})
        if parts == ["api", "validate-yaml"]:
            front = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            errors = [{"message": f"{name} is missing"} for name in ("license", "tags") if name not in front]
            return self._answer({"errors": errors, "warnings": []}, 400 if errors else 200)
        files = self.server.repositories[parts[1], f"{parts[2]}/{parts[3]}"]
        if parts[4] == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in names}
            return self._answer(
                {"files": [{"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in modes.items()]}
            )
        for line in body.splitlines():  # a commit
            one = json.loads(line)
            if one["key"] == "file":
                files[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            elif one["key"] == "lfsFile":
                files[one["value"]["path"]] = self.server.large[one["value"]["oid"]]
        sha = _sha(files)
        return self._answer({"commitUrl": f"{self.server.address}/x/y/commit/{sha}", "commitOid": sha})

    def do_PUT(self) -> None:
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == self._parts()[-1]
        self.server.large[self._parts()[-1]] = content
        self._answer(b"")

    def do_GET(self) -> None:
        parts = self._parts()
        is_api = parts[0] == "api"
        kind = parts[1] if is_api else "datasets" if parts[0] == "datasets" else "models"
        rest = parts[2:] if is_api else parts[parts[0] == "datasets" :]
        key = kind, "/".join(rest[:2])
        allowed = key not in self.server.private or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        files = self.server.repositories.get(key)
        if files is None or not allowed:
            return self._answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
        sha = _sha(files)
        if is_api and "tree" in rest:
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            return self._answer(listed)
        if is_api:
            return self._answer({"id": key[1], "sha": sha, "siblings": [{"rfilename": name} for name in files]})
        content = files["/".join(rest[4:])]
        return self._answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=sha)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _sha(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub while the block runs."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()
