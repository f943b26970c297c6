"""Keys of sites, as OpenSSH and Flower read them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from flwr.cli.supernode.register import try_load_public_key
from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    sign_message,
    uses_nist_ec_curve,
    verify_signature,
)

from experiments.deployment.node_keys import make_node_key, read_public_key
from strategies.settings import SettingsError

needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed"
)


def openssh(key: object) -> str:
    return (
        key.public_key()
        .public_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        .decode()
    )


def test_flower_registers_the_public_half_and_verifies_what_the_private_one_signs(
    tmp_path: Path,
) -> None:
    made = make_node_key()
    path = tmp_path / "site.pub"
    path.write_text(f"{made.public} hillside\n")
    registered = bytes_to_public_key(try_load_public_key(path))
    assert uses_nist_ec_curve(registered)
    private = serialization.load_ssh_private_key(made.private, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signature = sign_message(private, b"message")
    assert verify_signature(registered, b"message", signature)
    assert not verify_signature(registered, b"other", signature)


@needs_ssh_keygen
def test_ssh_keygen_reads_both_halves_and_prints_the_same_fingerprint(
    tmp_path: Path,
) -> None:
    made = make_node_key()
    key = tmp_path / "supernode.key"
    key.touch(mode=0o600)
    key.write_bytes(made.private)
    (tmp_path / "other.pub").write_text(made.public + "\n")
    for path in (key, tmp_path / "other.pub"):
        command = ["ssh-keygen", "-lf", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        size, fingerprint, *_, kind = said.stdout.split()
        assert (size, fingerprint, kind) == ("384", made.fingerprint, "(ECDSA)")


@needs_ssh_keygen
@pytest.mark.parametrize("bits", ["384", "256"])
def test_a_pair_that_a_site_makes_itself_is_accepted_without_its_comment(
    tmp_path: Path, bits: str
) -> None:
    key = tmp_path / "supernode.key"
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", bits, "-N", ""]
    subprocess.run([*command, "-C", "jane@ward7", "-f", str(key)], check=True)
    text = (tmp_path / "supernode.key.pub").read_text()
    assert "jane@ward7" in text
    found = read_public_key(text)
    assert found.public == " ".join(text.split()[:2])
    assert found.private == b""


def test_no_two_keys_are_alike() -> None:
    first, second = make_node_key(), make_node_key()
    assert first.private != second.private
    assert first.fingerprint != second.fingerprint


def test_a_private_key_is_refused_and_not_repeated() -> None:
    private = make_node_key().private.decode()
    with pytest.raises(SettingsError, match="must not leave") as caught:
        read_public_key(private)
    assert private.splitlines()[1] not in str(caught.value)
    assert "PRIVATE" not in repr(make_node_key())


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["ed25519", "rsa", "p521"],
)
def test_keys_of_another_kind_are_refused_with_the_command_that_makes_the_right_one(
    key: object,
) -> None:
    with pytest.raises(SettingsError, match="ssh-keygen -t ecdsa -b 384"):
        read_public_key(openssh(key))


@pytest.mark.parametrize("text", ["", "hello", "ecdsa-sha2-nistp384", "a\nb\n"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="must be one line"):
        read_public_key(text)


def test_a_key_that_was_cut_off_is_called_damaged() -> None:
    public = make_node_key().public
    for damaged in (
        public[:-20],
        public[:-20] + "!" * 20,
        public.replace("384", "256"),
    ):
        with pytest.raises(SettingsError, match="damaged"):
            read_public_key(damaged)


def test_two_keys_at_once_are_refused() -> None:
    text = f"{make_node_key().public}\n{make_node_key().public}\n"
    with pytest.raises(SettingsError, match="must be one line"):
        read_public_key(text)
