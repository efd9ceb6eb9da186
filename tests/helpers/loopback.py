"""Servers on loopback that tests download from: files with ranges, and the hub's protocol."""

import base64
import hashlib
import http.server
import json
import re
import threading
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit


class Files(http.server.SimpleHTTPRequestHandler):
    """A file server that answers ranges and can hang up in the middle of a file.

    The server's `starts` are the first bytes that were asked for, `limits` says by path after how
    many bytes it hangs up, once.
    """

    def do_GET(self):
        try:
            with open(self.translate_path(self.path), "rb") as file:
                data = file.read()
        except OSError:
            return self.send_error(404)
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        self.server.starts.append(start)
        if start >= len(data) > 0:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[start : self.server.limits.pop(self.path, len(data))])

    def log_message(self, *args):
        """Say nothing."""


class Hub(Files):
    """The part of the hub's HTTP interface that `huggingface_hub` uses to download one commit.

    Files lie in `{owner}/{model}/{commit}/` of the folder served; those larger than 10 kB count as
    large ones: their digest is a SHA-256, and they are redirected to another path, as to a content
    network. The server's `gated` models may not be read.
    """

    def do_GET(self):
        path = urlsplit(self.path).path
        if path.startswith("/cdn/"):
            self.path = path.removeprefix("/cdn")
            return super().do_GET()
        return self.answer(path, body=True)

    def do_HEAD(self):
        self.answer(urlsplit(self.path).path, body=False)

    def answer(self, path, body):
        """Answer a request for a listing or a file."""
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not (api or file):
            return self.refuse(404, "EntryNotFound")
        model, commit = (api or file)[1], (api or file)[2]
        root = self.server.folder / model
        if model in self.server.gated:
            return self.refuse(403, "GatedRepo")
        if not root.is_dir():
            return self.refuse(404, "RepoNotFound")
        if not (root / commit).is_dir():
            return self.refuse(404, "RevisionNotFound")
        if api:
            files = sorted((root / commit).iterdir())
            return self.send(json.dumps([self.entry(file) for file in files]).encode(), body)
        source = root / commit / file[3]
        if not source.is_file():
            return self.refuse(404, "EntryNotFound")
        entry = self.entry(source)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["oid"]}"'}
        if "lfs" in entry:
            headers["X-Linked-Etag"] = f'"{entry["lfs"]["oid"]}"'
            headers["X-Linked-Size"] = str(entry["size"])
            elsewhere = f"http://localhost:{self.server.server_port}/cdn"
            headers["Location"] = f"{elsewhere}/{model}/{commit}/{file[3]}"
            return self.send(b"", body, headers, 302)
        return self.send(source.read_bytes(), body, headers)

    def entry(self, file):
        """Return what a listing says of a file: of the true one, where it was damaged since."""
        data = self.server.true.get(file.name, file.read_bytes())
        name = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        entry = {"type": "file", "oid": name, "size": len(data), "path": file.name}
        if len(data) > 10_000:
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
        return entry

    def refuse(self, status, code):
        """Answer with an error as the hub words it."""
        self.send(b"", True, {"X-Error-Code": code, "X-Error-Message": code}, status)

    def send(self, data, body, headers=None, status=200):
        """Send an answer."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


class WritableHub(Hub):
    """That part by which `huggingface_hub` makes a model and commits to it, without Xet.

    What is committed lies in `{owner}/{model}/main/` of the folder served. The server's `tokens`
    may write, others are refused.
    """

    def do_POST(self):
        path = urlsplit(self.path).path
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.server.tokens:
            return self.refuse(401, "Unauthorized")
        if path == "/api/repos/create":
            asked = json.loads(data)
            name = f"{asked['organization']}/{asked['name']}"
            (self.server.folder / name / "main").mkdir(parents=True, exist_ok=True)
            return self.answer_json({"url": f"{self.server.url}/{name}"})
        if path == "/api/validate-yaml":
            return self.answer_json({"warnings": [], "errors": []})
        if path.endswith("/preupload/main"):
            files = json.loads(data)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] > 10_000 else "regular",
                    "shouldIgnore": False,
                }
                for file in files
            ]
            return self.answer_json({"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{self.server.url}/put/{one['oid']}"}}}
                for one in json.loads(data)["objects"]
            ]
            return self.answer_json({"objects": objects, "transfer": "basic"})
        name = re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path)[1]
        return self.commit(name, [json.loads(line) for line in data.splitlines()])

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.stored[urlsplit(self.path).path.removeprefix("/put/")] = data
        self.send(b"", False)

    def commit(self, name, lines):
        """Write the files of a commit."""
        folder = self.server.folder / name / "main"
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                (folder / value["path"]).write_bytes(self.server.stored[value["oid"]])
        commit = {"commitUrl": f"{self.server.url}/{name}/commit/1", "commitOid": 40 * "1"}
        self.answer_json(commit)

    def answer_json(self, value):
        """Answer with a JSON value."""
        self.send(json.dumps(value).encode(), True, {"Content-Type": "application/json"})


@contextmanager
def serve(folder, handler=Files):
    """Serve a folder on loopback; yields the server, whose `url` is its address."""
    folder.mkdir(exist_ok=True)
    made = partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as running:
        running.folder, running.starts, running.limits = folder, [], {}
        running.gated, running.true, running.tokens, running.stored = set(), {}, set(), {}
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()
