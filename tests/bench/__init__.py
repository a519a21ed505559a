"""`make bench`: how fast funnelwatch counts and what that costs, beside the limit and what one would use instead.

    limit                   a bare aiokafka loop that counts records (bare.py)
    funnelwatch             one worker, as it is run
    handwritten             an aiokafka loop with Redis pipelines; a restart loses the journeys (handwritten.py)
    handwritten-stored      the same with journeys and positions in Redis (handwritten_stored.py)
    bytewax, quix           the same job with these libraries (with_bytewax.py, with_quix.py)
    kafka-streams, -2       the same on the JVM, with one thread and with two (kafka_streams)
    faust, faust-summed     a plain Faust agent, and one that sums what it sends (plain.py)

All contenders read the same records from the same Apache Kafka node, the counting ones write to the
same redis-server. Each runs in a process of its own, from offset 0, with a consumer group and Redis
keys nobody used before. They take turns, so that a slow minute of the machine meets all of them.

The rate of a run is defined alike for all. A contender keeps a count of the records it is *done*
with: read (`limit`), or counted in Redis (the others). It is looked at from outside every 10 ms.

    rate = (done at the last look - done at the first) ÷ the time between,

where the first look is the one that finds a first record done and the last the one that finds all
of them done. So start-up and joining the group do not count, nor do the records up to the first
look. CPU seconds are the process's own, all threads, between the same two looks.

`python -m tests.bench` is the contenders alone; `--against PATH` runs the worker of another checkout
too. `--warehouse`, `--latency`, `--growth`, `--memory`, `--replay`, `--read` and `--scale` are the
other sections of the page that `--report FILE` writes; `--stages` and `--profile` are for whoever
makes it faster.
"""
