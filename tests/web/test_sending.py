"""Uploading with a browser: a file at a time with a script, or a form of several without one."""

import hashlib
import secrets
from pathlib import Path

import httpx2 as httpx
import pytest
from sqlalchemy import func, select

from fairway.db.models import Artifact, Audit
from fairway.registry import accounts, channels, sessions
from fairway.registry.actor import CONSOLE, Role
from fairway.registry.channels import Change
from fairway.web.pages import sending
from tests.support.browser import OWN, Tags
from tests.support.builders import conda_package, tar_bz2_package
from tests.support.people import ROLES
from tests.support.server import PASSWORD
from tests.web.test_memory import resident
from tests.web.test_pages import HOSTILE

MAY = ("uploader", "maintainer", "owner")
UPLOAD = "/channels/lab/upload"
BOUNDARY = "----fairway"


@pytest.fixture
def lab(site):
    """A private channel with somebody in each role, and somebody in none."""
    site.channel("lab")
    for user in (*ROLES, "stranger"):
        site.user(user)
    with site.app.database.write() as session:
        for role in ROLES:
            channels.set_member(session, CONSOLE, "lab", role, Role.of(role), now=1)
    return site


def token(browser, path=UPLOAD):
    return browser.page(path).token()


def send(browser, package, *, csrf=None, path=UPLOAD, **query):
    """As upload.js does."""
    filename, data = package
    headers = {"x-csrf-token": token(browser) if csrf is None else csrf, "accept": "application/json", **OWN}
    params = {"filename": filename, **query}
    return browser.client.post(f"{path}/file", params=params, content=data, headers=headers)


def multipart(parts):
    """A form as browsers write it: `(name, value)`, or `(name, (filename, bytes))`."""
    body = b""
    for name, value in parts:
        filename, data = value if isinstance(value, tuple) else (None, value.encode())
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            body += f'; filename="{filename}"\r\nContent-Type: application/octet-stream'.encode()
        body += b"\r\n\r\n" + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def send_form(browser, parts, *, csrf=None, path=UPLOAD, headers=OWN):
    """As a browser without scripts does: the token comes first, as the page has it."""
    fields = [("csrf", token(browser) if csrf is None else csrf), *parts]
    sent = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **headers}
    return browser.client.post(path, content=multipart(fields), headers=sent)


def files(site):
    with site.app.database.read() as session:
        return sorted(session.scalars(select(Artifact.filename).where(Artifact.deleted_at.is_(None))))


def staged(site):
    return [path for path in site.app.staging.folder.iterdir() if path.suffix == ".part" or path.is_file()]


def nothing_left(site):
    """Neither rows nor half a file."""
    with site.app.database.read() as session:
        lines = session.scalar(select(func.count()).where(Audit.action.like("artifact.%")))
    return (files(site), lines, staged(site)) == ([], 0, [])


# --- with a script -----------------------------------------------------------------------------------------------------


def test_a_file_says_what_was_found_in_it(lab):
    filename, data = conda_package("arm", "1.5", depends=["python >=3.11", "joint"])
    answer = send(lab.browser("uploader"), (filename, data))
    assert answer.status_code == 201, answer.text
    assert answer.json() == {
        "filename": filename,
        "name": "arm",
        "version": "1.5",
        "build": "h0_0",
        "subdir": "noarch",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "href": "/channels/lab/packages/arm",
        "depends": ["python >=3.11", "joint"],
        "note": "Worth knowing: neither the channel nor one that it is related to has joint, python.",
    }
    assert files(lab) == [filename]
    with lab.app.database.read() as session:
        line = session.scalars(select(Audit).where(Audit.action == "artifact.publish")).one()
    assert (line.actor, line.token_id) == ("uploader", None)


def test_sending_it_again_is_a_success_that_says_so(lab):
    browser, package = lab.browser("uploader"), conda_package("arm")
    assert send(browser, package).status_code == 201
    again = send(browser, package)
    assert (again.status_code, again.json()["note"]) == (200, "The very same file was there already.")


