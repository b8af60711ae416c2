"""Serving on one machine: replica processes that score, and a host that routes to and looks after them.

    client ──▶ router ──▶ replica of version 3 (90 % of the entities) ──▶ Kafka: predictions
                     └──▶ replica of version 4 (10 %)

`protocol`, `split` and `plan` are pure; `replica` is the process that loads a model; `fleet` starts and
retires replicas; `router` and `admin` are the host's two doors; `target` lets rollouts steer the host.
The deployment agent decides the weights; this package applies them.
"""
