"""What the teacher hears in speech that a student never met, told from its text alone."""
