"""Alembic's entry: run the migrations on the connection that `db.migrate` hands over."""

from alembic import context

from fairway.db.models import Base

config = context.config
context.configure(
    connection=config.attributes["connection"],
    target_metadata=Base.metadata,
    transaction_per_migration=False,
    render_as_batch=False,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
