"""One line for every change, written in the change's own transaction: there is no change without its line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Table, insert
from sqlalchemy.orm import Session

from fairway.db import quick
from fairway.db.models import Audit
from fairway.registry.actor import Actor

LINES = insert(cast("Table", Audit.__table__))


def note(
    session: Session,
    actor: Actor,
    action: str,
    subject: str,
    *,
    now: int,
    channel_id: int | None = None,
    package_id: int | None = None,
    **details: Any,
) -> None:
    """Write one line: what `line` says of it."""
    notes(session, [line(actor, action, subject, now=now, channel_id=channel_id, package_id=package_id, **details)])


def line(
    actor: Actor,
    action: str,
    subject: str,
    *,
    now: int,
    channel_id: int | None = None,
    package_id: int | None = None,
    **details: Any,
) -> dict[str, Any]:
    """`action` is "noun.verb" (artifact.publish), `subject` what it was done to; details are JSON values. `package_id`
    is of the package whose file that is.
    """
    return {
        "at": now,
        "actor": actor.name,
        "user_id": actor.user_id,
        "token_id": actor.token_id,
        "action": action,
        "channel_id": channel_id,
        "subject": subject,
        "details": details,
        "package_id": package_id,
    }


def notes(session: Session, lines: Sequence[dict[str, Any]]) -> None:
    quick.of(session).each(LINES, lines)
