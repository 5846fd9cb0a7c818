"""One line for every change, written in the change's own transaction: there is no change without its line."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from fairway.db.models import Audit
from fairway.registry.actor import Actor


def note(
    session: Session,
    actor: Actor,
    action: str,
    subject: str,
    *,
    now: int,
    channel_id: int | None = None,
    **details: Any,
) -> None:
    """`action` is "noun.verb" (artifact.publish), `subject` what it was done to; details are JSON values."""
    session.add(
        Audit(
            at=now,
            actor=actor.name,
            user_id=actor.user_id,
            token_id=actor.token_id,
            action=action,
            channel_id=channel_id,
            subject=subject,
            details=details,
        )
    )
