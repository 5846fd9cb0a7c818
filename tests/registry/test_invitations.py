"""Who may ask whom into what, and who becomes a member by it."""

import threading

import pytest
from sqlalchemy import delete, select, update

from fairway import errors
from fairway.db.models import Audit, Invitation, Member, User
from fairway.registry import accounts, administer, channels, invitations
from fairway.registry.actor import CONSOLE, Actor, Role, Scope
from fairway.registry.tokens import PATTERN, digest
from tests.registry.world import DAY, NOW


def somebody(world, name):
    with world.app.database.read() as session:
        user = session.scalars(select(User).where(User.name == name)).one()
    return Actor(user.id, user.name, is_admin=user.is_admin, scope=Scope.ADMIN, session_id=1)


def act(world, function, *arguments, **options):
    with world.app.database.write() as session:
        return function(session, *arguments, **{"now": NOW, **options})


def invite(world, who, role=Role.VIEWER, *, by="owner", channel="lab", now=NOW):
    return act(world, invitations.invite, somebody(world, by), channel, who, role, now=now)


def role_of(world, name, channel="lab"):
    with world.app.database.read() as session:
        found = {view.user: view.role for view in channels.list_members(session, CONSOLE, channel)}
    return found.get(name)


def waiting(world, name, *, now=NOW):
    with world.app.database.read() as session:
        return invitations.list_mine(session, somebody(world, name), now=now)


def of_channel(world, *, now=NOW):
    with world.app.database.read() as session:
        return invitations.list_of_channel(session, CONSOLE, "lab", now=now)


def test_who_is_named_is_asked_and_becomes_a_member_by_saying_yes(world):
    sent = invite(world, "Stranger", Role.UPLOADER)
    assert sent.code is None  # it waits for that user, and nobody else
    assert (sent.invitation.user, sent.invitation.email, sent.invitation.role) == ("stranger", None, "uploader")
    assert role_of(world, "stranger") is None
    (found,) = waiting(world, "stranger")
    assert (found.channel, found.invited_by, found.expires_at) == ("lab", "owner", NOW + 14 * DAY)
    assert act(world, invitations.accept, somebody(world, "stranger"), invitation_id=found.id) == "lab"
    assert role_of(world, "stranger") == "uploader"
    assert waiting(world, "stranger") == []
    assert of_channel(world) == []
    with pytest.raises(errors.NotFound):
        act(world, invitations.accept, somebody(world, "stranger"), invitation_id=found.id)
    with world.app.database.read() as session:
        lines = [line.action for line in session.scalars(select(Audit).order_by(Audit.id))]
    assert lines[-2:] == ["invitation.create", "invitation.accept"]


def test_an_address_gets_a_link_that_works_once_for_whoever_has_it(world):
    sent = invite(world, " New@Example.org ")
    assert PATTERN.fullmatch(sent.code)
    assert sent.code.startswith("fwy-i-")
    assert (sent.invitation.user, sent.invitation.email) == (None, "new@example.org")
    with world.app.database.read() as session:
        row = session.scalars(select(Invitation)).one()
        assert row.digest == digest(sent.code)
        assert invitations.with_code(session, sent.code, now=NOW).channel == "lab"
    assert act(world, invitations.accept, somebody(world, "stranger"), code=sent.code) == "lab"
    assert role_of(world, "stranger") == "viewer"
    for actor in ("viewer", "stranger"):
        with pytest.raises(errors.NotFound):
            act(world, invitations.accept, somebody(world, actor), code=sent.code)


def test_whether_an_address_has_an_account_is_not_to_be_seen(world):
    """Same answer, same listing; only its owner finds it among their own."""
    known, unknown = invite(world, "stranger@example.org"), invite(world, "nobody-at-all@example.org")
    member = invite(world, "viewer@example.org")
    for sent in (known, unknown, member):
        assert sent.code is not None
        assert sent.invitation.user is None
    shown = {(view.user, view.email) for view in of_channel(world)}
    assert shown == {
        (None, "stranger@example.org"), (None, "nobody-at-all@example.org"), (None, "viewer@example.org"),
    }  # fmt: skip
    (found,) = waiting(world, "stranger")
    assert found.id == known.invitation.id
    # asked by name as well: the one of the address stays, or it would tell whose it is
    invite(world, "stranger")
    assert len(of_channel(world)) == 4


def test_who_takes_an_address_later_does_not_find_what_was_sent_to_it(world):
    """Addresses are not verified: anybody could take one."""
    sent = invite(world, "boss@example.org")
    act(world, accounts.update_profile, somebody(world, "stranger"), full_name="", email="boss@example.org")
    assert waiting(world, "stranger") == []
    with pytest.raises(errors.NotFound):
        act(world, invitations.accept, somebody(world, "stranger"), invitation_id=sent.invitation.id)


