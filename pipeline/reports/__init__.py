"""Results become tables, intervals, pictures and a page;
imports `foundation`, `tasks`, `finetuning`.
"""
