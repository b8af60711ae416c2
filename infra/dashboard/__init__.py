"""The live page: events come in from Kafka, a board keeps the picture, browsers and Prometheus look at it.

`feed` is the only one that knows Kafka, `app` and `metrics` the only ones that know HTTP; all others are pure.
`static` holds the page itself: plain HTML, CSS and ES modules, no build step.
"""
