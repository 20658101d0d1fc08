"""The verbs of speechkd: each file tells one stage as a story and lists its commands.

`COMMANDS` of a file names each command with its settings and the function that runs it. `cli` joins
them; `options` turns settings into options.
"""
