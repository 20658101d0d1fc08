"""Stage two: a student and its objectives become a run.

Imports `foundation`, `cache`, `corpus`, `models`, `training`.
"""
