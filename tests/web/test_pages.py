"""Health, metrics, the description of the API, and pages."""

from html.parser import HTMLParser

import pytest

from tests.support.builders import conda_package
from tests.support.site import bearer

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=y>{{7*7}}&amp;"


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page(site, path, key=None):
    answer = site.get(path, key)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    return Tags(answer.text)


def test_the_first_page_shows_the_channels_one_may_read(site):
    site.channel("open", "public")
    site.channel("hidden")
    assert "open" in page(site, "/").text
    assert "hidden" not in page(site, "/").text
    assert "hidden" in page(site, "/", site.key()).text


def test_a_channels_page_shows_how_to_use_it_and_what_is_in_it(site):
    site.channel("lab", "public")
    assert "Nothing is in lab yet" in page(site, "/channels/lab").text
    site.put("lab", conda_package("demo", "1.5", about={"summary": "A demo"}, index={"license": "MIT"}), site.key())
    text = page(site, "/channels/lab").text
    for words in ("demo", "1.5", "A demo", "http://127.0.0.1:8000/lab"):
        assert words in text
    assert "MIT" in page(site, "/channels/lab/packages/demo").text


def test_what_strangers_wrote_is_text_and_nothing_else(site):
    site.channel("lab", "public")
    key = site.key(scope="admin")
    site.client.patch("/api/v1/channels/lab", json={"description": HOSTILE}, headers=bearer(key))
    about = {"summary": HOSTILE, "license": HOSTILE, "home": "javascript:alert(1)"}
    assert site.put("lab", conda_package(about=about, index={"license": HOSTILE}), key).status_code == 201
    for path in ("/", "/channels/lab"):
        found = page(site, path)
        assert [a for a in found.named("script") if not a["src"].startswith("/static/dist/")] == []
        assert not [attributes for attributes in found.named("img") if attributes.get("src") == "x"]
        assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
        assert not [a for _, attributes in found.tags for a in attributes.values() if a and a.startswith("javascript:")]
        assert "{{7*7}}" in found.text


def test_pages_load_only_from_this_server(site):
    site.channel("lab", "public")
    for path in ("/", "/channels/lab"):
        found = page(site, path)
        loaded = [a.get("href") for a in found.named("link")] + [a.get("src") for a in found.named("img")]
        loaded += [a.get("src") for a in found.named("script")]
        assert loaded
        for address in loaded:
            assert address.startswith("/static/")
            assert site.get(address).status_code == 200
        assert not [tag for tag, attributes in found.tags if "style" in attributes]


def test_health_says_whether_the_parts_answer(site):
    assert site.get("/health/live").json() == {"status": "ok"}
    ready = site.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "database": "ok", "storage": "ok"})
    assert ready.headers["cache-control"] == "no-store"


def test_health_is_503_and_says_what_is_missing(site):
    (site.app.settings.data / "blobs" / ".staging").rename(site.app.settings.data / "gone")
    ready = site.get("/health/ready")
    assert (ready.status_code, ready.json()["status"], ready.json()["database"]) == (503, "unavailable", "ok")
    assert "storage" in ready.json()["storage"]
    assert str(site.app.settings.data) not in ready.text
    assert site.get("/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/health/ready"])
def test_what_operators_ask_is_not_answered_behind_a_key(site, path):
    """A proxy that keeps it inside denies exactly that path."""
    assert site.get(path).status_code == 200
    for key in ("x", site.key()):
        for prefix in (f"/t/{key}", f"//t/{key}", f"/t/{key}/"):
            answer = site.get(prefix + path)
            assert answer.status_code in {401, 404}, prefix
            assert "fairway_requests" not in answer.text


def test_metrics_count_by_route_and_name_nobody(site):
    secret = site.key()
    site.user("mallory")
    site.channel("very-secret-lab")
    filename, data = conda_package("very-secret-package")
    site.put("very-secret-lab", (filename, data), secret)
    site.get(f"/very-secret-lab/noarch/{filename}", secret)
    site.get(f"/t/{secret}/very-secret-lab/noarch/repodata.json")
    site.get("/api/v1/channels/very-secret-lab", secret)
    site.get("/channels/very-secret-lab", secret)
    site.get("/very-secret-lab", accept="text/html")
    site.get("/api/v1/very-secret-nothing")
    site.client.request("GET", "/very-secret-lab/%2f")
    site.client.request("BREW", "/very-secret-lab/coffee")
    answer = site.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for word in ("secret", "mallory", "admin", secret, "coffee"):
        assert word not in answer.text
    for line in (
        'fairway_requests_total{method="GET",route="package",status="200"} 1.0',
        'fairway_requests_total{method="GET",route="index",status="200"} 1.0',
        'fairway_requests_total{method="GET",route="/api/v1/channels/{channel}",status="200"} 1.0',
        "fairway_index_behind 0.0",
    ):
        assert line in answer.text, line
    site.put("very-secret-lab", conda_package("another"), secret)
    assert "fairway_index_behind 1.0" in site.get("/metrics").text


def test_a_method_nobody_knows_is_not_a_label_of_its_own(site):
    for n in range(5):
        site.client.request(f"BREW{n}", "/lab/noarch/repodata.json")
    assert "BREW" not in site.get("/metrics").text


def test_the_description_of_the_api_fits_the_routes(site):
    document = site.get("/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.")
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    for wanted in (
        ("GET", "/api/v1/channels"), ("POST", "/api/v1/channels"), ("PATCH", "/api/v1/channels/{channel}"),
        ("PUT", "/api/v1/channels/{channel}/artifacts/{subdir}/{filename}"), ("GET", "/api/v1/search"),
        ("GET", "/health/ready"),
    ):  # fmt: skip
        assert wanted in described
    for methods in document["paths"].values():
        for method, operation in methods.items():
            assert operation["summary"], method
            assert {"400", "500", "503"} <= set(operation["responses"])
    problem = document["components"]["schemas"]["Problem"]
    assert set(problem["required"]) == {"code", "title", "status", "detail", "message"}
