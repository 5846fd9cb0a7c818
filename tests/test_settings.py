"""Where a setting comes from, what it may be, and what is said when it may not."""

from pathlib import Path

import pytest

from fairway.errors import SetupError
from fairway.settings import Settings, load, secret, shown


def loaded(tmp_path, *, option=None, file=None, environment=None, name="port"):
    (tmp_path / "fairway.toml").write_text("" if file is None else f"{name} = {file!r}\n")
    environ = {} if environment is None else {f"FAIRWAY_{name.upper()}": environment}
    return load({"data": tmp_path, name: option}, environ)


@pytest.mark.parametrize(
    ("option", "file", "environment", "value", "origin"),
    [
        (None, None, None, 8000, "default"),
        (None, None, "1", 1, "environment (FAIRWAY_PORT)"),
        (None, 2, None, 2, "file"),
        (None, 2, "1", 2, "file"),
        (3, None, None, 3, "option"),
        (3, 2, None, 3, "option"),
        (3, None, "1", 3, "option"),
        (3, 2, "1", 3, "option"),
    ],
)
def test_an_option_beats_the_file_beats_the_environment_beats_the_default(
    tmp_path, option, file, environment, value, origin
):
    found = loaded(tmp_path, option=option, file=file, environment=environment)
    assert found.settings.port == value
    assert found.origins["port"].split(" (/")[0] == origin
    if origin == "file":
        assert found.origins["port"] == f"file ({tmp_path}/fairway.toml)"


def test_an_empty_variable_is_none(tmp_path):
    found = loaded(tmp_path, environment="")
    assert (found.settings.port, found.origins["port"]) == (8000, "default")


def test_the_settings_file_is_in_the_data_folder_or_where_one_says(tmp_path):
    (tmp_path / "other.toml").write_text("port = 5")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fairway.toml").write_text("port = 6")
    data = {"FAIRWAY_DATA": str(tmp_path / "data")}
    assert load({}, data).settings.port == 6
    assert load({}, data | {"FAIRWAY_CONFIG": str(tmp_path / "other.toml")}).settings.port == 5
    assert load({"config": tmp_path / "other.toml"}, data).settings.port == 5
    assert load({}, {"FAIRWAY_DATA": str(tmp_path / "nowhere")}).settings.port == 8000


def test_every_setting_can_come_from_the_environment_and_is_described():
    samples = {
        "data": "/srv/f", "host": "0.0.0.0", "port": "1", "base_url": "https://c.example.org/x/",
        "database_url": "postgresql://h/d", "storage_url": "s3://b/p", "workers": "2", "http_server": "uvicorn",
        "tls_certificate": "/c.pem", "tls_key": "/k.pem", "log_format": "json", "log_level": "debug",
        "max_file_size": "5", "reading_processes": "3", "index_max_age": "0", "keep_days": "30",
    }  # fmt: skip
    assert set(samples) <= set(Settings.model_fields)
    found = load({}, {f"FAIRWAY_{name.upper()}": value for name, value in samples.items()})
    for name, value in samples.items():
        got = getattr(found.settings, name)
        assert str(got) == value.rstrip("/") if name == "base_url" else str(got) == str(type(got)(value))
        assert found.origins[name] == f"environment (FAIRWAY_{name.upper()})"
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "many"), ("port", "65536"), ("port", "-1"), ("workers", "0"), ("workers", "65"),
        ("base_url", "conda.example.org"), ("base_url", "ftp://h"), ("base_url", "https://h?x=1"), ("base_url", "https://"),
        ("http_server", "gunicorn"), ("log_level", "loud"), ("index_max_age", "3601"), ("keep_days", "0"),
        ("max_file_size", "0"), ("reading_processes", "-1"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named_with_where_it_came_from(name, value):
    with pytest.raises(SetupError) as caught:
        load({}, {f"FAIRWAY_{name.upper()}": value})
    assert caught.value.detail.startswith(f"The setting {name} (environment (FAIRWAY_{name.upper()})) cannot be used: ")
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("text", ["prot = 1", "port = = 1", "port = 1\nport = 2", "[server]\nport = 1"])
def test_a_file_that_cannot_be_read_or_names_no_setting_is_refused(tmp_path, text):
    (tmp_path / "fairway.toml").write_text(text)
    with pytest.raises(SetupError) as caught:
        load({"data": tmp_path}, {})
    assert "fairway.toml" in caught.value.detail


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(SetupError, match=r"none\.toml"):
        load({"config": tmp_path / "none.toml"}, {})


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load({}, {}).settings.port = 1


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0", "port": 9}, "http://127.0.0.1:9"),
        ({"host": "::", "port": 9}, "http://[::1]:9"),
        ({"host": "box.example"}, "http://box.example:8000"),
        ({"tls_certificate": Path("c.pem")}, "https://127.0.0.1:8000"),
        ({"base_url": "https://conda.example.org/tools/"}, "https://conda.example.org/tools"),
    ],
)
def test_the_address_people_use(given, url):
    assert load(given, {}).settings.url == url


def test_the_database_and_the_store_are_in_the_data_folder_by_default(tmp_path):
    settings = load({"data": tmp_path}, {}).settings
    assert (settings.database, settings.storage) == (f"sqlite:///{tmp_path}/fairway.db", f"file://{tmp_path}/blobs")
    assert settings.on_sqlite
    assert not load({"database_url": "postgresql://h/d"}, {}).settings.on_sqlite


def test_the_object_stores_own_variables_are_handed_on_and_never_shown():
    environ = {"AWS_SECRET_ACCESS_KEY": "hush", "AZURE_X": "a", "GOOGLE_Y": "g", "PATH": "/bin", "FAIRWAY_PORT": "1"}
    found = load({}, environ)
    assert found.storage_options == {"AWS_SECRET_ACCESS_KEY": "hush", "AZURE_X": "a", "GOOGLE_Y": "g"}
    assert "hush" not in repr(found)


def test_passwords_in_addresses_are_masked():
    assert shown("database_url", "postgresql://me:hush@h:5/d") == "postgresql://me:***@h:5/d"
    assert (shown("port", 8000), shown("base_url", None)) == ("8000", "")


def test_a_secret_of_one_command_comes_from_its_variable(monkeypatch):
    monkeypatch.setenv("FAIRWAY_TOKEN", "fwy")
    assert secret("TOKEN") == "fwy"
    monkeypatch.setenv("FAIRWAY_TOKEN", "")
    assert secret("TOKEN") is None
