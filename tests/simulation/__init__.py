"""What age adjustment is worth, by simulation: people whose fate is known, counted as the engine counts them.

`python -m tests.simulation` prints the figures of deploy/adjusted.md as a Markdown table, and with
`--picture FILE` draws them. All is seeded: the same command gives the same figures.

One step, from checkout to pay, with a conversion window of 24 hours. Entries come at random (Poisson) at
a rate that swings through the day between 30 and 300 a minute, times a factor that every day has of its
own. Three in ten convert, after a log-normal delay. At noon of the last day but one paying breaks: from
then on a conversion fails with probability 0.6.

`people` says what happens, `counts` keeps it in buckets, `study` asks the rates of every moment and
sums them up, `report` and `picture` show them. Only `counts` and `study` use the code under test.
"""
