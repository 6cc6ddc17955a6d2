"""PKCS#11 modules and tokens: one is loaded, one is found, and one login serves all its signers.

A module is initialised without locking of its own, so all calls into it are under one lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast.errors import SigningError
from dmsign_fast.signing.certificates import read_file
from dmsign_fast.signing.pkcs11_uri import TokenUri, describe
from dmsign_fast.signing.providers import KeyOptions, extra

with extra("pkcs11"):
    import pkcs11
    from pkcs11.attributes import AttributeMapper
    from pkcs11.constants import Attribute, TokenFlag
    from pkcs11.types import PROTECTED_AUTH

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812

__all__ = ["TokenSession", "open_token"]

MODULE_VARIABLE = "PKCS11_MODULE_PATH"  # as OpenSSL's engine of libp11 has it

# p11-kit serves every module that is registered on the machine. Its library is its proxy too,
# and there without the link of the first name.
_PROXIES = ("p11-kit-proxy.so", "libp11-kit.so.0")
_MODULE_DIRECTORIES = (
    *("usr/lib*/*/pkcs11", "usr/lib*/pkcs11", "usr/local/lib*/pkcs11"),
    *("usr/lib*/*/softhsm", "usr/lib*/softhsm", "usr/lib*/*", "usr/lib*", "usr/local/lib*"),
)

_LOCK = threading.RLock()

_WRONG_PIN = (
    "wrong PIN for the {what}; it was tried once and will not be tried again: how many tries are "
    "left is unknown, and wrong ones lock the token"
)
_GONE = "the {what} was removed, or the connection to it was lost; insert it and start again"
_DEAD = (
    pkcs11.DeviceRemoved,
    pkcs11.TokenNotPresent,
    pkcs11.SessionHandleInvalid,
    pkcs11.SessionClosed,
)
_MEANINGS = {
    **dict.fromkeys(("PinIncorrect", "PinInvalid", "PinLenRange"), _WRONG_PIN),
    "PinLocked": "the PIN of the {what} is locked; unlock it with the SO PIN or PUK",
    "PinExpired": "the PIN of the {what} has expired; set a new one",
    "UserPinNotInitialized": "the {what} has no user PIN yet; set one",
    "UserNotLoggedIn": "the {what} says that nobody is logged in; start again",
    **dict.fromkeys((error.__name__ for error in _DEAD), _GONE),
    "KeyHandleInvalid": _GONE,
    **dict.fromkeys(
        ("MechanismInvalid", "MechanismParamInvalid", "KeyTypeInconsistent", "KeySizeRange"),
        "the {what} does not support this kind of signature with this key",
    ),
    "OperationActive": "the {what} has not ended a signature that failed; start again",
    "FunctionCancelled": "the {what} was told to cancel, at its own keys",
    "FunctionRejected": "the request was refused at the keys of the {what}",
}


class TokenSession:
    """A session with a token, logged in if it has to be; it ends when the last user goes.

    The login is the application's with the token, not the session's, and whoever logs out does so
    for all: hence one session for each token.

    Attributes:
        what: the token's name in messages.
        failed: whether it is broken, or may be since a signature failed: a module can leave that
            signature active. Who opens the token next gets another session.
        mechanisms: what it can do.
    """

    def __init__(self, token: pkcs11.Token, session: pkcs11.Session) -> None:
        self._end = weakref.finalize(self, _close, session)
        self._session = session
        self.failed = False
        self.what = f"token {token.label}"
        self.mechanisms = token.slot.get_mechanisms()

    def objects(self, template: Mapping[Attribute, object]) -> list[pkcs11.Object]:
        """Return the objects that have these attributes; labels are bytes."""
        with self.use():
            return list(self._session.get_objects(dict(template)))

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Hold the lock; an error of the token becomes a SigningError that says what to do."""
        with _errors(self.what):
            try:
                yield
            except _DEAD:
                self.failed = True
                raise

    @contextlib.contextmanager
    def sign(self) -> Iterator[None]:
        """As ``use``, for a signature."""
        with self.use():
            try:
                yield
            except pkcs11.PKCS11Error:
                self.failed = True
                raise

    @property
    def works(self) -> bool:
        """Whether it can be shared: nothing failed, and the token still knows it."""
        if not self.failed:
            try:
                self._session.generate_random(8)
            except _DEAD:
                self.failed = True
            except pkcs11.PKCS11Error:
                pass  # a token without random numbers has sessions too
        return not self.failed

    def close(self) -> None:
        """End the session, and the login of all; by default it ends with its last user."""
        self._end()


_sessions: weakref.WeakValueDictionary[tuple[str, int], TokenSession] = (
    weakref.WeakValueDictionary()
)


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        with _LOCK:
            yield
    except pkcs11.PKCS11Error as error:
        kind = type(error).__name__
        # Other errors are an exception each, or a code in the text of the general one.
        text = _MEANINGS.get(kind, "the {what} failed").format(what=what)
        raise SigningError(f"{text} ({kind}{f': {error}' if str(error) else ''})") from error


