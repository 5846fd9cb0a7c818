"""`fairway channel`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from fairway.cli.context import Column, DataOption, JsonOption, listing, moment, opened
from fairway.cli.upstreams import settings_for
from fairway.errors import Invalid
from fairway.registry import channels as registry
from fairway.registry import relating, trash
from fairway.registry.actor import CONSOLE, Role, Visibility
from fairway.registry.upstreams import attach

channels = typer.Typer(help="Channels and who may use them.", no_args_is_help=True)

COLUMNS = (
    Column("name", lambda channel: channel.name),
    Column("visibility", lambda channel: channel.visibility.value),
    Column("files", lambda channel: channel.artifacts),
    Column("bytes", lambda channel: channel.size),
    Column("quota", lambda channel: channel.quota),
    Column("description", lambda channel: channel.description),
    Column("created", lambda channel: moment(channel.created_at)),
)
MEMBER_COLUMNS = (
    Column("user", lambda member: member.user),
    Column("role", lambda member: member.role),
    Column("added", lambda member: moment(member.added_at)),
)

Private = Annotated[bool, typer.Option("--private", help="Members only")]
Internal = Annotated[bool, typer.Option("--internal", help="Everybody with an account")]
Public = Annotated[bool, typer.Option("--public", help="Everybody")]
Name = Annotated[str, typer.Argument(help="The channel's name")]


def chosen(*, private: bool, internal: bool, public: bool) -> Visibility | None:
    named = ((private, Visibility.PRIVATE), (internal, Visibility.INTERNAL), (public, Visibility.PUBLIC))
    given = [value for is_given, value in named if is_given]
    if len(given) > 1:
        raise typer.BadParameter("choose one of --private, --internal and --public")
    return given[0] if given else None


@channels.command("create")
def create_channel(
    name: Name,
    owner: Annotated[str, typer.Option("--owner", help="The user who owns it")],
    private: Private = False,
    internal: Internal = False,
    public: Public = False,
    description: Annotated[str, typer.Option("--description", help="One sentence about it")] = "",
    upstream: Annotated[
        str | None,
        typer.Option("--upstream", help="Also serve the channel at this address, or the preset of this name"),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Fetch the upstream's files ahead, rather than when somebody asks")
    ] = False,
    data: DataOption = None,
) -> None:
    """Make an empty channel; private unless said otherwise."""
    visibility = chosen(private=private, internal=internal, public=public) or Visibility.PRIVATE
    if mirror and upstream is None:
        raise typer.BadParameter("--mirror needs --upstream")
    with opened(data) as app, app.database.write() as session:
        view = registry.create_channel(
            session, CONSOLE, name, owner=owner.lower(), visibility=visibility, description=description, now=app.now()
        )
        if upstream is not None:
            settings = settings_for(app, upstream, mode="mirror" if mirror else "proxy")
            attach(session, CONSOLE, name, settings, site=app.settings.url, now=app.now())
        # without a base URL only the running server knows its address
        base = f"{app.settings.base_url}/" if app.settings.base_url else ""
    print(f"Created the {view.visibility} channel {base}{view.name}")


@channels.command("list")
def list_channels(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the channels."""
    with opened(data) as app, app.database.read() as session:
        listing(registry.list_channels(session, CONSOLE), COLUMNS, as_json=as_json)


@channels.command("set")
def set_channel(
    name: Name,
    private: Private = False,
    internal: Internal = False,
    public: Public = False,
    description: Annotated[str | None, typer.Option("--description", help="One sentence about it")] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite/--no-overwrite", help="May maintainers replace files (with force)")
    ] = None,
    v3: Annotated[
        bool | None, typer.Option("--v3/--no-v3", help="Accept packages that need v3 records (CEP 48)")
    ] = None,
    quota: Annotated[str | None, typer.Option("--quota", help="Room in bytes, or with K, M, G, T; or none")] = None,
    data: DataOption = None,
) -> None:
    """Change a channel's settings; what is not named stays."""
    visibility = chosen(private=private, internal=internal, public=public)
    change = registry.Change(visibility=visibility, description=description, allow_v3=v3, allow_overwrite=overwrite)
    with opened(data) as app, app.database.write() as session:
        registry.update_channel(session, CONSOLE, name, change, now=app.now())
        if quota is not None:
            registry.set_quota(session, CONSOLE, name, quota_of(quota), now=app.now())
    print(f"Changed {name}.")


