"""Stage two of the relatives: modules that learn from cached rows of speech, or speech with text;
imports `foundation`, `cache`, `corpus`, `models`, `training`.
"""