def open_token(uri: TokenUri, options: KeyOptions) -> tuple[TokenSession, Callable[[], str]]:
    """Return a session with the one token that the URI names, and what gives its PIN.

    Raises SigningError when the module cannot be loaded, when no token or more than one is of
    that name, and when the login fails; a wrong PIN is not tried again.
    """
    with _LOCK:
        library = _load(_module(uri))
        token = _find_token(library, uri)
        where = library.so, token.slot.slot_id

        def pin() -> str:
            return _pin(token, uri, options)

        session = _sessions.get(where)
        if session and not session.works:
            session.close()  # now, since its logout would be the next one's too
            session = None
        if session is None:
            with _errors(f"token {token.label}"):
                session = TokenSession(token, _log_in(token, pin))
            _sessions[where] = session
        return session, pin


def _module(uri: TokenUri) -> str | None:
    """The file of the module that the URI or the environment names, None for p11-kit's proxy."""
    path, name = uri.module_path, uri.module_name
    if path is not None and not (name and path.is_dir()):
        return str(path)
    if name:
        directories = (
            [path]
            if path
            else [found for one in _MODULE_DIRECTORIES for found in sorted(Path("/").glob(one))]
        )
        for directory in directories:
            for file in (directory / f"{name}.so", directory / f"lib{name}.so"):
                if file.is_file():
                    return str(file)
        raise SigningError(
            f"there is no PKCS#11 module {name}.so or lib{name}.so in {path or 'usual places'}; "
            "give its file with module-path=FILE in the query of the URI"
        )
    return os.environ.get(MODULE_VARIABLE) or None


def _load(module: str | None) -> Library:
    reasons = []
    for file in (module,) if module else _PROXIES:
        try:
            # Two names of one file would be one module, initialised twice.
            return pkcs11.lib(os.path.realpath(file) if "/" in file else file)
        except pkcs11.PKCS11Error as error:
            reasons.append(str(error) or f"{file}: {type(error).__name__}")
        except (OSError, RuntimeError) as error:
            reasons.append(str(error))
    if module:
        raise SigningError(f"the PKCS#11 module {module} cannot be loaded: {reasons[0]}")
    raise SigningError(
        f"no PKCS#11 module is named, and p11-kit cannot be loaded ({reasons[0]}): give the "
        f"module's file with ?module-path=FILE at the end of the URI, or in ${MODULE_VARIABLE}"
    )


def _find_token(library: Library, uri: TokenUri) -> pkcs11.Token:
    with _errors(f"PKCS#11 module {library.so}"):
        tokens = list(_tokens(library))
    found = [(token, about) for token, about in tokens if uri.allows(about)]
    if len(found) == 1:
        return found[0][0]
    listed = ", ".join(
        describe({name: about[name] for name in ("token", "serial", "slot-id")})
        for _, about in found or tokens
    )
    if found:
        raise SigningError(f"{len(found)} tokens are as the URI says; name one of {listed}")
    raise SigningError(
        f"no token is as the URI says; the PKCS#11 module {library.so} has "
        f"{listed or 'none: is it connected and initialised?'}"
    )


def _tokens(library: Library) -> Iterator[tuple[pkcs11.Token, dict[str, bytes]]]:
    """Each token that can hold keys, and what a URI may say of it, its slot and its module."""
    for slot in library.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
            continue
        if token.flags & TokenFlag.TOKEN_INITIALIZED:
            yield (
                token,
                {
                    "token": token.label.encode(),
                    "manufacturer": token.manufacturer_id.encode(),
                    "model": token.model.encode(),
                    "serial": token.serial.strip(b"\0 "),
                    "slot-id": b"%d" % slot.slot_id,
                    "slot-manufacturer": slot.manufacturer_id.encode(),
                    "slot-description": slot.slot_description.encode(),
                    "library-manufacturer": library.manufacturer_id.encode(),
                    "library-description": library.library_description.encode(),
                    "library-version": b"%d.%d" % library.library_version,
                },
            )


def _log_in(token: pkcs11.Token, pin: Callable[[], str]) -> pkcs11.Session:
    mapper = AttributeMapper()
    mapper.register_handler(
        Attribute.LABEL, bytes, bytes
    )  # those of other programs may be no UTF-8
    if not token.flags & TokenFlag.LOGIN_REQUIRED:
        return token.open(attribute_mapper=mapper)
    if token.flags & TokenFlag.USER_PIN_LOCKED:
        raise pkcs11.PinLocked
    secret = pin()
    try:
        return token.open(user_pin=secret or PROTECTED_AUTH, attribute_mapper=mapper)
    except pkcs11.UserAlreadyLoggedIn:  # by other code of this process
        return token.open(attribute_mapper=mapper)


def _pin(token: pkcs11.Token, uri: TokenUri, options: KeyOptions) -> str:
    """The PIN, or nothing when the token has keys of its own to type it on."""
    if uri.pin_file is not None:
        secret = read_file(uri.pin_file).partition(b"\n")[0]
    elif token.flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
        return ""
    else:
        secret = options.ask(f"PIN of the token {token.label}")
    if not secret:
        raise SigningError(f"the PIN of the token {token.label} is empty, and was not tried")
    try:
        return secret.decode()
    except UnicodeDecodeError:
        raise SigningError(
            f"the PIN of the token {token.label} is not UTF-8, and was not tried"
        ) from None


def _close(session: pkcs11.Session) -> None:
    # A token that is gone has no session to end, and nobody to tell.
    with _LOCK, contextlib.suppress(pkcs11.PKCS11Error):
        session.close()
