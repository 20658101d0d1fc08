"""Results of `speechkd probe hearing` become figures, intervals, a table and a picture."""
