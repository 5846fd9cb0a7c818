"""`fairway user` and `fairway token`."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from fairway.cli.context import Column, DataOption, JsonOption, listing, moment, opened
from fairway.registry import accounts, administer, invitations, passwords, sessions
from fairway.registry import tokens as registry_tokens
from fairway.registry.actor import CONSOLE, Scope

users = typer.Typer(help="The people who have an account here.", no_args_is_help=True)
tokens = typer.Typer(help="API keys, with which clients sign in.", no_args_is_help=True)

StdinOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin")]

USER_COLUMNS = (
    Column("name", lambda user: user.name),
    Column("email", lambda user: user.email),
    Column("admin", lambda user: user.is_admin),
    Column("created", lambda user: moment(user.created_at)),
    Column("suspended", lambda user: moment(user.suspended_at)),
)
SESSION_COLUMNS = (
    Column("id", lambda one: one.id),
    Column("address", lambda one: one.address),
    Column("browser", lambda one: one.agent),
    Column("began", lambda one: moment(one.created_at)),
    Column("seen", lambda one: moment(one.seen_at)),
    Column("ends", lambda one: moment(one.expires_at)),
)
TOKEN_COLUMNS = (
    Column("id", lambda token: token.id),
    Column("user", lambda token: token.user),
    Column("name", lambda token: token.name),
    Column("scope", lambda token: token.scope),
    Column("channels", lambda token: list(token.channels)),
    Column("expires", lambda token: moment(token.expires_at)),
    Column("used", lambda token: moment(token.last_used_at)),
    Column("revoked", lambda token: moment(token.revoked_at)),
)


@users.command("create")
def create_user(
    name: Annotated[str, typer.Argument(help="Letters a-z, digits and . - _")],
    email: Annotated[str, typer.Option("--email", help="The user's e-mail address")],
    password_stdin: StdinOption = False,
    admin: Annotated[bool, typer.Option("--admin", help="May manage everything on this server")] = False,
    data: DataOption = None,
) -> None:
    """Make an account. The password is asked for, or read from standard input."""
    password = asked_password(from_stdin=password_stdin)
    passwords.check(password, (name, email))
    digest = passwords.hashed(password)
    with opened(data) as app, app.database.write() as session:
        accounts.create_user(session, CONSOLE, name, email=email, password_hash=digest, is_admin=admin, now=app.now())
    print(f"Created the user {name.lower()}{' (administrator)' if admin else ''}.")


def asked_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask for the password: use --password-stdin")
    said: str = typer.prompt("Password (15 characters or more)", hide_input=True, confirmation_prompt=True)
    return said


NameArgument = Annotated[str, typer.Argument(help="The user's name")]


@users.command("password")
def set_password(name: NameArgument, password_stdin: StdinOption = False, data: DataOption = None) -> None:
    """Give somebody a new password who forgot theirs. Their browsers are signed out; their keys go on working."""
    password = asked_password(from_stdin=password_stdin)
    with opened(data) as app:
        with app.database.read() as session:
            user = accounts.user_named(session, name)
        passwords.check(password, (user.name, user.email, user.full_name))
        digest = passwords.hashed(password)
        with app.database.write() as session:
            ended = accounts.set_password(session, CONSOLE, user.name, digest, now=app.now())
    print(f"{user.name} has a new password; {ended} browser{'' if ended == 1 else 's'} signed out.")


@users.command("suspend")
def suspend(name: NameArgument, data: DataOption = None) -> None:
    """Keep somebody out at once: browsers, keys, password. What they made stays."""
    with opened(data) as app, app.database.write() as session:
        administer.suspend(session, CONSOLE, name, now=app.now())
    print(f"{name.lower()} is suspended.")


@users.command("resume")
def resume(name: NameArgument, data: DataOption = None) -> None:
    """Let somebody in again who was suspended."""
    with opened(data) as app, app.database.write() as session:
        administer.resume(session, CONSOLE, name, now=app.now())
    print(f"{name.lower()} can sign in again.")


@users.command("sessions")
def show_sessions(
    name: NameArgument,
    end_all: Annotated[bool, typer.Option("--end-all", help="Sign all of them out")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the browsers somebody is signed in with, or sign them out."""
    with opened(data) as app:
        with app.database.read() as session:
            user = accounts.user_named(session, name)
            found = sessions.list_sessions(session, user.id, now=app.now())
        if not end_all:
            listing(found, SESSION_COLUMNS, as_json=as_json)
            return
        with app.database.write() as session:
            ended = sessions.end_all(session, CONSOLE, user.id, now=app.now())
    print(f"{ended} browser{'' if ended == 1 else 's'} of {user.name} signed out.")


@users.command("invite")
def invite(
    email: Annotated[str | None, typer.Option("--email", help="What the form begins with")] = None,
    data: DataOption = None,
) -> None:
    """Print a link with which somebody can make an account, once, within 14 days. No e-mail is sent."""
    with opened(data) as app, app.database.write() as session:
        sent = invitations.invite_to_server(session, CONSOLE, email, now=app.now())
        print(f"{app.settings.url}/invitations/{sent.code}")


@users.command("list")
def list_users(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the accounts."""
    with opened(data) as app, app.database.read() as session:
        listing(accounts.list_users(session), USER_COLUMNS, as_json=as_json)


@tokens.command("create")
def create_token(
    user: Annotated[str, typer.Option("--user", help="Whose key it is")],
    name: Annotated[str, typer.Option("--name", help="What it is for, to know it again")],
    scope: Annotated[
        Literal["read", "upload", "admin"], typer.Option("--scope", help="What it may do at most")
    ] = "read",
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="Only for this channel; may be repeated")
    ] = None,
    expires: Annotated[str, typer.Option("--expires", help="12h, 90d, 6w, 1y, or never")] = "90d",
    data: DataOption = None,
) -> None:
    """Make an API key and print it, alone. It is shown this once."""
    lives_ms = registry_tokens.lifetime(expires)
    with opened(data) as app, app.database.write() as session:
        secret = registry_tokens.create_token(
            session,
            CONSOLE,
            user=user.lower(),
            name=name,
            scope=Scope.of(scope),
            channels=channel or (),
            lives_ms=lives_ms,
            now=app.now(),
        )
    print(secret)


@tokens.command("list")
def list_tokens(
    user: Annotated[str | None, typer.Option("--user", help="Only this user's")] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the keys: not the keys themselves, which nobody can read again."""
    with opened(data) as app, app.database.read() as session:
        listing(registry_tokens.list_tokens(session, user), TOKEN_COLUMNS, as_json=as_json)


@tokens.command("revoke")
def revoke_token(
    token_id: Annotated[int, typer.Argument(help="The id that 'fairway token list' shows")], data: DataOption = None
) -> None:
    """Take a key's rights away, at once."""
    with opened(data) as app, app.database.write() as session:
        registry_tokens.revoke_token(session, CONSOLE, token_id, now=app.now())
    print(f"Revoked the key {token_id}.")
