"""What a target promises to rollouts, to be run on one of your own. Needs no test framework; pytest finds it.

In your tests:

    from driftloop.testing import TargetContract

    class TestMine(TargetContract):
        def target(self):
            return Mine("http://...")
"""

import asyncio
from collections.abc import Coroutine
from typing import ClassVar

from driftloop.mlops_core.errors import Conflict, Unavailable, Unservable
from driftloop.mlops_core.ports import Target
from driftloop.schemas.events import Resources


class TargetContract:
    """Subclass it and return a `target`; each test is a promise.

    The target may be shared by all tests, and may serve the model already. `model` has `versions` that can be
    served, and no version `absent`.
    """

    model: ClassVar[str] = "flights"
    versions: ClassVar[tuple[str, str]] = ("1", "2")
    absent: ClassVar[str] = "7"
    resources: ClassVar[Resources] = {"cpu": "500m", "memory": "512Mi"}

    def target(self) -> Target:
        """The target under test."""
        raise NotImplementedError("return your target")

    def test_every_call_can_be_repeated(self) -> None:
        """A deployment agent that restarts makes the same calls again."""

        async def calls(target: Target) -> None:
            stable, canary = self.versions
            for _ in range(2):
                await target.ensure(self.model, stable, 1)
                await target.ensure(self.model, canary, 1)
                await target.shift(self.model, {stable: 90, canary: 10})
                await target.blend(self.model, {stable: 1, canary: 3})
                await target.blend(self.model, {canary: 1}, canary)
                await target.blend(self.model, {}, canary)
                await target.blend(self.model, {})
                await target.shift(self.model, {stable: 100, canary: 0})
            for _ in range(2):
                await target.retire(self.model, canary)

        asyncio.run(calls(self.target()))

    def test_a_version_that_serves_has_an_address(self) -> None:
        """And a model that is not served has none."""

        async def calls(target: Target) -> None:
            await target.ensure(self.model, self.versions[0], 1)
            assert await target.endpoints(self.model)
            assert not await target.endpoints("a-model-that-is-not-served")

        asyncio.run(calls(self.target()))

    def test_a_version_that_cannot_be_served_is_unservable(self) -> None:
        """The error names the version, since a person reads it on the page."""
        error = self._error(self.target().ensure(self.model, self.absent, 1), Unservable)
        assert f"{self.model}:{self.absent}" in error, error

    def test_resources_are_given_or_refused(self) -> None:
        """A target that can't give them says which."""

        async def ensure(target: Target) -> None:
            try:
                await target.ensure(self.model, self.versions[0], 1, self.resources)
            except Unservable as refusal:
                sentence = str(refusal)
            else:
                return
            assert all(value in sentence for value in self.resources.values()), sentence

        asyncio.run(ensure(self.target()))

    def test_weights_are_a_whole(self) -> None:
        """Weights that don't sum to 100 change nothing."""
        target = self.target()
        asyncio.run(target.ensure(self.model, self.versions[0], 1))
        self._error(target.shift(self.model, {self.versions[0]: 99}), Conflict)

    def test_only_a_version_that_is_up_gets_traffic(self) -> None:
        """The agent calls `ensure` again and tries once more."""
        target = self.target()
        self._error(target.shift(self.model, {self.absent: 100}), Unavailable)
        self._error(target.blend("a-model-that-is-not-served", {"1": 1}), Unavailable)

    def test_a_blend_has_weights_that_make_an_average(self) -> None:
        """Negative weights do not."""
        target = self.target()
        asyncio.run(target.ensure(self.model, self.versions[0], 1))
        self._error(target.blend(self.model, {self.versions[0]: -1}), Conflict)

    def test_a_version_with_traffic_stays(self) -> None:
        """Traffic is moved away first."""

        async def calls(target: Target) -> None:
            await target.ensure(self.model, self.versions[0], 1)
            await target.shift(self.model, {self.versions[0]: 100})

        target = self.target()
        asyncio.run(calls(target))
        self._error(target.retire(self.model, self.versions[0]), Conflict)

    def test_retiring_what_is_not_there_changes_nothing(self) -> None:
        """Neither an unknown version nor an unknown model is an error."""

        async def calls(target: Target) -> None:
            await target.retire(self.model, self.absent)
            await target.retire("a-model-that-is-not-served", "1")

        asyncio.run(calls(self.target()))

    def _error(self, call: Coroutine[None, None, None], kind: type[Exception]) -> str:
        """The message of the error that the call has to end with."""
        try:
            asyncio.run(call)
        except kind as error:
            return str(error)
        raise AssertionError(f"the call must raise {kind.__name__}")
