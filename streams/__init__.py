"""Everything that flows: transport, journeys, tally, ledger, read side, web, command line."""
