"""One class for each thing that a user can do about an error.

Every message says what is wrong, where, the rule, and what to do. The command line
prints it without a traceback and leaves with the class's exit code.
"""


class MmadferError(Exception):
    """Anything that the user can mend; exit code 2."""

    exit_code = 2


class ConfigError(MmadferError):
    """Mend the configuration: a file, a key or a value."""


class DataError(MmadferError):
    """Mend the data: a clip, a folder or a store."""


class ClipError(DataError):
    """Give another video; `reason` says in a few words what is wrong with this one."""

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason
        """`unreadable`, `empty`, `no face`, `no sound`, `sound rate`, `too long` or `trace`."""


class WeightsError(MmadferError):
    """Give the right weights: an encoder, a checkpoint or an exported model."""


class FileError(MmadferError):
    """Replace a file: it is damaged, too large, of another kind, or not what its name says."""


class RunError(MmadferError):
    """Choose another run directory, resume this one, or finish its folds."""


class HubError(MmadferError):
    """Name a repository and a revision that are there, or mend the network."""


class SignatureError(MmadferError):
    """Get the model from who signed it, or give their key."""


class LicenceError(MmadferError):
    """Take a part out, or state the licence that you hold of it."""


class MissingDependencyError(MmadferError):
    """Install an optional dependency; the message names the command."""


class TrainingError(MmadferError):
    """Training cannot go on: a loss that is not finite, a rank that is lost."""


class ParityError(MmadferError):
    """Two forms of one model do not give the same answer; nothing is delivered."""
