"""What the loop is worth on labelled streams, beside a static model and cron jobs: `make bench-loop`.

`data` loads streams, `replay` runs the whole system on one of them, `rest` waits until that system has
nothing left to do, `baselines` are computed without it, `figures` compares the two, and `page` writes
docs/loop-quality.md.
"""
