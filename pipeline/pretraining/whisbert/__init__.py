"""WhisBERT: encoders of text and of audio and their fusion, under five losses."""
