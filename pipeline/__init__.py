"""The nouns of speechkd: importable parts without a command line."""
