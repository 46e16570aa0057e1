"""Corruptions: what cameras, weather and storage do to pictures, at five severities."""
