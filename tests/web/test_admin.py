"""The administration: nobody else learns of it, and each act does what its page says."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select, update

from fairway.db.models import Artifact, Audit, Channel, Copy, Job, User
from fairway.queue import jobs
from fairway.registry import invitations, oversight
from fairway.registry.actor import CONSOLE, Role
from tests.support.builders import conda_package
from tests.support.site import bearer

PAGES = (
    "",
    "/users",
    "/channels",
    "/trash",
    "/storage",
    "/jobs",
    "/audit",
    "/settings",
    "/channels/lab/quota",
    "/users/ada/suspend",
    "/invitations",
    "/invitations/new",
)
ACTS = (
    "/invitations/new",
    "/invitations/1/withdraw",
    "/users/ada/suspend",
    "/users/ada/promote",
    "/channels/lab/quota",
    "/trash/lab/restore",
    "/jobs/1/retry",
)
HOSTILE = "<script>alert('x')</script>"
MINUTES = 60_000
PASSWORD = "correct horse battery staple"


@pytest.fixture
def full(site):
    """A site with a user, a channel, a file, a download and a job that failed."""
    site.user("ada")
    site.channel("lab", "public", owner="ada")
    assert site.put("lab", conda_package("demo"), site.key()).status_code == 201
    site.get("/lab/noarch/demo-1.0-h0_0.conda")
    site.settle()
    now = site.app.now()
    with site.app.database.write() as session:
        jobs.enqueue(session, "sweep", run_at=now - 1)
    with site.app.database.write() as session:
        claimed = jobs.claim(session, now=now)
        assert claimed is not None
        jobs.fail(session, claimed, f"the store is away {HOSTILE}", now=now)
    return site


@pytest.mark.parametrize("page", PAGES)
def test_only_administrators_see_it(full, page):
    path = f"/admin{page}"
    assert full.browser("admin").get(path).status_code == 200
    stranger = full.browser("ada")
    hidden, missing = stranger.get(path), stranger.get("/admin/there-is-no-such-page")
    assert (hidden.status_code, hidden.text) == (404, missing.text)
    nobody = full.browser().get(path)
    assert (nobody.status_code, nobody.headers["location"].partition("?")[0]) == (303, "/login")
    # a key is no browser's session, whatever it may do
    assert full.get(path, full.key(scope="admin")).status_code == 303


@pytest.mark.parametrize("act", ACTS)
def test_only_administrators_change_anything(full, act):
    with full.app.database.read() as session:
        before = len(list(session.scalars(select(Audit.id))))
    stranger = full.browser("ada")
    assert stranger.post(f"/admin{act}", form="/settings").status_code == 404
    assert full.client.post(f"/admin{act}", headers=bearer(full.key(scope="admin"))).status_code in {401, 403}
    with full.app.database.read() as session:
        lines = list(session.scalars(select(Audit.action)))
    assert set(lines[before:]) <= {"session.start", "token.create"}


def test_the_overview_says_how_much_there_is(full):
    shown = full.browser("admin").page("/admin")
    for words in ("2", "1 packages, 1 files", "1 failed", "The last run of sweep failed", "artifact.publish"):
        assert words in shown.text, words


def test_somebody_is_invited_makes_an_account_and_is_listed_no_more(full):
    admin = full.browser("admin")
    assert "Nobody is invited" in admin.page("/admin/invitations").text
    wrong = admin.post("/admin/invitations/new", {"email": "no address"})
    assert (wrong.status_code, "f-email-error" in wrong.text) == (422, True)
    made = admin.post("/admin/invitations/new", {"email": "eve@example.org"})
    (link,) = set(re.findall(r"http[^<\s]*(/invitations/fwy-i-\w+)", made.text))
    listed = admin.page("/admin/invitations").text
    assert listed.split("eve@example.org")[1].split()[0] == "admin"
    assert link not in listed
    eve = {"name": "eve", "email": "eve@example.org", "password": PASSWORD, "invitation": link.rpartition("/")[2]}
    assert full.browser().post("/signup", eve, form=f"/signup?invitation={eve['invitation']}").status_code == 303
    assert "Nobody is invited" in admin.page("/admin/invitations").text


def test_an_invitation_onto_the_server_is_withdrawn_and_one_into_a_channel_is_not(full):
    admin = full.browser("admin")
    now = full.app.now()
    with full.app.database.write() as session:
        ours = invitations.invite_to_server(session, CONSOLE, None, now=now)
        theirs = invitations.invite(session, CONSOLE, "lab", "eve@example.org", Role.VIEWER, now=now).invitation.id
    listed = admin.page("/admin/invitations").text
    assert "Whoever has the link" in listed
    assert "the console" in listed
    assert "eve@example.org" not in listed
    withdraw = f"/admin/invitations/{ours.invitation.id}/withdraw"
    assert admin.post(withdraw, form="/admin/invitations").status_code == 303
    assert "Nobody is invited" in admin.page("/admin/invitations").text
    assert full.browser().get(f"/invitations/{ours.code}").status_code == 404
    for number in (ours.invitation.id, theirs, 1 << 40):
        assert admin.post(f"/admin/invitations/{number}/withdraw", form="/admin/invitations").status_code == 404
    with full.app.database.read() as session:
        assert len(invitations.list_of_channel(session, CONSOLE, "lab", now=now)) == 1


def test_somebody_is_suspended_and_let_in_again(full):
    admin, ada = full.browser("admin"), full.browser("ada")
    key = full.key("ada")
    assert "Every browser is signed out" in admin.page("/admin/users/ada/suspend").text
    done = admin.post("/admin/users/ada/suspend")
    assert (done.status_code, done.headers["location"]) == (303, "/admin/users?q=ada")
    assert ada.get("/settings").status_code == 303
    assert full.get("/api/v1/channels", key).status_code == 401
    assert "suspended" in admin.page("/admin/users?state=suspended").text
    assert admin.post("/admin/users/ada/resume").status_code == 303
    assert full.get("/api/v1/channels", key).status_code == 200


def test_somebody_becomes_administrator_and_the_last_one_stays(full):
    admin = full.browser("admin")
    assert admin.post("/admin/users/admin/demote").status_code == 422
    assert admin.post("/admin/users/ada/promote").status_code == 303
    assert full.browser("ada").get("/admin").status_code == 200
    assert admin.post("/admin/users/ada/demote").status_code == 303
    assert full.browser("ada").get("/admin").status_code == 404
    assert admin.get("/admin/users/nobody-there/suspend").status_code == 404
    assert admin.get("/admin/users/ada/paint-blue").status_code in {404, 422}


def test_taking_rights_needs_the_password_again_after_a_while(full):
    admin = full.browser("admin")
    real = full.app.now
    full.app.now = lambda: real() + 16 * MINUTES
    try:
        asked = admin.get("/admin/users/ada/suspend")
        assert (asked.status_code, asked.headers["location"]) == (303, "/confirm?next=%2Fadmin%2Fusers%2Fada%2Fsuspend")
        assert admin.post("/admin/users/ada/suspend", form="/settings").status_code == 303
    finally:
        full.app.now = real
    with full.app.database.read() as session:
        assert session.scalar(select(User.suspended_at).where(User.name == "ada")) is None


def test_users_are_found_by_name_and_address(full):
    admin = full.browser("admin")
    assert "ada@example.org" in admin.page("/admin/users?q=ada%40ex").text
    assert "ada@example.org" not in admin.page("/admin/users?q=bob").text
    assert "ada@example.org" not in admin.page("/admin/users?state=admin").text
    assert "No account is like that" in admin.page("/admin/users?q=%25").text  # no wildcard


def test_a_channel_is_bound_and_set_free(full):
    admin = full.browser("admin")
    done = admin.post("/admin/channels/lab/quota", {"quota": "0.0001"})
    assert (done.status_code, done.headers["location"]) == (303, "/admin/channels?q=lab")
    assert full.put("lab", conda_package("more"), full.key()).status_code == 413
    for wrong in ("many", "-1", "1e40", "nan nan", "inf"):
        refused = admin.post("/admin/channels/lab/quota", {"quota": wrong})
        assert (refused.status_code, "Say a number of megabytes" in refused.text) == (422, True), wrong
    assert admin.post("/admin/channels/lab/quota", {"quota": ""}).status_code == 303
    assert full.put("lab", conda_package("more"), full.key()).status_code == 201
    assert admin.get("/admin/channels/none/quota").status_code == 404


def test_a_deleted_channel_is_restored(full):
    admin = full.browser("admin")
    assert "The trash is empty" in admin.page("/admin/trash").text
    assert full.client.delete("/api/v1/channels/lab", headers=bearer(full.key(scope="admin"))).status_code == 204
    assert "lab" in admin.page("/admin/trash").text
    assert "lab" not in [tag.get("aria-label") for tag in admin.page("/admin/channels").named("a")]
    done = admin.post("/admin/trash/lab/restore", form="/admin/trash")
    assert (done.status_code, done.headers["location"]) == (303, "/channels/lab")
    assert full.get("/lab/noarch/repodata.json").status_code == 200
    full.client.delete("/api/v1/channels/lab", headers=bearer(full.key(scope="admin")))
    with full.app.database.write() as session:
        session.execute(update(Channel).values(deleted_at=full.app.now() - 8 * 86_400_000))
    assert admin.post("/admin/trash/lab/restore", form="/admin/trash").status_code == 404


def test_storage_is_counted_by_channel_and_owner(full):
    shown = full.browser("admin").page("/admin/storage")
    for words in ("1 files", "lab", "ada", "100 %", "Where", "file://"):
        assert words in shown.text, words
    assert "Counts against no quota" not in shown.text


def test_what_was_fetched_of_upstreams_is_counted_by_channel_and_once_on_the_store(full):
    with full.app.database.write() as session:
        first = session.scalars(select(Artifact)).first()
        about = {
            "subdir_id": first.subdir_id,
            "name": "x",
            "md5": "",
            "indexed_at": 1,
            "gone_at": None,
            "claimed": None,
        }
        session.add(Copy(filename="x-1-0.conda", sha256="0" * 64, size=5_000_000, fetched_at=1, **about))
        session.add(Copy(filename="x-2-0.conda", sha256="1" * 64, size=9_000_000, fetched_at=None, **about))
        session.add(Copy(filename="x-3-0.conda", sha256=first.sha256, size=first.size, fetched_at=1, **about))
    with full.app.database.read() as session:
        used = oversight.storage(session, CONSOLE)
        (part,) = oversight.largest_copies(session, CONSOLE, limit=9)
        assert (part.name, part.count, part.size) == ("lab", 2, 5_000_000 + first.size)
    assert (used.copies, used.copied, used.stored) == (2, 5_000_000 + first.size, 5_000_000 + used.size)
    shown = full.browser("admin").page("/admin/storage")
    for words in ("Fetched from upstreams", "2 files, ", "Counts against no quota"):
        assert words in shown.text, words


def test_a_job_says_why_it_failed_and_is_retried(full):
    admin = full.browser("admin")
    shown = admin.page("/admin/jobs")
    assert f"the store is away {HOSTILE}" in shown.text
    assert shown.named("script") == [one for one in shown.named("script") if one.get("src", "").startswith("/static/")]
    with full.app.database.read() as session:
        job = session.scalar(select(Job))
    assert job is not None
    assert job.run_at > full.app.now()
    assert admin.post(f"/admin/jobs/{job.id}/retry", form="/admin/jobs").status_code == 303
    with full.app.database.read() as session:
        assert session.scalar(select(Job.run_at)) <= full.app.now()
    assert admin.post("/admin/jobs/12345/retry", form="/admin/jobs").status_code == 404


def test_the_audit_is_filtered_and_goes_on_by_key(full):
    admin = full.browser("admin")
    for n in range(60):
        full.channel(f"made-{n:02d}")
    first = admin.page("/admin/audit?action=channel.create")
    assert "made-59" in first.text
    assert "made-05" not in first.text
    (following,) = [one["href"] for one in first.named("a") if one.get("rel") == "next"]
    second = admin.page(following)
    assert "made-05" in second.text
    assert "made-59" not in second.text
    (before,) = [one["href"] for one in second.named("a") if one.get("rel") == "prev"]
    assert "made-59" in admin.page(before).text
    only = admin.page("/admin/audit?channel=lab&action=artifact&days=1")
    assert "noarch/demo-1.0-h0_0.conda" in only.text
    assert "made-59" not in only.text
    assert "Nothing like that was done" in admin.page("/admin/audit?by=somebody-else").text
    assert admin.get("/admin/audit?cursor=x").status_code == 400


def test_settings_say_where_they_come_from_and_no_password(full):
    text = full.browser("admin").page("/admin/settings").text
    assert "keep_days" in text
    assert "default" in text
    assert "option" in text  # the data folder, in these tests
    if "postgresql" in full.app.settings.database:
        password = full.app.database.url.password
        assert password is None or password not in text
