"""Kafka: records, publishing, reading, and the agents' processing of chunks.

`wire` is the bytes of messages, `producer` publishes, `processing` runs agents. This is the only room that
imports Faust, and confluent-kafka's producers.
"""
