"""The harness: plan → cases → runs → records."""
