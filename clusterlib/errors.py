"""The error tree. Every error carries one sentence, since errors cross processes by pickle.

ClusterlibError
├ ConfigError               exit 2   a setting; names its key path
├ InputError                exit 3   a source, store or file that cannot be used
│ ├ StaleArtifactError      exit 3   what is in the run belongs to other settings
│ ├ DamagedArtifactError    exit 3   what is in the run is not what was committed
│ ├ TransientStorageError   exit 3   a store kept failing, also after retries
│ ├ StoreRefusedError       exit 3   a store refuses everything: credentials, bucket, name, space
│ └ WorkersLostError        exit 3   worker processes keep dying
├ TooManyRejectsError       exit 4   more unusable images than images.max_reject_fraction
└ ClusteringError           exit 5   these embeddings cannot be clustered as asked
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_INTERRUPTED = 130


class ClusterlibError(Exception):
    """Root of every error that a user can act upon."""

    exit_code = EXIT_BUG


class ConfigError(ClusterlibError):
    """A setting is unknown, of the wrong type, or out of range."""

    exit_code = 2


class InputError(ClusterlibError):
    """A source, store or file is missing, empty or refused."""

    exit_code = 3


class StaleArtifactError(InputError):
    """An artifact in the run was made with other settings; nothing is overwritten."""


class DamagedArtifactError(InputError):
    """An artifact in the run is gone, altered, or contradicts the commit log."""


class StoreRefusedError(InputError):
    """A store refuses whatever is asked, so that trying the next file is pointless."""


class TransientStorageError(InputError):
    """A store did not answer properly, also after retries; says nothing about the file."""


class WorkersLostError(InputError):
    """Worker processes or nodes died; what is committed stays."""


class TooManyRejectsError(ClusterlibError):
    """More images were quarantined than the configuration tolerates."""

    exit_code = 4


class ClusteringError(ClusterlibError):
    """The embeddings cannot be clustered as asked."""

    exit_code = 5