def test_other_bytes_replace_it_only_where_the_channel_allows_it_and_who_may_says_so(lab):
    one, other = conda_package("arm", files={"a": b"1"}), conda_package("arm", files={"a": b"2"})
    maintainer = lab.browser("maintainer")
    assert send(maintainer, one).status_code == 201
    assert (refused := send(maintainer, other, force="true")).status_code == 409
    assert refused.json()["code"] == "file_exists"
    assert "does not allow overwriting" in refused.json()["detail"]
    assert not ticks(maintainer)
    with lab.app.database.write() as session:
        channels.update_channel(session, CONSOLE, "lab", Change(allow_overwrite=True), now=2)
    assert send(maintainer, other).status_code == 409
    assert send(lab.browser("uploader"), other, force="true").status_code == 403
    assert not ticks(lab.browser("uploader"))
    assert ticks(maintainer)
    replaced = send(maintainer, other, force="true")
    assert (replaced.status_code, replaced.json()["note"]) == (201, "It replaced the file that had its name.")


def ticks(browser):
    return [field for field in browser.page(UPLOAD).named("input") if field.get("name") == "force"]


@pytest.mark.parametrize("name", ["x.zip", "../arm-1.0-0.conda", "arm.conda", "", "a" * 300 + "-1-0.conda"])
def test_a_name_that_is_none_is_refused_before_the_file_is_kept(lab, name):
    answer = send(lab.browser("uploader"), (name, b"x" * 1000))
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert nothing_left(lab)


def test_a_refusal_is_the_apis_own(lab):
    browser, key = lab.browser("uploader"), lab.key("uploader")
    broken = [
        ("arm-1.0-0.conda", b"no archive"),
        ("other-1.0-h0_0.conda", conda_package("arm")[1]),
        conda_package("arm", depends=["python >=3.11,<"]),
    ]
    for filename, data in broken:
        mine, its = send(browser, (filename, data)), lab.put("lab", (filename, data), key)
        assert mine.status_code == its.status_code == 422
        assert mine.json() == its.json()
    assert nothing_left(lab)


def test_each_gets_the_answer_that_is_theirs(lab):
    csrf = token(lab.browser("owner"))
    for path in (UPLOAD, "/channels/missing/upload"):
        missing = "missing" in path
        for user in (*ROLES, "stranger", "admin"):
            browser = lab.browser(user)
            allowed = user in (*MAY, "admin")
            hidden = missing or user == "stranger"
            wanted = 404 if hidden else 200 if allowed else 403
            assert browser.get(path).status_code == wanted, (path, user)
            own = browser.page("/settings").token()
            sent = send(browser, conda_package("arm", f"1.{user}"), csrf=own, path=path)
            assert sent.status_code == (404 if hidden else 201 if allowed else 403), (path, user)
            sent = send_form(browser, [("file", conda_package("arm", f"2.{user}"))], csrf=own, path=path)
            assert sent.status_code == wanted, (path, user)
        nobody = lab.browser()
        assert nobody.get(path).status_code == 401
        assert send(nobody, conda_package("arm", "9"), csrf=csrf, path=path).status_code == 401
        assert send_form(nobody, [("file", conda_package("arm", "9"))], csrf=csrf, path=path).status_code == 401
    assert len(files(lab)) == 2 * len((*MAY, "admin"))


def test_an_api_key_is_no_session(lab):
    filename, data = conda_package("arm")
    headers = {"authorization": f"Bearer {lab.key('owner')}", "x-csrf-token": "x", **OWN}
    answer = lab.client.post(f"{UPLOAD}/file?filename={filename}", content=data, headers=headers)
    assert answer.status_code == 401
    assert nothing_left(lab)