def test_nobody_answers_what_others_were_asked(world):
    named = invite(world, "stranger")
    for actor in ("viewer", "owner", "admin"):
        for answer in (invitations.accept, invitations.decline):
            with pytest.raises(errors.NotFound):
                act(world, answer, somebody(world, actor), invitation_id=named.invitation.id)
    for code in ("", "x", "fwy-i-" + "0" * 38, "fwy-u-" + "0" * 38):
        with pytest.raises(errors.NotFound):
            act(world, invitations.accept, somebody(world, "stranger"), code=code)
    act(world, invitations.decline, somebody(world, "stranger"), invitation_id=named.invitation.id)
    assert waiting(world, "stranger") == []
    assert role_of(world, "stranger") is None


@pytest.mark.parametrize("by", ["maintainer", "uploader", "viewer"])
def test_only_owners_and_administrators_invite_see_and_withdraw(world, by):
    sent = invite(world, "stranger")
    for function, arguments in (
        (invitations.invite, ("lab", "admin", Role.VIEWER)),
        (invitations.list_of_channel, ("lab",)),
        (invitations.withdraw, (sent.invitation.id,)),
        (channels.transfer, ("lab", "viewer")),
    ):
        more = {"channel": "lab"} if function is invitations.withdraw else {}
        with pytest.raises(errors.NotAllowed):
            act(world, function, somebody(world, by), *arguments, **more)
    with pytest.raises(errors.NotFound):  # it is not there for them
        act(world, invitations.invite, somebody(world, "stranger"), "lab", "admin", Role.VIEWER)
    assert invite(world, "admin", by="admin").invitation.user == "admin"


def test_a_key_for_less_invites_nobody(world):
    for scope in ("read", "upload"):
        with pytest.raises(errors.NotAllowed):
            act(world, invitations.invite, world.actor("owner", scope), "lab", "stranger", Role.OWNER)


def test_what_is_withdrawn_declined_or_too_late_leads_nowhere(world):
    sent = invite(world, "a@example.org")
    act(world, invitations.withdraw, somebody(world, "owner"), sent.invitation.id, channel="lab")
    late = invite(world, "b@example.org", now=NOW - invitations.LIFE_MS)
    again = invite(world, "c@example.org")
    invite(world, "c@example.org")  # who is asked anew is asked once
    world.channel("other")
    for code in (sent.code, late.code, again.code):
        with pytest.raises(errors.NotFound), world.app.database.read() as session:
            invitations.with_code(session, code, now=NOW)
        with pytest.raises(errors.NotFound):
            act(world, invitations.accept, somebody(world, "stranger"), code=code)
    (left,) = of_channel(world)
    with pytest.raises(errors.NotFound):  # another channel's
        act(world, invitations.withdraw, somebody(world, "owner"), left.id, channel="other")
    assert left.email == "c@example.org"


def test_who_was_put_out_does_not_come_back_by_what_they_had_sent(world):
    """An owner asks a second account of theirs in, and is removed."""
    act(world, channels.set_member, CONSOLE, "lab", "stranger", Role.OWNER)
    sent = invite(world, "second@example.org", Role.OWNER, by="stranger")
    act(world, channels.set_member, CONSOLE, "lab", "stranger", None)
    with pytest.raises(errors.Invalid) as caught:
        act(world, invitations.accept, somebody(world, "admin"), code=sent.code)
    assert caught.value.code == "invitation_void"
    act(world, channels.set_member, CONSOLE, "lab", "stranger", Role.OWNER)
    act(world, administer.suspend, CONSOLE, "stranger")
    with pytest.raises(errors.Invalid):
        act(world, invitations.accept, somebody(world, "admin"), code=sent.code)


@pytest.mark.parametrize("role", [None, Role.VIEWER])
def test_what_owners_decide_last_counts(world, role):
    """Somebody who was put out, or may less, does not say yes to what they were asked before."""
    sent = invite(world, "maintainer@example.org", Role.OWNER)
    assert len(waiting(world, "maintainer")) == 1
    act(world, channels.set_member, somebody(world, "owner"), "lab", "maintainer", role)
    assert (waiting(world, "maintainer"), of_channel(world)) == ([], [])
    for which in ({"invitation_id": sent.invitation.id}, {"code": sent.code}):
        with pytest.raises(errors.NotFound):
            act(world, invitations.accept, somebody(world, "maintainer"), **which)
    assert role_of(world, "maintainer") == (role.text if role else None)
    # and what they are asked from then on counts
    again = invite(world, "maintainer@example.org", Role.UPLOADER)
    act(world, invitations.accept, somebody(world, "maintainer"), code=again.code)
    assert role_of(world, "maintainer") == "uploader"


