"""Every error that this project raises on purpose, as one tree.

    GPTError
    ├── ConfigError             a model's or a run's setting is out of range (also a ValueError)
    ├── TokenizerError          a tokenizer file is wrong, or text cannot be encoded
    │   └── UnknownCharacterError   a character that the vocabulary has no token for
    ├── CheckpointError         a checkpoint folder is missing, incomplete, or does not match
    │   └── CheckpointNameError     a checkpoint cannot have this name (also a ValueError)
    ├── CorpusError             a training text is missing, empty, too short, or not UTF-8
    ├── TrainingError           a run cannot start, cannot be written, or diverged
    ├── RequestError            a completion request's parameter is out of range (also a ValueError)
    └── BackendError            a backend cannot serve a request now
        ├── QueueFullError      too many requests wait already
        └── BackendClosedError  the backend was closed

Each message names the parameter, what was given, what is allowed and what to do,
so that a command or a page can show it as it stands.
"""

from __future__ import annotations


class GPTError(Exception):
    """Base of every error below; catching it catches them all, and nothing else."""


class ConfigError(GPTError, ValueError):
    """A model's or a run's setting is out of range."""


class TokenizerError(GPTError):
    """A tokenizer file is wrong, or a text cannot be encoded."""


class UnknownCharacterError(TokenizerError):
    """The text holds a character that the vocabulary has no token for."""


class CheckpointError(GPTError):
    """A checkpoint folder is missing, incomplete, or does not match its configuration."""


class CheckpointNameError(CheckpointError, ValueError):
    """A checkpoint cannot have this name."""


class CorpusError(GPTError):
    """A training text is missing, empty, too short, or not UTF-8."""


class TrainingError(GPTError):
    """A training run cannot start, cannot be written, or diverged."""


class RequestError(GPTError, ValueError):
    """A completion request's parameter is out of range."""


class BackendError(GPTError):
    """A backend cannot serve the request now."""


class QueueFullError(BackendError):
    """Too many requests wait already."""


class BackendClosedError(BackendError):
    """The backend was closed."""
