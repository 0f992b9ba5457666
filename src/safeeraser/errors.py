"""The one exception that a user's input can cause."""


class UserError(ValueError):
    """Bad input: the message says what was given, what is allowed and what to do.

    The command line prints the message alone and exits with status 2; everything else that escapes is a bug
    and keeps its traceback.

    Example:
        >>> raise UserError("method 'popd' is unknown: did you mean 'po+pd'?")
        Traceback (most recent call last):
        safeeraser.errors.UserError: method 'popd' is unknown: did you mean 'po+pd'?
    """