def test_nobody_loses_a_role_by_saying_yes(world):
    with pytest.raises(errors.Invalid) as caught:
        invite(world, "maintainer", Role.VIEWER)
    assert caught.value.code == "member_already"
    sent = invite(world, "somewhere@example.org", Role.VIEWER)
    act(world, invitations.accept, somebody(world, "maintainer"), code=sent.code)
    assert role_of(world, "maintainer") == "maintainer"
    sent = invite(world, "somewhere@example.org", Role.OWNER)
    act(world, invitations.accept, somebody(world, "maintainer"), code=sent.code)
    assert role_of(world, "maintainer") == "owner"


def test_a_deleted_channel_asks_nobody(world):
    sent, named = invite(world, "x@example.org"), invite(world, "stranger")
    act(world, channels.delete_channel, CONSOLE, "lab")
    assert waiting(world, "stranger") == []
    for which in ({"code": sent.code}, {"invitation_id": named.invitation.id}):
        with pytest.raises(errors.NotFound):
            act(world, invitations.accept, somebody(world, "stranger"), **which)


def test_of_two_who_use_a_link_at_once_one_does(world):
    sent = invite(world, "x@example.org")
    names = [f"user{number}" for number in range(6)]
    with world.app.database.write() as session:
        for name in names:
            accounts.create_user(
                session, CONSOLE, name, email=f"{name}@example.org", password_hash=None, is_admin=False, now=NOW
            )
    actors = [somebody(world, name) for name in names]
    outcomes, ready = [], threading.Barrier(len(actors))

    def attempt(actor):
        ready.wait()
        try:
            outcomes.append(act(world, invitations.accept, actor, code=sent.code))
        except errors.NotFound:
            outcomes.append(None)

    threads = [threading.Thread(target=attempt, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["None"] * 5 + ["lab"]
    assert len([name for name in names if role_of(world, name)]) == 1


def test_there_is_an_end_to_inviting(world, monkeypatch):
    monkeypatch.setattr(invitations, "PENDING_MAX", 3)
    for number in range(3):
        invite(world, f"{number}@example.org")
    with pytest.raises(errors.Invalid) as caught:
        invite(world, "4@example.org")
    assert caught.value.code == "too_many"
    invite(world, "2@example.org")  # anew, in the place of the one before


@pytest.mark.parametrize("who", ["", "nobody", "a@", "@", "a b@c", "stranger\n"])
def test_who_cannot_be_is_not_invited(world, who):
    if who.strip() == "stranger":
        assert invite(world, who).invitation.user == "stranger"
        return
    with pytest.raises((errors.NotFound, errors.Invalid)):
        invite(world, who)


# --- making an account -----------------------------------------------------------------------------------------------


def sign_up(world, mode, code=None, name="new"):
    details = {"name": name, "email": f"{name}@example.org", "full_name": "", "password_hash": "x"}
    return act(world, invitations.sign_up, mode, code, **details)


def to_server(world, by=None):
    actor = CONSOLE if by is None else somebody(world, by)
    return act(world, invitations.invite_to_server, actor, "new@example.org").code


def test_who_may_make_an_account_goes_by_the_mode(world):
    assert not sign_up(world, "open", name="open").is_admin
    for mode in ("invitation", "closed"):
        with pytest.raises(errors.NotAllowed) as caught:
            sign_up(world, mode)
        assert caught.value.code == "sign_up_closed"
    with pytest.raises(errors.NotAllowed):
        sign_up(world, "closed", to_server(world, "admin"))
    for mode in ("invitation", "open"):
        with pytest.raises(errors.NotFound):
            sign_up(world, mode, "fwy-i-" + "0" * 38)
    assert sign_up(world, "invitation", to_server(world, "admin"), "one").name == "one"
    assert sign_up(world, "invitation", to_server(world), "two").name == "two"


def test_an_invitation_makes_one_account(world):
    code = to_server(world, "admin")
    sign_up(world, "invitation", code, "one")
    with pytest.raises(errors.NotFound):
        sign_up(world, "invitation", code, "two")
    into = invite(world, "x@example.org", Role.UPLOADER, by="admin").code
    made = sign_up(world, "invitation", into, "three")
    with pytest.raises(errors.NotFound):
        sign_up(world, "invitation", into, "four")
    with pytest.raises(errors.NotFound):
        act(world, invitations.accept, somebody(world, "stranger"), code=into)
    # and is asked there once more
    assert role_of(world, "three") is None
    (found,) = waiting(world, made.name)
    act(world, invitations.accept, somebody(world, "three"), invitation_id=found.id)
    assert role_of(world, "three") == "uploader"


def test_an_owner_brings_no_strangers_onto_a_server_that_is_by_invitation(world):
    """They would see every internal channel, which are not that owner's."""
    code = invite(world, "x@example.org").code
    with pytest.raises(errors.NotAllowed) as caught:
        sign_up(world, "invitation", code)
    assert "administrator" in caught.value.detail
    assert sign_up(world, "open", code).name == "new"


def test_an_administrator_who_is_none_any_more_has_invited_nobody(world):
    code = to_server(world, "admin")
    with world.app.database.write() as session:
        session.execute(update(User).where(User.name == "admin").values(is_admin=False))
    with pytest.raises(errors.NotAllowed):
        sign_up(world, "invitation", code)


def test_only_administrators_invite_onto_the_server(world):
    for function in (invitations.invite_to_server, invitations.list_of_server):
        more = ("x@example.org",) if function is invitations.invite_to_server else ()
        with pytest.raises(errors.NotAllowed):
            act(world, function, somebody(world, "owner"), *more)
    to_server(world, "admin")
    with world.app.database.read() as session:
        (found,) = invitations.list_of_server(session, somebody(world, "admin"), now=NOW)
    assert (found.channel, found.role, found.email) == (None, None, "new@example.org")
    with pytest.raises(errors.NotAllowed):
        act(world, invitations.withdraw, somebody(world, "owner"), found.id)
    act(world, invitations.withdraw, somebody(world, "admin"), found.id)
    with world.app.database.read() as session:
        assert invitations.list_of_server(session, CONSOLE, now=NOW) == []


# --- members ---------------------------------------------------------------------------------------------------------


def test_a_member_leaves_and_the_last_owner_stays(world):
    act(world, channels.leave, somebody(world, "viewer"), "lab")
    assert role_of(world, "viewer") is None
    with pytest.raises(errors.NotFound):
        act(world, channels.leave, somebody(world, "viewer"), "lab")
    with pytest.raises(errors.Invalid) as caught:
        act(world, channels.leave, somebody(world, "owner"), "lab")
    assert caught.value.code == "last_owner"
    act(world, channels.set_member, CONSOLE, "lab", "uploader", Role.OWNER)
    act(world, channels.leave, somebody(world, "owner"), "lab")
    assert role_of(world, "owner") is None
    with pytest.raises(errors.NotFound):
        act(world, channels.leave, somebody(world, "admin"), "lab")  # sees it, and is no member


def test_of_owners_who_leave_at_once_one_stays(world):
    act(world, channels.set_member, CONSOLE, "lab", "uploader", Role.OWNER)
    act(world, channels.set_member, CONSOLE, "lab", "maintainer", Role.OWNER)
    actors = [somebody(world, name) for name in ("owner", "uploader", "maintainer")]
    ready = threading.Barrier(len(actors))
    refused = []

    def attempt(actor):
        ready.wait()
        try:
            act(world, channels.leave, actor, "lab")
        except errors.Invalid as error:
            refused.append(error.code)

    threads = [threading.Thread(target=attempt, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["last_owner"]
    with world.app.database.read() as session:
        assert len(session.scalars(select(Member).where(Member.role == "owner")).all()) == 1


def test_a_channel_is_given_to_a_member(world):
    act(world, channels.transfer, somebody(world, "owner"), "lab", "viewer")
    assert (role_of(world, "viewer"), role_of(world, "owner")) == ("owner", "maintainer")
    with pytest.raises(errors.NotAllowed):
        act(world, channels.transfer, somebody(world, "owner"), "lab", "owner")
    for name in ("stranger", "nobody", "viewer"):
        with pytest.raises(errors.Invalid) as caught:
            act(world, channels.transfer, somebody(world, "viewer"), "lab", name)
        assert caught.value.code == "member_missing"
    act(world, channels.transfer, somebody(world, "admin"), "lab", "uploader")  # for somebody else: nobody steps back
    assert (role_of(world, "uploader"), role_of(world, "viewer")) == ("owner", "owner")
    with world.app.database.write() as session:
        session.execute(delete(Member).where(Member.role == "owner"))
    act(world, channels.transfer, CONSOLE, "lab", "maintainer")
    assert role_of(world, "maintainer") == "owner"
