"""`fairway upstream`: channels elsewhere that channels of this server serve as well."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

import typer
from sqlalchemy.orm import Session

from fairway.app import Fairway
from fairway.cli.context import Column, DataOption, JsonOption, listing, moment, opened
from fairway.conda.choice import Choice, check_platforms
from fairway.conda.names import KNOWN_SUBDIRS
from fairway.errors import FairwayError, NotFound, RemoteMissing, SecretLost, SetupError
from fairway.registry import access, conflicts, estimating, mirror, reserved
from fairway.registry import upstreams as registry
from fairway.registry.access import Action
from fairway.registry.actor import CONSOLE
from fairway.registry.estimating import Estimate, Extent
from fairway.registry.flat import behind, build_flat
from fairway.registry.mirror import Fetched, Fetching
from fairway.registry.refresh import USUAL, Done, Refresh
from fairway.registry.upstreams import PRESETS, Settings, SubdirView, UpstreamView
from fairway.remote import channel as remote
from fairway.sandbox.confined import end_with_input, lower

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

CONFLICT_COLUMNS = (
    Column("platform", lambda found: found.subdir),
    Column("file", lambda found: found.filename),
    Column("sha256 at first", lambda found: found.sha256),
    Column("sha256 claimed now", lambda found: found.claimed),
    Column("fetched", lambda found: found.fetched),
)
RESERVED_COLUMNS = (
    Column("name", lambda kept: kept.name),
    Column("deleted", lambda kept: moment(kept.deleted_at)),
    Column("files upstream", lambda kept: kept.records),
)
ESTIMATE_COLUMNS = (
    Column("platform", lambda share: share.subdir),
    Column("packages", lambda share: share.names),
    Column("records", lambda share: share.records),
    Column("bytes", lambda share: share.size),
)
TELL_SECONDS = 1.0
# The server reads a few upstreams at a time, so that each has its turn however slow another is; what was read stays.
TURN_SECONDS, FETCH_SECONDS = 3_600.0, 600.0
MEMORY = (
    4 << 30
)  # bytes of a refresh beside the server: whoever writes an index says how much of it there is to remember

Channel = Annotated[str, typer.Argument(help="The channel of this server")]
Platforms = Annotated[list[str] | None, typer.Option("--platform", help="Only this one; may be repeated")]
Names = Annotated[list[str] | None, typer.Option("--name", help="Only names like this (lib*); may be repeated")]
Specs = Annotated[list[str] | None, typer.Option("--spec", help="Only what satisfies this; may be repeated")]
Licences = Annotated[
    list[str] | None, typer.Option("--licence", help="Only with a licence like this (MIT*); may be repeated")
]
Newest = Annotated[int | None, typer.Option("--newest", help="Only so many versions of each package")]
Closure = Annotated[bool, typer.Option("--closure", help="And what all these need")]
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
    platform: Platforms = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Let a higher version of the upstream win over a package of yours with the same name"
        ),
    ] = False,
    name: Names = None,
    spec: Specs = None,
    licence: Licences = None,
    newest: Newest = None,
    closure: Closure = False,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Serve fetched files on when the upstream has deleted them")
    ] = True,
    data: DataOption = None,
) -> None:
    """Let a channel serve an upstream as well, or change how."""
    mode: Literal["proxy", "mirror"] = "mirror" if mirror else "proxy"
    given = {"names": name, "specs": spec, "licences": licence, "newest": newest, "closure": closure}
    wanted = {what: value for what, value in given.items() if value}
    with opened(data) as app, app.database.write() as session:
        chosen = settings_for(
            app,
            address,
            mode=mode,
            every=every,
            merge=merge,
            keep=keep,
            subdirs=tuple(platform) if platform else None,
            wanted=wanted or None,
        )
        view = registry.attach(session, CONSOLE, channel, chosen, site=app.settings.url, now=app.now())
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


@upstreams.command("conflicts")
def list_conflicts(channel: Channel, as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the files of which the upstream claims another hash than at first; the first is the one that is served."""
    with opened(data) as app, app.database.read() as session:
        found = conflicts.found(session, CONSOLE, channel)
    listing(found, CONFLICT_COLUMNS, as_json=as_json)


@upstreams.command("accept")
def accept(
    channel: Channel,
    file: Annotated[str, typer.Argument(help="The file, as PLATFORM/NAME")],
    data: DataOption = None,
) -> None:
    """Believe what the upstream claims a file is now, and let go of the one that is served."""
    subdir, _, filename = file.partition("/")
    with opened(data) as app, app.database.write() as session:
        done = conflicts.accept(session, CONSOLE, channel, subdir, filename, now=app.now())
    print(f"{file} of {channel} will have the sha256 {done.claimed}; it is back with the next refresh.")


