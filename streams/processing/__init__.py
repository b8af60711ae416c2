"""Processing: an agent's partitions, chunk by chunk, with its state in a changelog topic.

`agent` is what an agent has to be, `runner` the loop that hands it chunks and commits what follows,
`faust_transport` the only door to Faust. `checkpoints` and `changelog` keep an agent's state in Kafka.
"""
