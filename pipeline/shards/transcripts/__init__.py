"""Files that say when what is said in a recording: one small file per format, one `Segment`.

The next format is a function from a `Transcript` to segments, and its line in `formats.FORMATS`.
"""
