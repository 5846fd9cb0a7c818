"""Every setting, and the only place that reads the environment.

A value comes from an option of the command line, else from the settings file (`fairway.toml` in the data folder, or the
file named by `--config` or `FAIRWAY_CONFIG`), else from the environment (`FAIRWAY_` and the name in capitals), else
from the default. `load` also says which it was, for `fairway config show`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy.engine import make_url

from fairway.errors import SetupError

PREFIX = "FAIRWAY_"
PASSWORD = re.compile(r"(//[^/@]*:)[^/]*(@)")  # in an address
STORAGE_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")


class Settings(BaseModel):
    """Frozen; made once by `load` and handed over. Every field has a default that works on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    data: Path = Field(Path("fairway-data"), description="Folder of everything this server keeps on its own disk")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every network")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on")
    base_url: str | None = Field(
        None, description="The address people use, with its path if any; default: http://HOST:PORT"
    )
    database_url: str | None = Field(
        None,
        description="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; default: fairway.db in the data folder",
    )
    storage_url: str | None = Field(
        None, description="file:///FOLDER or s3://BUCKET/PREFIX (also gs:, az:); default: blobs in the data folder"
    )
    workers: int = Field(1, ge=1, le=64, description="Web processes; more than one needs PostgreSQL")
    http_server: Literal["granian", "uvicorn"] = Field("granian", description="HTTP server to run under")
    tls_certificate: Path | None = Field(None, description="PEM file: serve https and HTTP/2 directly (granian)")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key, in PKCS#8 form")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON lines")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much to log")
    max_file_size: int = Field(2 << 30, ge=1, description="Largest package file accepted, in bytes")
    disk_reserve: int = Field(
        256 << 20,
        ge=0,
        description="Bytes that uploads leave free on the disk, for deleting and sweeping; else they get a 507",
    )
    reading_processes: int = Field(2, ge=1, le=32, description="Child processes that read uploaded archives")
    index_max_age: int = Field(
        60, ge=0, le=3600, description="Seconds clients may keep a public channel's index without asking again"
    )
    searches_per_minute: int = Field(300, ge=0, description="Searches of one address in a minute; 0: any number")
    channels_per_hour: int = Field(20, ge=0, description="Channels one user may make in an hour; 0: any number")
    uploads_per_minute: int = Field(
        0, ge=0, description="Uploads of one key in a minute, three times as many at once; 0: any number"
    )
    sign_up: Literal["open", "invitation", "closed"] = Field(
        "invitation",
        description="Who may make an account: everybody, whom an administrator invited, or nobody but the administrators",
    )
    trusted_proxies: str = Field(
        "", description="Addresses and networks of your own proxies, with commas: their X-Forwarded-For is believed"
    )
    development: bool = Field(False, description="Show /styleguide, the page of every part that pages are made of")
    keep_days: int = Field(7, ge=1, description="Days a deleted file stays downloadable, and an old shard stays")

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be a whole address such as https://conda.example.org")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _trusted_proxies(cls, value: str) -> str:
        for part in filter(None, value.replace(",", " ").split()):
            ip_network(part)  # its ValueError names what is wrong
        return value

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(part) for part in self.trusted_proxies.replace(",", " ").split())

    @property
    def url(self) -> str:
        """The address people use, without a slash at its end."""
        if self.base_url:
            return self.base_url
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - not a bind
        return f"{'https' if self.tls_certificate else 'http'}://{host}:{self.port}"

    @property
    def keep_ms(self) -> int:
        """How long what was deleted is kept."""
        return self.keep_days * 86_400_000

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data.absolute() / 'fairway.db'}"

    @property
    def storage(self) -> str:
        return self.storage_url or f"file://{self.data.absolute() / 'blobs'}"

    @property
    def on_sqlite(self) -> bool:
        return self.database.startswith("sqlite")


class Loaded(BaseModel):
    """Settings with where each came from, and the object store's own variables (keys among them: never shown)."""

    settings: Settings
    origins: dict[str, str]
    storage_options: dict[str, str] = Field(repr=False)


def load(options: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read all sources. `options` holds the command line's values; None among them means "not given".

    Raises:
        SetupError: a value cannot be used, or a file or variable names a setting there is not; one sentence says which.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (options or {}).items() if value is not None}
    config = given.pop("config", None) or environ.get(PREFIX + "CONFIG")
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for name in Settings.model_fields:
        if (text := environ.get(PREFIX + name.upper(), "")) != "":
            values[name], origins[name] = text, f"environment ({PREFIX}{name.upper()})"
    data = Path(given.get("data") or values.get("data") or Settings.model_fields["data"].default)
    path = Path(config) if config else data / "fairway.toml"
    for name, value in read_file(path, required=config is not None).items():
        if name not in Settings.model_fields:
            raise SetupError(f"{path} sets {name!r}, which is no setting of Fairway; 'fairway config show' lists them.")
        values[name], origins[name] = value, f"file ({path})"
    for name, value in given.items():
        values[name], origins[name] = value, "option"
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise SetupError(
            f"The setting {name} ({origins.get(name, 'unknown')}) cannot be used: {first['msg']}."
        ) from None
    storage_options = {name: value for name, value in environ.items() if name.startswith(STORAGE_VARIABLES)}
    return Loaded(settings=settings, origins=origins, storage_options=storage_options)


def read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise SetupError(f"There is no settings file {path}.") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"The settings file {path} cannot be read: {error}.") from None


def hand_over(loaded: Loaded) -> None:
    """Put the settings into this process's environment, for the processes that `serve --workers` starts."""
    values = loaded.settings.model_dump(mode="json", exclude_none=True)
    os.environ.update({PREFIX + name.upper(): str(value) for name, value in values.items()})
    os.environ[PREFIX + "CONFIG"] = os.devnull


def command_name() -> str:
    """How people call the command line here: `./dev` says when it stands before it."""
    return os.environ.get(PREFIX + "COMMAND") or "fairway"


def shown(name: str, value: Any) -> str:
    """A setting's value for people: passwords inside addresses are masked."""
    if value is None:
        return ""
    if name == "database_url":
        return make_url(value).render_as_string(hide_password=True)
    text = str(value)
    return PASSWORD.sub(r"\1***\2", text) if name == "storage_url" else text


def secret(name: str) -> str | None:
    """A secret handed over by the environment for one command, such as FAIRWAY_TOKEN for `fairway upload`."""
    return os.environ.get(PREFIX + name) or None
