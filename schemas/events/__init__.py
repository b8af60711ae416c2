"""The control plane: what happened, in the past tense, and what caused it.

Every event carries an envelope: `id` (follows from its cause), `type`, `at` (when, in the time of the
data), `model`, `caused_by` (the id of the event before it) and `schema_version`. Walking `caused_by`
leads from a rollback to the window of predictions that began it.

To add an event, write its class in one of these modules: topic, decoder, documentation and this package's
names follow from it.
"""

from driftloop.schemas.events.alerts import *
from driftloop.schemas.events.drift import *
from driftloop.schemas.events.envelope import *
from driftloop.schemas.events.performance import *
from driftloop.schemas.events.rollout import *
from driftloop.schemas.events.selection import *
from driftloop.schemas.events.traffic import *
from driftloop.schemas.events.training import *