@channels.command("relate")
def relate_channel(
    name: Name,
    base: Annotated[str | None, typer.Option("--base", help="The channel that clients load before it")] = None,
    overrides: Annotated[str | None, typer.Option("--overrides", help="The one that they load after it")] = None,
    no_base: Annotated[bool, typer.Option("--no-base", help="Nothing goes before it")] = False,
    no_overrides: Annotated[bool, typer.Option("--no-overrides", help="Nothing goes after it")] = False,
    data: DataOption = None,
) -> None:
    """Say which channels of this server go before and after one (CEP 42), or show it."""
    if (base is not None and no_base) or (overrides is not None and no_overrides):
        raise typer.BadParameter("say either which channel it is, or that there is none")
    change = registry.Change(base="" if no_base else base, overrides="" if no_overrides else overrides)
    with opened(data) as app:
        if change != registry.Change():
            with app.database.write() as session:
                registry.update_channel(session, CONSOLE, name, change, now=app.now())
        with app.database.read() as session:
            channel = registry.show(session, CONSOLE, name)
            placed = relating.order(session, channel.id)
            idle = [one.name for one in relating.said(session, CONSOLE, channel.id).values() if not one.in_effect]
    print(f"Clients that know channel relations load, in this order: {', '.join(one.name for one in placed)}.")
    for other in idle:
        print(f"Not said to anybody now: {other}, which fewer people may read than {name}, or which is deleted.")


@channels.command("delete")
def delete_channel(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False, data: DataOption = None
) -> None:
    """Take a channel away from everybody."""
    if not yes:
        typer.confirm(f"Delete {name} and everything in it?", abort=True)
    with opened(data) as app, app.database.write() as session:
        registry.delete_channel(session, CONSOLE, name, now=app.now())
        days = app.settings.keep_days
    print(f"Deleted {name}. For {days} days 'fairway channel restore {name}' brings it back.")


@channels.command("restore")
def restore_channel(name: Name, data: DataOption = None) -> None:
    """Give back a channel that was deleted some days ago at most, as it was."""
    with opened(data) as app, app.database.write() as session:
        trash.restore_channel(session, CONSOLE, name, now=app.now(), keep_ms=app.settings.keep_ms)
    print(f"{name} is back.")


@channels.command("members")
def list_members(name: Name, as_json: JsonOption = False, data: DataOption = None) -> None:
    """List who may do what in a channel."""
    with opened(data) as app, app.database.read() as session:
        listing(registry.list_members(session, CONSOLE, name), MEMBER_COLUMNS, as_json=as_json)


@channels.command("member")
def set_member(
    name: Name,
    user: Annotated[str, typer.Argument(help="The user")],
    role: Annotated[
        Literal["viewer", "uploader", "maintainer", "owner", "none"],
        typer.Option("--role", help="What the user may do; none takes the role away"),
    ],
    data: DataOption = None,
) -> None:
    """Give a user a role in a channel, or take it away."""
    with opened(data) as app, app.database.write() as session:
        given = None if role == "none" else Role.of(role)
        registry.set_member(session, CONSOLE, name, user.lower(), given, now=app.now())
    print(f"{user.lower()} is {'no longer a member' if role == 'none' else role} of {name}.")


def quota_of(text: str) -> int | None:
    """Bytes of "500M", "20G", "1000"; none for "none". Raises: Invalid."""
    if text.lower() == "none":
        return None
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    if not number.isdecimal():
        raise Invalid(f"{text!r} is no size: say for example 500M, 20G, or none.", code="quota_invalid")
    return int(number) * unit
