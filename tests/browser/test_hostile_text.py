"""No text that a stranger wrote becomes anything but text, on any page (SECURITY D6): with the policy switched off, so that it
cannot be what saves us.
"""

from __future__ import annotations

from itertools import count
from urllib.parse import quote

import pytest

from fairway.app import Fairway
from fairway.conda.names import Filename
from fairway.registry import accounts, channels, invitations, publish, tokens, withdraw
from fairway.registry.actor import CONSOLE, Actor, Role, Scope, Visibility
from fairway.settings import load
from tests.browser.looking import visit
from tests.browser.payloads import PAYLOADS
from tests.support.builders import conda_package

pytestmark = pytest.mark.xdist_group("browser")

CHANNEL = "hostile"
TOGETHER = 8  # of the payloads, in each package
TABS = ("", "/versions", "/files", "/dependencies", "/dependents", "/contents", "/recipe", "/statistics", "/history")
ELSEWHERE = (
    "/", f"/channels/{CHANNEL}", f"/channels/{CHANNEL}/readme", f"/channels/{CHANNEL}/statistics",
    f"/channels/{CHANNEL}/members", f"/channels/{CHANNEL}/settings", f"/channels/{CHANNEL}/upload", f"/channels/{CHANNEL}/trash",
    f"/channels/{CHANNEL}/packages/worse-0/versions/1.0/unyank", f"/channels/{CHANNEL}/packages/worse-1/versions/1.0/yank", "/search?q=worse", "/search/live?q=worse", "/settings",
    "/settings/keys", "/settings/sessions", "/invitations", "/admin", "/admin/users", "/admin/audit",
    "/admin/audit?action=artifact.yank", "/admin/jobs", "/admin/channels",
)  # fmt: skip
# Pages that show a part of their address.
REFLECTING = (
    "/search?q={}", "/search/live?q={}", "/search?q=x&channel={}", f"/channels/{CHANNEL}?q={{}}", "/login?next={}", "/channels/{}",
    "/{}", f"/channels/{CHANNEL}/packages/{{}}", "/invitations/{}", "/admin/users?q={}", "/admin/audit?by={}",
    "/admin/audit?action={}", "/admin/audit?channel={}", "/admin/channels?q={}",
)  # fmt: skip
WRONG = """() => {
    const wrong = []
    if (window.hasRun) wrong.push('a script ran')
    for (const e of document.querySelectorAll('*')) {
        for (const a of e.attributes)
            if (/^on|^hx-on|^srcdoc$|^formaction$/.test(a.name)) wrong.push(`${a.name} on ${e.outerHTML.slice(0, 120)}`)
        if (/^(iframe|object|embed|base|frame|math|marquee|template|foreignobject)$/i.test(e.tagName)) wrong.push(e.outerHTML.slice(0, 120))
        if (e.tagName == 'SCRIPT' && !(e.src.startsWith(location.origin + '/static/') || e.type == 'application/json')) wrong.push(e.outerHTML)
        if (e.tagName == 'META' && /refresh/i.test(e.httpEquiv)) wrong.push(e.outerHTML)
        if (e.tagName == 'A' && e.href) {
            const to = new URL(e.href, location)
            if (!/^https?:$/.test(to.protocol) || to.username) wrong.push(`a link to ${e.getAttribute('href')}`)
            else if (to.host != location.host && !/nofollow.*noopener/.test(e.rel)) wrong.push(`a link with rel="${e.rel}" to ${to.host}`)
        }
        if (e.tagName == 'FORM' && new URL(e.action, location).host != location.host) wrong.push(`a form to ${e.action}`)
        if (e.tagName == 'IMG' && !/^(http:..127|data:image)/.test(e.src)) wrong.push(`a picture of ${e.src}`)
    }
    return wrong
}"""


def plain(text: str) -> str:
    """As part of a file's name: without what divides names, here or on Windows."""
    return text.translate(str.maketrans("/\\:", "|||"))


