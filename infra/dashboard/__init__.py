"""The live page: events come in from Kafka, a board keeps the picture, browsers and Prometheus look at it.

`state`, `model_board`, `lines` and `rings` are pure. `feed` is the only one that knows Kafka, `app` the
only one that knows HTTP, `static` holds the page itself: plain HTML, CSS and ES modules, no build step.
"""
