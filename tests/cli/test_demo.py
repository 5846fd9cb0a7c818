"""`fairway demo`: everything that comes in passes the checks of an upload, and the whole agrees with itself."""

import re

from sqlalchemy import func, select

from fairway.db.engine import Database
from fairway.db.models import Artifact, Channel, Download, Package, User

DAY_MS = 86_400_000


def test_a_demo_is_complete_and_whole(fairway_command, database_url):
    done = fairway_command("demo", "--small")
    assert done.status == 0, done.stderr
    assert len(re.findall(r"Sign in as (?:mara|tomas) +with the password \S{15,}\n", done.stdout)) == 2
    checked = fairway_command("fsck", "--deep")
    assert (checked.status, checked.stdout) == (0, "Rows, files and index agree.\n")
    database = Database(database_url)
    with database.read() as session:
        channels = {channel.name: channel for channel in session.scalars(select(Channel))}
        assert {channel.visibility for channel in channels.values()} == {"public", "internal", "private"}
        assert [name for name, channel in channels.items() if channel.deleted_at] == ["pier-trial"]
        assert max(map(len, session.scalars(select(Package.name)))) == 64
        published = list(session.execute(select(Artifact.indexed_at, Artifact.yanked_at, Artifact.deleted_at)))
        assert len([yes for _, yes, _ in published if yes]) == 3
        assert len([yes for _, _, yes in published if yes]) == 1
        times = [at for at, _, _ in published]
        assert max(times) - min(times) > 200 * DAY_MS
        query = select(Download.day, func.sum(Download.count)).group_by(Download.day)
        days = {day: int(count) for day, count in session.execute(query)}
        assert len(days) > 300
        half = (min(days) + max(days)) // 2
        assert sum(n for day, n in days.items() if day > half) > sum(n for day, n in days.items() if day <= half)
        weekend = [n for day, n in days.items() if (day + 3) % 7 > 4]
        assert sum(weekend) / len(weekend) < 0.6 * sum(days.values()) / len(days)
        assert session.scalar(select(func.count()).where(User.password_hash.is_not(None))) == 2
    database.close()


def test_a_demo_leaves_what_is_there_alone(cli):
    before = cli("channel", "list", "--json").stdout
    refused = cli("demo", "--small")
    assert (refused.status, refused.stdout) == (1, "")
    assert "empty Fairway" in refused.stderr
    assert cli("channel", "list", "--json").stdout == before
