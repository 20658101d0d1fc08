"""Questions whose answer is a stretch of a spoken passage: what is read, and how it is judged."""
