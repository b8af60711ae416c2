"""A publisher with a spool, while Kafka is away for long."""

from pathlib import Path

import pytest

from tests.integration.publisher_test import publish_while_kafka_is_away


@pytest.mark.timeout(300)
def test_kafka_may_be_away_for_a_minute(needs_kafka: None, tmp_path: Path) -> None:
    publish_while_kafka_is_away(tmp_path, 60)
