"""The planted-affect corpus: synthetic speech whose hidden affect only the voice tells."""