def hostile_package(number: int, texts: tuple[str, ...]) -> tuple[str, bytes]:
    """A package in which every field that says anything says these."""
    line, lines, place = " ".join(texts), "\n\n".join(texts), count()
    about = {
        "summary": f"worse {line}"[:900],
        "description": lines,
        "license": line[:500],
        "license_family": line[:200],
        "license_file": list(texts),
        "license_url": texts[0],
        "home": texts[1 % len(texts)],
        "dev_url": list(texts),
        "doc_url": texts[2 % len(texts)],
        "doc_source_url": texts[3 % len(texts)],
        "tags": list(texts),
        "keywords": list(texts),
        "extra": {"recipe-maintainers": list(texts), texts[0]: texts[0], "remote_url": texts[-1]},
        texts[0][:60]: lines,
    }
    files = {f"share/{next(place)} {plain(text)}": b"x" for text in texts}
    info = {f"info/licenses/{plain(text)[:100]}.txt": lines.encode() for text in texts} | {
        "info/recipe/meta.yaml": f"# {line}\nabout:\n  summary: >\n    {line}\n".encode()
    }
    index = {"license": line[:500], "license_family": texts[0][:100], texts[0][:50]: line}
    return conda_package(
        f"worse-{number}", "1.0", about=about, files=files, info=info, index=index, depends=["worse-0"],
        run_exports={"weak": [f"worse-{number}"]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def hostile(demo):
    """The demo, and a channel of packages that say the worst; the names of the packages."""
    names = []
    with Fairway(load({"data": demo.server.data}, environ={})) as app:
        make_channel(app)
        for number, begin in enumerate(range(0, len(PAYLOADS), TOGETHER)):
            filename, data = hostile_package(number, PAYLOADS[begin : begin + TOGETHER])
            offer = publish.Offer(CHANNEL, Filename.parse(filename))
            with app.staging.open(1 << 24) as staged:
                staged.write(data)
                publish.accept(app.intake, CONSOLE, staged, offer, now=app.now())
            names.append(f"worse-{number}")
        for number, payload in enumerate(PAYLOADS[: len(names)]):
            with app.database.write() as session:
                withdraw.yank_version(session, CONSOLE, CHANNEL, names[number], "1.0", payload, now=app.now())
            if number % 2:
                with app.database.write() as session:
                    withdraw.unyank_version(session, CONSOLE, CHANNEL, names[number], "1.0", now=app.now())
        app.publisher.catch_up()
    return names


def make_channel(app: Fairway) -> None:
    now, line = app.now(), " ".join(PAYLOADS)[:900]
    with app.database.write() as session:
        channels.create_channel(
            session, CONSOLE, CHANNEL, owner="mara", visibility=Visibility.PUBLIC, description=line, now=now
        )
    with app.database.write() as session:
        readme = channels.Change(readme="\n\n".join(PAYLOADS))
        channels.update_channel(session, CONSOLE, CHANNEL, readme, now=now)
        user = accounts.user_named(session, "mara")
        mara = Actor(user.id, user.name, is_admin=True, scope=Scope.ADMIN)
        accounts.update_profile(session, mara, full_name=PAYLOADS[0], email=user.email, now=now)
        for payload in PAYLOADS:
            tokens.create_token(
                session, CONSOLE, user="mara", name=payload[:100], scope=Scope.READ, channels=(CHANNEL,), now=now
            )
            if " " not in payload and "@" not in payload:
                invitations.invite(session, mara, CHANNEL, f"{payload[:50]}@x.example", Role.VIEWER, now=now)


def test_nothing_runs_and_nothing_becomes_markup(demo, hostile, unguarded):
    """Every page that shows what a stranger wrote."""
    page = unguarded(demo, "mara")
    wrong = {}
    for path in (*ELSEWHERE, *(f"/channels/{CHANNEL}/packages/{name}{tab}" for name in hostile for tab in TABS)):
        answer = visit(page, path)
        assert answer is not None
        assert answer.status == 200, path
        if found := page.evaluate(WRONG):
            wrong[path] = found
    assert wrong == {}


def test_nothing_of_an_address_becomes_markup(demo, hostile, unguarded):
    page = unguarded(demo, "mara")
    wrong = {}
    for path in REFLECTING:
        for payload in PAYLOADS[::3]:
            page.goto(path.format(quote(payload, safe="")), wait_until="load")
            if found := page.evaluate(WRONG):
                wrong[path, payload] = found
    assert wrong == {}


def test_the_judge_sees_what_is_wrong(demo, unguarded):
    page = unguarded(demo, None)
    page.goto("/login")
    assert page.evaluate(WRONG) == []
    seen = 0
    for payload in PAYLOADS:
        page.evaluate("text => { document.querySelector('main').innerHTML = text }", payload)
        seen += bool(page.evaluate(WRONG))
    assert seen > 30
    page.evaluate("ran()")
    assert "a script ran" in page.evaluate(WRONG)
