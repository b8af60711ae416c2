"""Kafka: the topics, the bytes on them, publishing, and the one consuming loop.

The only door to Faust and to confluent-kafka's producers and consumers.
"""
