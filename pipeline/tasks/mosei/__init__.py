"""CMU-MOSEI, in the formats that people have, becomes one tidy table and the tasks made from it."""
