"""Every error that this project raises on purpose, as one tree.

    GPTError
    ├── ConfigError             a model's or a run's setting is out of range (also a ValueError)
    ├── TokenizerError          a tokenizer file is wrong, or text cannot be encoded
    │   └── UnknownCharacterError   a character that the vocabulary has no token for
    ├── CheckpointError         a checkpoint folder is missing, incomplete, or does not match
    │   └── CheckpointNameError     a checkpoint cannot have this name (also a ValueError)
    ├── ListenError             an address cannot be listened on
    ├── HubError                the Hugging Face Hub, or what lies there, did not do what was asked
    ├── CorpusError             a training text is missing, empty, too short, or not UTF-8
    ├── TrainingError           a run cannot start, cannot be written, or diverged
    ├── RequestError            a completion request's parameter is out of range (also a ValueError)
    └── BackendError            a backend cannot serve a request now
        ├── QueueFullError      too many requests wait already
        ├── BackendClosedError  the backend was closed
        └── VertexError         Vertex AI, or a predictor, did not do what was asked
            ├── CredentialsError         there are no credentials, or they are not accepted
            ├── AccessDeniedError        the account may not do this
            ├── RejectedError            the request itself is refused
            ├── RegionError              the location is none of Vertex AI's
            ├── ResourceNotFoundError    the endpoint, model, job or bucket is not there
            ├── NothingDeployedError     the endpoint has no model
            ├── QuotaError               too much was asked at once (also a QueueFullError)
            ├── VertexTimeoutError       no answer came in time
            ├── ServiceUnavailableError  nothing answers there now
            └── ModelError               the model's server failed, or its answer makes no sense
                └── BrokenStreamError    the text broke off before its end

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
    """The text holds a character that the vocabulary has no token for.

    Attributes:
        character: the first such one, where the text is known to have it; else empty.
    """

    def __init__(self, message: str, character: str = "") -> None:
        super().__init__(message)
        self.character = character


class CheckpointError(GPTError):
    """A checkpoint folder is missing, incomplete, or does not match its configuration."""


class CheckpointNameError(CheckpointError, ValueError):
    """A checkpoint cannot have this name."""


class ListenError(GPTError):
    """An address cannot be listened on: it is not this machine's, or another program has it."""


class HubError(GPTError):
    """The Hugging Face Hub did not do what was asked, or what lies there cannot be used."""


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


class VertexError(BackendError):
    """Vertex AI, or a predictor anywhere, did not do what was asked."""


class CredentialsError(VertexError):
    """There are no credentials for Google Cloud, or they are not accepted."""


class AccessDeniedError(VertexError):
    """The credentials are known, but may not do this."""


class RejectedError(VertexError):
    """The request itself is refused: a value in it, its size, or the state of what it is about."""


class RegionError(VertexError):
    """The location is none of Vertex AI's."""


class ResourceNotFoundError(VertexError):
    """The endpoint, model, job or bucket is not there, or not in this project and location."""


class NothingDeployedError(VertexError):
    """The endpoint is there, and no model is deployed to it."""


class QuotaError(VertexError, QueueFullError):
    """A quota is used up, or the predictor's queue is full."""


class VertexTimeoutError(VertexError):
    """No answer, or no further piece of one, came in time."""


class ServiceUnavailableError(VertexError):
    """Nothing answers there now; later it may."""


class ModelError(VertexError):
    """The model's server failed, or its answer makes no sense."""


class BrokenStreamError(ModelError):
    """The text broke off before its end."""