@pytest.mark.parametrize("made", ["", "x", "of another"])
def test_a_form_without_its_own_token_takes_nothing(lab, made):
    browser = lab.browser("owner")
    wrong = token(lab.browser("owner")) if made == "of another" else made
    assert send(browser, conda_package("arm"), csrf=wrong).status_code == 403
    assert send_form(browser, [("file", conda_package("arm"))], csrf=wrong).status_code == 403
    # a token behind the file is too late: the file is not read
    late = multipart([("file", conda_package("arm")), ("csrf", token(browser))])
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **OWN}
    assert browser.client.post(UPLOAD, content=late, headers=headers).status_code == 403
    assert nothing_left(lab)


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://x.example"}, {}])  # fmt: skip
def test_another_sites_page_sends_nothing(lab, headers):
    browser, csrf = lab.browser("owner"), token(lab.browser("owner"))
    assert send_form(browser, [("file", conda_package("arm"))], csrf=csrf, headers=headers).status_code == 403
    sent = {"x-csrf-token": token(browser), **headers}
    filename, data = conda_package("arm")
    assert browser.client.post(f"{UPLOAD}/file?filename={filename}", content=data, headers=sent).status_code == 403
    assert nothing_left(lab)


def test_who_is_put_out_while_the_file_arrives_publishes_nothing(lab):
    browser = lab.browser("uploader")
    csrf = token(browser)
    filename, data = conda_package("arm")

    def slowly():
        yield data[:100]
        with lab.app.database.write() as session:
            sessions.end_all(session, CONSOLE, accounts.user_named(session, "uploader").id, now=lab.app.now())
        yield data[100:]

    answer = browser.client.post(
        f"{UPLOAD}/file?filename={filename}", content=slowly(), headers={"x-csrf-token": csrf, **OWN}
    )
    assert answer.status_code == 401
    assert nothing_left(lab)


def test_uploads_of_a_person_are_limited_as_those_of_a_key(lab):
    from fairway.web.limits import Limit

    lab.client.app.app.router.state.limits.uploads = Limit("uploads", 1, 60, 2)
    for number, user in enumerate(("uploader", "uploader", "uploader", "owner")):
        # two browsers of one person are one
        answer = send(lab.browser(user), conda_package("arm", f"1.{number}"))
        assert answer.status_code == (429 if number == 2 else 201)
    assert answer.headers.get("retry-after") is None
    form = [("file", conda_package("arm", f"2.{number}")) for number in range(3)]
    answer = send_form(lab.browser("owner"), form)
    assert answer.status_code == 429
    assert len(files(lab)) == 4


# --- without one -------------------------------------------------------------------------------------------------------


def test_a_form_takes_many_files_and_says_of_each_what_became_of_it(lab):
    good, bz2 = conda_package("arm", "1.5", depends=["joint"]), tar_bz2_package("joint", "2.0", subdir="linux-64")
    broken = ("broken-1.0-0.conda", b"no archive")
    answer = send_form(lab.browser("uploader"), [("file", good), ("file", broken), ("file", bz2)])
    assert answer.status_code == 422
    text = Tags(answer.text).text
    for words in ("arm 1.5", "needs joint", "noarch", "joint 2.0", "linux-64", "broken-1.0-0.conda", "not taken"):
        assert words in text
    assert files(lab) == sorted([good[0], bz2[0]])
    assert staged(lab) == []


def test_a_form_of_good_files_ends_well_and_may_be_sent_again(lab):
    browser = lab.browser("uploader")
    for wanted in ("arm 1.0", "was there already"):
        answer = send_form(browser, [("file", conda_package("arm"))])
        assert answer.status_code == 200
        assert wanted in Tags(answer.text).text


def test_a_form_replaces_where_it_says_so(lab):
    with lab.app.database.write() as session:
        channels.update_channel(session, CONSOLE, "lab", Change(allow_overwrite=True), now=2)
    browser = lab.browser("owner")
    one, other = conda_package("arm", files={"a": b"1"}), conda_package("arm", files={"a": b"2"})
    assert send_form(browser, [("file", one)]).status_code == 200
    assert send_form(browser, [("file", other)]).status_code == 409
    answer = send_form(browser, [("force", "1"), ("file", other)])
    assert answer.status_code == 200
    assert "It replaced" in answer.text


@pytest.mark.parametrize("parts", [[], [("file", ("", b""))], [("note", "x")]])
def test_a_form_without_a_file_says_so(lab, parts):
    answer = send_form(lab.browser("uploader"), parts)
    assert answer.status_code == 400
    assert "Choose at least one file" in answer.text