@upstreams.command("reserved")
def list_reserved(channel: Channel, as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the names that stay the channel's although all their files are deleted: nothing of them comes from the upstream."""
    with opened(data) as app, app.database.read() as session:
        found = reserved.names(session, CONSOLE, channel)
    listing(found, RESERVED_COLUMNS, as_json=as_json)


@upstreams.command("release")
def release(
    channel: Channel,
    name: Annotated[str, typer.Argument(help="A name that 'fairway upstream reserved' lists")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    data: DataOption = None,
) -> None:
    """Let a name whose files are all deleted be the upstream's."""
    if not yes:
        print(reserved.RISK)
        typer.confirm(f"Release {name}?", abort=True)
    with opened(data) as app, app.database.write() as session:
        kept = reserved.release(session, CONSOLE, channel, name, now=app.now())
    print(f"{name} of {channel} is the upstream's, which has {kept.records} files of it.")


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
    if channel is None:
        lower(resource.RLIMIT_DATA, MEMORY)
        end_with_input()
    with opened(data) as app:
        if channel is not None:
            with app.database.read() as session:
                channel_id = access.channel_for(session, CONSOLE, Action.REINDEX, channel).id
        if channel_id is None:
            raise typer.BadParameter("name the channel")
        done = run(app, channel_id, alone=channel is not None)
    print(
        f"{done.names} names changed, {done.gone} went, in {', '.join(done.subdirs) or 'no platform'}; "
        f"unchanged: {', '.join(done.unchanged) or 'none'}"
    )
    for subdir, error in done.errors.items():
        print(f"{subdir}: {error}", file=sys.stderr)
    if done.errors:
        raise typer.Exit(1)


def run(app: Fairway, channel_id: int, *, alone: bool = True) -> Done:
    """Refresh a channel, write the flat documents of what changed and fetch a mirror's files. Unless it is done `alone`, the
    server writes the documents, and others wait for their turn.
    """
    try:
        with app.database.read() as session:
            subdirs, upstream = app.upstream_of(session, channel_id)
            view = registry.show_of(session, channel_id)
    except (SecretLost, SetupError) as error:  # its credential cannot be read
        with app.database.write() as session:
            registry.failed(session, channel_id, error.detail, now=app.now())
        raise
    until = math.inf if alone else time.monotonic() + TURN_SECONDS
    upstream = replace(upstream, over=lambda: app.stopping or time.monotonic() > until)
    choice = None if view.wanted is None else Choice.parse(view.wanted)
    done = Refresh(app.database, upstream, channel_id, app.now, choice).run(subdirs)
    due: Sequence[int] = ()
    if alone:
        with app.database.read() as session:
            due = behind(session)
    for subdir_id in due:
        try:
            build_flat(app.database, app.blobs, app.staging, subdir_id, now=app.now())
        except FairwayError as error:  # the server tries again
            print(error.detail, file=sys.stderr)
    if view.mode == "mirror":
        fetch(app, channel_id, upstream, seconds=math.inf if alone else FETCH_SECONDS)
    return done


def fetch(app: Fairway, channel_id: int, upstream: remote.Upstream, *, seconds: float) -> Fetched:
    """Bring the files of a mirror that are not here yet; what has come is kept, however this ends. After so many `seconds`
    no other is begun, until all who wait have had their turn.
    """
    told, until = 0.0, time.monotonic() + seconds

    def tell(done: Fetched) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            with app.database.write() as session:
                registry.tell_files(session, channel_id, done.files, done.total, done.size)

    done = Fetching(
        app.database,
        app.blobs,
        app.staging,
        app.remote,
        channel_id,
        upstream.credential,
        app.now,
        tell,
        over=lambda: app.stopping,
        enough=lambda: time.monotonic() > until,
        room=app.room,
        fetches=app.fetches,
    ).run()
    with app.database.write() as session:
        registry.fetched(session, channel_id, failed=done.failed, error=done.error)
        if done.more:
            registry.go_on(session, channel_id, now=app.now())
    print(f"{done.files} files fetched, {done.size} bytes; {done.failed} failed")
    return done


@upstreams.command("estimate")
def estimate(
    channel: Channel,
    platform: Platforms = None,
    name: Names = None,
    spec: Specs = None,
    licence: Licences = None,
    newest: Newest = None,
    closure: Closure = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Say how much a mirror would hold, before it fetches any of it: of what is chosen here, or else of what the channel's settings
    say. Made of the index as it was read last; where it was not, the upstream is asked for all of it.
    """
    given = {"names": name, "specs": spec, "licences": licence, "newest": newest, "closure": closure}
    wanted = {what: value for what, value in given.items() if value}
    check_platforms(platform or ())
    with opened(data) as app:
        with app.database.read() as session:
            home = access.channel_for(session, CONSOLE, Action.REINDEX, channel)
            subdirs, upstream = app.upstream_of(session, home.id)
            view = registry.show_of(session, home.id)
            choice = Choice.parse(wanted or view.wanted or {})
            found = known(session, view, choice, platform or subdirs)
        if found is None:
            found = asked(upstream, choice, platform or subdirs or USUAL)
    listing(found.shares, ESTIMATE_COLUMNS, as_json=as_json)
    if not as_json:
        packages = sum(share.names for share in found.shares)
        print(f"{packages} packages, {found.records} records (a file each), {found.size} bytes")


def known(session: Session, view: UpstreamView, choice: Choice, subdirs: Sequence[str] | None) -> Estimate | None:
    """An estimate out of what is here; none if that is not all of these platforms."""
    read = set(subdirs or ()) <= set(view.subdirs or KNOWN_SUBDIRS)
    if not view.good_at or not read or (subdirs is None and view.subdirs is not None):
        return None
    found = estimating.estimate(session, view.channel_id, view.url, choice, subdirs, seconds=math.inf)
    return found if found.extent is Extent.WHOLE else None


def asked(upstream: remote.Upstream, choice: Choice, subdirs: Sequence[str]) -> Estimate:
    """An estimate out of what the upstream says now. Raises: RemoteError, Invalid."""
    with ExitStack() as stack:
        readings = {}
        for name in subdirs:
            with suppress(RemoteMissing):
                reading = upstream.look(stack, name, None, {})
                if reading is not None:
                    readings[name] = reading
        return estimating.of_readings(readings if choice.everything else mirror.narrowed(readings, choice))
