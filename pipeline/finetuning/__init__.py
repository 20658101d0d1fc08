"""Encoders × tasks × seeds become a results folder.

Imports `foundation`, `cache`, `cluster`, `models`, `tasks`, `training`.
"""