def test_what_a_file_is_called_is_text_and_nothing_else(lab):
    answer = send_form(lab.browser("uploader"), [("file", (HOSTILE.replace('"', "'"), b"x"))])
    assert answer.status_code == 400
    assert not [one for one in Tags(answer.text).named("img") if one.get("src") == "x"]
    assert "alert(" in Tags(answer.text).text


@pytest.mark.parametrize("missing", [1000, 200, 4])
def test_a_form_that_ends_too_early_takes_no_half_file(lab, missing):
    browser = lab.browser("uploader")
    body = multipart([("csrf", token(browser)), ("file", conda_package("arm"))])
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **OWN}
    answer = browser.client.post(UPLOAD, content=body[:-missing], headers=headers)
    assert answer.status_code == 400
    assert "ended too early" in answer.text
    assert nothing_left(lab)


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(lab, monkeypatch):
    object.__setattr__(lab.app.settings, "max_file_size", 5_000)
    browser = lab.browser("uploader")
    large = ("arm-1.0-0.conda", secrets.token_bytes(2 << 20))
    assert send(browser, large).json()["code"] == "file_too_large"
    small = conda_package("joint")
    answer = send_form(browser, [("file", small), ("file", large), ("file", conda_package("late"))])
    assert answer.status_code == 413
    assert files(lab) == [small[0]]
    assert staged(lab) == []


def test_a_form_has_a_bounded_number_of_parts_and_small_fields(lab):
    browser = lab.browser("uploader")
    many = [("x", "y")] * (sending.FILES_MAX + 1)
    assert send_form(browser, many).status_code == 400
    assert send_form(browser, [("x", "y" * (sending.FIELD_MAX + 1)), ("file", conda_package("arm"))]).status_code == 400
    assert nothing_left(lab)


def test_the_page_has_what_the_script_needs(lab):
    page = lab.browser("uploader").page(UPLOAD)
    (form,) = [one for one in page.named("form") if "data-upload" in one]
    assert form["data-upload"] == f"{UPLOAD}/file"
    assert (form["action"], form["method"], form["enctype"]) == (UPLOAD, "post", "multipart/form-data")
    assert form["data-most"] == str(lab.app.settings.max_file_size)
    (field,) = [one for one in page.named("input") if one.get("type") == "file"]
    assert "multiple" in field


# --- a large one -------------------------------------------------------------------------------------------------------

LARGE = 192 << 20
GROWTH = 48 << 20


def large(before, after):
    """A body that is never in memory: `before`, a file of `LARGE` bytes, `after`."""
    yield before
    piece = b"x" * (1 << 16)
    for _ in range(LARGE // len(piece)):
        yield piece
    yield after


@pytest.mark.parametrize("form", [False, True], ids=["script", "form"])
def test_a_large_file_costs_no_memory(server, form):
    """Of a real server; what becomes of the file is not the question, so it is no package."""
    server.make_channel("lab")
    with httpx.Client(base_url=server.url, headers={"accept": "text/html", **OWN}, timeout=120) as client:
        token = Tags(client.get("/login").text).token()
        answer = client.post("/login", data={"name": "admin", "password": PASSWORD, "csrf": token})
        assert answer.status_code == 303, answer.text
        token = Tags(client.get(UPLOAD).text).token()
        ends = (b"", b"")
        headers, path = {"x-csrf-token": token}, f"{UPLOAD}/file?filename=arm-1.0-0.conda"
        if form:
            whole = multipart([("csrf", token), ("file", ("arm-1.0-0.conda", b"@"))])
            ends = tuple(whole.split(b"@"))
            headers, path = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}, UPLOAD
        small = client.post(path, content=b"".join((ends[0], b"x" * (1 << 20), ends[1])), headers=headers)
        assert small.status_code == 422
        before = resident(server.process.pid)
        answer = client.post(path, content=large(*ends), headers=headers)
        assert answer.status_code == 422
        assert peak(server.process.pid) - before < GROWTH
    assert not list((server.data / "blobs").rglob("*.part"))


def peak(pid):
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10
