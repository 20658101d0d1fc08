"""Stage two: a student and its objectives become a run;
imports `foundation`, `cache`, `corpus`, `models`, `training`.
"""
