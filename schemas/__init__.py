"""The vocabulary: events, funnels, rules, config, settings, reports, errors. Imports nothing of ours."""
