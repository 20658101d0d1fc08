"""CMU-MOSEI in the formats people have it in → one tidy table, and the tasks made from it."""
