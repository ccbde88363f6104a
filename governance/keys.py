"""Keys: whose signature counts, and the private key that signs a decision.

Public keys stand in keys.yaml, versioned with the code. A private key lies outside every checkout,
readable by its owner alone, and is never written anywhere else, printed or logged.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from core.errors import ConfigError, GovernanceError
from core.files import disk_errors
from core.params import Params, parse, read_yaml
from governance.chain import Record
from governance.people import identities, require_name, same_person
from governance.places import KEYS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VARIABLE = "SIGNALS_KEY"
_NEW = "`signals keys new --by 'Name <email>'`"


class Key(Params):
    """A public key and the person it belongs to.

    Parameters
    ----------
    public
        Ed25519 public key, 64 hexadecimal digits.
    revoked
        Number of the first ledger record that the key may not have signed; what it signed before
        stands. A position, not a date: a thief can write any date, but no record before the last.
    """

    person: str
    public: str = Field(pattern=r"^[0-9a-f]{64}$")
    revoked: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _named(self) -> Key:
        if not identities(self.person):
            raise ValueError(f"key {self.public[:12]} belongs to nobody: write person: 'Name <email>'")
        return self


class KeyRing(Params):
    """Everyone whose signature counts."""

    keys: list[Key] = Field(default_factory=list)

    @model_validator(mode="after")
    def _unique(self) -> KeyRing:
        publics = [key.public for key in self.keys]
        twice = [key for key in self.keys if publics.count(key.public) > 1]
        if twice:
            raise ValueError(f"key {twice[0].public[:12]} is listed twice")
        return self

    def find(self, public: str) -> Key | None:
        """The entry of a public key."""
        return next((key for key in self.keys if key.public == public), None)


def read_ring(root: Path) -> KeyRing:
    """Read keys.yaml; a checkout without one has no keys.

    Raises
    ------
    ConfigError
        The file is not valid.
    """
    path = root / KEYS
    if not path.is_file():
        return KeyRing()
    return parse(KeyRing, read_yaml(path), KEYS.name)


@dataclass(frozen=True)
class PrivateKey:
    """What signs; its text never shows the secret."""

    public: str
    _secret: Ed25519PrivateKey = field(repr=False)

    def sign(self, data: bytes) -> str:
        """Signature of some bytes, in hexadecimal."""
        return self._secret.sign(data).hex()


def verifies(record: Record) -> bool:
    """Whether the signature of a record was made with the key that the record names, over this very record."""
    # Imported here: a ledger without signatures is read without the library.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(record.key))
        public.verify(bytes.fromhex(record.signature), record.signed_bytes)
    except (ValueError, InvalidSignature):
        return False
    return True


def pen_for(root: Path, actor: str, decides: bool, required: bool) -> PrivateKey | None:
    """The key that signs for a person: the file named by SIGNALS_KEY, else the person's own in the config folder.

    Parameters
    ----------
    decides
        Whether the record is a decision; other records are signed where a key that counts is at hand.
    required
        Whether a decision may not go unsigned.

    Raises
    ------
    GovernanceError
        A signature is required and there is no key; or the key is unsafe, unknown to keys.yaml,
        revoked, or somebody else's.
    """
    path = _path_for(actor)
    if path is None:
        if required and decides:
            raise GovernanceError(
                f"governance.require_signatures is on and {actor} has no key: make one with {_NEW}, or name its file "
                f"in {VARIABLE}"
            )
        return None
    pen = read_private(path, root)
    key = read_ring(root).find(pen.public)
    if not decides:
        return pen if key is not None and key.revoked is None else None
    if key is None:
        raise GovernanceError(f"the key {path} is not in {KEYS}: add it there ({_NEW} prints how), or unset {VARIABLE}")
    if key.revoked is not None:
        raise GovernanceError(f"the key {path} of {key.person} is revoked (see {KEYS}): make a new one with {_NEW}")
    if not same_person(actor, key.person):
        raise GovernanceError(f"the key {path} belongs to {key.person}, not to {actor}: decide under your own name")
    return pen


def read_private(path: Path, root: Path) -> PrivateKey:
    """Read a private key, refusing one that others could have read.

    Raises
    ------
    GovernanceError
        It is missing, lies in the checkout, can be read by others, or is no Ed25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if path.resolve().is_relative_to(root.resolve()):
        raise GovernanceError(f"the private key {path} lies in the checkout: move it out, and take it for known to all")
    try:
        with path.open("rb") as handle:
            mode = os.fstat(handle.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise GovernanceError(
                    f"the private key {path} can be read by others (mode {stat.S_IMODE(mode):04o}): "
                    f"`chmod 600 {path}`, and make a new one if others may have read it"
                )
            data = handle.read()
    except OSError as error:
        raise GovernanceError(f"the private key {path} cannot be read ({error.strerror}): {_NEW} makes one") from None
    try:
        secret = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        secret = None
    if not isinstance(secret, Ed25519PrivateKey):
        raise GovernanceError(f"{path} is no Ed25519 private key without a password: make one with {_NEW}")
    return PrivateKey(secret.public_key().public_bytes_raw().hex(), secret)


def create_key(person: str, root: Path) -> tuple[Path, Key]:
    """Make a key pair; the private one goes into the config folder, mode 0600.

    Returns
    -------
    tuple of Path and Key
        Where the private key lies, and the entry for keys.yaml.

    Raises
    ------
    GovernanceError
        There is one already, or the config folder lies in the checkout or is not known.
    StorageError
        The disk refused.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    person = require_name(person, "a key")
    folder = config_folder()
    if folder is None:
        raise GovernanceError("this user has no home folder: set XDG_CONFIG_HOME to the folder that keeps the key")
    path = folder / f"{_file_name(person)}.key"
    if path.resolve().is_relative_to(root.resolve()):
        raise GovernanceError(f"{path} would lie in the checkout: set XDG_CONFIG_HOME to a folder outside it")
    secret = Ed25519PrivateKey.generate()
    text = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(path, text)
    return path, Key(person=person, public=secret.public_key().public_bytes_raw().hex())


def _write_new(path: Path, secret: bytes) -> None:
    """Write a file of mode 0600 whole or not at all, and over no other."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        raise GovernanceError(f"{path} exists: it is not overwritten; move it away first") from None
    finally:
        os.unlink(name)


def config_folder() -> Path | None:
    """The user's folder for private keys: `layered-signals` in XDG_CONFIG_HOME or ~/.config; None without a home."""
    home = os.path.expanduser("~")
    base = os.environ.get("XDG_CONFIG_HOME") or (os.path.isdir(home) and f"{home}/.config")
    return Path(base) / "layered-signals" if base else None


def _path_for(actor: str) -> Path | None:
    named = os.environ.get(VARIABLE)
    if named:
        return Path(os.path.expanduser(named))
    folder = config_folder()
    own = folder / f"{_file_name(actor)}.key" if folder else None
    # `Path.exists` raises where the folder is somebody else's home.
    return own if own and os.path.exists(own) else None


def _file_name(person: str) -> str:
    """The address of a person, or else the name, as a file may be called."""
    known = sorted(identities(person), key=lambda one: ("@" not in one, one))
    if not known:
        raise ConfigError(f"{person!r} names nobody: write 'Name <email>'")
    return re.sub(r"[^a-z0-9@._+-]+", "-", known[0]).strip(".-") or "me"
