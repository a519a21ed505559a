"""What alerts are worth, by simulation: pages while all is well, and how soon a fall is found.

`python -m tests.alerts_study` prints the tables of deploy/alerts.md, and with `--write` puts them there.
All is seeded: the same command gives the same figures.

Entrants come at random (Poisson), so many a minute; 0.35 of them convert, and the threshold is 0.30. Then
0.15 do. `traffic` says who comes, `contenders` are the rules (ours run through the evaluator's own judge
and lifecycle), `optimum` is the best that is possible for one who is told both rates, `levels` measures
them at steady traffic, `hardships` in a daily cycle, a drift, a silence, a lag and a fall in one device,
and `delayed` on counts and adjusted rates, where conversions take their time.
"""
