"""Producing: from `Publisher.publish` to a record that Kafka acknowledged.

`accumulator` keeps records in memory and sends them together, `spool` and `spool_sender` keep them on the
disk first, `client` is the idempotent producer that both send with. Nothing here loads Faust.
"""
