"""`fairway serve` and `fairway worker`."""

from __future__ import annotations

import asyncio
import resource
import shlex
import signal
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
import typer
import uvloop

from fairway import logs, tasks
from fairway import settings as settings_module
from fairway.app import Fairway
from fairway.cli.context import DataOption
from fairway.errors import SetupError
from fairway.settings import Loaded, Settings

log = structlog.get_logger("fairway.serve")

# HTTP/2 uploads crawl at a third of the speed with the protocol's own windows.
CONNECTION_WINDOW, STREAM_WINDOW, FRAME = 32 << 20, 16 << 20, 1 << 20
# Open at once in a process; who comes later waits until one ends. Without it, a share of the backlog for each worker.
CONNECTIONS = 4096
DESCRIPTORS = 512  # files, database, readers of packages
# Of a request, in all. Uploads are read through the same buffer, and a smaller one slows them down.
HEADERS = 64 << 10
KILL_SECONDS = 60

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default: fairway.toml in the data folder")
]


def serve(
    data: DataOption = None,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Web processes; more than one needs PostgreSQL")
    ] = None,
    base_url: Annotated[str | None, typer.Option("--base-url", help="The address people use")] = None,
    server: Annotated[Literal["granian", "uvicorn"] | None, typer.Option("--server", help="HTTP server")] = None,
    log_format: Annotated[
        Literal["auto", "json", "text"] | None, typer.Option("--log-format", help="auto: text on a terminal, else JSON")
    ] = None,
) -> None:
    """Run the server."""
    options = {
        "data": data,
        "config": config,
        "host": host,
        "port": port,
        "workers": workers,
        "base_url": base_url,
        "http_server": server,
        "log_format": log_format,
    }
    loaded = settings_module.load(options)
    logs.configure(loaded.settings.log_format, loaded.settings.log_level)
    check_address(loaded.settings)
    check_pages()
    if loaded.settings.workers > 1:
        serve_many(loaded)
        return
    app = Fairway(loaded, serving=True)
    try:
        greet(app)
        uvloop.run(serve_one(app))
    finally:
        app.close()


def check_address(settings: Settings) -> None:
    """Try to listen, because granian dies of it in many lines. Raises: SetupError: nobody can listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise SetupError(f"Nobody can listen on {settings.host} port {settings.port}: {error.strerror}.") from None


def check_pages() -> None:
    """Raises: SetupError: their scripts and styles were not built."""
    from fairway.web import assets  # noqa: PLC0415 - as below

    assets.bundle()


async def serve_one(app: Fairway) -> None:
    """One process: the HTTP server runs in our own event loop, and the background in our threads."""
    from fairway.web.app import create  # noqa: PLC0415 - half a second that no other command should wait for

    settings = app.settings
    asgi = create(app)
    if settings.http_server == "uvicorn":
        await serve_uvicorn(asgi, settings)
        return
    from granian.constants import Interfaces  # noqa: PLC0415 - only the chosen server is loaded
    from granian.server.embed import Server  # noqa: PLC0415

    server = Server(
        asgi,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        backlog=1024,
        log_enabled=False,
        websockets=False,
        **limits(),
        ssl_cert=settings.tls_certificate,
        ssl_key=settings.tls_key,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve()


async def serve_uvicorn(asgi: Any, settings: Settings) -> None:
    try:
        import uvicorn  # noqa: PLC0415
    except ImportError:
        raise SetupError("uvicorn is not installed: pip install 'fairway[uvicorn]'.") from None
    config = uvicorn.Config(
        asgi,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=75,
        # whose X-Forwarded-For is believed is said by `trusted_proxies` alone; uvicorn believes anybody on this machine
        proxy_headers=False,
    )
    await uvicorn.Server(config).serve()


def serve_many(loaded: Loaded) -> None:
    """Several processes under granian's supervisor. Each opens the same PostgreSQL and store."""
    settings = loaded.settings
    if settings.on_sqlite:
        raise SetupError(
            "SQLite serves one web process. For --workers, use PostgreSQL: set FAIRWAY_DATABASE_URL=postgresql://..."
        )
    from granian import Granian  # noqa: PLC0415
    from granian.constants import Interfaces  # noqa: PLC0415

    with Fairway(loaded, serving=True) as app:  # migrate once, before anybody serves
        greet(app)
    settings_module.hand_over(loaded)
    Granian(
        "fairway.cli.serve:worker_app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        factory=True,
        log_enabled=False,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_SECONDS,
        **limits(),
        ssl_cert=settings.tls_certificate,
        ssl_key=settings.tls_key,
    ).serve()


