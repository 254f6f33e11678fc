"""Keys and certificates for tests, made by the package that signs."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_BEGUN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def make_pair(folder: Path, name: str, password: bytes = b"") -> tuple[Path, Path]:
    """A private key and its public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    folder.mkdir(exist_ok=True)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def make_certificate(folder: Path, name: str, key: Path, issuer: tuple[Path, Path] | None = None) -> Path:
    """A certificate of a key, signed by itself as a root, or by the key of another certificate."""
    own = serialization.load_pem_private_key(key.read_bytes(), None)
    signing = own if issuer is None else serialization.load_pem_private_key(issuer[0].read_bytes(), None)
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = called if issuer is None else x509.load_pem_x509_certificate(issuer[1].read_bytes()).subject
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(by)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGUN)
        .not_valid_after(_BEGUN + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=issuer is None, crl_sign=issuer is None, **usage),
            critical=True,
        )
        .sign(signing, hashes.SHA256())
    )
    path = folder / f"{name}.crt"
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    return path
