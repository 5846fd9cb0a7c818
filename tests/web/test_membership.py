"""Who is in a channel, in a browser: invited, given a role, put out, gone."""

import pytest
from sqlalchemy import select, update

from fairway.db.models import Channel, Invitation
from tests.support.browser import Tags
from tests.support.people import populated
from tests.web.test_managing import LAB, audited, members, went_to
from tests.web.test_pages import HOSTILE
from tests.web.test_sending import ROLES


@pytest.fixture
def lab(site):
    return populated(site)


def test_members_are_seen_by_maintainers_and_a_member_sees_what_they_are(lab):
    for user in ("maintainer", "owner", "admin"):
        text = lab.browser(user).page(f"{LAB}/members").text
        assert all(role in text for role in ROLES), user
    for user in ("viewer", "uploader"):
        text = lab.browser(user).page(f"{LAB}/members").text
        assert f"{user} here: you may" in text
        assert "maintainer" not in text.replace("owned by", "")
    assert lab.browser("stranger").get(f"{LAB}/members").status_code == 404
    with lab.app.database.write() as session:
        session.execute(update(Channel).values(visibility="internal"))
    assert lab.browser("stranger").get(f"{LAB}/members").status_code == 403
    assert lab.browser().get(f"{LAB}/members").status_code == 401


def test_an_invitation_by_name_waits_until_it_is_accepted(lab):
    owner, stranger = lab.browser("owner"), lab.browser("stranger")
    went_to(owner.post(f"{LAB}/invite", {"who": "stranger", "role": "uploader"}), f"{LAB}/members")
    assert "stranger" not in members(lab)
    assert "stranger" in owner.page(f"{LAB}/members").text
    with lab.app.database.read() as session:
        number = session.scalar(select(Invitation.id))
    went_to(stranger.post(f"/invitations/{number}/accept", form="/invitations"), LAB)
    assert members(lab)["stranger"] == "uploader"
    assert "stranger" not in owner.page(f"{LAB}/members").text.split("Invited")[1]


def test_an_invitation_of_an_address_gives_a_link_once(lab):
    owner = lab.browser("owner")
    answer = owner.post(f"{LAB}/invite", {"who": "grace@example.com", "role": "viewer"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    link = next(word for word in Tags(answer.text).text.split() if "/invitations/" in word)
    assert link.startswith(lab.app.settings.url)
    listed = owner.page(f"{LAB}/members").text
    assert "grace@example.com" in listed
    assert link.rpartition("/")[2] not in listed
    path = link.removeprefix(lab.app.settings.url)
    went_to(lab.browser("stranger").post(f"{path}/accept", form=path), LAB)
    assert members(lab)["stranger"] == "viewer"


@pytest.mark.parametrize(
    ("who", "role", "words"),
    [
        ("", "viewer", "Say whom"),
        ("nosuchbody", "viewer", "There is no user"),
        ("viewer", "owner", "a member already"),
        ("no@address@at.all", "viewer", "not an e-mail"),
        ("stranger", "king", "Choose what they may do"),
        (HOSTILE, "viewer", "There is no user"),
    ],
)
def test_an_invitation_that_cannot_be_is_refused_beside_its_field(lab, who, role, words):
    answer = lab.browser("owner").post(f"{LAB}/invite", {"who": who, "role": role})
    assert answer.status_code == 422
    assert words in Tags(answer.text).text
    assert not [one for one in Tags(answer.text).named("img") if one.get("src") == "x"]
    assert audited(lab) == []


def test_an_invitation_can_be_withdrawn_by_who_manages_its_channel(lab):
    owner = lab.browser("owner")
    owner.post(f"{LAB}/invite", {"who": "stranger", "role": "viewer"})
    lab.channel("other", owner="stranger")
    with lab.app.database.read() as session:
        number = session.scalar(select(Invitation.id))
    stranger = lab.browser("stranger")
    assert stranger.post(f"/channels/other/invitations/{number}/withdraw", form="/settings").status_code == 404
    assert lab.browser("maintainer").post(f"{LAB}/invitations/{number}/withdraw", form="/settings").status_code == 403
    path = f"{LAB}/members"
    went_to(owner.post(f"{LAB}/invitations/{number}/withdraw", form=path), path)
    assert "Nobody waits" in owner.page(path).text
    assert stranger.post(f"/invitations/{number}/accept", form="/settings").status_code == 404


def test_invitations_are_limited(lab):
    owner = lab.browser("owner")
    seen = {owner.post(f"{LAB}/invite", {"who": "nosuchbody", "role": "viewer"}).status_code for _ in range(61)}
    assert seen == {422, 429}


def test_roles_change_and_members_go(lab):
    owner = lab.browser("owner")
    path = f"{LAB}/members/viewer"
    went_to(owner.post(path, {"act": "role", "role": "owner"}), f"{LAB}/members")
    assert members(lab)["viewer"] == "owner"
    went_to(owner.post(path, {"act": "remove"}), f"{LAB}/members")
    assert "viewer" not in members(lab)
    assert owner.get(path).status_code == 404
    assert lab.browser("viewer").get(LAB).status_code == 404


def test_nobody_becomes_a_member_without_being_asked(lab):
    owner = lab.browser("owner")
    answer = owner.post(f"{LAB}/members/stranger", {"act": "role", "role": "viewer"}, form=f"{LAB}/members/viewer")
    assert answer.status_code == 404
    assert ("stranger" in members(lab), audited(lab)) == (False, [])


def test_a_channel_keeps_an_owner(lab):
    owner = lab.browser("owner")
    for path, sent in (
        (f"{LAB}/members/owner", {"act": "role", "role": "viewer"}),
        (f"{LAB}/members/owner", {"act": "remove"}),
        (f"{LAB}/leave", {}),
    ):
        answer = owner.post(path, sent)
        assert answer.status_code == 422
        assert "last owner" in answer.text
    assert (members(lab)["owner"], audited(lab)) == ("owner", [])
    owner.post(f"{LAB}/members/viewer", {"act": "role", "role": "owner"})
    went_to(owner.post(f"{LAB}/members/owner", {"act": "role", "role": "viewer"}), "/")
    assert members(lab)["owner"] == "viewer"


@pytest.mark.parametrize("role", ["viewer", "uploader", "maintainer"])
def test_a_member_may_leave(lab, role):
    browser = lab.browser(role)
    went_to(browser.post(f"{LAB}/leave"), "/")
    assert role not in members(lab)
    assert browser.get(LAB).status_code == 404
    assert lab.browser("admin").get(f"{LAB}/leave").status_code == 404  # no member


def test_many_members_are_shown_page_by_page(lab, monkeypatch):
    monkeypatch.setattr("fairway.web.pages.membership.SHOWN", 3)
    owner = lab.browser("owner")
    first = owner.page(f"{LAB}/members")
    assert "viewer" not in first.text.split("Members")[-1].split("Invited")[0]
    (following,) = [one["href"] for one in first.named("a") if "after=" in (one.get("href") or "")]
    assert "viewer" in owner.page(following).text
