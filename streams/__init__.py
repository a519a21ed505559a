"""Everything that flows: transport, journeys, tally, ledger, read side, web, command line."""

from streams import compiled

COMPILED = compiled.use(__path__)  # whether the engine runs as machine code
