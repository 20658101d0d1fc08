"""The verbs of speechkd: one file a command, each the whole story of its stage."""
