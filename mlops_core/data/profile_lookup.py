"""Looks up the profiles of versions for agents that keep them in their state."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from driftloop.mlops_core.data.profile import Profile
from driftloop.mlops_core.errors import NotFound, Unavailable
from driftloop.mlops_core.ports import ModelReader

Key = tuple[str, str]
"""Model and version."""
Known = Mapping[Key, Profile | None]
"""Versions to ask for, and the profile that the agent has of each."""
Found = Mapping[Key, Profile | NotFound]
"""What the registry answered, where that is not what the agent has."""


@dataclass
class ProfileLookup:
    """Asks for each version that an agent does not know, and once per process for one that it knows.

    A version keeps its profile. But a model may be deleted and registered anew under the same name, and then
    its versions begin at 1 again.
    """

    registry: ModelReader
    _confirmed: set[Key] = field(default_factory=set)
    """Versions that the registry was asked for since the start of this process."""

    def questions(self, versions: Iterable[Key], known: Mapping[Key, Profile]) -> Known | None:
        """Which of the versions to ask for; None where that is none."""
        asked = {key: known.get(key) for key in versions if key not in known or key not in self._confirmed}
        return asked or None

    def ask_again(self, version: Key) -> None:
        """Ask for the version once more: what it published does not fit what is known of it."""
        self._confirmed.discard(version)

    def answers(self, asked: Known) -> Found:
        """What the agent does not know yet. Blocks.

        Raises:
            Unavailable: the registry doesn't answer, and a version is asked for that the agent does not know.
        """
        found: dict[Key, Profile | NotFound] = {}
        for key, before in asked.items():
            try:
                answer: Profile | NotFound = self.registry.profile(*key)
            except NotFound as error:
                answer = error
            except Unavailable:
                if before is None:
                    raise
                answer = before  # the agent goes on with what it has
            self._confirmed.add(key)
            if answer != before:
                found[key] = answer
        return found


def enters_state(asked: Known, found: Found) -> bool:
    """Whether the answers change what an agent knows; that a version is not registered changes nothing."""
    return any(asked[key] is not None or isinstance(answer, Profile) for key, answer in found.items())
