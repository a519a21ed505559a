"""Where counts, states and positions are kept: the contract, Redis, and memory."""
