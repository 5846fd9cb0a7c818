"""H01 to H16, and H84 to H88: names, addresses and the way a file is sent."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.hostile.asking import CHANNEL, MAX_FILE_SIZE, Answer, Case, Lab, put
from tests.support import builders as b
from tests.web.dialects import BOUNDARY, form
from tests.web.reading import bundle

DEMO, DATA = b.conda_package("demo")
NONE = "0" * 64
INVALID, ENCODED = (400, "filename_invalid"), (400, "path_encoding")
MULTIPART = (400, "multipart_invalid")


def renamed(filename: str) -> bytes:
    return form(filename, DATA, {})


def names() -> Iterator[Case]:
    yield Case(1, "in a form", lambda lab: lab.form(renamed("../../etc/passwd-1-0.conda")), INVALID)
    yield Case(1, "in the address", put("..%2f..%2fetc%2fpasswd-1-0.conda", DATA), ENCODED)
    for text in ("%2f", "%5c", "%00", "%252e"):
        yield Case(2, text, put(f"a{text}b-1-0.conda", DATA), ENCODED)
    for text in ("%0d", "%0a", "%09", "%1b", "%7f"):
        yield Case(3, text, put(f"a{text}b-1-0.conda", DATA), INVALID)
    yield Case(3, "NUL", put("a%00b-1-0.conda", DATA), ENCODED)
    yield Case(3, "in a form", lambda lab: lab.form(renamed("a\tb-1-0.conda")), INVALID)
    yield Case(4, "newline at the end", put("foo-1.0-0.conda%0a", DATA), INVALID)
    for text in ("\u212a", "\u017f", "\uff46", "\u0430"):
        yield Case(5, ascii(text), put(f"{text}oo-1.0-0.conda", DATA), INVALID)
    for text in ("e\u0301", "\u00e9", "\u200d", "\u202e"):
        yield Case(6, ascii(text), put(f"f{text}o-1.0-0.conda", DATA), INVALID)
    yield Case(7, "upper case", put("Foo-1.0-0.conda", b.conda_package("Foo", "1.0", "0")[1]), (422, "name_invalid"))
    yield Case(7, "upper case inside", put("foo-1.0-0.conda", said("foo", name="Foo")), (422, "name_invalid"))
    for text in ("con", "aux", "nul", "com1", "lpt9"):
        yield Case(8, text, put(f"{text}-1-0.conda", b.conda_package(text, "1", "0")[1]), (422, "name_reserved"))
    yield Case(8, "period at the end", put("demo-1.0-h0_0.conda.", DATA), (400, "extension_unsupported"))
    yield Case(8, "space at the end", put("demo-1.0-h0_0.conda%20", DATA), INVALID)
    yield Case(9, "212 characters", put(f"{'a' * 202}-1-0.conda", DATA), (400, "filename_too_long"))
    yield Case(9, "name", put(f"{'a' * 65}-1-0.conda", DATA), (422, "name_invalid"))
    yield Case(9, "version", put(f"a-{'1' * 65}-0.conda", DATA), (422, "version_invalid"))
    yield Case(9, "build", put(f"a-1-{'0' * 65}.conda", DATA), (422, "build_invalid"))
    for text in ("__x", "a..b", "-a", ""):
        yield Case(10, f"name {text!r}", put(f"{text}-1-0.conda", DATA), (422, "name_invalid"))
    yield Case(10, "no version", put("a--0.conda", DATA), (422, "version_invalid"))
    yield Case(10, "no build", put("a-1-.conda", DATA), (422, "build_invalid"))
    yield Case(
        11,
        "version",
        put("demo-1-0-h0_0.conda", said("demo-1", "0", "h0_0", name="demo", version="1-0")),
        (422, "version_invalid"),
    )
    yield Case(
        11,
        "build",
        put("demo-1.0-a-b.conda", said("demo-1.0", "a", "b", name="demo", version="1.0", build="a-b")),
        (422, "build_invalid"),
    )
    for text in (".CONDA", ".conda.exe", ".tar.gz", ".whl", ""):
        yield Case(12, text or "none", put(f"demo-1.0-h0_0{text}", DATA), (400, "extension_unsupported"))
    yield from places()


def said(called: str, version: str = "1.0", build: str = "0", /, **index: str) -> bytes:
    """A package of these file names that says something else inside."""
    return b.conda_package(called, version, build, index=index)[1]


def places() -> Iterator[Case]:
    yield Case(13, "conda as tar.bz2", put("demo-1.0-h0_0.tar.bz2", DATA), (422, "format_mismatch"))
    yield Case(13, "tar.bz2 as conda", put(DEMO, b.tar_bz2_package("demo")[1]), (422, "format_mismatch"))
    yield Case(14, "another subdir", put(DEMO, DATA, "linux-64"), (422, "subdir_mismatch"))
    for text in ("Linux_64", "repodata.json", "amiga-68k"):
        yield Case(14, text, put(DEMO, DATA, text), (400, "subdir_invalid"))
    yield Case(14, "inside", put(DEMO, b.conda_package("demo", subdir="amiga-68k")[1]), (422, "subdir_invalid"))
    yield Case(15, "renamed", put("bar-1.0-h0_0.conda", DATA), (422, "filename_mismatch"))
    yield Case(15, "index.json of another", put("bar-1.0-0.conda", said("bar", name="foo")), (422, "filename_mismatch"))
    yield Case(16, "same bytes", deleted("gone", same=True), (409, "filename_retired"))
    yield Case(16, "other bytes", deleted("lost", same=False), (409, "filename_retired"))


def deleted(name: str, *, same: bool) -> object:
    def ask(lab: Lab) -> Answer:
        filename, data = b.conda_package(name)
        assert lab.put(filename, data)[0] == 201
        assert lab.send("DELETE", f"/api/v1/channels/{CHANNEL}/artifacts/noarch/{filename}")[0] == 204
        return lab.put(filename, data if same else b.conda_package(name, files={"other": b""})[1])

    return ask


# --- the request ---------------------------------------------------------------------------------------------------


def requests() -> Iterator[Case]:
    yield Case(84, "sha256", put(DEMO, DATA, sha256=NONE), (422, "digest_mismatch"))
    yield Case(84, "no sha256", put(DEMO, DATA, sha256="nonsense"), (422, "digest_mismatch"))
    yield Case(
        84, "X-File-SHA256", lambda lab: lab.form(form(DEMO, DATA, {"X-File-SHA256": NONE})), (422, "digest_mismatch")
    )
    yield Case(84, "announced too large", put(DEMO, b"x" * (MAX_FILE_SIZE + (2 << 20))), (413, "file_too_large"))
    yield Case(84, "too large, not announced", chunked, (413, "file_too_large"))
    yield Case(84, "shorter than announced", shorter, (400, "body_length"))
    yield Case(84, "longer than announced", longer, (422, "archive_truncated"))
    good = form(DEMO, DATA, {})
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'.encode()
    for what, body in {
        "10,000 parts": part * 10_000 + good,
        "two files": good.removesuffix(b"--\r\n") + b"\r\n" + good,
        "headers of 1 MB": good.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"x" * (1 << 20) + b"\r\n\r\n", 1),
        "no end": good[:-20],
        "no file": part + f"--{BOUNDARY}--\r\n".encode(),
        "boundary in the content": good.replace(DATA, DATA[:99] + f"\r\n--{BOUNDARY}\r\n".encode() + DATA[99:]),
        "a field of 1 MB": part.replace(b"1\r\n", b"1" * (1 << 20) + b"\r\n") + good,
    }.items():
        yield Case(85, what, lambda lab, body=body: lab.form(body), MULTIPART)
    yield Case(85, "no boundary", lambda lab: lab.form(good, "multipart/form-data"), MULTIPART)
    encoded = good.replace(f'filename="{DEMO}"'.encode(), b"filename*=UTF-8''%2e%2e%2fdemo-1.0-h0_0.conda")
    yield Case(85, "filename* that leads upwards", lambda lab: lab.form(encoded), INVALID)
    yield from attestations()
    yield Case(87, "the same at once", at_once("same", other=False), (200, ""))
    yield Case(87, "others at once", at_once("other", other=True), (409, "file_exists"))


def chunked(lab: Lab) -> Answer:
    def pieces() -> Iterator[bytes]:
        for _ in range(MAX_FILE_SIZE // (1 << 20) + 2):
            yield bytes(1 << 20)

    return lab.send("PUT", f"/api/v1/channels/{CHANNEL}/artifacts/{DEMO}", content=pieces())


def shorter(lab: Lab) -> Answer:
    """Nobody is there to read the answer; that nothing is left is looked at for all cases."""
    lab.raw({"Content-Length": str(len(DATA) + 9)}, DATA)
    return 400, "body_length"


def longer(lab: Lab) -> Answer:
    """What follows the announced length is another request to a server, and no part of this one."""
    headers = {"Content-Length": str(len(DATA) - 9), "Connection": "close"}
    status, _ = lab.raw(headers, DATA, path=f"/api/v1/channels/{CHANNEL}/artifacts/{DEMO}") or (0, "")
    return status, "archive_truncated" if status == 422 else ""


def attestations() -> Iterator[Case]:
    def wrong(old: bytes, new: bytes) -> bytes:
        import base64
        import json

        value = json.loads(bundle(DEMO, DATA))
        payload = base64.b64decode(value["dsseEnvelope"]["payload"])
        assert old in payload
        value["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(old, new)).decode()
        return json.dumps(value).encode()

    for what, text in {
        "another file": bundle("other-1.0-0.conda", DATA),
        "another digest": bundle(DEMO, DATA + b"x"),
        "another predicate": wrong(b"attestations-publish-1", b"attestations-publish-2"),
        "two subjects": wrong(b'"subject": [', b'"subject": [{}, '),
        "no envelope": b"{}",
        "no JSON": b"{",
        "300 KB": b"[" + b" " * 250_000 + b"]",
    }.items():
        yield Case(86, what, lambda lab, text=text: lab.form(attested(text)), (422, "attestation_invalid"))
    yield Case(86, "10 MB", lambda lab: lab.form(attested(bytes(10 << 20))), MULTIPART)


def attested(text: bytes) -> bytes:
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="attestation"\r\n\r\n'.encode()
    return field + text + b"\r\n" + form(DEMO, DATA, {})


def at_once(name: str, *, other: bool) -> object:
    """Two uploads of one name: the one that came first is stored, and this is the answer to the second."""

    def ask(lab: Lab) -> Answer:
        filename, data = b.conda_package(name)
        again = b.conda_package(name, files={"other": b""})[1] if other else data
        with ThreadPoolExecutor(2) as threads:
            answers = sorted(threads.map(lambda sent: lab.put(filename, sent), (data, again)))
        assert (201, "") in answers
        answers.remove((201, ""))
        return answers[0]

    return ask
