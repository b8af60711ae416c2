"""What is remembered of versions: of each model those with the newest traffic, however many models."""

from typing import TypeVar

Known = TypeVar("Known")


def keep_newest(known: dict[tuple[str, str], Known], model: str, most: int) -> None:
    """Let go of the model's versions beyond `most`; those of `known` (model, version) come newest last.

    >>> known = {("a", "1"): 0, ("b", "1"): 0, ("a", "2"): 0, ("a", "3"): 0}
    >>> keep_newest(known, "a", 2)
    >>> list(known)
    [('b', '1'), ('a', '2'), ('a', '3')]
    """
    versions = [key for key in known if key[0] == model]
    for key in versions[: max(len(versions) - most, 0)]:
        del known[key]
