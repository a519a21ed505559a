"""`make faults`: break what can break, under load, and hold every count against an independent recount.

An experiment is a function under `experiments/` that gets a `Scene`: a real Kafka with a topic of six
partitions, a redis-server with an append-only file, workers as processes, and dice of its own seed. It
breaks something, and asks the scene in the end whether the books are exact. `python -m tests.faults`
plays each at several seeds and says how many runs of how many failed.
"""
