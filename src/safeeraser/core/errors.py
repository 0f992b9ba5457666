"""What a user's input or machine can cause: errors that are said in a sentence, without a traceback."""

import errno

UNWRITABLE = 74
"""Exit status of a cell whose files could not be written, its log perhaps among them (``EX_IOERR`` of sysexits.h)."""
_GOES_ON = "; the same command goes on from there"
_ADVICE = {
    errno.ENOSPC: f"make room on the disk{_GOES_ON}",
    errno.EDQUOT: f"make room in the quota{_GOES_ON}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f){_GOES_ON}",
    errno.EIO: f"look at the disk{_GOES_ON}",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be read and written",
    errno.EPERM: "choose a folder that can be read and written",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "if it was removed while the command ran, run it again",
    errno.ENOTDIR: "give a folder",
    errno.EISDIR: "give a file",
    errno.EEXIST: "give a folder",
    errno.EMFILE: f"raise the limit on open files (ulimit -n){_GOES_ON}",
}


class UserError(ValueError):
    """Bad input: the message says what was given, what is allowed and what to do.

    The command line prints the message alone and exits with status 2; everything else that escapes is a bug
    and keeps its traceback.

    Example:
        >>> raise UserError("method 'popd' is unknown: did you mean 'po+pd'?")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: method 'popd' is unknown: did you mean 'po+pd'?
    """


def refused(error: OSError) -> str | None:
    """What the machine refused, in a sentence; None for an error that is no fault of disk, folder or limits.

    What was written until then is whole.

    Example:
        >>> refused(OSError(errno.ENOSPC, "No space left on device", "runs/a/responses.jsonl"))
        'runs/a/responses.jsonl: No space left on device: make room on the disk; the same command goes on from there'
        >>> refused(ConnectionResetError())
    """
    if error.errno not in _ADVICE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}: {_ADVICE[error.errno]}"