def room_for_connections() -> int:
    """How many a process takes, with file descriptors for all of them and for everything else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + DESCRIPTORS
    if 0 <= soft < wanted:  # less than 0: any number
        soft = wanted if hard < 0 else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft < 0 else min(CONNECTIONS, max(soft - DESCRIPTORS, soft // 2))


def limits() -> dict[str, Any]:
    """What granian lets each process, connection and stream have."""
    from granian.http import HTTP1Settings, HTTP2Settings  # noqa: PLC0415

    return {
        "backpressure": room_for_connections(),
        "http1_settings": HTTP1Settings(max_buffer_size=HEADERS),
        "http2_settings": HTTP2Settings(
            initial_connection_window_size=CONNECTION_WINDOW,
            initial_stream_window_size=STREAM_WINDOW,
            max_frame_size=FRAME,
            max_headers_size=HEADERS,
        ),
    }


def worker_app() -> Any:
    """The application of one of several web processes; granian calls it in each."""
    from fairway.web.app import create  # noqa: PLC0415 - as above

    loaded = settings_module.load()
    logs.configure(loaded.settings.log_format, loaded.settings.log_level)
    return create(Fairway(loaded, serving=True))


def worker(data: DataOption = None, config: ConfigOption = None) -> None:
    """Publish indexes and run jobs, without serving HTTP. For any number of machines on one PostgreSQL."""
    loaded = settings_module.load({"data": data, "config": config})
    logs.configure(loaded.settings.log_format, loaded.settings.log_level)
    if loaded.settings.on_sqlite:
        raise SetupError(
            "On SQLite the server does this work itself; separate workers need PostgreSQL "
            "(set FAIRWAY_DATABASE_URL=postgresql://...)."
        )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Fairway(loaded, serving=True) as app:
        app.start(tasks.handlers(app), tasks.RECURRING, tasks.slow(app), partial(tasks.build, app))
        log.info("worker.started")
        stop.wait()
    log.info("worker.stopped")


def greet(app: Fairway) -> None:
    """Say where the page is; on an empty server also what to do first, in commands that can be copied."""
    settings = app.settings
    code = app.new_setup_code()
    print(f"\n  Fairway {settings.url}   data in {settings.data}\n")
    if code is not None:
        me = settings_module.command_name()
        default = settings.data == Settings.model_fields["data"].default
        option = "" if default else f" --data {shlex.quote(str(settings.data))}"
        print(
            "  Nobody has an account yet. Make yours within the hour\n\n"
            f"  at      {settings.url}/setup\n"
            f"  with    {code}\n\n"
            "  or in a second terminal:\n\n"
            f"    {me} user create admin --email you@example.org --admin{option}\n"
            f"    {me} channel create my-channel --owner admin --private{option}\n"
            f"    KEY=$({me} token create --user admin --name laptop --scope upload{option})\n"
            f"    {me} upload my-channel PACKAGE.conda --server {settings.url} --token $KEY\n\n"
            f"  Then install from it, with any conda client:\n\n"
            f"    pixi auth login {settings.url} --token $KEY\n"
            f"    pixi workspace channel add {settings.url}/my-channel\n"
        )
    sys.stdout.flush()
