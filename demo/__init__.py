"""The demo: a year of real flights through the whole loop. A user's view: it only talks HTTP and Kafka."""
