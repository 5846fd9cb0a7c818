"""Uploads: one module for each dialect. A dialect reads its own request and calls `intake.take`, like all others."""
