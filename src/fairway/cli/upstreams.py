"""`fairway upstream`: channels elsewhere that channels of this server serve as well."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from fairway.app import Fairway
from fairway.cli.context import Column, DataOption, JsonOption, listing, moment, opened
from fairway.errors import FairwayError, NotFound
from fairway.registry import access
from fairway.registry import upstreams as registry
from fairway.registry.access import Action
from fairway.registry.actor import CONSOLE
from fairway.registry.flat import behind, build_flat
from fairway.registry.refresh import Done, Refresh
from fairway.registry.upstreams import PRESETS, Settings, SubdirView

upstreams = typer.Typer(help="Channels elsewhere that channels of this server serve as well.", no_args_is_help=True)

COLUMNS = (
    Column("platform", lambda place: place.name),
    Column("read from", lambda place: place.kind),
    Column("records", lambda place: place.records),
    Column("bytes", lambda place: place.size),
    Column("left out", lambda place: place.dropped),
    Column("index of", lambda place: moment(place.good_at)),
    Column("error", lambda place: place.error),
)
PRESET_COLUMNS = (
    Column("name", lambda preset: preset.name),
    Column("address", lambda preset: preset.url),
    Column("what it is", lambda preset: preset.title),
)

Channel = Annotated[str, typer.Argument(help="The channel of this server")]
Address = Annotated[str, typer.Argument(help="The upstream's address, or the name of a preset")]


def settings_for(app: Fairway, address: str, **settings: Any) -> Settings:
    """The settings for an address as people write it: with a credential in it perhaps, or the name of a preset."""
    preset = next((one for one in PRESETS if one.name == address), None)
    url, credential = app.remote_credentials(preset.url if preset is not None else address)
    return Settings(url=url, credential=credential, **settings)


@upstreams.command("set")
def set_upstream(
    channel: Channel,
    address: Address,
    mirror: Annotated[bool, typer.Option("--mirror", help="Fetch its files ahead")] = False,
    every: Annotated[int, typer.Option("--every", help="Seconds between two looks at it")] = registry.EVERY_SECONDS,
    platform: Annotated[list[str] | None, typer.Option("--platform", help="Only this one; may be repeated")] = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Let a higher version of the upstream win over a package of yours with the same name"
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Serve fetched files on when the upstream has deleted them")
    ] = True,
    data: DataOption = None,
) -> None:
    """Let a channel serve an upstream as well, or change how."""
    mode: Literal["proxy", "mirror"] = "mirror" if mirror else "proxy"
    with opened(data) as app, app.database.write() as session:
        chosen = settings_for(
            app, address, mode=mode, every=every, merge=merge, keep=keep, subdirs=tuple(platform) if platform else None
        )
        view = registry.attach(session, CONSOLE, channel, chosen, now=app.now())
    print(
        f"{channel} serves {view.url} as well. A running server reads it now; 'fairway upstream refresh' does it here."
    )


@upstreams.command("remove")
def remove_upstream(channel: Channel, data: DataOption = None) -> None:
    """Let a channel serve only what is its own again."""
    with opened(data) as app, app.database.write() as session:
        registry.detach(session, CONSOLE, channel, now=app.now())
    print(f"{channel} has no upstream any more.")


@upstreams.command("show")
def show_upstream(channel: Channel, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Say what a channel has from its upstream, and how the last look at it went."""
    with opened(data) as app, app.database.read() as session:
        view = registry.show(session, CONSOLE, channel)
    if view is None:
        raise NotFound(f"The channel {channel} has no upstream.")
    places: tuple[SubdirView, ...] = view.places
    if not as_json:
        print(f"channel {view.channel_id}: {view.url} ({view.mode}), looked at every {view.every} seconds")
        print(f"index of {moment(view.good_at) if view.good_at else 'never'}; next look {moment(view.next_at)}")
        print(f"files kept here: {view.kept_files}, {view.kept_bytes} bytes")
        if view.error:
            print(f"last error: {view.error}")
    listing(places, COLUMNS, as_json=as_json)


@upstreams.command("presets")
def list_presets(as_json: JsonOption = False) -> None:
    """List public channels that can be named instead of an address."""
    listing(PRESETS, PRESET_COLUMNS, as_json=as_json)


@upstreams.command("refresh")
def refresh(
    channel: Annotated[str | None, typer.Argument(help="The channel of this server")] = None,
    channel_id: Annotated[int | None, typer.Option("--channel-id", hidden=True)] = None,
    data: DataOption = None,
) -> None:
    """Read an upstream's index now. What clients get changes at the end of each platform, all at once."""
    with opened(data) as app:
        if channel is not None:
            with app.database.read() as session:
                channel_id = access.channel_for(session, CONSOLE, Action.REINDEX, channel).id
        if channel_id is None:
            raise typer.BadParameter("name the channel")
        done = run(app, channel_id)
    print(
        f"{done.names} names changed, {done.gone} went, in {', '.join(done.subdirs) or 'no platform'}; "
        f"unchanged: {', '.join(done.unchanged) or 'none'}"
    )
    for subdir, error in done.errors.items():
        print(f"{subdir}: {error}", file=sys.stderr)
    if done.errors:
        raise typer.Exit(1)


def run(app: Fairway, channel_id: int) -> Done:
    """Refresh a channel, and write the documents of what changed."""
    with app.database.read() as session:
        subdirs, upstream = app.upstream_of(session, channel_id)
    done = Refresh(app.database, upstream, channel_id, app.now).run(subdirs)
    with app.database.read() as session:
        due = behind(session)
    for subdir_id in due:
        try:
            build_flat(app.database, app.blobs, app.staging, subdir_id, now=app.now())
        except FairwayError as error:  # the server tries again
            print(error.detail, file=sys.stderr)
    return done
