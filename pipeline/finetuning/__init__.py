"""Encoders × tasks × seeds become a results folder;
imports `foundation`, `cache`, `cluster`, `models`, `tasks`, `training`.
"""
