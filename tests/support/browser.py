"""What a browser does with our pages: it keeps cookies, reads the token out of a form, and says where it comes from."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from starlette.testclient import TestClient

FORM = "application/x-www-form-urlencoded"
OWN = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def token(self) -> str:
        found = {one["value"] for one in self.named("input") if one.get("name") == "csrf"}
        found |= {one["content"] for one in self.named("meta") if one.get("name") == "csrf"}
        assert len(found) == 1, found
        return str(found.pop())


class Browser:
    """One browser with its cookies. It follows no redirects."""

    def __init__(self, app: Any, url: str, secret: str | None = None) -> None:
        self.client = TestClient(app, base_url=url, raise_server_exceptions=False, follow_redirects=False)
        self.client.headers["accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"
        if secret is not None:
            self.take(secret)

    def take(self, secret: str) -> None:
        """A cookie that came from elsewhere."""
        self.client.cookies.set("fairway", secret, domain=self.client.base_url.host, path="/")

    @property
    def secret(self) -> str | None:
        return self.client.cookies.get("fairway")

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def page(self, path: str, status: int = 200) -> Tags:
        answer = self.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:2000])
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        return Tags(answer.text)

    def post(self, path: str, fields: Any = (), *, form: str | None = None, headers: Any = ()) -> Any:
        """Fill in the form on the page `form` (the path itself if none), and send it."""
        token = self.page(path if form is None else form).token()
        pairs = [*(fields.items() if isinstance(fields, dict) else fields), ("csrf", token)]
        sent = {"content-type": FORM, **OWN, **dict(headers)}
        return self.client.post(path, content=urlencode(pairs), headers=sent)
