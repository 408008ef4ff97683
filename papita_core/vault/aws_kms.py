"""A master key that AWS KMS keeps: PAPITA_MASTER_KEY_URI=aws-kms:<key id, arn or alias>.

Region, credentials and endpoint are those that boto3 finds, for example AWS_REGION and the role of
the machine. The role needs `kms:Encrypt` and `kms:Decrypt` for this key.
"""

from __future__ import annotations

import hashlib

from papita_core.errors import MasterKeyUnavailable
from papita_core.settings import SettingsError
from papita_core.vault import crypto
from papita_core.vault.master_key import bound

NOT_OURS = {"InvalidCiphertextException", "IncorrectKeyException"}


class AwsKmsMasterKey:
    """Wraps with `kms:Encrypt`; what it is bound to is the encryption context."""

    def __init__(self, key: str) -> None:
        self.source = f"aws-kms:{key}"
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise SettingsError(
                "PAPITA_MASTER_KEY_URI: aws-kms needs the package boto3; run: pip install boto3"
            ) from None
        self._errors = (BotoCoreError, ClientError)
        self._key = key
        self._id = hashlib.sha256(self.source.encode()).digest()[: crypto.KEY_ID_BYTES]
        config = Config(
            connect_timeout=3,
            read_timeout=5,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
        try:
            self._client = boto3.session.Session().client("kms", config=config)
        except (BotoCoreError, ValueError) as error:
            raise SettingsError(
                f"PAPITA_MASTER_KEY_URI: AWS cannot be used: {type(error).__name__};"
                " check AWS_REGION and the AWS configuration"
            ) from None

    @property
    def key_id(self) -> bytes:
        return self._id

    def wrap(self, root_key: bytes, context: tuple[bytes, ...]) -> bytes:
        try:
            answer = self._client.encrypt(
                KeyId=self._key, Plaintext=root_key, EncryptionContext=_encryption_context(context)
            )
        except self._errors as error:
            raise self._unavailable(error) from None
        wrapped: bytes = answer["CiphertextBlob"]
        return wrapped

    def unwrap(self, wrapped: bytes, context: tuple[bytes, ...]) -> bytes:
        try:
            answer = self._client.decrypt(
                KeyId=self._key,
                CiphertextBlob=wrapped,
                EncryptionContext=_encryption_context(context),
            )
        except self._errors as error:
            if _code(error) in NOT_OURS:
                raise crypto.EnvelopeError("KMS did not wrap this, or not here") from None
            raise self._unavailable(error) from None
        root_key: bytes = answer["Plaintext"]
        return root_key

    def _unavailable(self, error: Exception) -> MasterKeyUnavailable:
        return MasterKeyUnavailable(
            f"AWS KMS does not open the master key: {_code(error)}. Check that it can be reached"
            " from here, that the key is enabled, and that Papita may use kms:Encrypt and"
            " kms:Decrypt."
        )


def _code(error: Exception) -> str:
    """The service's own word for the error, or the type of one that is ours."""
    answer = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code") or type(error).__name__)


def _encryption_context(context: tuple[bytes, ...]) -> dict[str, str]:
    # It stands in clear in CloudTrail, so it holds the id of the root key and nothing else.
    return {"papita": bound(context).hex()}
