"""The live page: events come in from Kafka, a board keeps the picture, browsers and Prometheus look at it.

`feed` alone knows Kafka, `app` and `metrics` alone know HTTP; all others are pure.
`static` holds the page itself: plain HTML, CSS and ES modules, no build step.
"""
