"""Results become tables, intervals, pictures and a page.

Imports `foundation`, `tasks`, `finetuning`.
"""
