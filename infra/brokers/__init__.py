"""Kafka-compatible brokers that we start ourselves: one in memory, one real, behind one interface.

Only starting, asking whether they serve, and stopping live here; topics and messages belong to `streams`,
which doesn't know who started the broker it talks to.
"""

from driftloop.infra.brokers.broker import Broker, BrokerUnavailable
from driftloop.infra.brokers.launch import run, start

__all__ = ["Broker", "BrokerUnavailable", "run", "start"]
