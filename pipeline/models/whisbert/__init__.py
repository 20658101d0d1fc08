"""The parts of WhisBERT (Wolf et al. 2023) that outlive its training: encoders and their files."""
