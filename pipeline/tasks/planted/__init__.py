"""The planted-affect corpus: made speech whose hidden affect only the voice tells."""
