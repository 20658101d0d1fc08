"""Encoders × tasks × seeds become a results folder;
imports `foundation`, `cache`, `cluster`, `corpus`, `models`, `tasks`, `training`.
"""
