"""The one exception that a user is meant to read: what was got, where, and what to do next."""


class SpeechkdError(Exception):
    """A failure caused by input, settings or the machine, not by a defect in speechkd.

    The message says what was got, where (file, shard, key, setting), what was wanted, and
    what to do next. The command line prints it without a traceback and exits with status 1.
    """
