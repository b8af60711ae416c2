"""Folders that tests read from."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""

GOLDEN = ROOT / "tests" / "support" / "golden" / "v1"
"""One message of each type, as version 1 wrote it."""
