"""What changed between two models: matching them, the facts, and how far values moved."""
