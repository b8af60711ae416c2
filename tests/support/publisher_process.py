"""A service that publishes through a spool until it is killed.

Run it as `python -m tests.support.publisher_process BOOTSTRAP ...`.
It prints the id of each label once `publish` has returned for it, so that a test knows what was accepted.
"""

import sys
from itertools import count
from pathlib import Path

from driftloop.schemas.records import Label
from driftloop.schemas.settings import KafkaSettings, PublisherSettings
from driftloop.streams.producer.publisher import Publisher


def main(bootstrap: str, prefix: str, folder: str) -> None:
    settings = PublisherSettings(when_full="spool", spool_folder=Path(folder))
    publisher = Publisher(KafkaSettings(bootstrap=bootstrap, prefix=prefix), settings)
    for n in count():
        publisher.publish(Label(model="m", id=f"id-{n}", at=n, label=n % 2))
        sys.stdout.write(f"id-{n}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
