"""`make bench`: how fast funnelwatch counts, beside reading alone and a plain Faust agent.

All contenders read the same records from the same Apache Kafka node, the counting ones write to the
same redis-server. Each runs in a process of its own, from offset 0, with a consumer group and Redis
keys nobody used before. They take turns, so that a slow minute of the machine meets all of them.

The rate of a run is defined alike for all. A contender keeps a count of the records it is *done*
with: read (`limit`), or counted in Redis (the others). It is looked at from outside every 10 ms.

    rate = (done at the last look - done at the first) ÷ the time between,

where the first look is the one that finds a first record done and the last the one that finds all
of them done. So start-up and joining the group do not count, nor do the records up to the first
look. CPU seconds are the process's own, all threads, between the same two looks.

`--against PATH` runs the worker of another checkout too. `--stages`, `--growth` and `--memory` need
no broker: what the steps of the work cost, how that grows, and what an entity takes.
"""
